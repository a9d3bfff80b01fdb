//! PostgreSQL is being stopped, its shutdown checkpoint is written, and all that is left is to archive WAL and to send it to
//! standbys (spec/postgres-control.md 4.4, 4.5). Nothing can be committed any more: PostgreSQL writes that checkpoint only
//! once every client is ended. A slow `archive_command` need not hold up the successor, so the key is given up meanwhile.
//! If nobody has the checkpoint, the lead is not to wait for the archive either: the rest of the stop is cut short.

use crate::candidates::Found;
use crate::decide::Verdict;
use crate::rules::handover::{self, Search};
use crate::rules::release_once;
use crate::view::Running;
use crate::{Action, Reason, View};
use pgherd_types::postgres::ControlState;
use pgherd_types::{ControlData, Instant, Operation, Server};
use std::time::Duration;

/// How long a leader that is to start again archives before its stop is cut short; the archive loses nothing by it.
const ARCHIVE_PATIENCE: Duration = Duration::from_secs(60);
/// How often a leader that ends looks for somebody to take over.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a leader does while this stop archives; `None`: nothing but wait.
pub fn archiving(view: &View, running: &Running, now: Instant) -> Option<Verdict> {
    let control = shut_down(view, running).filter(|_| view.leads(now))?;
    if view.dcs_lost_since.is_some() {
        return None;
    }
    if let Some(status) = &view.releasing {
        return Some(release_once(view, now, status.clone(), Reason::GivingUpKey));
    }
    let cluster = view.cluster.get()?;
    if view.shutdown.is_some() {
        let because = Reason::ShuttingDown { step: "releasing the leader key while PostgreSQL archives" };
        let search = Search { only: None, anybody: false, since: view.archiving_since?, every: ASK_AGAIN };
        return Some(match handover::successor(view, cluster, control, &search, now) {
            Found::Able(_) => release_once(view, now, Some(handover::last_position(cluster, control)), because),
            Found::Asking(step) => Verdict { because, ..*step },
            Found::Nobody(_) => {
                let because = Reason::ShuttingDown { step: "waiting for PostgreSQL to archive" };
                handover::ask_again(view, cluster, control, &search, because, now)
            }
        });
    }
    if let Some(handover) = view.handover.as_ref().filter(|_| !running.cancelled) {
        return Some(handover::stopped(view, cluster, control, handover, now));
    }
    cut_short(view, running, now)
}

/// This stop has brought the server so far: seen after it began.
fn shut_down<'v>(view: &'v View, running: &Running) -> Option<&'v ControlData> {
    let stops = matches!(running.operation, Operation::Stop { .. });
    let state = view.postgres.get().filter(|state| stops && state.looked_at >= running.since)?;
    let archives = state.server == Server::Archiving;
    state.control().filter(|control| archives && control.state == ControlState::ShutDown)
}

fn cut_short(view: &View, running: &Running, now: Instant) -> Option<Verdict> {
    view.settings.standby_cluster.is_none().then_some(())?; // as a standby it would archive nothing any more
    let until = view.archiving_since? + ARCHIVE_PATIENCE;
    if running.cancelled {
        return None;
    }
    Some(if now < until {
        let because = Reason::OperationInProgress { name: running.operation.name(), renewed: true };
        Verdict::hold_until(because, until)
    } else {
        Verdict::act(Action::Cancel(running.id), Reason::ArchivingCutShort)
    })
}

#[cfg(test)]
mod tests {
    use crate::rules::handover::Handover;
    use crate::testing::*;
    use crate::view::Running;
    use crate::{Action, Observation, decide};
    use pgherd_types::postgres::ControlState;
    use pgherd_types::*;
    use std::time::Duration;

    const ID: OperationId = OperationId(3);

    /// The leader is being stopped; its shutdown checkpoint was seen `seen_ms` after boot.
    fn archiving(seen_ms: u64) -> Case {
        let operation = Operation::Stop { mode: StopMode::Fast };
        let running = Running { id: ID, operation, since: Instant::from_millis(50_000), cancelled: false };
        primary()
            .server(Server::Archiving)
            .with_control(|c| (c.checkpoint_lsn, c.state) = (Lsn(1000), ControlState::ShutDown))
            .with_view(|v| {
                (v.operation, v.archiving_since) = (Some(running), Some(Instant::from_millis(seen_ms)));
                v.last_operation = 3;
            })
    }
    fn handing_over(case: Case) -> Case {
        case.with_view(|v| v.handover = Some(Handover { request: None, action: "switchover" }))
    }
    fn leaving(case: Case) -> Case {
        case.with_view(|v| v.shutdown = Some(Instant::from_millis(50_000)))
    }
    fn able(case: Case) -> Case {
        case.peers(vec![("b", answered(1000)), ("c", answered(999))])
    }
    fn nobody(case: Case) -> Case {
        case.peers(vec![("b", silent()), ("c", answered(999))])
    }

    #[test]
    fn the_key_is_given_up_while_it_archives_once_somebody_has_the_checkpoint() {
        check(handing_over(archiving(59_000)), "Probe", "HandingOver");
        let decision = check(able(handing_over(archiving(59_000))), "Release", "HandingOver");
        assert!(matches!(decision.role, Action::Release(Some(status)) if status.optime == Lsn(1000)));
        check(leaving(archiving(59_000)), "Probe", "ShuttingDown");
        check(able(leaving(archiving(59_000))), "Release", "ShuttingDown");
    }

    #[test]
    fn it_can_commit_nothing_and_is_not_fenced() {
        let (view, now) = archiving(59_000).build();
        assert!(!view.may_be_writable());
        assert_eq!(view.fence_order(now.mono), FenceOrder::Disarmed);
        let (view, now) = archiving(59_000).with_control(|c| c.state = ControlState::InProduction).build();
        assert!(view.may_be_writable() && view.fence_order(now.mono) != FenceOrder::Disarmed);
    }

    #[test]
    fn what_was_seen_before_the_stop_began_says_nothing() {
        let case = able(handing_over(archiving(59_000)))
            .with_view(|v| v.operation.as_mut().unwrap().since = Instant::from_millis(60_001));
        check(case, "Hold", "OperationInProgress");
        check(able(handing_over(archiving(59_000).server(Server::Stopping))), "Hold", "OperationInProgress");
    }

    #[test]
    fn without_a_successor_a_leader_does_not_wait_for_the_archive() {
        check(nobody(handing_over(archiving(59_000))), "Hold", "HandingOver");
        let (view, decision) = nobody(handing_over(archiving(54_000))).decide();
        assert_eq!((&decision.role, decision.because.id().as_str()), (&Action::Cancel(ID), "HandoverGivenUp"));
        assert_eq!(view.handover, None);
        // a restart, say
        let decision = check(archiving(59_000), "Hold", "OperationInProgress");
        assert!(decision.decide_again_at <= Instant::from_millis(119_000));
        check(archiving(0), "Cancel", "ArchivingCutShort");
    }

    #[test]
    fn a_node_that_ends_waits_for_its_archive() {
        check(nobody(leaving(archiving(0))), "Hold", "ShuttingDown");
    }

    #[test]
    fn once_the_key_is_gone_the_rest_of_the_stop_goes_on() {
        let (mut view, decision) = able(handing_over(archiving(59_000))).decide();
        assert_eq!(name_of(&decision.role), "Release");
        let now = Now { mono: Instant::from_millis(60_100), ..Now::default() };
        view.apply(Observation::ReleaseRefused(Refused::Unreachable("no answer".into())), now);
        let later = Now { mono: now.mono + Duration::from_secs(2), ..now };
        assert_eq!(name_of(&decide(&view, later).role), "Release", "nobody knows whether it is gone");
        view.apply(Observation::LeaderReleased, later);
        let much_later = Now { mono: now.mono + Duration::from_secs(600), ..now };
        assert_eq!(decide(&view, much_later).role, Action::Hold);
    }

    #[test]
    fn without_the_dcs_it_goes_on_stopping() {
        let case = able(handing_over(archiving(59_000)));
        let (mut view, now) = case.build();
        view.apply(Observation::DcsLost { since: now.mono }, now);
        assert_eq!(decide(&view, now).role, Action::Hold);
    }
}
