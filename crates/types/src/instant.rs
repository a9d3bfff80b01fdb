//! Time as a value. Only `crates/clock` makes these; everyone else is handed them.

use serde::Serialize;
use std::time::Duration;

/// A point on the boot-time clock (it runs on while the machine is suspended), in milliseconds since boot.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Instant(u64);

impl Instant {
    /// The instant `ms` milliseconds after boot.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }
    /// Milliseconds since boot.
    pub const fn as_millis(self) -> u64 {
        self.0
    }
    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
    /// How long until `later`; zero if that has passed.
    pub const fn until(self, later: Self) -> Duration {
        later.since(self)
    }
    /// `self - by`, not below boot.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }
}

/// Whole milliseconds; what is longer than they can count is the longest they can.
pub fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Wall-clock time in milliseconds since 1970 UTC. For logs, history and schedules; never for a deadline.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct WallTime(pub i64);

/// Both clocks, read together.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Decides everything.
    pub mono: Instant,
    /// For people.
    pub wall: WallTime,
}
