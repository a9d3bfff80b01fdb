//! The arithmetic of synchronous replication: what the key promises, whom PostgreSQL waits for, and when the two fit.
//!
//! Generic over what a node is called, so that proofs can count through every state with small numbers for names.
//!
//! **The promise.** M is the primary. For every commit that was acknowledged, at most `quorum` of the voters other than
//! M lack it. Then whoever is level with `quorum` other nodes of voters and leader (all of them on one history) has
//! every such commit. A promise of nobody (no voters) is always true: only M may win then.

use std::collections::BTreeSet;

/// What the `sync` key says.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Promise<T: Ord> {
    /// Who wrote it; `None` when there is no key, or none that counts.
    pub leader: Option<T>,
    /// How many voters other than the primary may lack a commit.
    pub quorum: usize,
    /// The standbys of the key.
    pub voters: BTreeSet<T>,
}

/// Whom PostgreSQL waits for: any `number` of `names`; where those are fewer, nothing is acknowledged. (A method that
/// prefers the first ones promises no more, since those may be away.)
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Waits<T: Ord> {
    /// How many; 0: nobody.
    pub number: usize,
    /// Of whom.
    pub names: BTreeSet<T>,
    /// For nobody who exists: no commit is acknowledged.
    pub blocked: bool,
}

impl<T: Ord + Clone> Waits<T> {
    /// Any `number` of `names`, at most all of them.
    pub fn of(number: usize, names: BTreeSet<T>) -> Self {
        Self { number: number.min(names.len()), names, blocked: false }
    }
    /// For nobody.
    pub fn none() -> Self {
        Self::of(0, BTreeSet::new())
    }
    /// For the placeholder.
    pub fn blocked() -> Self {
        Self { number: 1, names: BTreeSet::new(), blocked: true }
    }
    /// What counts until all walsenders have read `next`: each waits for the number that it has read itself, of all who
    /// are listed by what their own walsender has read. So one that has the smaller number may let a commit go for a
    /// standby that is new already, or still listed (docs/decisions/2026-11-26-names-are-read-one-by-one.md).
    pub fn meanwhile(&self, next: &Self) -> Self {
        if self.names.is_empty() || next.names.is_empty() {
            return next.clone();
        }
        let names = self.names.union(&next.names).cloned().collect();
        Self { number: self.number.min(next.number), names, blocked: false }
    }
    /// On the way to `next` names and number change one after the other, so that meanwhile nobody is counted in the place
    /// of another. There commits wait: for more than there are names, or for some who are going.
    fn by_way_of(&self, next: &Self) -> Self {
        let all: BTreeSet<T> = self.names.union(&next.names).cloned().collect();
        let number = if all == self.names || all == next.names { self.number.max(next.number) } else { all.len() };
        if self.number < number {
            Self { number, ..self.clone() }
        } else {
            Self { number: self.number, ..next.clone() }
        }
    }
    /// How many of `voters` may lack a commit that is acknowledged while PostgreSQL waits like this.
    pub fn may_lack(&self, voters: &BTreeSet<T>) -> usize {
        if self.blocked {
            return 0;
        }
        let inside = voters.intersection(&self.names).count();
        let number = if self.names.is_empty() { 0 } else { self.number.min(self.names.len()) };
        let must_have = number.saturating_sub(self.names.len() - inside);
        voters.len() - must_have.min(inside)
    }
}

/// All that a plan depends on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State<T: Ord> {
    /// The primary.
    pub me: T,
    /// The key as last read.
    pub promise: Promise<T>,
    /// PostgreSQL as last seen.
    pub waits: Waits<T>,
    /// Standbys that may be synchronous.
    pub active: BTreeSet<T>,
    /// Those of them that mode `on` prefers, at most `wanted`.
    pub picked: BTreeSet<T>,
    /// Standbys in `names` that have every commit acknowledged before PostgreSQL began to wait as it does now.
    pub proven: BTreeSet<T>,
    /// How many standbys must have a commit.
    pub wanted: usize,
    /// Rather acknowledge nothing than run without a synchronous standby.
    pub strict: bool,
    /// Standbys are given time to connect: nobody is given up as long as none at all is here.
    pub patient: bool,
    /// This primary cannot have acknowledged anything yet.
    pub pristine: bool,
}

/// What to do next; one of them at a time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Step<T: Ord> {
    /// All is as it should be.
    Done,
    /// Write the key; its leader is always the primary.
    Promise {
        /// Its `quorum`.
        quorum: usize,
        /// Its standbys.
        voters: BTreeSet<T>,
    },
    /// Make PostgreSQL wait like this.
    Waits(Waits<T>),
    /// Nothing can be done before something changes.
    Await(Awaited),
}

/// What has to change.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Awaited {
    /// A standby has to show that it has every earlier commit.
    Proof,
    /// Standbys that are given time have to come back, or the time to end.
    Reconnect,
    /// Strict mode: any standby has to come.
    Standby,
}

impl<T: Ord + Clone> State<T> {
    /// Voters and leader of the key without the primary: those the promise is about.
    pub fn promised(&self) -> BTreeSet<T> {
        let nodes = self.promise.voters.iter().chain(&self.promise.leader);
        nodes.filter(|node| **node != self.me).cloned().collect()
    }
    /// Does the promise hold for commits that are acknowledged from now on?
    pub fn holds(&self) -> bool {
        self.allows(&self.waits)
    }
    /// How many of `voters` may lack a commit that has been acknowledged so far: those who have not proven otherwise, of
    /// whom the promise in force vouches for all but `quorum`.
    pub fn may_lack_so_far(&self, voters: &BTreeSet<T>) -> usize {
        let promised = self.promised();
        let (vouched, others): (Vec<&T>, Vec<&T>) =
            voters.difference(&self.proven).partition(|voter| promised.contains(voter));
        let trusted = self.promise.leader.is_some() && self.holds();
        let limit = if trusted { self.promise.quorum } else { vouched.len() };
        others.len() + vouched.len().min(limit)
    }
    /// The smallest quorum with which `voters` may be promised, now and, if PostgreSQL is to change, after `next`.
    pub fn least_quorum(&self, voters: &BTreeSet<T>, next: Option<&Waits<T>>) -> usize {
        let later = next.map_or(0, |next| next.may_lack(voters));
        self.waits.may_lack(voters).max(self.may_lack_so_far(voters)).max(later)
    }
    /// PostgreSQL is to wait like this. It gets there at once if the key in force allows what counts meanwhile.
    pub(super) fn change(&self, waits: Waits<T>) -> Step<T> {
        let at_once = self.allows(&self.waits.meanwhile(&waits));
        Step::Waits(if at_once { waits } else { self.waits.by_way_of(&waits) })
    }
    /// Does the promise hold while PostgreSQL waits like this?
    pub(super) fn allows(&self, waits: &Waits<T>) -> bool {
        waits.may_lack(&self.promised()) <= self.promise.quorum
    }
    /// The write of a key with these voters; a quorum that could not be reached promises nobody instead. (Patroni
    /// takes a quorum of all voters or more for a fault.)
    pub(super) fn promise_or_nobody(&self, quorum: usize, voters: BTreeSet<T>) -> Step<T> {
        if quorum < voters.len() { Step::Promise { quorum, voters } } else { promise_nobody() }
    }
    /// Names PostgreSQL waits for that are active.
    pub(super) fn alive(&self) -> BTreeSet<T> {
        self.waits.names.intersection(&self.active).cloned().collect()
    }
    fn waits_for_nobody(&self) -> bool {
        self.waits.names.is_empty() && !self.waits.blocked
    }
    /// Nobody is there (spec/sync-and-quorum.md 6).
    pub(super) fn without_standby(&self) -> Step<T> {
        let voters = self.promised();
        if self.strict && !self.holds() {
            return promise_nobody(); // they are not those who have the last commits
        }
        if self.strict {
            let number = voters.len().saturating_sub(self.promise.quorum).max(1);
            let waits = if voters.is_empty() { Waits::blocked() } else { Waits::of(number, voters) };
            return if waits == self.waits { Step::Await(Awaited::Standby) } else { self.change(waits) };
        }
        match (self.promise.voters.is_empty(), self.waits_for_nobody()) {
            (true, true) => Step::Done,
            _ if self.patient && !self.waits.blocked => Step::Await(Awaited::Reconnect),
            (false, _) => promise_nobody(),
            (true, false) => self.change(Waits::none()),
        }
    }
}

/// Only the primary itself may win: always true.
pub(super) fn promise_nobody<T: Ord>() -> Step<T> {
    Step::Promise { quorum: 0, voters: BTreeSet::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &str) -> BTreeSet<char> {
        names.chars().collect()
    }

    #[test]
    fn how_many_may_lack_a_commit() {
        for (number, names, voters, expected) in [
            (1, "b", "b", 0),
            (1, "bc", "bc", 1),
            (2, "bc", "bc", 0),
            (2, "bc", "b", 0),
            (1, "bc", "b", 1),
            (2, "bcd", "bc", 1),
            (1, "b", "c", 1),
            (0, "", "bc", 2),
            (9, "b", "b", 0),
            (1, "bc", "", 0),
        ] {
            let waits = Waits { number, names: set(names), blocked: false };
            assert_eq!(waits.may_lack(&set(voters)), expected, "{number} of {names}, voters {voters}");
        }
        assert_eq!(Waits::blocked().may_lack(&set("bc")), 0);
    }
}
