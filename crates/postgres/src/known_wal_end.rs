//! The end of the WAL of a stopped server, which takes long to find, remembered for just the control data it was found by.

use pgherd_types::{ControlData, Instant, Lsn};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What could not be found is looked for again after so long: what stood in the way may be gone.
pub(crate) const AGAIN_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Found {
    of: ControlData,
    end: Option<Lsn>,
    at: Instant,
}

/// See the module.
#[derive(Default, Debug)]
pub(crate) struct KnownWalEnd(Mutex<Option<Found>>);

impl KnownWalEnd {
    /// `None` when it is to be looked for, `Some(None)` when that was in vain a moment ago.
    pub fn get(&self, control: &ControlData, now: Instant) -> Option<Option<Lsn>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_ref().filter(|found| found.of == *control)?;
        (known.end.is_some() || now.since(known.at) < AGAIN_AFTER).then_some(known.end)
    }
    pub fn set(&self, of: ControlData, end: Option<Lsn>, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Found { of, end, at: now });
    }
    /// Something is about to be written.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_types::postgres::ControlState;
    use pgherd_types::{SystemId, Timeline};

    fn control() -> ControlData {
        ControlData {
            system_id: SystemId(1),
            state: ControlState::InProduction,
            checkpoint_lsn: Lsn(5),
            checkpoint_timeline: Timeline(1),
            min_recovery_lsn: Lsn(0),
            min_recovery_timeline: Timeline(0),
            standby_signal: false,
            wal_end: None,
            major_version: 15,
            rewindable: true,
            rewind_interrupted: false,
        }
    }

    #[test]
    fn an_end_is_found_once_and_what_was_not_found_is_looked_for_again() {
        let (known, now) = (KnownWalEnd::default(), Instant::from_millis(1000));
        let control = control();
        assert_eq!(known.get(&control, now), None);
        known.set(control.clone(), None, now);
        assert_eq!(known.get(&control, now + AGAIN_AFTER / 2), Some(None));
        assert_eq!(known.get(&control, now + AGAIN_AFTER), None);
        known.set(control.clone(), Some(Lsn(7)), now);
        assert_eq!(known.get(&control, now + 10 * AGAIN_AFTER), Some(Some(Lsn(7))));
        assert_eq!(known.get(&ControlData { checkpoint_lsn: Lsn(1), ..control.clone() }, now), None, "other data");
        known.forget();
        assert_eq!(known.get(&control, now), None);
    }
}
