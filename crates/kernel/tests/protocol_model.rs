//! Every run of a small cluster: lease, races, promotions, the `sync` key and what PostgreSQL waits for, with crashes and
//! broken connections at every moment (three nodes, exhaustive within the bounds of [`cluster::Bounds`]).
//!
//! The steps and the votes are the kernel's own functions; the world around them is small: a log is the list of the timelines
//! its records were written on (a promotion writes the first record of its timeline), and a lease lasts two ticks. What is
//! shown: never two primaries that take writes, and whoever is promoted has every acknowledged commit. Planted faults show
//! that the model can see either go wrong.

#[path = "protocol_model/actions.rs"]
mod actions;
#[path = "protocol_model/cluster.rs"]
mod cluster;
#[path = "protocol_model/kernel.rs"]
mod kernel;

use cluster::{Bounds, Cluster, Protocol};
use pgherd_types::SyncMode;
use stateright::{Checker, HasDiscoveries, Model, Property};

/// A planted fault.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// No fault.
    None,
    /// Whoever is ahead of those it reaches may win.
    KeyIgnoredInRace,
    /// A standby is promised before PostgreSQL waits for it.
    KeyBeforePostgres,
    /// PostgreSQL stops waiting for a standby that the key still promises.
    PostgresBeforeKey,
    /// A write of the `sync` key that arrives late compares neither its revision nor the lease.
    StaleViewTrusted,
    /// A primary stops taking writes when its lease lapses, not before.
    MarginZero,
    /// The leader key is taken whatever happened to the `sync` key since the race.
    CompareForgotten,
    /// Whoever streams is taken to have everything.
    LaggingCounted,
    /// A winner promotes first and writes the `sync` key later.
    StepBeforePromotionSkipped,
}

const ONE_PRIMARY: &str = "one primary takes writes";
const NOTHING_LOST: &str = "whoever is promoted has every acknowledged commit";
const MOVED: &str = "another node was promoted, and a commit was acknowledged there";

impl Model for Protocol {
    type State = Cluster;
    type Action = actions::Action;

    fn init_states(&self) -> Vec<Cluster> {
        vec![Cluster::new()]
    }

    fn actions(&self, state: &Cluster, found: &mut Vec<Self::Action>) {
        self.possible(state, found);
    }

    fn next_state(&self, state: &Cluster, action: Self::Action) -> Option<Cluster> {
        let mut next = state.clone();
        self.act(&mut next, action);
        next.acknowledge();
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_PRIMARY, |_, state: &Cluster| state.writable().count() <= 1),
            Property::always(NOTHING_LOST, |_, state: &Cluster| !state.lost),
            Property::sometimes(MOVED, |_, state: &Cluster| {
                state.writable().any(|node| node != 0) && state.acknowledged.iter().any(|timeline| *timeline > 1)
            }),
        ]
    }
}

/// Nodes die.
const DEATHS: Bounds = Bounds { writes: 1, promotions: 2, crashes: 1, breaks: 1, unheard: 0 };
/// Leases lapse. (In quorum mode there are many more states.)
const LAPSES: Bounds = Bounds { writes: 1, promotions: 1, crashes: 0, breaks: 0, unheard: 0 };
/// Writes of the key arrive late.
const UNHEARD: Bounds = Bounds { writes: 1, promotions: 1, crashes: 0, breaks: 1, unheard: 1 };

#[test]
fn no_run_has_two_primaries_or_loses_a_commit() {
    for (mode, bounds) in [(SyncMode::On, DEATHS), (SyncMode::On, UNHEARD), (SyncMode::Quorum, LAPSES)] {
        let protocol = Protocol { mode, mutant: Mutant::None, bounds };
        let checker = protocol.checker().threads(2).spawn_bfs().join();
        println!("{mode:?} {bounds:?}: {} states", checker.unique_state_count());
        assert!(checker.unique_state_count() > 10_000, "hardly anything was looked at");
        for property in [ONE_PRIMARY, NOTHING_LOST] {
            let found = checker.discovery(property).map(|path| path.into_actions());
            assert_eq!(found, None, "{mode:?}: not always: {property}");
        }
        assert!(checker.discovery(MOVED).is_some(), "{mode:?}: never: {MOVED}");
    }
}

#[test]
fn planted_faults_are_found() {
    for (mode, mutant, bounds, property) in [
        (SyncMode::On, Mutant::KeyIgnoredInRace, DEATHS, NOTHING_LOST),
        (SyncMode::Quorum, Mutant::KeyIgnoredInRace, DEATHS, NOTHING_LOST),
        (SyncMode::On, Mutant::KeyBeforePostgres, DEATHS, NOTHING_LOST),
        (SyncMode::On, Mutant::PostgresBeforeKey, DEATHS, NOTHING_LOST),
        (SyncMode::On, Mutant::StaleViewTrusted, UNHEARD, NOTHING_LOST),
        (SyncMode::On, Mutant::MarginZero, DEATHS, ONE_PRIMARY),
        (SyncMode::On, Mutant::CompareForgotten, DEATHS, NOTHING_LOST),
        (SyncMode::On, Mutant::LaggingCounted, DEATHS, NOTHING_LOST),
        (SyncMode::On, Mutant::StepBeforePromotionSkipped, DEATHS, NOTHING_LOST),
    ] {
        let checker = Protocol { mode, mutant, bounds }.checker().threads(2);
        let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let found = checker.discovery(property).map(|path| path.into_actions());
        println!("{mode:?} {mutant:?}: {} states, {found:?}", checker.unique_state_count());
        assert!(found.is_some(), "{mutant:?} in mode {mode:?} was not found");
    }
}
