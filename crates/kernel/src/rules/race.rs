//! Nobody leads and PostgreSQL runs as a standby: should this node? (spec/ha.md 8, 9)

use crate::decide::Verdict;
use crate::eligibility::{Rank, rank};
use crate::rules::acquire_once;
use crate::{Action, Reason, View};
use pgherd_types::{Cluster, Initialize, Instant, MemberName, PeerToAsk, RunningServer};
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
pub fn race(view: &View, cluster: &Cluster, running: &RunningServer, now: Instant) -> Verdict {
    if !view.me.tags.may_lead() {
        return Verdict::hold(Reason::NotAllowedToPromote);
    }
    if cluster.initialize == Some(Initialize::Garbage) {
        return Verdict::hold(Reason::InitializeIsGarbage);
    }
    let lost_at = view.leaderless_since.unwrap_or(now);
    if view.postgres.when().is_none_or(|looked_at| looked_at < lost_at) {
        return Verdict::hold(Reason::AwaitingOwnPosition);
    }
    if let Some(lag) = lag_too_large(view, cluster, running) {
        return Verdict::hold_until(lag, now + ANSWERS_LAST);
    }
    if peers_to_ask(view, cluster).is_empty() {
        return acquire_once(view, now, Reason::Acquiring);
    }
    let answers = view.peers.as_ref().filter(|p| p.asked_at >= lost_at && now < p.asked_at + probe_lasts());
    let Some(answers) = answers else { return probe(view, cluster, now) };
    let stale_before = if now < lost_at + FRESHNESS_PATIENCE { lost_at } else { Instant::default() };
    match rank(view, running, &answers.reports, stale_before) {
        Rank::First => acquire_once(view, now, Reason::Acquiring),
        Rank::Undecided(peer) if now < answers.asked_at + ASK_AGAIN => {
            Verdict::hold_until(Reason::AwaitingPeerPosition { peer }, answers.asked_at + ASK_AGAIN)
        }
        Rank::Undecided(_) => probe(view, cluster, now),
        Rank::NotFirst(because) => Verdict::hold_until(because, answers.asked_at + probe_lasts()),
    }
}

/// Answers count for a second after the slowest peer's time was up.
fn probe_lasts() -> Duration {
    ANSWERS_LAST + Duration::from_millis(PATIENCE_ALIVE_MS)
}

fn lag_too_large(view: &View, cluster: &Cluster, running: &RunningServer) -> Option<Reason> {
    let lag_bytes = cluster.status.optime.ahead_of(running.position());
    let limit_bytes = view.settings.maximum_lag_on_failover;
    (lag_bytes > limit_bytes).then_some(Reason::LagTooLarge { lag_bytes, limit_bytes })
}

fn probe(view: &View, cluster: &Cluster, now: Instant) -> Verdict {
    let patience = Duration::from_millis(PATIENCE_ALIVE_MS);
    if view.asked.probe.as_ref().is_some_and(|ask| ask.pending(now, patience)) {
        return Verdict::hold(Reason::AskingPeers);
    }
    Verdict::act(Action::Probe { round: view.last_round + 1, peers: peers_to_ask(view, cluster) }, Reason::AskingPeers)
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
    use pgherd_types::{Initialize, Instant, Lsn, PeerAnswer, PeerSaid, Timeline};

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
    fn who_may_not_lead_does_not() {
        check(replica().unlocked().with_view(|v| v.me.tags.nofailover = true), "Hold", "NotAllowedToPromote");
        check(replica().unlocked().with_view(|v| v.me.tags.failover_priority = Some(0)), "Hold", "NotAllowedToPromote");
        check(
            replica().unlocked().with_cluster(|c| c.initialize = Some(Initialize::Garbage)),
            "Hold",
            "InitializeIsGarbage",
        );
    }

    #[test]
    fn too_much_lag_bars_a_replica() {
        let case = replica().unlocked().with_cluster(|c| c.status.optime = Lsn(1000 + 1_048_577));
        check(case, "Hold", "LagTooLarge");
        let case = replica().unlocked().with_cluster(|c| c.status.optime = Lsn(1000 + 1_048_576));
        check(case, "Probe", "AskingPeers");
    }
}
