//! Mode `on` (spec/sync-and-quorum.md 5 and 6), one step at a time.
//!
//! Every standby in the key has every acknowledged commit, so PostgreSQL waits for all of them: a quorum of none. A
//! standby is added to PostgreSQL first, and to the key once it has proven itself; it is removed from the key first.
//! One that is to make way for a better one stays until the better one has proven itself. Number and names change one
//! after the other, since not all walsenders read them in the same moment: commits wait a moment longer.

use super::state::{Awaited, State, Step, Waits, promise_nobody};
use std::collections::BTreeSet;

/// The next step. Any state whatever has one.
pub fn next<T: Ord + Clone>(s: &State<T>) -> Step<T> {
    if s.promise.leader.as_ref() != Some(&s.me) {
        return promise_nobody();
    }
    if s.picked.is_empty() {
        return s.without_standby();
    }
    if s.promise.quorum > 0 || !s.holds() {
        return Step::Promise { quorum: 0, voters: sure(s) };
    }
    let voters = &s.promise.voters;
    let kept: BTreeSet<T> = voters.intersection(&s.active).cloned().collect();
    if kept != *voters {
        return Step::Promise { quorum: 0, voters: kept };
    }
    let all: BTreeSet<T> = s.picked.union(&kept).cloned().collect();
    let waits = Waits::of(all.len(), all);
    if waits != s.waits {
        return s.change(waits);
    }
    publish(s)
}

/// Who has everything although the key in force does not tell: those without whom nothing is acknowledged now, and who
/// have proven to have what was acknowledged before.
fn sure<T: Ord + Clone>(s: &State<T>) -> BTreeSet<T> {
    let all_must = s.waits.number >= s.waits.names.len();
    let sure = |voter: &&T| all_must && s.waits.names.contains(*voter) && s.proven.contains(*voter);
    s.promise.voters.iter().filter(sure).cloned().collect()
}

/// PostgreSQL waits for all who are wanted: the key follows as they prove themselves.
fn publish<T: Ord + Clone>(s: &State<T>) -> Step<T> {
    let voters = &s.promise.voters;
    if *voters == s.picked {
        return Step::Done;
    }
    let (ready, missing): (Vec<&T>, Vec<&T>) =
        s.picked.difference(voters).partition(|standby| s.proven.contains(standby));
    match (ready.is_empty(), missing.is_empty()) {
        (_, true) => Step::Promise { quorum: 0, voters: s.picked.clone() },
        (false, false) => Step::Promise { quorum: 0, voters: voters.iter().chain(ready).cloned().collect() },
        (true, false) => Step::Await(Awaited::Proof),
    }
}

#[cfg(test)]
mod tests;
