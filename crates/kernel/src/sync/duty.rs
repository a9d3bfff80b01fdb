//! When the planner is asked, and what the agent owes by its answer.
//!
//! One step at a time: while a write of the key has no answer, or a change of names is not in force, nothing else is
//! planned; and nothing before a reading and a look show what the last step did.

use super::{SyncStep, before_promotion, eligible, next_step};
use crate::View;
use crate::view::Mutant;
use pgherd_types::{
    Cluster, DcsWrite, Instant, RunningServer, StandbyNames, SyncApply, SyncMode, SyncName, SyncNames, SyncWrite,
};
use std::time::Duration;

/// In a synchronous mode a primary is looked at so often.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one step may take PostgreSQL.
pub const STEP_PATIENCE: Duration = Duration::from_secs(15);

/// The step that is due now; `None`: wait for facts.
pub fn due(view: &View, now: Instant) -> Option<SyncStep> {
    let (cluster, running) = (view.cluster.get()?, view.postgres.get()?.running()?);
    let standby_leader = running.in_recovery && view.settings.standby_cluster.is_some();
    if !view.leads(now) || view.operation.is_some() || view.dcs_lost_since.is_some() || standby_leader {
        return None;
    }
    if key_pending(view, now) || names_pending(view, now) {
        return None;
    }
    if let Some(names) = &view.sync.ordered {
        return Some(SyncStep::SetNames(names.clone()));
    }
    let planned = view.sync_view(now)?;
    let step = if running.in_recovery { before_promotion(&planned) } else { next_step(&planned) };
    if let (Some(Mutant::NamesBeforeKey), SyncStep::WriteKey(write)) = (view.mutant, &step)
        && StandbyNames::read(&running.sync.names).names.len() > write.standbys.len()
    {
        return Some(SyncStep::SetNames(StandbyNames::all(write.standbys.clone())));
    }
    Some(unless_idle(step, cluster, running))
}

/// Without a synchronous mode, before and now, there is nothing to give back.
fn unless_idle(step: SyncStep, cluster: &Cluster, running: &RunningServer) -> SyncStep {
    let idle = step == SyncStep::SetUserNames && !running.sync.managed && cluster.sync.revision().is_none();
    if idle { SyncStep::Nothing } else { step }
}

fn key_pending(view: &View, now: Instant) -> bool {
    let Some(ask) = view.asked.writes.get("sync") else { return false };
    let compared = if let DcsWrite::Sync(write) = &ask.what {
        write.seen
    } else if let DcsWrite::DropSync { seen } = &ask.what {
        Some(*seen)
    } else {
        None
    };
    // another revision than was compared is that of this write or of a later one, whenever the reading began: the watch
    // is often quicker than the answer
    let shown = view.cluster.get().is_some_and(|cluster| cluster.sync.revision() != compared);
    let read_since = |at: Instant| view.cluster.when().is_some_and(|read| read >= at);
    ask.pending(now, view.settings.retry_timeout) || ask.answer.is_some_and(|(at, _)| !shown && !read_since(at))
}

fn names_pending(view: &View, now: Instant) -> bool {
    let Some((_, ask)) = &view.asked.sync else { return false };
    ask.pending(now, STEP_PATIENCE)
        || ask.answer.is_some_and(|(at, _)| view.postgres.when().is_none_or(|look| look < at))
}

/// The write that a step asks for.
pub fn write_of(step: &SyncStep) -> Option<DcsWrite> {
    match step {
        SyncStep::WriteKey(write) => Some(DcsWrite::Sync(SyncWrite {
            leader: write.leader.clone(),
            quorum: write.quorum,
            standbys: write.standbys.clone(),
            seen: write.seen,
        })),
        SyncStep::DeleteKey { seen } => Some(DcsWrite::DropSync { seen: *seen }),
        SyncStep::Nothing | SyncStep::SetNames(_) | SyncStep::SetUserNames | SyncStep::ForceWal | SyncStep::Wait(_) => {
            None
        }
    }
}

/// What it asks of PostgreSQL.
pub fn order_of(step: &SyncStep) -> Option<SyncApply> {
    match step {
        SyncStep::SetNames(names) => Some(SyncApply::Names(names.clone())),
        SyncStep::SetUserNames => Some(SyncApply::UserNames),
        SyncStep::ForceWal => Some(SyncApply::ForceWal),
        SyncStep::Nothing | SyncStep::WriteKey(_) | SyncStep::DeleteKey { .. } | SyncStep::Wait(_) => None,
    }
}

/// The names that PostgreSQL shall show before anything else is done.
pub fn ordered(apply: &SyncApply) -> Option<StandbyNames> {
    match apply {
        SyncApply::Names(names) => Some(names.clone()),
        SyncApply::UserNames | SyncApply::ForceWal => None,
    }
}

/// Members that cannot be synchronous because somebody else streams from this primary by their name, too.
pub fn borrowed(view: &View, now: Instant) -> SyncNames {
    let primary = view.postgres.get().and_then(|postgres| postgres.running()).is_some_and(|r| !r.in_recovery);
    if view.settings.sync_mode() == SyncMode::Off || !primary || !view.leads(now) {
        return SyncNames::new();
    }
    view.sync_view(now).map(|planned| eligible(&planned).borrowed).unwrap_or_default()
}

/// A standby that is about to stop is to be no synchronous one any more (spec/sync-and-quorum.md 10).
pub fn gives_up(view: &View) -> bool {
    let restarts = matches!(view.pending, Some(crate::wishes::Pending::Restart { failed: None, .. }));
    let replaced = matches!(view.pending, Some(crate::wishes::Pending::Reinitialize { .. }));
    let copies = view.slots.copies.leaves_since.is_some();
    let standby = !view.key_is_ours();
    view.settings.sync_mode() != SyncMode::Off && standby && (view.shutdown.is_some() || restarts || replaced || copies)
}

/// So long a standby waits to be let go, at least: each step of the primary takes a moment, whatever `loop_wait`.
const LET_GO: Duration = Duration::from_secs(10);

/// Until when it waits to be let go, at most.
pub fn waits_to_be_let_go(view: &View, since: Instant, now: Instant) -> Option<Instant> {
    let until = since + LET_GO.max(2 * view.settings.loop_wait);
    (gives_up(view) && is_waited_for(view) && now < until).then_some(until)
}

/// May commits wait for this standby? The present leader's key lists it, or (one of ours says so) its PostgreSQL names it.
pub fn is_waited_for(view: &View) -> bool {
    let standby = view.postgres.get().and_then(|p| p.running()).is_some_and(|running| running.in_recovery);
    let Some(cluster) = view.cluster.get().filter(|_| standby && view.dcs_lost_since.is_none()) else { return false };
    let leader = cluster.leader.as_ref().map(|leader| &leader.name).filter(|leader| **leader != view.me.name);
    let key = cluster.sync.active().filter(|key| leader.is_some() && key.leader.as_ref() == leader);
    let me = SyncName::from(&view.me.name);
    let names = cluster.leader_member().and_then(|member| member.doc.sync_names.as_deref()).map(StandbyNames::read);
    let named = || names.is_some_and(|names| names.names.contains(&me));
    key.is_some_and(|key| key.standbys.contains(&me) || named())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asked::Ask;
    use crate::testing::primary;
    use pgherd_types::postgres::SeenSlot;
    use pgherd_types::{Lsn, SyncKey, SyncSeen, WalSender};

    /// A primary whose write of the key, which compared revision 8, was just granted; its last reading began before that.
    fn written(shows: i64) -> (View, Instant) {
        let key = SyncKey { mod_revision: shows, leader: Some("a".into()), ..SyncKey::default() };
        let case = primary().with_cluster(|c| c.sync = SyncSeen::Valid(key));
        let (mut view, now) = case.with_view(|v| v.settings.sync.mode = SyncMode::Quorum).build();
        let write = SyncWrite { leader: "a".into(), quorum: 0, standbys: SyncNames::new(), seen: Some(8) };
        let mut ask = Ask::new(DcsWrite::Sync(write), now.mono);
        let answered_at = now.mono + Duration::from_millis(5);
        ask.answered(answered_at, true);
        view.asked.writes.insert("sync", ask);
        assert!(view.cluster.when() < Some(answered_at));
        (view, answered_at)
    }

    #[test]
    fn a_reading_that_shows_the_write_is_enough_whenever_it_began() {
        let (view, now) = written(9);
        assert_eq!(due(&view, now), Some(SyncStep::Nothing));
        let (view, now) = written(8);
        assert_eq!(due(&view, now), None, "the key may have changed since");
    }

    #[test]
    fn an_order_that_died_with_its_server_is_not_waited_for() {
        let key = SyncKey { mod_revision: 8, leader: Some("a".into()), ..SyncKey::default() };
        let case = primary().with_cluster(|c| c.sync = SyncSeen::Valid(key));
        let (mut view, now) = case.with_view(|v| v.settings.sync.mode = SyncMode::Quorum).build();
        view.asked.sync = Some((1, Ask::new(SyncApply::ForceWal, now.mono)));
        assert_eq!(due(&view, now.mono), None);
        let id = pgherd_types::OperationId(1);
        let operation = pgherd_types::Operation::Stop { mode: pgherd_types::StopMode::Immediate };
        view.operation = Some(crate::view::Running { id, operation, since: now.mono, cancelled: false });
        let end = pgherd_types::OperationEnd::Done;
        view.apply(crate::Observation::OperationFinished { id, end }, now);
        assert_eq!(due(&view, now.mono), Some(SyncStep::Nothing));
    }

    #[test]
    fn a_name_that_a_stranger_streams_by_is_told() {
        let case = primary().with_view(|v| v.settings.sync.mode = SyncMode::On).with_server(|server| {
            let streams = |pid| WalSender {
                application_name: "c".into(),
                state: "streaming".into(),
                flushed: Some(Lsn(1000)),
                pid,
                ..WalSender::default()
            };
            server.walsenders = vec![streams(7), streams(8)];
            server.slots = vec![SeenSlot {
                name: "c".into(),
                physical: true,
                active: true,
                active_pid: Some(7),
                ..SeenSlot::default()
            }];
        });
        let (mut view, now) = case.build();
        assert_eq!(borrowed(&view, now.mono), SyncNames::from(["c".into()]));
        view.settings.sync.mode = SyncMode::Off;
        assert!(borrowed(&view, now.mono).is_empty(), "nobody's name counts");
    }
}
