//! Who comes first among candidates (spec/ha.md 9.2). Positions are compared by timeline first, then by LSN: a standby
//! that stayed on an older timeline is behind, however much WAL it wrote there.

use crate::{Reason, View, slots};
use pgherd_types::{Instant, Lsn, MemberName, PeerAnswer, PeerReport, PeerSaid, RunningServer, Timeline};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// This node's place among those who answered.
#[derive(Clone, PartialEq, Debug)]
pub enum Rank {
    /// Nobody comes before it.
    First,
    /// Somebody does, or must not be overruled.
    NotFirst(Reason),
    /// This peer's answer is older than the loss of the leader: it may have received more since.
    Undecided(MemberName),
}

/// Rank this node. Answers about positions that were looked up before `stale_before` do not settle anything.
pub fn rank(view: &View, running: &RunningServer, reports: &[PeerReport], stale_before: Instant, now: Instant) -> Rank {
    let ours = (running.timeline, running.position());
    let slots = Slots::of(view, now);
    let mut undecided = None;
    for PeerReport { name, answer } in reports {
        let PeerAnswer::Said(said) = answer else { continue };
        if said.is_primary {
            return Rank::NotFirst(Reason::PrimaryStillAlive { peer: name.clone() });
        }
        if !counts(said) {
            continue;
        }
        if let Some(because) = comes_before(view, ours, &slots, name, said) {
            return Rank::NotFirst(because);
        }
        if said.looked_at < stale_before {
            undecided = Some(name.clone());
        }
    }
    undecided.map_or(Rank::First, Rank::Undecided)
}

/// A peer that may not lead, or does not know its position, neither blocks nor votes.
pub(crate) fn counts(said: &PeerSaid) -> bool {
    said.priority > 0 && !said.watchdog_failed && !said.position.is_zero()
}

/// Permanent logical slots, and which of them are safe here.
pub(crate) struct Slots {
    needed: BTreeSet<String>,
    safe_here: BTreeSet<String>,
}

impl Slots {
    /// As this node sees it.
    pub fn of(view: &View, now: Instant) -> Self {
        let needed = view.cluster.get().map(|cluster| slots::needed(view, cluster)).unwrap_or_default();
        let safe_here = if needed.is_empty() { BTreeSet::new() } else { slots::safe(view, now) };
        Self { needed, safe_here }
    }

    /// Of two equals the one with more safe slots comes first. `Greater`: the peer; a peer that does not say is an equal.
    pub fn compare(&self, peer: &PeerSaid) -> Ordering {
        let Some(theirs) = &peer.safe_slots else { return Ordering::Equal };
        let count = |safe: &BTreeSet<String>| self.needed.iter().filter(|slot| safe.contains(*slot)).count();
        count(theirs).cmp(&count(&self.safe_here))
    }

    /// What the peer has and this node lacks.
    pub fn lacking(&self, peer: &PeerSaid) -> Vec<String> {
        let theirs = |slot: &&String| peer.safe_slots.as_ref().is_some_and(|safe| safe.contains(*slot));
        self.needed.iter().filter(|slot| !self.safe_here.contains(*slot)).filter(theirs).cloned().collect()
    }
}

fn comes_before(
    view: &View,
    ours: (Option<Timeline>, Lsn),
    slots: &Slots,
    peer: &MemberName,
    said: &PeerSaid,
) -> Option<Reason> {
    let theirs = (said.timeline, said.position);
    match compare(theirs, ours) {
        Ordering::Greater => Some(Reason::PeerAhead { peer: peer.clone(), theirs, ours }),
        Ordering::Equal if slots.compare(said) == Ordering::Greater => {
            Some(Reason::PeerHasSlots { peer: peer.clone(), slots: slots.lacking(said) })
        }
        Ordering::Equal if slots.compare(said) == Ordering::Equal && said.priority > view.me.tags.priority() => {
            Some(Reason::PeerPreferred { peer: peer.clone(), theirs: said.priority, ours: view.me.tags.priority() })
        }
        Ordering::Equal | Ordering::Less => None,
    }
}

fn compare(a: (Option<Timeline>, Lsn), b: (Option<Timeline>, Lsn)) -> Ordering {
    match (a.0, b.0) {
        (Some(x), Some(y)) => x.cmp(&y).then(a.1.cmp(&b.1)),
        _ => a.1.cmp(&b.1),
    }
}
