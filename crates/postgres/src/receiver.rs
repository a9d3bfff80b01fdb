//! The process that receives a standby's WAL, remembered from look to look.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// See the module; nothing on a primary.
#[derive(Debug, Default)]
pub(crate) struct KnownReceiver(Mutex<Option<Receiver>>);

#[derive(Clone, Copy, Debug)]
enum Receiver {
    Absent,
    Process(u32),
}

impl KnownReceiver {
    /// What a look found.
    pub fn remember(&self, in_recovery: bool, pid: Option<u32>) {
        let receiver = in_recovery.then_some(pid.map_or(Receiver::Absent, Receiver::Process));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = receiver;
    }

    /// Was this a standby at the last look that had none, or whose receiver has ended since?
    pub fn is_lost(&self) -> bool {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Receiver::Absent) => true,
            Some(Receiver::Process(pid)) => !Path::new(&format!("/proc/{pid}")).exists(),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_without_a_living_receiver_has_lost_it() {
        let known = KnownReceiver::default();
        let lost = |in_recovery, pid| {
            known.remember(in_recovery, pid);
            known.is_lost()
        };
        assert!(!known.is_lost(), "nothing is known yet");
        assert!(lost(true, None) && lost(true, Some(u32::MAX)));
        assert!(!lost(true, Some(std::process::id())) && !lost(false, None));
    }
}
