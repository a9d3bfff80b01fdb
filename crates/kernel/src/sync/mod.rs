//! Synchronous replication: which standbys PostgreSQL waits for, what the `sync` key promises, and in which order the two
//! change, so that whoever the key lets win has every acknowledged commit at every moment (invariant S5).
//!
//! **How the driver uses it.** While this node holds the leader key and its PostgreSQL is out of recovery:
//!
//! 1. It observes: the key with its revision, and in one look at PostgreSQL the names in force and the rows, then the
//!    flushed position; it tells [`ReadyMemory::look`] and makes a [`SyncView`].
//! 2. It asks [`next_step`] and performs that one step. A write or removal of the key compares its revision (or that
//!    there is no key) **and** the lease of the leader key. Names are set by configuration file and reload, and are in
//!    force for the next look only when PostgreSQL shows them and 100 ms have passed, so that each walsender has read
//!    them.
//! 3. It observes again, and asks again. It never remembers a plan. [`SyncStep::Wait`] needs no timer but the one that
//!    ends `patient`: every new fact is a reason to ask again.
//!
//! A step whose end is not known has not failed. For the key that is told by [`SyncView::in_doubt`]; a change of names
//! has to be waited for or repeated until PostgreSQL shows it, before another step is performed.
//! When PostgreSQL stops, or is no primary any more, [`ReadyMemory::forget`].
//!
//! Before a promotion [`before_promotion`] is asked in the same way; in a race [`may_race`] and [`votes`].
//!
//! Reading order: [`state`] (the arithmetic), [`priority`] and [`quorum`] (the two modes, generic, so that
//! `tests/sync_planner.rs` can prove them over every state), then [`view`](SyncView), [`ready`](ReadyMemory),
//! [`eligible()`], [`next_step`], [`before_promotion`], [`may_race`].

pub mod duty;
mod eligible;
mod memory;
mod plan;
pub mod priority;
mod promotion;
pub mod quorum;
mod race;
mod ready;
pub mod state;
#[cfg(test)]
mod testing;
mod view;

pub use eligible::{Eligible, eligible};
pub use memory::SyncMemory;
pub use plan::{KeyWrite, SyncStep, Waiting, next_step};
pub use promotion::before_promotion;
pub use race::{Ballot, Bar, Count, Peer, RaceRule, may_race, remember, votes};
pub use ready::ReadyMemory;
pub use view::{Presence, StandbyRow, SyncMember, SyncState, SyncView};
