//! The race in a synchronous mode (spec/sync-and-quorum.md 9): only a node that is certain to have every acknowledged
//! commit may lead. Who that can be is said by the `sync` key.

use crate::eligibility::{Rank, Slots, counts};
use crate::sync::{Ballot, Peer, RaceRule, may_race, votes};
use crate::{Reason, View};
use pgherd_types::{
    Cluster, FailoverKey, Instant, MemberName, PeerAnswer, PeerReport, PeerSaid, RunningServer, SyncKey, SyncMode,
    SyncName,
};
use std::cmp::Ordering;

/// The rule for this node; `Err`: why it may not race.
pub fn rule(view: &View, cluster: &Cluster, manual: Option<&FailoverKey>) -> Result<Option<Ballot>, Reason> {
    let me = SyncName::from(&view.me.name);
    let last = view.sync.last_key.as_ref();
    match may_race(&cluster.sync, last, view.settings.sync_mode(), &me) {
        RaceRule::Asynchronous => Ok(None),
        RaceRule::Barred(bar) => Err(Reason::NotSynchronous { bar, members: names(last) }),
        // whom an operator wants in the leader's place must have what the leader had
        RaceRule::Ballot(ballot) if manual.is_some_and(|key| key.leader.is_some()) && !ballot.key.has_member(&me) => {
            Err(Reason::NotSynchronous { bar: crate::sync::Bar::NotListed, members: names(Some(&ballot.key)) })
        }
        RaceRule::Ballot(ballot) => Ok(Some(ballot)),
    }
}

/// Who may lead by this key.
fn names(key: Option<&SyncKey>) -> Vec<MemberName> {
    let leader = key.and_then(|key| key.leader.clone());
    let standbys = key.into_iter().flat_map(|key| key.standbys.iter().map(|name| name.member().clone()));
    leader.into_iter().chain(standbys).collect()
}

/// This node's place by the answers. A position that was looked up before the loss of the leader is no vote: more may
/// have arrived since.
pub fn rank(
    view: &View,
    running: &RunningServer,
    ballot: &Ballot,
    reports: &[PeerReport],
    (lost_at, stale_before): (Instant, Instant),
    now: Instant,
) -> Rank {
    let said = |report: &'_ PeerReport| match &report.answer {
        PeerAnswer::Said(said) => Some((report.name.clone(), said.clone())),
        PeerAnswer::Silent(_) => None,
    };
    let answers: Vec<(MemberName, PeerSaid)> = reports.iter().filter_map(said).collect();
    if let Some((peer, _)) = answers.iter().find(|(_, said)| said.is_primary) {
        return Rank::NotFirst(Reason::PrimaryStillAlive { peer: peer.clone() });
    }
    let me = SyncName::from(&view.me.name);
    let ours = (running.timeline, running.position());
    let fresh: Vec<Peer> = answers.iter().filter(|(_, said)| said.looked_at >= lost_at).map(peer).collect();
    let count = votes(ballot, &me, ours, &fresh);
    if let Some(ahead) = &count.ahead
        && let Some((peer, said)) = answers.iter().find(|(name, _)| SyncName::from(name) == *ahead)
    {
        return Rank::NotFirst(Reason::PeerAhead { peer: peer.clone(), theirs: (said.timeline, said.position), ours });
    }
    let old = |(_, said): &&(MemberName, PeerSaid)| counts(said) && said.looked_at < lost_at;
    match (count.wins(), answers.iter().find(old)) {
        (true, Some((peer, said))) if said.looked_at < stale_before => Rank::Undecided(peer.clone()),
        (true, _) => preferred(view, ballot, ours, &answers, now).map_or(Rank::First, Rank::NotFirst),
        (false, Some((peer, _))) => Rank::Undecided(peer.clone()),
        (false, None) => Rank::NotFirst(Reason::QuorumNotReached {
            votes: count.votes,
            needed: count.needed,
            missing: missing(view, ballot, &answers),
        }),
    }
}

fn peer((name, said): &(MemberName, PeerSaid)) -> Peer {
    Peer {
        name: SyncName::from(name),
        position: said.position,
        timeline: said.timeline,
        in_recovery: !said.is_primary,
        limited: !counts(said),
    }
}

type Position = (Option<pgherd_types::Timeline>, pgherd_types::Lsn);

/// An equal that is preferred; the former leader is not, whatever its priority.
fn preferred(
    view: &View,
    ballot: &Ballot,
    ours: Position,
    answers: &[(MemberName, PeerSaid)],
    now: Instant,
) -> Option<Reason> {
    let slots = Slots::of(view, now);
    let mine = view.me.tags.priority();
    let preferred = |(name, said): &&(MemberName, PeerSaid)| {
        let better = slots.compare(said).then(said.priority.cmp(&mine)) == Ordering::Greater;
        let equal = (said.timeline, said.position) == ours && better && counts(said);
        equal && ballot.key.has_member(&SyncName::from(name)) && ballot.key.leader.as_ref() != Some(name)
    };
    let (peer, said) = answers.iter().find(preferred)?;
    Some(match slots.compare(said) {
        Ordering::Greater => Reason::PeerHasSlots { peer: peer.clone(), slots: slots.lacking(said) },
        Ordering::Equal | Ordering::Less => {
            Reason::PeerPreferred { peer: peer.clone(), theirs: said.priority, ours: mine }
        }
    })
}

/// Members of the key that gave no answer: one of them has to come back.
fn missing(view: &View, ballot: &Ballot, answers: &[(MemberName, PeerSaid)]) -> Vec<MemberName> {
    let silent = |name: &MemberName| *name != view.me.name && answers.iter().all(|(there, _)| there != name);
    names(Some(&ballot.key)).into_iter().filter(silent).collect()
}

/// The members among whom a successor is looked for before a leader steps down: in an active mode those of the key,
/// unless an operator names somebody and answers for it.
pub fn may_succeed(view: &View, cluster: &Cluster, name: &MemberName) -> bool {
    match (view.settings.sync_mode(), cluster.sync.active()) {
        (SyncMode::On | SyncMode::Quorum, Some(key)) => key.standbys.contains(&SyncName::from(name)),
        (SyncMode::Off | SyncMode::On | SyncMode::Quorum, _) => true,
    }
}

/// In quorum mode so many able members are needed that one of them gets enough votes from the others.
pub fn votes_needed(view: &View, cluster: &Cluster) -> Option<u32> {
    let key = cluster.sync.active().filter(|_| view.settings.sync_mode() == SyncMode::Quorum)?;
    Some(key.quorum)
}

#[cfg(test)]
#[path = "ballot_tests.rs"]
mod tests;
