//! Handing the lead over because somebody asked for it (spec/ha.md 10.2), or because another node would serve better.
//!
//! The order keeps every commit: a successor is known, PostgreSQL is stopped in order (its walsenders send the shutdown
//! checkpoint first), somebody is known to have that checkpoint, and only then the key is given up, with the position in
//! the same step. If nobody has it, this node goes on as the leader.

use crate::candidates::{Found, Wanted, find};
use crate::decide::Verdict;
use crate::rules::{release_once, standby_cluster, write_once};
use crate::view::Memory;
use crate::{Action, Reason, View};
use pgherd_types::{
    Cluster, ControlData, DcsWrite, FailoverKey, Instant, MemberName, Now, Operation, RunningServer, Schedule,
    StatusKey, StopMode,
};
use std::time::Duration;

/// How long after the stop a successor with the shutdown checkpoint is looked for.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(5);
/// How often.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A lead that is being handed over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handover {
    /// The request, if one asked for it.
    pub request: Option<FailoverKey>,
    /// The words for it.
    pub action: &'static str,
}

/// What a leader does about a manual request; `None`: nothing now.
pub fn requested(view: &View, cluster: &Cluster, running: &RunningServer, now: Now) -> Option<Verdict> {
    let key = cluster.manual()?;
    let at = now.mono;
    match due(view, key, now) {
        Due::Now => {}
        Due::Void(why) => return Some(clear(view, key, why, at)),
        Due::Later(when) => {
            let because = Reason::AwaitingSwitchover { me: view.me.name.clone() };
            return Some(Verdict::hold_until(because, when));
        }
        Due::NotInPause => return None,
    }
    if let Some(why) = mistaken(view, key) {
        return Some(clear(view, key, why, at));
    }
    // what was said before the request is too old for it: this node's position is one of now
    let asked_after = view.request_seen.map_or(Instant::default(), |(_, seen_at)| seen_at);
    match find(view, cluster, &Wanted::by(Some(key), running.position(), asked_after), at) {
        Found::Asking(step) => Some(*step),
        Found::Nobody(why) => Some(clear(view, key, format!("no healthy members found: {why}"), at)),
        Found::Able(_) if running.in_recovery => {
            Some(standby_cluster::hand_over(view, cluster, running, key.action(), at))
        }
        Found::Able(_) => Some(begin(view, Some(key.clone()), at)),
    }
}

/// Step down in order.
pub fn begin(view: &View, request: Option<FailoverKey>, now: Instant) -> Verdict {
    let action = request.as_ref().map_or("failover", FailoverKey::action);
    let stop = Operation::Stop { mode: StopMode::Fast };
    Verdict {
        remember: Some(Memory::Handover(Handover { request, action })),
        ..crate::rules::start_unless_failing(view, now, stop, Reason::HandingOver { action })
    }
}

enum Due {
    Now,
    Later(Instant),
    Void(String),
    /// A scheduled request is neither run nor removed in maintenance mode.
    NotInPause,
}

fn due(view: &View, key: &FailoverKey, now: Now) -> Due {
    let at = match &key.schedule {
        None => return Due::Now,
        Some(_) if view.settings.pause => return Due::NotInPause,
        Some(Schedule::Garbage(text)) => return Due::Void(format!("'{text}' is not a time with a zone")),
        Some(Schedule::At { at, .. }) => *at,
    };
    let ahead_ms = at.0 - now.wall.0;
    let stale_ms = i64::try_from(view.settings.loop_wait.as_millis()).unwrap_or(i64::MAX) * 3 / 2;
    if ahead_ms < -stale_ms {
        return Due::Void("found a stale switchover value".to_owned());
    }
    match u64::try_from(ahead_ms) {
        Ok(ms) if ms > 0 => Due::Later(now.mono + Duration::from_millis(ms)),
        _ => Due::Now,
    }
}

/// Why the request cannot be meant for this leader.
fn mistaken(view: &View, key: &FailoverKey) -> Option<String> {
    let me = &view.me.name;
    match (&key.leader, &key.candidate) {
        (Some(leader), _) if leader != me => Some(format!("leader name does not match: {leader} != {me}")),
        (_, Some(candidate)) if candidate == me => Some("I am already the leader".to_owned()),
        (_, None) if view.settings.pause => Some("possible only to a specific candidate in a paused state".to_owned()),
        _ => None,
    }
}

fn clear(view: &View, key: &FailoverKey, why: String, now: Instant) -> Verdict {
    // a leader that was not the one to step down is, most of the time, the one that took over
    let me = Some(&view.me.name);
    let done = key.leader.as_ref() != me && (key.leader.is_some() || key.candidate.as_ref() == me);
    let because = Reason::ManualRequestCleared { action: key.action(), why, done };
    write_once(view, now, DcsWrite::ClearFailover { seen: key.mod_revision }, because)
}

/// PostgreSQL is down or does no more than archive, the lead is being handed over and the key is still ours.
pub fn stopped(view: &View, cluster: &Cluster, control: &ControlData, handover: &Handover, now: Instant) -> Verdict {
    let stopped_at = stopped_at(view, now);
    let only = handover.request.as_ref().and_then(|key| key.candidate.as_ref());
    let because = Reason::HandingOver { action: handover.action };
    let anybody = handover.request.as_ref().is_some_and(|key| key.leader.is_none());
    let search = Search { only, anybody, since: stopped_at, every: ASK_AGAIN };
    match successor(view, cluster, control, &search, now) {
        Found::Able(_) => release_once(view, now, Some(last_position(cluster, control)), because),
        Found::Asking(step) => Verdict { because, ..*step },
        Found::Nobody(why) if now >= stopped_at + SUCCESSOR_PATIENCE => give_up(view, cluster, handover, why, now),
        Found::Nobody(_) => ask_again(view, cluster, control, &search, because, now),
    }
}

/// Since when nothing can be committed: the shutdown checkpoint was seen while the server archives, or it is down.
fn stopped_at(view: &View, now: Instant) -> Instant {
    let down = || view.ended.as_ref().map_or(now, |ended| ended.at);
    view.archiving_since.unwrap_or_else(down)
}

/// Who is looked for, and how.
pub(crate) struct Search<'a> {
    /// Only this member will do.
    pub only: Option<&'a MemberName>,
    /// It need not be synchronous: an operator answers for it.
    pub anybody: bool,
    /// Answers from before then say nothing.
    pub since: Instant,
    /// How often to ask.
    pub every: Duration,
}

impl<'a> Search<'a> {
    fn wanted(&self, control: &ControlData, asked_after: Instant) -> Wanted<'a> {
        let at = control.checkpoint_lsn;
        // whoever was able before the stop will do now
        Wanted { only: self.only, anybody: self.anybody, at_least: Some(at), leader_at: at, slots: false, asked_after }
    }
    fn lately(&self, now: Instant) -> Instant {
        self.since.max(now.minus(self.every))
    }
}

/// Has somebody received the shutdown checkpoint, by the last answers?
pub(crate) fn successor(
    view: &View,
    cluster: &Cluster,
    control: &ControlData,
    search: &Search<'_>,
    now: Instant,
) -> Found {
    let answered = view.peers.as_ref().map(|round| round.asked_at).filter(|at| *at >= search.since);
    find(view, cluster, &search.wanted(control, answered.unwrap_or(search.lately(now))), now)
}

/// Nobody had it; perhaps somebody has by now.
pub(crate) fn ask_again(
    view: &View,
    cluster: &Cluster,
    control: &ControlData,
    search: &Search<'_>,
    because: Reason,
    now: Instant,
) -> Verdict {
    match find(view, cluster, &search.wanted(control, search.lately(now)), now) {
        Found::Asking(step) => Verdict { because, ..*step },
        Found::Able(_) | Found::Nobody(_) => Verdict::hold_until(because, now + search.every),
    }
}

/// The shutdown checkpoint: what the others measure their lag against.
pub(crate) fn last_position(cluster: &Cluster, control: &ControlData) -> StatusKey {
    StatusKey { optime: control.checkpoint_lsn, ..cluster.status.clone() }
}

/// Nobody has everything, or it cannot be told: better the old leader than a successor without the last commits.
pub(crate) fn give_up(view: &View, cluster: &Cluster, handover: &Handover, why: String, now: Instant) -> Verdict {
    if let (Some(key), Some(_)) = (cluster.manual(), &handover.request) {
        return clear(view, key, why, now);
    }
    let because = Reason::HandoverGivenUp { why };
    let step = match &view.operation {
        // it still archives, and the lead is not to wait for that
        Some(running) => Verdict::act(Action::Cancel(running.id), because),
        None => Verdict::start(view, now, Operation::StartPrimary, because),
    };
    Verdict { remember: Some(Memory::HandoverOver), ..step }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide;
    use crate::testing::*;
    use pgherd_types::postgres::ControlState;
    use pgherd_types::*;

    fn asked(case: Case, leader: Option<&str>, candidate: Option<&str>, schedule: Option<Schedule>) -> Case {
        let (leader, candidate) = (leader.map(Into::into), candidate.map(Into::into));
        case.with_cluster(|c| c.failover = Some(FailoverKey { mod_revision: 5, leader, candidate, schedule }))
    }
    fn able(case: Case) -> Case {
        case.peers(vec![("b", answered(1000)), ("c", answered(1000))])
    }
    fn at(ms_from_now: i64) -> Option<Schedule> {
        Some(Schedule::At { at: WallTime(1_700_000_000_000 + ms_from_now), text: "then".into() })
    }

    #[test]
    fn the_leader_asks_whether_anybody_could_take_over_and_then_stops_in_order() {
        check(asked(primary(), Some("a"), None, None), "Probe", "LookingForSuccessor");
        check(able(asked(primary(), Some("a"), None, None)), "Stop Fast", "HandingOver");
        check(able(asked(primary(), None, Some("c"), None)), "Stop Fast", "HandingOver");
    }

    #[test]
    fn without_a_healthy_successor_the_request_is_removed_and_the_leader_stays() {
        let nobody = |case: Case| case.peers(vec![("b", silent()), ("c", silent())]);
        let decision =
            check(nobody(asked(primary(), Some("a"), None, None)), "Write ClearFailover", "ManualRequestCleared");
        assert!(decision.because.to_string().contains("b is not reachable"), "{}", decision.because);
        let lagging = asked(primary(), Some("a"), Some("c"), None)
            .with_server(|s| s.flushed = Lsn(1000 + 1_048_577))
            .peers(vec![("b", answered(1_050_000)), ("c", answered(1000))]);
        check(lagging, "Write ClearFailover", "ManualRequestCleared");
        check(able(asked(primary(), Some("a"), Some("z"), None)), "Write ClearFailover", "ManualRequestCleared");
    }

    #[test]
    fn answers_to_an_earlier_request_do_not_count() {
        let (mut view, now) = asked(primary(), Some("a"), Some("c"), None)
            .with_server(|s| s.flushed = Lsn(1000 + 1_048_577))
            .peers(vec![("b", answered(1000)), ("c", answered(1000))])
            .build();
        assert_eq!(name_of(&decide(&view, now).role), "Write ClearFailover");
        let key = FailoverKey { mod_revision: 6, candidate: Some("c".into()), ..FailoverKey::default() };
        let again = Cluster { failover: Some(key), ..view.cluster.get().unwrap().as_ref().clone() };
        let now = Now { mono: now.mono + Duration::from_millis(500), ..now };
        view.apply(crate::Observation::Cluster { cluster: std::sync::Arc::new(again), read_at: now.mono }, now);
        assert_eq!(name_of(&decide(&view, now).role), "Probe");
    }

    #[test]
    fn requests_that_are_not_for_this_leader_are_removed() {
        for (leader, candidate) in [(Some("b"), None), (Some("a"), Some("a")), (None, Some("a"))] {
            check(able(asked(primary(), leader, candidate, None)), "Write ClearFailover", "ManualRequestCleared");
        }
        check(primary().with_cluster(|c| c.failover = Some(FailoverKey::default())), "Hold", "LeaderWithLock");
    }

    #[test]
    fn a_request_that_is_fulfilled_is_no_reason_for_a_warning() {
        let done = |leader, candidate| {
            let decision =
                check(able(asked(primary(), leader, candidate, None)), "Write ClearFailover", "ManualRequestCleared");
            matches!(decision.because, Reason::ManualRequestCleared { done: true, .. })
        };
        assert!(done(None, Some("a")) && done(Some("b"), None) && done(Some("b"), Some("a")));
        assert!(!done(Some("a"), Some("a")) && !done(Some("a"), Some("z")));
    }

    #[test]
    fn a_scheduled_request_waits_is_done_in_time_and_is_void_when_it_is_stale() {
        let decision = check(able(asked(primary(), Some("a"), None, at(3000))), "Hold", "AwaitingSwitchover");
        assert_eq!(decision.decide_again_at, Instant::from_millis(63_000));
        check(able(asked(primary(), Some("a"), None, at(0))), "Stop Fast", "HandingOver");
        check(able(asked(primary(), Some("a"), None, at(-15_001))), "Write ClearFailover", "ManualRequestCleared");
        let garbage = Some(Schedule::Garbage("soon".into()));
        check(able(asked(primary(), Some("a"), None, garbage)), "Write ClearFailover", "ManualRequestCleared");
    }

    fn handing_over(case: Case) -> Case {
        let request = Some(FailoverKey { mod_revision: 5, leader: Some("a".into()), ..FailoverKey::default() });
        let case = asked(case, Some("a"), None, None);
        case.stopped()
            .with_control(|c| (c.checkpoint_lsn, c.state) = (Lsn(1000), ControlState::ShutDown))
            .ended(Operation::Stop { mode: StopMode::Fast }, OperationEnd::Done)
            .with_view(|v| v.handover = Some(Handover { request, action: "switchover" }))
    }

    #[test]
    fn the_key_is_given_up_only_when_somebody_has_the_shutdown_checkpoint() {
        check(handing_over(primary()), "Probe", "HandingOver");
        let decision = check(able(handing_over(primary())), "Release", "HandingOver");
        assert!(matches!(decision.role, Action::Release(Some(status)) if status.optime == Lsn(1000)));
        let short = || handing_over(primary()).peers(vec![("b", silent()), ("c", answered(999))]);
        check(short(), "Hold", "HandingOver");
        let (view, now) = short().build();
        let later = Now { mono: now.mono + SUCCESSOR_PATIENCE, ..now };
        assert_eq!(name_of(&decide(&view, later).role), "Probe", "once more before giving up");
    }

    #[test]
    fn slow_answers_do_not_keep_it_from_giving_up() {
        let (mut view, now) = handing_over(primary()).with_cluster(|c| c.failover = None).build();
        let at = |ms| Now { mono: now.mono + Duration::from_millis(ms), ..now };
        let mut rounds = 0;
        let given_up = (0..100).find(|second| {
            let now = at(second * 2000);
            let decision = decide(&view, now);
            view.dispatched(&decision, now);
            let Action::Probe { round, .. } = decision.role else {
                return name_of(&decision.role) == "Start StartPrimary";
            };
            rounds += 1;
            let silent = |name: &str| PeerReport { name: name.into(), answer: silent() };
            view.apply(
                crate::Observation::Peers { round, reports: vec![silent("b"), silent("c")] },
                at(second * 2000 + 1999),
            );
            false
        });
        assert!(given_up.is_some_and(|turns| turns <= 6) && rounds > 1, "{given_up:?} after {rounds} rounds");
    }

    #[test]
    fn while_nobody_knows_whether_the_key_is_gone_it_allows_nothing_new() {
        let (mut view, decision) = able(handing_over(primary())).decide();
        assert_eq!(name_of(&decision.role), "Release");
        let now = Now { mono: Instant::from_millis(60_500), ..Now::default() };
        view.apply(crate::Observation::ReleaseRefused(Refused::Unreachable("no answer".into())), now);
        let wait = decide(&view, now);
        assert_eq!((name_of(&wait.role).as_str(), wait.because.id().as_str()), ("Hold", "GivingUpKey"));
        let later = Now { mono: Instant::from_millis(62_000), ..Now::default() };
        assert_eq!(name_of(&decide(&view, later).role), "Release", "it is tried again");
        view.apply(crate::Observation::ReleaseRefused(Refused::Denied("no space".into())), later);
        assert_eq!(view.releasing, None, "nothing was written: the key is ours as before");
    }

    #[test]
    fn a_key_that_is_gone_after_the_release_was_sent_is_given_up_and_not_taken_again() {
        let (mut view, decision) = able(handing_over(primary())).decide();
        assert_eq!(name_of(&decision.role), "Release");
        let now = Now { mono: Instant::from_millis(60_100), ..Now::default() };
        let cluster = Cluster { leader: None, ..view.cluster.get().unwrap().as_ref().clone() };
        view.apply(crate::Observation::Cluster { cluster: std::sync::Arc::new(cluster), read_at: now.mono }, now);
        assert_eq!(view.lock(now.mono), crate::Lock::No);
        let waits = decide(&view, now);
        assert_eq!((name_of(&waits.role).as_str(), waits.because.id().as_str()), ("Hold", "AwaitingSuccessor"));
        let later = Now { mono: Instant::from_millis(61_000), ..Now::default() };
        assert_eq!(name_of(&decide(&view, later).role), "Start StartReplica", "nobody took it");
    }

    #[test]
    fn a_stop_that_was_not_in_order_ends_the_handover() {
        let hurried = handing_over(primary()).with_control(|c| c.state = ControlState::InProduction);
        check(hurried, "Write ClearFailover", "ManualRequestCleared");
        let cleared = handing_over(primary())
            .with_control(|c| c.state = ControlState::InProduction)
            .with_cluster(|c| c.failover = None);
        check(cleared, "Start StartPrimary", "HandoverGivenUp");
    }

    #[test]
    fn nobody_has_it_so_the_old_leader_goes_on() {
        let given_up = handing_over(primary())
            .peers(vec![("b", silent()), ("c", answered(999))])
            .with_view(|v| v.ended.as_mut().unwrap().at = Instant::from_millis(54_000));
        check(given_up, "Write ClearFailover", "ManualRequestCleared");
        let cleared = handing_over(primary())
            .peers(vec![("b", silent()), ("c", answered(999))])
            .with_cluster(|c| c.failover = None)
            .with_view(|v| v.ended.as_mut().unwrap().at = Instant::from_millis(54_000));
        let (view, decision) = cleared.decide();
        assert_eq!((name_of(&decision.role).as_str(), view.handover), ("Start StartPrimary", None));
    }
}
