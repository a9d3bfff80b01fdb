//! Runs many seeds and adds up what happened.

use crate::scenario::Setup;
use crate::trace::Trace;
use crate::world::World;
use pgherd_kernel::view::Mutant;
use std::collections::BTreeMap;

/// What came of many runs.
#[derive(Debug, Default)]
pub struct Summary {
    /// How often everything happened.
    pub counts: BTreeMap<String, u64>,
    /// Seeds that failed, and how.
    pub failures: Vec<(u64, String)>,
    /// Runs.
    pub runs: u64,
    /// Events handled.
    pub events: u64,
    /// Turns of coordinators.
    pub turns: u64,
    /// Commits acknowledged.
    pub commits: u64,
    /// The longest time from the heal to a primary that serves, in milliseconds.
    pub healed_after_max: u64,
}

/// One run.
pub fn run(seed: u64, mutant: Option<Mutant>, loud: bool) -> World {
    let trace = Trace { loud, ..Trace::default() };
    let mut world = World::new(Setup::draw(seed, mutant), trace);
    world.run();
    world
}

impl Summary {
    /// Add a run.
    pub fn add(&mut self, seed: u64, world: World) {
        self.runs += 1;
        self.events += world.events;
        self.turns += world.turns;
        self.commits += world.ledger.commits;
        self.healed_after_max = self.healed_after_max.max(world.checks.healed_after.unwrap_or(0));
        for (what, n) in world.trace.counts {
            *self.counts.entry(what).or_default() += n;
        }
        if let Some(failure) = world.failure {
            self.failures.push((seed, failure));
        }
    }
}

/// Run seeds until so many have failed.
pub fn explore(from: u64, seeds: u64, mutant: Option<Mutant>, failures_max: usize) -> Summary {
    let mut summary = Summary::default();
    for seed in from..from + seeds {
        summary.add(seed, run(seed, mutant, false));
        if summary.failures.len() >= failures_max {
            break;
        }
    }
    summary
}
