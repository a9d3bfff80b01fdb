//! The strings by which a running operation is held: its fence, and whether it shall give up.

use crate::error::{OperationError, Outcome};
use pgherd_types::Instant;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Shared between an operation and whoever started it.
#[derive(Debug)]
pub struct OperationControl {
    cancelled: AtomicBool,
    hurries: AtomicU8,
    /// Boot-time milliseconds; `u64::MAX` when there is no fence.
    fence_ms: AtomicU64,
}

impl OperationControl {
    /// For an operation that may make PostgreSQL writable only before `fence`.
    pub fn new(fence: Option<Instant>) -> Self {
        let fence_ms = fence.map_or(u64::MAX, Instant::as_millis);
        Self { cancelled: AtomicBool::new(false), hurries: AtomicU8::new(0), fence_ms: AtomicU64::new(fence_ms) }
    }
    /// The lease was proven again. A fence only ever moves forward; an operation without one stays without.
    pub fn extend(&self, fence: Instant) {
        self.fence_ms.fetch_max(fence.as_millis(), Ordering::SeqCst);
    }
    /// Give up as soon as that leaves nothing half done.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }
    /// Be less polite: an orderly stop becomes an immediate one, an immediate one becomes a kill.
    pub fn hurry(&self) {
        let _ = self.hurries.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(n.saturating_add(1)));
    }
    /// How often `hurry` was called.
    pub fn hurries(&self) -> u8 {
        self.hurries.load(Ordering::SeqCst)
    }
    /// Has the fence passed?
    pub fn too_late(&self) -> bool {
        pgherd_clock::boottime().as_millis() >= self.fence_ms.load(Ordering::SeqCst)
    }
    /// Fails once `cancel` was called.
    pub fn go_on(&self) -> Outcome<()> {
        if self.cancelled.load(Ordering::SeqCst) { Err(OperationError::Cancelled) } else { Ok(()) }
    }
    /// To be asked immediately before every step that could make PostgreSQL writable.
    pub fn may_become_writable(&self) -> Outcome<()> {
        self.go_on()?;
        if self.too_late() { Err(OperationError::TooLate) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_refuses_once_passed_and_moves_only_forward() {
        let past = OperationControl::new(Some(Instant::from_millis(1)));
        assert_eq!(past.may_become_writable(), Err(OperationError::TooLate));
        past.extend(Instant::from_millis(u64::MAX - 1));
        assert_eq!(past.may_become_writable(), Ok(()));
        past.extend(Instant::from_millis(1));
        assert_eq!(past.may_become_writable(), Ok(()));
        past.cancel();
        assert_eq!(past.may_become_writable(), Err(OperationError::Cancelled));
    }
}
