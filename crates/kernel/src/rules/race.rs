//! Nobody leads and PostgreSQL runs as a standby: should this node? (spec/ha.md 8, 9)

use crate::decide::Verdict;
use crate::eligibility::{Rank, counts, rank};
use crate::rules::{acquire_once, ballot, probe_once, standby_cluster};
use crate::view::PeerRound;
use crate::{Reason, View};
use pgherd_types::{
    Cluster, FailoverKey, Initialize, Instant, MemberName, Now, PeerAnswer, PeerReport, PeerToAsk, RunningServer,
    Schedule, Timeline,
};
use std::time::Duration;

/// Peers' answers are used for this long.
const ANSWERS_LAST: Duration = Duration::from_secs(1);
/// How long to insist on positions that peers looked up after the leader was lost.
const FRESHNESS_PATIENCE: Duration = Duration::from_secs(2);
/// How long after a stale answer a peer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// Patience with a peer whose member key exists, and with one whose key has lapsed.
const PATIENCE_ALIVE_MS: u64 = 2000;
const PATIENCE_LAPSED_MS: u64 = 300;

/// One step of the race.
pub fn race(view: &View, cluster: &Cluster, running: &RunningServer, at: Now) -> Verdict {
    let now = at.mono;
    if !view.me.tags.may_lead() {
        return Verdict::hold(Reason::NotAllowedToPromote);
    }
    if cluster.initialize == Some(Initialize::Garbage) {
        return Verdict::hold(Reason::InitializeIsGarbage);
    }
    if let Some(verdict) = barred(view, cluster, now) {
        return verdict;
    }
    if let Some(verdict) = standby_cluster::cut_off(view, running, now) {
        return verdict;
    }
    let lost_at = view.leaderless_since.unwrap_or(now);
    let answers = answers(view, lost_at, now);
    if view.postgres.when().is_none_or(|looked_at| looked_at < lost_at) {
        return look_and_ask(view, cluster, answers, now);
    }
    let manual = cluster.manual().filter(|key| is_due(view, key, at));
    let named = manual.is_some_and(|key| key.candidate.as_ref() == Some(&view.me.name));
    if named && manual.is_some_and(|key| key.leader.is_none()) {
        return acquire_once(view, now, Reason::Acquiring); // a failover to this node: an operator answers for it
    }
    let ballot = match ballot::rule(view, cluster, manual) {
        Ok(ballot) => ballot,
        Err(because) => return Verdict::hold_until(because, now + ANSWERS_LAST),
    };
    if let Some(until) = backoff(view, running, lost_at, now) {
        return Verdict::hold_until(Reason::WalStillArrives { me: view.me.name.clone() }, until);
    }
    if let Some(because) = behind(view, cluster, running, ballot.is_some()) {
        return Verdict::hold_until(because, now + ANSWERS_LAST);
    }
    let nobody = PeerRound { asked_at: now, reports: Vec::new() };
    let answers = match answers {
        _ if peers_to_ask(view, cluster).is_empty() => &nobody,
        Some(answers) => answers,
        None => return probe(view, cluster, now),
    };
    let stale_before = if now < lost_at + FRESHNESS_PATIENCE { lost_at } else { Instant::default() };
    let open_at = lost_at + view.settings.ttl;
    if let Some(because) = manual.filter(|_| now < open_at).and_then(|key| somebody_else(view, key, &answers.reports)) {
        return Verdict::hold_until(because, (answers.asked_at + probe_lasts()).min(open_at));
    }
    // who is named now is wanted again, whatever it made way for before
    if let Some(until) = view.made_way_at.map(|at| at + view.settings.ttl).filter(|until| now < *until && !named)
        && let Some(other) = anybody_able(view, &answers.reports)
    {
        let because = Reason::CandidateGoesFirst { candidate: other.clone() };
        return Verdict::hold_until(because, (answers.asked_at + probe_lasts()).min(until));
    }
    let place = match &ballot {
        None => rank(view, running, &answers.reports, stale_before, now),
        Some(ballot) => ballot::rank(view, running, ballot, &answers.reports, (lost_at, stale_before), now),
    };
    match place {
        Rank::First => acquire_once(view, now, Reason::Acquiring),
        // the candidate of a switchover comes before its equals, and not before those who have more: its leader may have
        // died before it could hand over. And an equal that was preferred for a ttl and did not lead may be barred
        Rank::NotFirst(Reason::PeerPreferred { .. } | Reason::PeerHasSlots { .. }) if named || now >= open_at => {
            acquire_once(view, now, Reason::Acquiring)
        }
        Rank::Undecided(peer) if now < answers.asked_at + ASK_AGAIN => {
            Verdict::hold_until(Reason::AwaitingPeerPosition { peer }, answers.asked_at + ASK_AGAIN)
        }
        Rank::Undecided(_) => probe(view, cluster, now),
        Rank::NotFirst(because) => Verdict::hold_until(because, answers.asked_at + probe_lasts()),
    }
}

/// What the others said since the leader was lost.
fn answers(view: &View, lost_at: Instant, now: Instant) -> Option<&PeerRound> {
    view.peers.as_ref().filter(|round| round.asked_at >= lost_at && now < round.asked_at + probe_lasts())
}

/// Neither answer depends on the other, so the others are asked while this node looks at itself.
fn look_and_ask(view: &View, cluster: &Cluster, answers: Option<&PeerRound>, now: Instant) -> Verdict {
    let peers = peers_to_ask(view, cluster);
    if answers.is_some() || peers.is_empty() {
        return Verdict::hold(Reason::AwaitingOwnPosition);
    }
    probe_once(view, peers, now, Reason::AwaitingOwnPosition)
}

/// Answers count for a second after the slowest peer's time was up.
fn probe_lasts() -> Duration {
    ANSWERS_LAST + Duration::from_millis(PATIENCE_ALIVE_MS)
}

/// A scheduled request counts once its time has come; the clocks of two nodes may differ a little.
fn is_due(view: &View, key: &FailoverKey, now: Now) -> bool {
    let tolerance_ms = i64::try_from(view.settings.loop_wait.as_millis()).unwrap_or(i64::MAX);
    match &key.schedule {
        None => true,
        Some(Schedule::At { at, .. }) => at.0 <= now.wall.0.saturating_add(tolerance_ms),
        Some(Schedule::Garbage(_)) => false,
    }
}

/// Why this node takes no part for now.
fn barred(view: &View, cluster: &Cluster, now: Instant) -> Option<Verdict> {
    if view.watchdog_failed {
        return Some(Verdict::hold(Reason::WatchdogUnusable));
    }
    if let Some(until) = view.refused_promotion_at.map(|at| at + view.settings.ttl).filter(|until| now < *until) {
        return Some(Verdict::hold_until(Reason::PromotionRefusedLately, until));
    }
    // a promise is kept even if the mode was switched off since
    if let Some((to, at)) = &view.promised
        && now < *at + view.promise_lasts()
    {
        return Some(Verdict::hold_until(Reason::FailsafePromised { to: to.clone() }, *at + view.promise_lasts()));
    }
    let topology = cluster.failsafe.as_ref().filter(|members| view.settings.failsafe_mode && !members.is_empty())?;
    if !topology.contains_key(&view.me.name) {
        return Some(Verdict::hold(Reason::NotInFailsafeTopology));
    }
    // what was promised before the agent was restarted is not known; alone there is nobody to promise anything to
    let forgets_until = view.began + view.settings.ttl;
    let unknown = now < forgets_until && topology.len() > 1;
    unknown.then(|| Verdict::hold_until(Reason::MayHavePromised, forgets_until))
}

fn able(reports: &[PeerReport], name: &MemberName) -> bool {
    let report = reports.iter().find(|report| report.name == *name);
    matches!(report.map(|r| &r.answer), Some(PeerAnswer::Said(said)) if counts(said) && !said.is_primary)
}

fn anybody_able<'r>(view: &View, reports: &'r [PeerReport]) -> Option<&'r MemberName> {
    reports.iter().map(|report| &report.name).find(|name| **name != view.me.name && able(reports, name))
}

/// An operator named another node, or does not want this one, and somebody who may lead is there.
fn somebody_else(view: &View, key: &FailoverKey, reports: &[PeerReport]) -> Option<Reason> {
    match (&key.candidate, &key.leader) {
        (Some(candidate), _) if *candidate != view.me.name => {
            able(reports, candidate).then(|| Reason::CandidateGoesFirst { candidate: candidate.clone() })
        }
        (None, Some(leader)) if *leader == view.me.name => {
            Some(Reason::CandidateGoesFirst { candidate: anybody_able(view, reports)?.clone() })
        }
        _ => None,
    }
}

/// While WAL still arrives from the old leader it may be alive: until when to wait for that to end.
fn backoff(view: &View, running: &RunningServer, lost_at: Instant, now: Instant) -> Option<Instant> {
    let over = lost_at + view.settings.primary_race_backoff;
    let arrives =
        running.streaming && view.moved_at.is_some_and(|at| at >= lost_at && now < at + view.settings.loop_wait);
    let may_be_alive = view.settings.standby_cluster.is_none(); // the remote primary's WAL says nothing of a leader here
    (now < over && arrives && may_be_alive).then(|| over.min(now + ANSWERS_LAST))
}

/// Too far behind to lead.
/// A synchronous standby has every commit, however much else it lacks.
fn behind(view: &View, cluster: &Cluster, running: &RunningServer, synchronous: bool) -> Option<Reason> {
    if let Some(lag) = lag_too_large(view, cluster, running).filter(|_| !synchronous) {
        return Some(lag);
    }
    let rows = cluster.history.as_ref().filter(|_| view.checks_timeline())?;
    let latest = rows.last().map_or(Timeline(1), |row| row.timeline.next());
    let old = running.timeline.is_none_or(|ours| ours < latest);
    old.then_some(Reason::TimelineBehind { ours: running.timeline, latest })
}

fn lag_too_large(view: &View, cluster: &Cluster, running: &RunningServer) -> Option<Reason> {
    let lag_bytes = cluster.status.optime.ahead_of(running.position());
    let limit_bytes = view.settings.maximum_lag_on_failover;
    (lag_bytes > limit_bytes).then_some(Reason::LagTooLarge { lag_bytes, limit_bytes })
}

fn probe(view: &View, cluster: &Cluster, now: Instant) -> Verdict {
    probe_once(view, peers_to_ask(view, cluster), now, Reason::AskingPeers)
}

/// Everybody ever seen beside a leader: a member whose key just lapsed may still be alive, and primary.
fn peers_to_ask(view: &View, cluster: &Cluster) -> Vec<PeerToAsk> {
    let alive = |name: &MemberName| cluster.members.contains_key(name);
    let ask = |(name, api_url): (&MemberName, &String)| PeerToAsk {
        name: name.clone(),
        api_url: api_url.clone(),
        patience_ms: if alive(name) { PATIENCE_ALIVE_MS } else { PATIENCE_LAPSED_MS },
    };
    view.known_apis.iter().map(ask).collect()
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use pgherd_types::{FailoverKey, Initialize, Instant, Lsn, PeerAnswer, PeerSaid, Schedule, Timeline};

    const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

    #[test]
    fn peers_are_asked_before_anything_is_taken() {
        check(replica().unlocked(), "Probe", "AskingPeers");
    }

    #[test]
    fn the_most_advanced_takes_the_key() {
        check(replica().unlocked().peers(vec![("b", silent()), ("c", answered(1000))]), "Acquire", "Acquiring");
        check(replica().unlocked().peers(vec![("b", silent()), ("c", answered(1001))]), "Hold", "PeerAhead");
    }

    #[test]
    fn a_longer_log_on_an_older_timeline_is_behind() {
        let case = replica().unlocked().with_server(|s| s.timeline = Some(Timeline(2)));
        check(case.peers(vec![("b", silent()), ("c", answered(9999))]), "Acquire", "Acquiring");
    }

    #[test]
    fn a_live_primary_blocks_the_race() {
        let alive = PeerAnswer::Said(PeerSaid { is_primary: true, ..said(1) });
        check(replica().unlocked().peers(vec![("b", alive), ("c", answered(1))]), "Hold", "PrimaryStillAlive");
    }

    #[test]
    fn equal_positions_are_settled_by_priority() {
        let preferred = PeerAnswer::Said(PeerSaid { priority: 2, ..said(1000) });
        check(replica().unlocked().peers(vec![("b", silent()), ("c", preferred)]), "Hold", "PeerPreferred");
        let late = |c: PeerAnswer, lost_ms| {
            let case = replica().unlocked().peers(vec![("b", silent()), ("c", c)]);
            case.with_view(move |v| v.leaderless_since = Some(Instant::from_millis(lost_ms)))
        };
        let preferred = || PeerAnswer::Said(PeerSaid { priority: 2, ..said(1000) });
        check(late(preferred(), 30_001), "Hold", "PeerPreferred");
        check(late(preferred(), 30_000), "Acquire", "Acquiring");
        let barred = PeerAnswer::Said(PeerSaid { priority: 0, ..said(5000) });
        check(replica().unlocked().peers(vec![("b", silent()), ("c", barred)]), "Acquire", "Acquiring");
    }

    #[test]
    fn a_position_from_before_the_loss_of_the_leader_settles_nothing() {
        let stale = PeerAnswer::Said(PeerSaid { looked_at: Instant::from_millis(59_000), ..said(900) });
        check(replica().unlocked().peers(vec![("b", silent()), ("c", stale)]), "Hold", "AwaitingPeerPosition");
    }

    #[test]
    fn our_own_position_must_be_from_after_the_loss_too() {
        let mut case = replica().unlocked().peers(vec![("b", silent()), ("c", answered(900))]);
        case.postgres.looked_at = Instant::from_millis(59_999);
        let decision = check(case, "Hold", "AwaitingOwnPosition");
        assert!(decision.upkeep.look);
    }

    #[test]
    fn the_others_are_asked_while_this_node_looks_at_itself() {
        let mut case = replica().unlocked();
        case.postgres.looked_at = Instant::from_millis(59_999);
        let (mut view, decision) = case.decide();
        assert_eq!((name_of(&decision.role).as_str(), decision.upkeep.look), ("Probe", true));
        assert_eq!(decision.because.id(), "AwaitingOwnPosition");
        let (_, now) = replica().build();
        view.dispatched(&decision, now);
        let second = crate::decide(&view, now);
        assert_eq!((name_of(&second.role).as_str(), second.because.id().as_str()), ("Hold", "AwaitingOwnPosition"));
    }

    #[test]
    fn who_may_not_lead_does_not() {
        check(replica().unlocked().with_view(|v| v.me.tags.nofailover = true), "Hold", "NotAllowedToPromote");
        check(replica().unlocked().with_view(|v| v.me.tags.failover_priority = Some(0)), "Hold", "NotAllowedToPromote");
        check(
            replica().unlocked().with_cluster(|c| c.initialize = Some(Initialize::Garbage)),
            "Hold",
            "InitializeIsGarbage",
        );
    }

    fn asked(case: Case, leader: Option<&str>, candidate: Option<&str>) -> Case {
        let (leader, candidate) = (leader.map(Into::into), candidate.map(Into::into));
        let key = FailoverKey { mod_revision: 5, leader, candidate, schedule: None };
        case.with_cluster(|c| c.failover = Some(key))
    }

    #[test]
    fn the_candidate_of_a_switchover_comes_before_its_equals_and_not_before_those_who_have_more() {
        let preferred = |position| PeerAnswer::Said(PeerSaid { priority: 2, ..said(position) });
        let case = |position| replica().unlocked().peers(vec![("b", silent()), ("c", preferred(position))]);
        check(asked(case(1000), Some("b"), Some("a")), "Acquire", "Acquiring");
        check(asked(case(1001), Some("b"), Some("a")), "Hold", "PeerAhead");
        check(asked(replica().unlocked(), None, Some("a")), "Acquire", "Acquiring");
    }

    #[test]
    fn others_let_the_candidate_go_first_if_it_can_lead_and_not_for_ever() {
        let case =
            |c: PeerAnswer| asked(replica().unlocked().peers(vec![("b", silent()), ("c", c)]), Some("b"), Some("c"));
        check(case(answered(10)), "Hold", "CandidateGoesFirst");
        check(case(silent()), "Acquire", "Acquiring");
        check(case(PeerAnswer::Said(PeerSaid { priority: 0, ..said(10) })), "Acquire", "Acquiring");
        let late = case(answered(10)).with_view(|v| v.leaderless_since = Some(Instant::from_millis(29_000)));
        check(late, "Acquire", "Acquiring");
    }

    #[test]
    fn the_old_leader_lets_others_go_first() {
        let case = |c: PeerAnswer| asked(replica().unlocked().peers(vec![("b", silent()), ("c", c)]), Some("a"), None);
        check(case(answered(900)), "Hold", "CandidateGoesFirst");
        check(case(silent()), "Acquire", "Acquiring");
    }

    #[test]
    fn who_made_way_lets_others_go_first_for_a_ttl() {
        let case = |c: PeerAnswer, ms| {
            let made_way = move |v: &mut crate::View| v.made_way_at = Some(Instant::from_millis(ms));
            replica().unlocked().peers(vec![("b", silent()), ("c", c)]).with_view(made_way)
        };
        check(case(answered(900), 30_001), "Hold", "CandidateGoesFirst");
        check(case(silent(), 30_001), "Acquire", "Acquiring");
        check(case(answered(900), 30_000), "Acquire", "Acquiring");
    }

    #[test]
    fn the_candidate_of_a_switchover_need_not_let_others_go_first() {
        let case = |leader, c: PeerAnswer| {
            let lately = |v: &mut crate::View| v.made_way_at = Some(Instant::from_millis(50_000));
            asked(replica().unlocked(), leader, Some("a")).peers(vec![("b", silent()), ("c", c)]).with_view(lately)
        };
        check(case(Some("b"), answered(1000)), "Acquire", "Acquiring");
        check(case(None, answered(1000)), "Acquire", "Acquiring");
        check(case(Some("b"), answered(1001)), "Hold", "PeerAhead");
    }

    #[test]
    fn a_scheduled_request_does_not_touch_the_race_before_its_time() {
        let case = |at_ms: i64| {
            let at = pgherd_types::WallTime(1_700_000_000_000 + at_ms);
            let schedule = Some(Schedule::At { at, text: "then".into() });
            asked(replica().unlocked(), Some("b"), Some("c"))
                .peers(vec![("b", silent()), ("c", answered(10))])
                .with_cluster(|c| c.failover.as_mut().unwrap().schedule = schedule)
        };
        check(case(10_001), "Acquire", "Acquiring");
        check(case(10_000), "Hold", "CandidateGoesFirst");
        check(case(-5000), "Hold", "CandidateGoesFirst");
    }

    fn failsafe(case: Case, members: &[&str]) -> Case {
        let members = members.iter().map(|name| ((*name).into(), format!("http://{name}"))).collect();
        case.with_view(|v| v.settings.failsafe_mode = true).with_cluster(|c| c.failsafe = Some(members))
    }

    #[test]
    fn who_agreed_to_a_leader_without_the_dcs_does_not_race() {
        let case = || failsafe(replica().unlocked(), &["a", "b", "c"]);
        check(case(), "Hold", "MayHavePromised");
        let known =
            || case().with_view(|v| v.began = Instant::from_millis(1)).with_view(|v| v.settings.ttl = SECOND * 20);
        check(known(), "Probe", "AskingPeers");
        let promised = |ms| known().with_view(move |v| v.promised = Some(("b".into(), Instant::from_millis(ms))));
        check(promised(40_001), "Hold", "FailsafePromised");
        check(promised(40_000), "Probe", "AskingPeers");
        let off = promised(40_001).with_view(|v| v.settings.failsafe_mode = false);
        check(off, "Hold", "FailsafePromised");
        check(failsafe(replica().unlocked(), &["b", "c"]), "Hold", "NotInFailsafeTopology");
    }

    #[test]
    fn a_race_waits_while_wal_still_arrives() {
        let case = |moved_ms| {
            replica().unlocked().with_view(move |v| {
                v.settings.primary_race_backoff = SECOND * 20;
                v.leaderless_since = Some(Instant::from_millis(55_000));
                v.moved_at = Some(Instant::from_millis(moved_ms));
                v.settings.loop_wait = SECOND * 2;
            })
        };
        let still = |ms| {
            let (mut view, now) = case(ms).build();
            view.moved_at = Some(Instant::from_millis(ms)); // the look of the fixture moved it, too
            crate::decide(&view, now).because.id()
        };
        assert_eq!(
            (still(58_001), still(58_000), still(54_999)),
            ("WalStillArrives".into(), "AskingPeers".into(), "AskingPeers".into())
        );
    }

    #[test]
    fn with_check_timeline_an_old_timeline_bars() {
        let case = |ours: Option<u32>| {
            let row = pgherd_types::HistoryRow {
                timeline: Timeline(1),
                switch_lsn: Lsn(10),
                reason: String::new(),
                at: None,
                new_leader: None,
            };
            replica()
                .unlocked()
                .with_view(|v| v.settings.check_timeline = true)
                .with_cluster(|c| c.history = Some(vec![row]))
                .with_server(move |s| s.timeline = ours.map(Timeline))
        };
        check(case(Some(1)), "Hold", "TimelineBehind");
        check(case(None), "Hold", "TimelineBehind");
        check(case(Some(2)), "Probe", "AskingPeers");
    }

    #[test]
    fn an_unusable_watchdog_that_is_required_bars() {
        check(replica().unlocked().with_view(|v| v.watchdog_failed = true), "Hold", "WatchdogUnusable");
    }

    #[test]
    fn too_much_lag_bars_a_replica() {
        let case = replica().unlocked().with_cluster(|c| c.status.optime = Lsn(1000 + 1_048_577));
        check(case, "Hold", "LagTooLarge");
        let case = replica().unlocked().with_cluster(|c| c.status.optime = Lsn(1000 + 1_048_576));
        check(case, "Probe", "AskingPeers");
    }
}
