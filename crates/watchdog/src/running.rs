//! A device that is armed for a primary.

use crate::device::Device;
use crate::span::Stretch;
use pgherd_types::Instant;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct Running {
    pub device: Device,
    /// As set, and as in force.
    pub set_s: u64,
    pub timeout_s: u64,
    /// It fires then if nobody pings it.
    pub fires_at: Instant,
    pub stretch: Option<Stretch>,
}

impl Running {
    /// Begins its time anew, with this timeout.
    pub fn ping(&mut self, seconds: u64, now: Instant) -> Result<(), String> {
        if seconds == 0 {
            return Ok(()); // a ping would outlive the lease
        }
        if seconds != self.set_s {
            self.timeout_s = self.device.set_timeout(seconds)?;
            self.set_s = seconds;
        }
        self.device.ping()?;
        (self.fires_at, self.stretch) = (now + Duration::from_secs(self.timeout_s), None);
        Ok(())
    }
}
