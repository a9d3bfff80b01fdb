//! What a node has counted and timed since its agent began: published with its status, shown as metrics.

use std::time::Duration;

/// How often something happened, and how long it took: a histogram with fixed bounds.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Times {
    counts: [u64; Self::BOUNDS_MICROS.len()],
    total: u64,
    sum: Duration,
}

impl Times {
    /// Upper bounds in microseconds, from a decision (some tens of them) to a DCS that is about to be given up.
    pub const BOUNDS_MICROS: [u64; 14] =
        [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

    /// It happened once more, and took so long.
    pub fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(at) = Self::BOUNDS_MICROS.iter().position(|bound| micros <= *bound) {
            self.counts[at] += 1;
        }
        self.total += 1;
        self.sum = self.sum.saturating_add(took);
    }
    /// For each bound: the bound in seconds, and how many took no longer.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut so_far = 0;
        Self::BOUNDS_MICROS.iter().zip(self.counts).map(move |(bound, count)| {
            so_far += count;
            (Duration::from_micros(*bound).as_secs_f64(), so_far)
        })
    }
    /// How often.
    pub fn total(&self) -> u64 {
        self.total
    }
    /// How long all of them took together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

/// The counts. Each begins at zero with the agent.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Counts {
    /// From a fact to the orders that follow from it.
    pub decisions: Times,
    /// Renewals of the lease that the DCS confirmed: from before the first request of the exchange left.
    pub renewals: Times,
    /// Readings of the cluster.
    pub readings: Times,
    /// Another member leads than before, after a switchover or failover that somebody asked for.
    pub planned_leader_changes: u64,
    /// Another member leads than before, and nobody asked for it.
    pub failovers: u64,
    /// This node was promoted.
    pub promotions: u64,
    /// This node had to end its PostgreSQL because no lease allowed it to be writable.
    pub fences: u64,
    /// The DCS ceased to answer.
    pub dcs_losses: u64,
    /// Decisions that would have broken an invariant and were replaced.
    pub breaches: u64,
    /// Messages between actors that were refused because the receiver did not take them.
    pub refused_sends: u64,
    /// Commits that waited for synchronous standbys, and ceased to without one having confirmed anything meanwhile.
    pub sync_waits_cancelled: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_counts_all_that_took_no_longer() {
        let mut times = Times::default();
        for micros in [50, 51, 100, 700, 9_000_000] {
            times.add(Duration::from_micros(micros));
        }
        let shown: Vec<u64> = times.cumulative().map(|(_, count)| count).collect();
        assert_eq!(shown[..5], [1, 3, 3, 3, 4]);
        assert_eq!((shown.last(), times.total()), (Some(&4), 5), "the longest is beyond every bound");
        assert_eq!(times.sum(), Duration::from_micros(9_000_901));
        assert!(times.cumulative().map(|(bound, _)| bound).is_sorted());
    }
}
