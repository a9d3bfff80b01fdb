//! Mode `quorum` (spec/sync-and-quorum.md 7), one step at a time.
//!
//! The target is: key and PostgreSQL name the active standbys A, PostgreSQL waits for N = min(wanted, |A|) of them and
//! the key asks for |A| - N votes. On the way there PostgreSQL goes first wherever the key in force allows it (then
//! nobody is promised too early), also while some walsenders have read the new names and others have not; where it does
//! not, the key asks for more votes first. The key asks for fewer votes only once enough standbys have proven to have
//! what was acknowledged before.

use super::state::{Awaited, State, Step, Waits, promise_nobody};
use std::collections::BTreeSet;

/// The next step. Any state whatever has one.
pub fn next<T: Ord + Clone>(s: &State<T>) -> Step<T> {
    match &s.promise.leader {
        None => return promise_nobody(),
        Some(leader) if *leader != s.me => return take_over(s),
        Some(_) => {}
    }
    if s.active.is_empty() {
        return s.without_standby();
    }
    if !s.holds() {
        return repair(s);
    }
    let (want, voters) = match aim(s) {
        Ok(aim) => aim,
        Err(step) => return step,
    };
    if want == s.waits {
        return settle(s);
    }
    reach(s, want, voters)
}

/// The key still names another leader: it becomes ours with the same votes asked for.
fn take_over<T: Ord + Clone>(s: &State<T>) -> Step<T> {
    let voters = s.promised();
    let open = s.waits.names.is_empty() && !s.waits.blocked && voters.len() > s.promise.quorum;
    match (open, s.pristine) {
        (true, true) => s.change(Waits::of(voters.len() - s.promise.quorum, voters)),
        (true, false) => promise_nobody(), // commits were acknowledged that nobody else has
        (false, _) if s.holds() => s.promise_or_nobody(s.promise.quorum, voters),
        (false, _) => repair(s),
    }
}

/// The key promises more than PostgreSQL keeps. What it vouched for is worth nothing now.
fn repair<T: Ord + Clone>(s: &State<T>) -> Step<T> {
    let voters = s.alive();
    s.promise_or_nobody(s.least_quorum(&voters, None), voters)
}

/// Where PostgreSQL should get next, and whom the key may promise if it has to change before.
type Aim<T> = (Waits<T>, BTreeSet<T>);

fn aim<T: Ord + Clone>(s: &State<T>) -> Result<Aim<T>, Step<T>> {
    let wanted = s.wanted.max(1).min(s.active.len());
    let (number, names) = (s.waits.number, &s.waits.names);
    let last = (Waits::of(wanted, s.active.clone()), s.active.clone());
    let alive = s.alive();
    if !names.is_empty() && alive.is_empty() {
        return if s.promise.voters.is_empty() { Ok(last) } else { Err(promise_nobody()) };
    }
    if s.promise.voters.is_empty() || names.is_empty() {
        return Ok(last);
    }
    if alive.len() < names.len() {
        let voters = s.promise.voters.intersection(&s.active).cloned().collect();
        return Ok((Waits::of(number.max(wanted), alive), voters));
    }
    Ok(last)
}

/// PostgreSQL first if the key in force allows it; else a key first that allows it. Where names are only added, the key
/// allows also what counts until all walsenders have read them, so that no commit has to wait for that.
fn reach<T: Ord + Clone>(s: &State<T>, want: Waits<T>, voters: BTreeSet<T>) -> Step<T> {
    let grows = s.waits.names.is_subset(&want.names);
    let needed = if grows { s.waits.meanwhile(&want) } else { want.clone() };
    if s.allows(&needed) {
        return s.change(want);
    }
    s.promise_or_nobody(s.least_quorum(&voters, Some(&needed)), voters)
}

/// PostgreSQL is where it should be: the key follows as far as standbys have proven themselves.
fn settle<T: Ord + Clone>(s: &State<T>) -> Step<T> {
    let voters = s.active.clone();
    let quorum = s.least_quorum(&voters, None);
    if quorum >= voters.len() {
        return Step::Await(Awaited::Proof);
    }
    if (quorum, &voters) != (s.promise.quorum, &s.promise.voters) {
        return Step::Promise { quorum, voters };
    }
    if quorum + s.waits.number == voters.len() { Step::Done } else { Step::Await(Awaited::Proof) }
}

#[cfg(test)]
mod tests;
