//! The only code in pgherd that reads a clock.
//!
//! Deadlines use the boot-time clock, because every other clock stands still while the machine is suspended and a lease
//! does not. The wall clock is read for people only.

mod alarm;

pub use alarm::{Alarm, Waker};
use pgherd_types::{Instant, Now, WallTime, millis};
use rustix::time::{ClockId, clock_gettime};
use std::sync::LazyLock;
use std::time::Duration;

/// Boot-time clock, now.
pub fn boottime() -> Instant {
    Instant::from_millis(millis(since_boot()))
}

/// Wall clock, now.
pub fn wall() -> WallTime {
    let t = clock_gettime(ClockId::Realtime);
    WallTime(t.tv_sec * 1000 + t.tv_nsec / 1_000_000)
}

/// Both clocks.
pub fn now() -> Now {
    Now { mono: boottime(), wall: wall() }
}

/// How long until `deadline`; zero once it has passed.
pub fn left_until(deadline: Instant) -> Duration {
    boottime().until(deadline)
}

/// Measures how long something takes, more finely than instants do. Like them it runs on while the machine is suspended.
#[derive(Copy, Clone, Debug)]
pub struct Stopwatch(Duration);

impl Stopwatch {
    /// One that runs from now on.
    pub fn start() -> Self {
        Self(since_boot())
    }
    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        since_boot().saturating_sub(self.0)
    }
}

fn since_boot() -> Duration {
    let t = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// Identifies this boot: an instant recorded under another boot id means nothing.
pub fn boot_id() -> &'static str {
    static BOOT_ID: LazyLock<String> = LazyLock::new(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|s| s.trim().to_owned()).unwrap_or_default()
    });
    &BOOT_ID
}
