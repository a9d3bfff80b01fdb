//! The time in which the device may fire, derived from the fence's order.

use pgherd_types::{FenceOrder, Instant};
use std::time::Duration;

/// An order that has not run out.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// The fence begins; also tells one order from the next.
    pub stop_at: Instant,
    /// By then the fence has ended PostgreSQL, if this machine works: firing makes sense only after that.
    pub fire_at: Instant,
    /// Another node may lead: firing must not be later.
    pub lease_end: Instant,
}

impl Span {
    /// The fence kills at half of the margin before the end of the lease. The device has the second half of what is left.
    pub fn of(order: FenceOrder, now: Instant) -> Option<Self> {
        match order {
            FenceOrder::Armed { stop_at, kill_at, .. } if now < stop_at => {
                let half = stop_at.until(kill_at);
                Some(Self { stop_at, fire_at: kill_at + half / 2, lease_end: kill_at + half })
            }
            FenceOrder::Armed { .. } | FenceOrder::Disarmed => None,
        }
    }

    /// The longest timeout, in whole seconds, with which a ping now does not outlive the lease.
    pub fn seconds_left(&self, now: Instant) -> u64 {
        now.until(self.lease_end).as_secs()
    }

    /// When to ping with how many seconds so that the device fires exactly at `fire_at`, if it would fire before: not
    /// before it is needed.
    pub fn stretch(&self, fires_at: Instant, timeout_s: u64, now: Instant) -> Option<Stretch> {
        if fires_at >= self.fire_at {
            return None;
        }
        let lead = Duration::from_secs((timeout_s / 5).max(1));
        let begin = fires_at.minus(lead);
        let seconds = now.max(begin).until(self.fire_at).as_secs();
        let at = self.fire_at.minus(Duration::from_secs(seconds));
        (seconds > 0 && at < fires_at).then_some(Stretch { at, seconds })
    }
}

/// A ping without a renewal.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stretch {
    /// When.
    pub at: Instant,
    /// The timeout to set then.
    pub seconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_types::LeaseId;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// The order of a lease that was renewed at 0.
    fn renewed(ttl_ms: u64) -> Span {
        let margin_ms = (ttl_ms / 10).max(1000).min((ttl_ms - 1) / 2);
        let order = FenceOrder::Armed {
            lease: LeaseId(1),
            stop_at: at(ttl_ms - margin_ms),
            kill_at: at(ttl_ms - margin_ms / 2),
        };
        Span::of(order, at(0)).unwrap()
    }

    #[test]
    fn it_ends_with_the_lease_and_the_device_may_fire_in_its_last_quarter() {
        let span = renewed(20_000);
        assert_eq!((span.fire_at, span.lease_end), (at(19_500), at(20_000)));
        assert_eq!(
            (span.seconds_left(at(1)), span.seconds_left(at(5_000)), span.seconds_left(at(5_001))),
            (19, 15, 14)
        );
        let passed = FenceOrder::Armed { lease: LeaseId(1), stop_at: at(5), kill_at: at(6) };
        assert_eq!(Span::of(passed, at(5)), None);
        assert_eq!(Span::of(FenceOrder::Disarmed, at(0)), None);
    }

    #[test]
    fn a_device_that_would_fire_before_the_fence_is_set_to_fire_after_it() {
        for (ttl_ms, timeout_s, wanted_at, seconds) in
            [(30_000, 25, 20_250, 9), (20_000, 15, 12_500, 7), (5_000, 3, 2_750, 2), (3_000, 2, 1_750, 1)]
        {
            let span = renewed(ttl_ms);
            let stretch = span.stretch(at(timeout_s * 1000), timeout_s, at(10)).unwrap();
            assert_eq!(stretch, Stretch { at: at(wanted_at), seconds }, "ttl {ttl_ms}");
            assert!(stretch.at < at(timeout_s * 1000), "before it fires");
            let fires_at = stretch.at + Duration::from_secs(stretch.seconds);
            assert_eq!(fires_at, span.fire_at);
            assert!(fires_at < span.lease_end);
            assert_eq!(span.stretch(fires_at, seconds, stretch.at), None, "once");
        }
    }
}
