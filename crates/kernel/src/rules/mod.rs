//! One file a situation; each is a pure function from the view to a verdict.

pub mod archiving;
pub mod ballot;
pub mod bootstrap;
pub mod busy;
pub mod dcs_unreachable;
pub mod diverged;
pub mod fence;
pub mod follow;
pub mod handover;
pub mod lead;
pub mod pause;
pub mod race;
pub mod recover;
pub mod requests;
pub mod shutdown;
pub mod standby_cluster;
pub mod trouble;

use crate::View;
use crate::decide::Verdict;
use crate::{Action, Reason};
use pgherd_types::{DcsWrite, Instant, Operation, OperationEnd, PeerToAsk, StopMode};
use std::time::Duration;

/// The longest wait between two attempts at an operation that keeps failing.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// If operations of this kind have failed lately: how often, and until when to wait (1, 2, 4 … 30 s).
pub fn backoff(view: &View, wanted: &Operation) -> Option<(u32, Instant)> {
    let last =
        view.ended.as_ref().filter(|last| std::mem::discriminant(&last.operation) == std::mem::discriminant(wanted))?;
    if last.failures == 0 {
        return None;
    }
    let wait = Duration::from_secs(1 << (last.failures - 1).min(5)).min(BACKOFF_MAX);
    Some((last.failures, last.at + wait))
}

/// Begin an operation, unless it failed lately.
pub fn start_unless_failing(view: &View, now: Instant, operation: Operation, because: Reason) -> Verdict {
    match backoff(view, &operation) {
        Some((failures, until)) if now < until => {
            let why = crate::shown::last_failure(view).unwrap_or_default().to_owned();
            Verdict::hold_until(Reason::WaitingBeforeRetry { what: operation.name(), failures, why }, until)
        }
        _ => Verdict::start(view, now, operation, because),
    }
}

/// Ask for a write on which the next step depends, unless it is under way or was refused a moment ago, or was granted
/// and the reading that shows it is still to come.
pub fn write_once(view: &View, now: Instant, write: DcsWrite, because: Reason) -> Verdict {
    let asked = view.asked.writes.get(write.key());
    if let Some(until) = asked.and_then(|ask| ask.blocked_until(now, view.settings.retry_timeout)) {
        return Verdict::hold_until(because, until);
    }
    if let Some(granted_at) = asked.and_then(|ask| ask.granted(&write))
        && view.cluster.when().is_none_or(|read_at| read_at < granted_at)
    {
        return Verdict::hold_until(because, now + Duration::from_secs(1));
    }
    Verdict::act(Action::Write(write), because)
}

/// Take the leader key, unless a request about it is under way or was refused a moment ago.
pub fn acquire_once(view: &View, now: Instant, because: Reason) -> Verdict {
    let patience = view.settings.retry_timeout;
    if view.lease.current.is_none() || view.asked.lock_request_pending(now, patience) {
        return Verdict::hold(because);
    }
    match view.asked.acquire.as_ref().and_then(|ask| ask.blocked_until(now, patience)) {
        Some(until) => Verdict::hold_until(Reason::AcquireRefused, until),
        None => Verdict::act(Action::Acquire, because),
    }
}

/// Take the leader key that went away while this node leads.
pub fn take_again(view: &View, now: Instant) -> Verdict {
    let because = if view.lease.lapsed { Reason::TakingLapsedKeyAgain } else { Reason::TakingVanishedKeyAgain };
    acquire_once(view, now, because)
}

/// Give the leader key up, unless a request about it is under way or was refused a moment ago. A server that may still
/// acknowledge commits is ended first.
pub fn release_once(view: &View, now: Instant, status: Option<pgherd_types::StatusKey>, because: Reason) -> Verdict {
    if view.may_be_writable() && !view.settings.pause && view.operation.is_none() {
        return start_unless_failing(view, now, Operation::Stop { mode: StopMode::Immediate }, because);
    }
    let patience = view.settings.retry_timeout;
    if view.asked.lock_request_pending(now, patience) {
        return Verdict::hold_until(because, now + Duration::from_millis(100));
    }
    match view.asked.release.as_ref().and_then(|ask| ask.blocked_until(now, patience)) {
        Some(until) => Verdict::hold_until(because, until),
        None => Verdict::act(Action::Release(status), because),
    }
}

/// Ask these members for their state, unless a round is under way.
pub fn probe_once(view: &View, peers: Vec<PeerToAsk>, now: Instant, because: Reason) -> Verdict {
    let patience = Duration::from_millis(peers.iter().map(|peer| peer.patience_ms).max().unwrap_or_default());
    if view.asked.probe.as_ref().is_some_and(|ask| ask.pending(now, patience)) {
        return Verdict::hold(because);
    }
    Verdict::act(Action::Probe { round: view.last_round + 1, peers }, because)
}

/// Did the last operation of this kind fail?
pub fn failed(view: &View, is_kind: fn(&Operation) -> bool) -> bool {
    view.ended.as_ref().is_some_and(|last| is_kind(&last.operation) && matches!(last.end, OperationEnd::Failed(_)))
}
