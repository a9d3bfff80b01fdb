//! A device that runs and cannot be stopped. As long as this agent can ping it, it resets no machine that is in order.

use crate::device::Device;
use pgherd_types::Instant;
use std::time::Duration;

/// The timeout of a device that does not tell it: short enough for any.
const UNKNOWN_S: u64 = 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct Held {
    device: Device,
    timeout_s: u64,
    ping_at: Instant,
}

impl Held {
    /// Pinged for the first time, with this timeout if it can be set.
    pub fn new(device: Device, wanted_s: u64, now: Instant) -> Result<Self, String> {
        let timeout_s = device.set_timeout(wanted_s.max(1)).unwrap_or(UNKNOWN_S);
        let mut held = Self { device, timeout_s, ping_at: now };
        held.tend(now).map(|_| held)
    }

    /// Pings it when that is due; when it is due next.
    pub fn tend(&mut self, now: Instant) -> Result<Instant, String> {
        if now >= self.ping_at {
            self.device.ping()?;
            self.ping_at = now + Duration::from_secs(self.timeout_s) / 3;
        }
        Ok(self.ping_at)
    }

    /// Closes it with a last ping: it resets the machine so many seconds later.
    pub fn let_go(self) -> u64 {
        // one that cannot be pinged resets it earlier, which its last ping has said
        let _ = self.device.ping();
        self.timeout_s
    }

    /// For one who needs it armed.
    pub fn into_device(self) -> Device {
        self.device
    }
}
