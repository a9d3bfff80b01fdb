//! Commits as sets of standbys, and who can win, counted out. Shares nothing with the planner's arithmetic.

use super::{Promise, State, Waits};
use std::collections::BTreeSet;

/// The standbys 1 to 4; node 0 is the primary.
const STANDBYS: u8 = 4;

/// Which commits, one bit for each set of standbys (bit 0 of the set's number stands for standby 1).
pub type Commits = u32;

/// The nodes of a mask.
fn set(mask: u8) -> BTreeSet<u8> {
    (0..=STANDBYS).filter(|node| mask & 1 << node != 0).collect()
}

fn mask(nodes: &BTreeSet<u8>) -> u8 {
    nodes.iter().fold(0, |mask, node| mask | 1 << node)
}

pub struct Model {
    /// By quorum and mask of the nodes that may win.
    lost: Vec<Vec<Commits>>,
    /// By number and mask of standbys.
    acknowledged: Vec<Vec<Commits>>,
}

/// The commits whose holders (a mask of standbys) are such.
pub fn commits(of: impl Fn(u8) -> bool) -> Commits {
    (0..1 << STANDBYS).filter(|holders| of(*holders << 1)).fold(0, |all, holders: u8| all | 1 << holders)
}

/// Whoever wins is level with one of these sets of nodes (masks): `quorum` and itself, or, if it does not count itself,
/// one more of the others.
pub fn winning_sets(quorum: u32, voters: u8) -> impl Iterator<Item = u8> {
    submasks(voters).filter(move |set| set.count_ones() == quorum + 1)
}

impl Model {
    pub fn new() -> Self {
        let nodes = 0..1_u8 << (STANDBYS + 1);
        let lost = |quorum: u32, voters: u8| {
            commits(|holders| winning_sets(quorum, voters).any(|set| set & (holders | 1) == 0))
        };
        let acknowledged = |number: u32, names: u8| {
            commits(|holders| (holders & names).count_ones() >= number.min(names.count_ones()))
        };
        Self {
            lost: (0..=5).map(|quorum| nodes.clone().map(|voters| lost(quorum, voters)).collect()).collect(),
            acknowledged: (0..=5).map(|n| nodes.clone().map(|names| acknowledged(n, names)).collect()).collect(),
        }
    }
    /// The commits that somebody may lack whom the key lets win.
    pub fn lost_under(&self, key: &Promise<u8>) -> Commits {
        let Some(leader) = key.leader else { return 0 };
        self.lost[key.quorum][usize::from(mask(&key.voters) | 1 << leader)]
    }
    /// The commits that PostgreSQL can acknowledge.
    pub fn acknowledged(&self, waits: &Waits<u8>) -> Commits {
        if waits.blocked { 0 } else { self.acknowledged[waits.number][usize::from(mask(&waits.names))] }
    }
    /// The commits that are acknowledged while some walsenders have read `next` and others have not, by the smaller number,
    /// of all who are listed before or after.
    pub fn meanwhile(&self, s: &State<u8>, next: &Waits<u8>) -> Commits {
        if s.waits.names.is_empty() || next.names.is_empty() {
            return 0;
        }
        self.acknowledged[s.waits.number.min(next.number)][usize::from(mask(&s.waits.names) | mask(&next.names))]
    }
    /// Does the key hold for what PostgreSQL acknowledges?
    pub fn kept(&self, s: &State<u8>) -> bool {
        self.acknowledged(&s.waits) & self.lost_under(&s.promise) == 0
    }
    /// Every commit there may be.
    pub fn commits(&self, s: &State<u8>) -> Commits {
        let proven = mask(&s.proven);
        let earlier = commits(|holders| holders & proven == proven);
        let vouched = if self.kept(s) && s.promise.leader.is_some() { !self.lost_under(&s.promise) } else { !0 };
        earlier & vouched | self.acknowledged(&s.waits)
    }
}

fn submasks(of: u8) -> impl Iterator<Item = u8> {
    (0..=of).filter(move |mask| mask & !of == 0)
}

const ALL: u8 = 0b11110;

/// Every state, possible or not; ends when `look` says so. With `picks`, any choice among the active ones is tried,
/// else any number wanted.
pub fn every_state(picks: bool, mut look: impl FnMut(&State<u8>) -> bool) {
    let keys: Vec<Promise<u8>> = every_key().collect();
    let waits: Vec<Waits<u8>> = every_wait().collect();
    for (promise, waits) in keys.iter().flat_map(|key| waits.iter().map(move |waits| (key, waits))) {
        let mut s = State {
            me: 0,
            promise: promise.clone(),
            waits: waits.clone(),
            active: BTreeSet::new(),
            picked: BTreeSet::new(),
            proven: BTreeSet::new(),
            wanted: 1,
            strict: false,
            patient: false,
            pristine: false,
        };
        for active in submasks(ALL) {
            s.active = set(active);
            for proven in submasks(active & mask(&s.waits.names)) {
                s.proven = set(proven);
                for choice in if picks { submasks(active).collect::<Vec<u8>>() } else { vec![1, 2, 3] } {
                    (s.picked, s.wanted) = if picks { (set(choice), 1) } else { (BTreeSet::new(), choice.into()) };
                    for flags in 0..4 {
                        (s.strict, s.patient) = (flags & 1 != 0, flags & 2 != 0);
                        if !look(&s) {
                            return;
                        }
                    }
                }
            }
        }
    }
}

fn every_key() -> impl Iterator<Item = Promise<u8>> {
    let keys = submasks(ALL).flat_map(|voters| {
        let quorums = 0..=set(voters).len().min(4);
        quorums.flat_map(move |quorum| {
            [None, Some(0), Some(1), Some(4)].map(move |leader| Promise { leader, quorum, voters: set(voters) })
        })
    });
    keys.filter(|key| key.leader.is_some() || (key.voters.is_empty() && key.quorum == 0))
}

fn every_wait() -> impl Iterator<Item = Waits<u8>> {
    let some = submasks(ALL).flat_map(|names| {
        let numbers = 0..=if names == 0 { 0 } else { STANDBYS.into() };
        numbers.map(move |number| Waits { number, names: set(names), blocked: false })
    });
    some.chain([Waits::blocked()])
}
