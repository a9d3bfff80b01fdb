//! The process was asked to end: stop PostgreSQL in order, then give up the key, so that a replica takes over at once
//! and has everything. (A fast stop of PostgreSQL itself waits until connected standbys have the shutdown checkpoint.)

use crate::decide::Verdict;
use crate::rules::archiving::archiving;
use crate::rules::release_once;
use crate::situation::Situation;
use crate::sync::duty;
use crate::{Action, Lock, Reason, View};
use pgherd_types::{DcsWrite, Instant, Operation, Server, StatusKey, StopMode};
use std::time::Duration;

/// How long the last words (state `stopped` in the member key) may hold up the exit.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The next step of leaving.
pub fn leaving(view: &View, now: Instant) -> Verdict {
    if view.settings.pause && view.operation.is_none() {
        return Verdict::act(Action::Exit, Reason::LeftPaused);
    }
    if let Some(running) = &view.operation {
        if let Some(verdict) = archiving(view, running, now) {
            return verdict;
        }
        let because = Reason::ShuttingDown { step: "waiting for the running operation" };
        return if Situation::ends_writability(&running.operation) || running.cancelled {
            Verdict::hold(because)
        } else {
            Verdict::act(Action::Cancel(running.id), because)
        };
    }
    let down = view.postgres.get().is_none_or(|p| p.server == Server::Stopped);
    if let Some(until) = view.shutdown.and_then(|since| duty::waits_to_be_let_go(view, since, now)) {
        return Verdict::hold_until(Reason::AwaitingSyncRelease, until);
    }
    if !down {
        let mode = if failed_to_stop(view) { StopMode::Immediate } else { StopMode::Fast };
        return Verdict::start(
            view,
            now,
            Operation::Stop { mode },
            Reason::ShuttingDown { step: "stopping PostgreSQL" },
        );
    }
    let may_own_key = view.lock(now) != Lock::No || view.key_is_ours();
    if may_own_key && !view.released && view.dcs_lost_since.is_none() {
        let because = Reason::ShuttingDown { step: "releasing the leader key" };
        return release_once(view, now, last_position(view), because);
    }
    if last_words_pending(view, now) {
        return Verdict::hold_until(
            Reason::ShuttingDown { step: "publishing state stopped" },
            now + Duration::from_millis(50),
        );
    }
    Verdict::act(Action::Exit, Reason::ShuttingDown { step: "done" })
}

fn failed_to_stop(view: &View) -> bool {
    crate::rules::failed(view, |operation| matches!(operation, Operation::Stop { .. }))
}

/// The shutdown checkpoint: what the others measure their lag against.
fn last_position(view: &View) -> Option<StatusKey> {
    let control = view.postgres.get()?.control()?;
    let known = view.cluster.get().map(|c| c.status.clone()).unwrap_or_default();
    Some(StatusKey { optime: control.checkpoint_lsn, ..known })
}

/// The member key still says something else, the DCS answers, and there is time left.
fn last_words_pending(view: &View, now: Instant) -> bool {
    let deadline = view.ended.as_ref().map(|e| e.at).max(view.shutdown).map(|at| at + LAST_WORDS);
    let said = view.asked.writes.get("members").is_some_and(|ask| {
        matches!(&ask.what, DcsWrite::Member(doc) if doc.state == "stopped") && ask.answer.is_some_and(|(_, ok)| ok)
    });
    !said && view.dcs_lost_since.is_none() && view.lease.current.is_some() && deadline.is_some_and(|at| now < at)
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use crate::{Action, Observation};
    use pgherd_types::*;

    fn leaving(case: Case) -> Case {
        case.with_view(|v| v.shutdown = Some(Instant::from_millis(59_000)))
    }

    #[test]
    fn postgresql_first_then_the_key_then_the_last_words() {
        check(leaving(primary()), "Stop Fast", "ShuttingDown");
        let decision = check(leaving(primary().stopped()), "Release", "ShuttingDown");
        assert!(matches!(decision.role, Action::Release(Some(status)) if status.optime == Lsn(900)));
        check(leaving(replica()), "Stop Fast", "ShuttingDown");
    }

    #[test]
    fn it_ends_when_all_is_said_or_nobody_listens() {
        let done = |case: Case| case.ended(Operation::Stop { mode: StopMode::Fast }, OperationEnd::Done);
        let decision = check(leaving(done(replica().stopped())), "Hold", "ShuttingDown");
        assert!(decision.upkeep.writes.iter().any(|w| matches!(w, DcsWrite::Member(doc) if doc.state == "stopped")));
        let (mut view, now) = leaving(done(replica().stopped())).build();
        view.apply(Observation::DcsLost { since: now.mono }, now);
        assert_eq!(crate::decide(&view, now).role, Action::Exit);
    }
}
