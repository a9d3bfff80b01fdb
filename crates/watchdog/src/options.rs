//! What is configured.

use std::path::PathBuf;
use std::time::Duration;

/// Below this time to live the margin is half of it, whatever is configured.
const SHORT_TTL_S: u64 = 20;

/// When the device is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WatchdogMode {
    /// Never.
    Off,
    /// If it can be.
    #[default]
    Automatic,
    /// No primary without it.
    Required,
}

/// How the device is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WatchdogDriver {
    /// As Linux's watchdog devices want it.
    #[default]
    Linux,
    /// The timeout is written as text, so that a FIFO will do.
    Testing,
    /// The same, with what the kernel would say of a device.
    #[cfg(test)]
    Played {
        /// Somebody left it armed.
        left_armed: bool,
        /// Its driver was loaded with `nowayout`.
        nowayout: bool,
    },
}

/// The section `watchdog` of the settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchdogOptions {
    /// When it is used.
    pub mode: WatchdogMode,
    /// How it is spoken to.
    pub driver: WatchdogDriver,
    /// Its file.
    pub device: PathBuf,
    /// Seconds between its firing and the end of the ttl; `None` is half of the ttl.
    pub safety_margin_s: Option<u64>,
}

impl Default for WatchdogOptions {
    fn default() -> Self {
        Self {
            mode: WatchdogMode::default(),
            driver: WatchdogDriver::default(),
            device: PathBuf::from("/dev/watchdog"),
            safety_margin_s: Some(5),
        }
    }
}

impl WatchdogOptions {
    /// After how many seconds without a ping the device shall fire.
    pub(crate) fn timeout_s(&self, ttl: Duration) -> u64 {
        let ttl_s = ttl.as_secs();
        match self.safety_margin_s {
            Some(margin_s) if ttl_s >= SHORT_TTL_S => ttl_s.saturating_sub(margin_s),
            Some(_) => ttl_s - ttl_s / 2,
            None => ttl_s / 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_the_ttl_without_the_margin() {
        let timeout = |margin, ttl| {
            let options = WatchdogOptions { safety_margin_s: margin, ..WatchdogOptions::default() };
            options.timeout_s(Duration::from_secs(ttl))
        };
        for (margin, ttl, wanted) in [
            (Some(5), 30, 25),
            (Some(5), 21, 16),
            (Some(5), 20, 15),
            (Some(5), 19, 10),
            (Some(5), 5, 3),
            (Some(5), 3, 2),
            (Some(40), 30, 0),
            (None, 30, 15),
            (None, 5, 2),
        ] {
            assert_eq!(timeout(margin, ttl), wanted, "margin {margin:?} ttl {ttl}");
        }
    }
}
