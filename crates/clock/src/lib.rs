//! The only code in pgherd that reads a clock.
//!
//! Deadlines use the boot-time clock, because every other clock stands still while the machine is suspended and a lease
//! does not. The wall clock is read for people only.

mod alarm;

pub use alarm::{Alarm, Waker};
use pgherd_types::{Instant, Now, WallTime};
use rustix::time::{ClockId, clock_gettime};
use std::sync::LazyLock;
use std::time::Duration;

/// Boot-time clock, now.
pub fn boottime() -> Instant {
    let t = clock_gettime(ClockId::Boottime);
    Instant::from_millis(
        u64::try_from(t.tv_sec).unwrap_or(0) * 1000 + u64::try_from(t.tv_nsec).unwrap_or(0) / 1_000_000,
    )
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

/// Identifies this boot: an instant recorded under another boot id means nothing.
pub fn boot_id() -> &'static str {
    static BOOT_ID: LazyLock<String> = LazyLock::new(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|s| s.trim().to_owned()).unwrap_or_default()
    });
    &BOOT_ID
}
