//! Runs many seeds and adds up what happened.

use crate::scenario::Setup;
use crate::trace::Trace;
use crate::world::World;
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
    /// By how much it exceeded `ttl + 2 x loop_wait` at most, in milliseconds; it may be negative.
    pub healed_late_max: Option<i64>,
}

/// One run.
pub fn run(setup: Setup, loud: bool) -> World {
    let mut world = World::new(setup, Trace { loud, ..Trace::default() });
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
        if let Some(after) = world.checks.healed_after {
            let promised = world.ttl_longest() + world.ms(2 * world.setup.settings.loop_wait);
            self.healed_after_max = self.healed_after_max.max(after);
            self.healed_late_max = self.healed_late_max.max(Some(after as i64 - promised as i64));
        }
        for (what, n) in world.trace.counts {
            *self.counts.entry(what).or_default() += n;
        }
        if let Some(failure) = world.failure {
            self.failures.push((seed, failure));
        }
    }

    fn merge(&mut self, other: Self) {
        self.runs += other.runs;
        self.events += other.events;
        self.turns += other.turns;
        self.commits += other.commits;
        self.healed_after_max = self.healed_after_max.max(other.healed_after_max);
        self.healed_late_max = self.healed_late_max.max(other.healed_late_max);
        for (what, n) in other.counts {
            *self.counts.entry(what).or_default() += n;
        }
        self.failures.extend(other.failures);
    }
}

/// Run seeds until so many have failed.
pub fn explore(seeds: std::ops::Range<u64>, failures_max: usize, setup: impl Fn(u64) -> Setup) -> Summary {
    let mut summary = Summary::default();
    for seed in seeds {
        summary.add(seed, run(setup(seed), false));
        if summary.failures.len() >= failures_max {
            break;
        }
    }
    summary
}

/// Run seeds on every core; the summary is the same whatever the number of cores.
pub fn explore_on_all_cores(
    seeds: std::ops::Range<u64>,
    failures_max: usize,
    setup: impl Fn(u64) -> Setup + Sync,
) -> Summary {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let share = |core: u64| {
        let mut summary = Summary::default();
        for seed in seeds.clone().filter(|seed| seed % cores == core) {
            summary.add(seed, run(setup(seed), false));
            if summary.failures.len() >= failures_max {
                break;
            }
        }
        summary
    };
    let share = &share;
    let mut all = Summary::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|core| scope.spawn(move || share(core))).collect();
        for worker in workers {
            match worker.join() {
                Ok(summary) => all.merge(summary),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    all.failures.sort();
    all
}

/// What must have happened in a run of many seeds, beside every fault: a simulation in which nothing happens proves
/// nothing.
const MUST_HAPPEN: [&str; 91] = [
    "answer:done",
    "answer:not done",
    "fault:reply lost after effect",
    "happened:WAL forced",
    "happened:a commit waited",
    "happened:a member did not agree",
    "happened:a promotion ended with its agent",
    "happened:acquire refused",
    "happened:agent ended in order",
    "happened:all members agreed",
    "happened:an operator mended the sync key",
    "happened:clone",
    "happened:consumer went on after a promotion",
    "happened:diverged for good",
    "happened:fence fired",
    "happened:fence killed",
    "happened:fenced before the first DCS call",
    "happened:guard fired",
    "happened:keepalive of a lost lease",
    "happened:keys moved to another lease",
    "happened:late command dropped",
    "happened:leader key released while archiving",
    "happened:leader key released",
    "happened:lease lapsed",
    "happened:logical slot copied",
    "happened:logical slot made",
    "happened:logical slot moved on a standby",
    "happened:names set",
    "happened:one restart for several slots",
    "happened:operation cancelled",
    "happened:pause seen",
    "happened:promotion in mode on",
    "happened:promotion in mode quorum",
    "happened:promotion",
    "happened:remote failover",
    "happened:remote promotion",
    "happened:resume seen",
    "happened:rewind to the remote primary",
    "happened:rewind",
    "happened:sync key removed",
    "happened:sync key written",
    "happened:synchronous commits lost by an operator",
    "happened:synchronous mode changed at run time",
    "happened:synchronous standby added",
    "happened:synchronous standby removed",
    "happened:unconfirmed commits lost",
    "operation:bootstrap failed",
    "operation:promote cancelled",
    "operation:promote failed",
    "operation:running pg_rewind from failed",
    "operation:starting primary failed",
    "reason:AcquireRefused",
    "reason:AwaitingOtherSlots",
    "reason:AwaitingSyncRelease",
    "reason:CandidateGoesFirst",
    "reason:CopyingSlots",
    "reason:DemotedEarly",
    "reason:DemotingToStandbyCluster",
    "reason:Diverged",
    "reason:DivergenceUnknown",
    "reason:FailsafeActive",
    "reason:FailsafePromised",
    "reason:FencedLeaseRanOut",
    "reason:FencedLockLost",
    "reason:FencedWithoutLock",
    "reason:GivingUpKey",
    "reason:HandingOver",
    "reason:HandoverGivenUp",
    "reason:LagTooLarge",
    "reason:LeaderHoldsWithoutDcs",
    "reason:ManualRequestCleared",
    "reason:MayHavePromised",
    "reason:NotSynchronous",
    "reason:OrphanedBackends",
    "reason:Paused",
    "reason:PeerAhead",
    "reason:PeerHasSlots",
    "reason:PreparingSynchronous",
    "reason:PrimaryStillAlive",
    "reason:PromotedToStandbyLeader",
    "reason:QuorumNotReached",
    "reason:Reinitializing",
    "reason:ReleasedBecauseStopped",
    "reason:ReplacingDiverged",
    "reason:Restarting",
    "reason:StandbyLeaderWithLock",
    "reason:StartFailedReleasing",
    "reason:StartingAsStandbyLeader",
    "reason:StoppedToFailOver",
    "reason:TakingVanishedKeyAgain",
    "reason:UnresponsiveMakesRoom",
];

/// What of it did not.
pub fn never_happened(summary: &Summary) -> Vec<String> {
    let faults = crate::faults::ALL.iter().chain(&crate::faults::SYNCHRONOUS).map(|fault| format!("fault:{fault:?}"));
    let must = faults.chain(MUST_HAPPEN.into_iter().map(str::to_owned));
    must.filter(|what| summary.counts.get(what).is_none_or(|n| *n == 0)).collect()
}
