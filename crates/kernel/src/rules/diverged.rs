//! The data are not on the leader's history: rewind or replace them where that is configured, else leave them alone and
//! say so (spec/bootstrap-and-replicas.md 6). Data whose rewind broke off are never started.

use crate::decide::Verdict;
use crate::rules::bootstrap::{source, upstream_of};
use crate::rules::{release_once, start_unless_failing};
use crate::view::Diverged;
use crate::{Reason, View};
use pgherd_types::{Cluster, ControlData, Instant, Member, Operation, Upstream};

/// How often pg_rewind is tried before something else is done about diverged data.
const REWINDS_MAX: u32 = 3;

/// A rewind broke off in the middle: nothing may be started from these data before one has come to its end.
pub fn half_rewound(view: &View, cluster: &Cluster, control: &ControlData, now: Instant) -> Verdict {
    let text = "diverged: pg_rewind was interrupted and the data cannot be used until it is repeated with success or \
                they are replaced (reinitialize)";
    let timeline = control.checkpoint_timeline;
    let found = |leader_timeline| Diverged { timeline, leader_timeline, text: text.to_owned() };
    if view.leads(now) || view.key_is_ours() {
        return release_once(view, now, None, Reason::Diverged(found(timeline)));
    }
    match cluster.leader_member().filter(|_| view.dcs_lost_since.is_none()) {
        Some(leader) if leader.name != view.me.name => {
            let found = found(leader.doc.timeline.unwrap_or(timeline));
            diverged(view, cluster, leader, control, found, now)
        }
        _ => Verdict::hold(Reason::Diverged(found(timeline))),
    }
}

/// The data are not on the leader's history: rewind or replace them where that is configured, else leave them alone.
pub fn diverged(
    view: &View,
    cluster: &Cluster,
    leader: &Member,
    control: &ControlData,
    found: Diverged,
    now: Instant,
) -> Verdict {
    let policy = view.settings.rewind;
    let can_rewind = policy.use_pg_rewind && control.rewindable;
    let ended = view.ended.as_ref().filter(|ended| matches!(ended.operation, Operation::Rewind { .. }));
    let failed = ended.map_or(0, |ended| ended.failures);
    let tried_enough = !can_rewind || failed >= REWINDS_MAX;
    if tried_enough && (policy.replace_on_divergence || (can_rewind && policy.replace_on_failure)) {
        let Some((from, _)) = source(view, cluster, false) else { return Verdict::hold(Reason::Diverged(found)) };
        let because = Reason::ReplacingDiverged { leader: leader.name.clone(), found };
        return start_unless_failing(
            view,
            now,
            Operation::Clone { from, replace: true, basebackup_only: false },
            because,
        );
    }
    match upstream_of(leader).filter(|_| can_rewind) {
        None => Verdict::hold(Reason::Diverged(found)),
        Some(from) => rewind(view, leader, from, found, failed, now),
    }
}

/// Rewind, once the source's control file shows its timeline. One that keeps failing is still repeated, because its
/// cause may be the source's; meanwhile the node says that it has diverged.
fn rewind(view: &View, leader: &Member, from: Upstream, found: Diverged, failed: u32, now: Instant) -> Verdict {
    if leader.doc.checkpoint_pending {
        return Verdict::hold(Reason::AwaitingCheckpoint { leader: leader.name.clone() });
    }
    let operation = Operation::Rewind { from };
    if let Some((_, until)) = crate::rules::backoff(view, &operation).filter(|(_, until)| now < *until)
        && failed >= REWINDS_MAX
    {
        let why = crate::shown::last_failure(view).unwrap_or_default();
        let text = format!("{} (pg_rewind failed {failed} times: {why})", found.text);
        return Verdict::hold_until(Reason::Diverged(Diverged { text, ..found }), until);
    }
    start_unless_failing(view, now, operation, Reason::Rewinding { leader: leader.name.clone(), found })
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use pgherd_types::{Cluster, Instant, Lsn, Operation, OperationEnd, Upstream};

    /// A former primary that is down, with its WAL up to `end`.
    fn left_behind(switch: u64, end: Option<u64>) -> Case {
        promoted_elsewhere(primary().stopped().with_control(|c| c.wal_end = end.map(Lsn)), switch)
    }

    fn may_rewind(case: Case) -> Case {
        case.with_view(|v| v.settings.rewind.use_pg_rewind = true)
    }
    fn rewind_failed(case: Case, times: u32) -> Case {
        let from = Upstream { member: "b".into(), host: "b".into(), port: 5432 };
        let mut case = case.ended(Operation::Rewind { from }, OperationEnd::Failed("no WAL".into()));
        let ended = case.view.ended.as_mut().unwrap();
        (ended.failures, ended.at) = (times, Instant::from_millis(1));
        case
    }

    #[test]
    fn diverged_data_are_rewound_where_that_is_configured_and_possible() {
        let case = || may_rewind(left_behind(1000, Some(1001)));
        check(case(), "Start Rewind", "Rewinding");
        check(case().with_control(|c| c.rewindable = false), "Hold", "Diverged");
        let unfinished = |c: &mut Cluster| c.members.get_mut(&"b".into()).unwrap().doc.checkpoint_pending = true;
        check(case().with_cluster(unfinished), "Hold", "AwaitingCheckpoint");
        check(rewind_failed(case(), 3), "Start Rewind", "Rewinding");
        let just_now =
            rewind_failed(case(), 3).with_view(|v| v.ended.as_mut().unwrap().at = Instant::from_millis(59_990));
        let decision = check(just_now, "Hold", "Diverged");
        assert!(decision.because.to_string().contains("no WAL"), "{}", decision.because);
    }

    #[test]
    fn nothing_is_started_from_data_whose_rewind_broke_off() {
        let broken = |case: Case| may_rewind(case.stopped().with_control(|c| c.rewind_interrupted = true));
        check(broken(replica()), "Start Rewind", "Rewinding");
        check(broken(replica().unlocked()), "Hold", "Diverged");
        check(broken(primary()), "Release", "Diverged");
        check(broken(replica()).with_view(|v| v.settings.rewind.use_pg_rewind = false), "Hold", "Diverged");
    }

    #[test]
    fn diverged_data_are_replaced_only_where_that_is_configured() {
        let on_failure = |case: Case| case.with_view(|v| v.settings.rewind.replace_on_failure = true);
        let always = |case: Case| case.with_view(|v| v.settings.rewind.replace_on_divergence = true);
        let case = || may_rewind(left_behind(1000, Some(1001)));
        check(on_failure(case()), "Start Rewind", "Rewinding");
        check(on_failure(rewind_failed(case(), 3)), "Start Clone", "ReplacingDiverged");
        check(always(left_behind(1000, Some(1001))), "Start Clone", "ReplacingDiverged");
        check(on_failure(left_behind(1000, Some(1001))), "Hold", "Diverged");
    }
}
