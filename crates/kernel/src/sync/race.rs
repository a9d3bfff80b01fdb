//! Who may race for the leader key in a synchronous mode (spec/sync-and-quorum.md 9, spec/ha.md 9).
//!
//! The key counts as it is, whatever the mode: a quorum asks for votes also where mode `on` was requested in the meantime.
//! A key that cannot be read, or that is gone although one was seen, has not set anybody free: the last one counts.

use pgherd_types::{Lsn, SyncKey, SyncMode, SyncName, SyncSeen, Timeline};

/// The rule of the race for one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RaceRule {
    /// No synchronous mode, or not yet active: as in asynchronous replication.
    Asynchronous,
    /// Not this node.
    Barred(Bar),
    /// This node, if it wins the ballot.
    Ballot(Ballot),
}

/// Why a node may not race.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Bar {
    /// It is not in the key.
    NotListed,
    /// The key is gone or without a leader, and this node is not in the last one that was seen.
    NotInLastKey,
    /// The key cannot be read, and this node is not in the last one that could be, or none was seen. An operator has to
    /// look at the key.
    KeyUnreadable,
}

/// What the key asks of whoever wants to lead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ballot {
    /// The key that counts.
    pub key: SyncKey,
    /// It is the last one seen, not the present one: to be reported.
    pub remembered: bool,
    /// Only members of the key are asked and count (mode `on`).
    pub members_only: bool,
}

/// The key a node should remember: the last one that could be read and had a leader, unless the mode was switched off.
pub fn remember(last: Option<SyncKey>, mode: SyncMode, seen: &SyncSeen) -> Option<SyncKey> {
    match (seen.active(), mode) {
        (Some(key), _) => Some(key.clone()),
        (None, SyncMode::Off) => None,
        (None, SyncMode::On | SyncMode::Quorum) => last,
    }
}

/// May `me` race? `last` is the key as [`remember`] keeps it.
pub fn may_race(seen: &SyncSeen, last: Option<&SyncKey>, mode: SyncMode, me: &SyncName) -> RaceRule {
    let members_only = mode == SyncMode::On;
    let ballot = |key: &SyncKey, remembered| RaceRule::Ballot(Ballot { key: key.clone(), remembered, members_only });
    if mode == SyncMode::Off {
        return RaceRule::Asynchronous;
    }
    if let Some(key) = seen.active() {
        let free = !members_only || key.has_member(me);
        return if free { ballot(key, false) } else { RaceRule::Barred(Bar::NotListed) };
    }
    match (last, seen) {
        (Some(key), _) if key.has_member(me) => ballot(key, true),
        (_, SyncSeen::Garbage { .. }) => RaceRule::Barred(Bar::KeyUnreadable),
        (Some(_), SyncSeen::Absent | SyncSeen::Valid(_)) => RaceRule::Barred(Bar::NotInLastKey),
        (None, SyncSeen::Absent | SyncSeen::Valid(_)) => RaceRule::Asynchronous,
    }
}

/// What a peer answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Who.
    pub name: SyncName,
    /// Its position in a race; zero when unknown.
    pub position: Lsn,
    /// The timeline of that position: it comes first in every comparison, since a longer log on an older one holds less. A
    /// peer that does not know has no vote.
    pub timeline: Option<Timeline>,
    /// Its PostgreSQL is in recovery.
    pub in_recovery: bool,
    /// It could not lead (`nofailover`, watchdog): neither votes nor is in the way.
    pub limited: bool,
}

/// The count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Count {
    /// Votes; one who is not in the key begins with one less than none.
    pub votes: i64,
    /// How many it takes.
    pub needed: i64,
    /// A peer that is ahead.
    pub ahead: Option<SyncName>,
    /// This node is the key's leader, who has everything anyway.
    pub is_key_leader: bool,
}

impl Count {
    /// May this node lead?
    pub fn wins(&self) -> bool {
        self.ahead.is_none() && (self.votes >= self.needed || self.is_key_leader)
    }
}

/// Counts the answers for `me` at `position` of `timeline`. A peer that did not answer is not in `peers`; one that is out of recovery
/// ends the race elsewhere.
pub fn votes(ballot: &Ballot, me: &SyncName, (timeline, position): (Option<Timeline>, Lsn), peers: &[Peer]) -> Count {
    let key = &ballot.key;
    let ahead = |peer: &Peer| match peer.timeline {
        Some(_) => (peer.timeline, peer.position) > (timeline, position),
        None => peer.position > position,
    };
    let counts = |peer: &&Peer| peer.name != *me && !peer.limited && !peer.position.is_zero();
    let peers = || peers.iter().filter(counts);
    let votes = |peer: &&Peer| peer.in_recovery && peer.timeline.is_some() && !ahead(peer);
    let level = peers().filter(votes).filter(|peer| key.has_member(&peer.name));
    // by name: a peer that is listed twice has one vote
    let votes = level.map(|peer| &peer.name).collect::<std::collections::BTreeSet<_>>().len();
    let in_the_way = |peer: &&Peer| {
        let asked = !ballot.members_only || key.has_member(&peer.name);
        asked && ahead(peer) && !key.is_led_by(&peer.name)
    };
    Count {
        votes: i64::try_from(votes).unwrap_or(i64::MAX) - i64::from(!key.has_member(me)),
        needed: i64::from(key.quorum),
        ahead: peers().find(in_the_way).map(|peer| peer.name.clone()),
        is_key_leader: key.is_led_by(me),
    }
}

#[cfg(test)]
mod tests;
