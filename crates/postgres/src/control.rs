//! The strings by which a running operation is held: its fence, and whether it shall give up.

use crate::error::{OperationError, Outcome};
use pgherd_types::Instant;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long an operation waits for the guard process to take the order that was given with it.
const GUARD_PATIENCE: Duration = Duration::from_secs(1);
const GUARD_STEP: Duration = Duration::from_millis(2);

/// Until when the guard process is known to be armed: written by who talks to it, read by operations.
#[derive(Clone, Debug, Default)]
pub struct GuardedUntil(Arc<AtomicU64>);

impl GuardedUntil {
    /// The guard will end PostgreSQL then and not before; `None` when it is not known to do so at all.
    pub fn set(&self, until: Option<Instant>) {
        self.0.store(until.map_or(0, Instant::as_millis), Ordering::SeqCst);
    }
    /// Not later than that.
    pub fn limit(&self, until: Option<Instant>) {
        self.0.fetch_min(until.map_or(0, Instant::as_millis), Ordering::SeqCst);
    }
    /// Is it armed, with a deadline to come?
    pub fn armed(&self) -> bool {
        pgherd_clock::boottime().as_millis() < self.0.load(Ordering::SeqCst)
    }
}

/// Whether a watchdog that is required lets PostgreSQL become writable: written by who keeps the device, read by
/// operations.
#[derive(Clone, Debug, Default)]
pub struct WatchdogGate(Arc<Mutex<Gate>>);

#[derive(Clone, Debug, Default)]
enum Gate {
    /// Nothing was tried for the present order.
    #[default]
    Unknown,
    /// It is armed, or not wanted now.
    Open,
    /// It cannot be used, because.
    Shut(String),
}

impl WatchdogGate {
    /// The device is armed, or not wanted now.
    pub fn open(&self) {
        self.set(Gate::Open);
    }
    /// It cannot be used.
    pub fn shut(&self, why: &str) {
        self.set(Gate::Shut(why.to_owned()));
    }
    /// Nobody needs it.
    pub fn forget(&self) {
        self.set(Gate::Unknown);
    }
    fn set(&self, gate: Gate) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = gate;
    }
    /// `None` while nothing is known.
    fn verdict(&self) -> Option<Outcome<()>> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Gate::Unknown => None,
            Gate::Open => Some(Ok(())),
            Gate::Shut(why) => Some(Err(OperationError::failed(format!(
                "the watchdog is required and cannot be used, and PostgreSQL must not become writable without it: {why}"
            )))),
        }
    }
}

/// Shared between an operation and whoever started it.
#[derive(Debug)]
pub struct OperationControl {
    cancelled: AtomicBool,
    hurries: AtomicU8,
    /// Boot-time milliseconds; `u64::MAX` when there is no fence.
    fence_ms: AtomicU64,
    guarded: Option<GuardedUntil>,
    watchdog: Option<WatchdogGate>,
    progress: Notify,
}

impl OperationControl {
    /// For an operation that may make PostgreSQL writable only before `fence`.
    pub fn new(fence: Option<Instant>) -> Self {
        let fence_ms = fence.map_or(u64::MAX, Instant::as_millis);
        Self {
            cancelled: AtomicBool::new(false),
            hurries: AtomicU8::new(0),
            fence_ms: AtomicU64::new(fence_ms),
            guarded: None,
            watchdog: None,
            progress: Notify::new(),
        }
    }
    /// It may make PostgreSQL writable only while a guard process is armed, too.
    pub fn guarded_by(self, guarded: Option<GuardedUntil>) -> Self {
        Self { guarded, ..self }
    }
    /// And only while a watchdog device that is required is armed.
    pub fn watched_by(self, watchdog: Option<WatchdogGate>) -> Self {
        Self { watchdog, ..self }
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
    /// The operation has come so far that a look at the server is worth while.
    pub(crate) fn tell_progress(&self) {
        self.progress.notify_one();
    }
    /// Waits until the operation says that.
    pub async fn progress(&self) {
        self.progress.notified().await;
    }
    /// Has the fence passed?
    pub fn too_late(&self) -> bool {
        pgherd_clock::boottime().as_millis() >= self.fence_ms.load(Ordering::SeqCst)
    }
    /// Fails once `cancel` was called.
    pub fn go_on(&self) -> Outcome<()> {
        if self.cancelled.load(Ordering::SeqCst) { Err(OperationError::Cancelled) } else { Ok(()) }
    }
    /// To be asked immediately before every step that could make PostgreSQL writable. Waits for the guard process, if
    /// one is wanted and it has not taken its order yet, and for the watchdog, if it is required.
    pub fn may_become_writable(&self) -> Outcome<()> {
        self.may_be_writable()?;
        if let Some(guarded) = &self.guarded {
            self.await_guard(guarded)?;
        }
        if let Some(watchdog) = &self.watchdog {
            self.await_watchdog(watchdog)?;
        }
        self.may_be_writable()
    }
    /// To be asked while PostgreSQL is becoming writable. A guard that died meanwhile is replaced; that alone does not
    /// end a server which the agent itself still watches.
    pub fn may_be_writable(&self) -> Outcome<()> {
        self.go_on()?;
        if self.too_late() { Err(OperationError::TooLate) } else { Ok(()) }
    }

    fn await_guard(&self, guarded: &GuardedUntil) -> Outcome<()> {
        let deadline = pgherd_clock::boottime() + GUARD_PATIENCE;
        while !guarded.armed() {
            if pgherd_clock::boottime() >= deadline {
                return Err(OperationError::failed(
                    "the guard process did not take the order within 1 s, and PostgreSQL must not become writable \
                     without it; the log and guard.log in the state directory say why",
                ));
            }
            std::thread::sleep(GUARD_STEP);
        }
        Ok(())
    }

    fn await_watchdog(&self, watchdog: &WatchdogGate) -> Outcome<()> {
        let deadline = pgherd_clock::boottime() + GUARD_PATIENCE;
        loop {
            if let Some(verdict) = watchdog.verdict() {
                return verdict;
            }
            if pgherd_clock::boottime() >= deadline {
                return Err(OperationError::failed(
                    "the watchdog is required and was not armed within 1 s; the log says why",
                ));
            }
            std::thread::sleep(GUARD_STEP);
        }
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

    #[test]
    fn without_a_required_watchdog_nothing_becomes_writable() {
        let gate = WatchdogGate::default();
        let control = OperationControl::new(None).watched_by(Some(gate.clone()));
        let refused = control.may_become_writable().unwrap_err();
        assert!(refused.to_string().contains("was not armed within 1 s"), "{refused}");
        gate.shut("no such device");
        let refused = control.may_become_writable().unwrap_err();
        assert!(refused.to_string().starts_with("the watchdog is required"), "{refused}");
        assert!(refused.to_string().ends_with(": no such device"), "{refused}");
        gate.open();
        assert_eq!(control.may_become_writable(), Ok(()));
        gate.forget();
        assert!(control.may_become_writable().is_err());
    }

    #[test]
    fn without_an_armed_guard_nothing_becomes_writable_but_what_is_becoming_so_goes_on() {
        let guarded = GuardedUntil::default();
        let control = OperationControl::new(None).guarded_by(Some(guarded.clone()));
        let later = pgherd_clock::boottime() + Duration::from_secs(3600);
        guarded.limit(Some(later));
        let refused = control.may_become_writable().unwrap_err();
        assert!(refused.to_string().starts_with("the guard process did not take the order"), "{refused}");
        assert_eq!(control.may_be_writable(), Ok(()));
        // The order is taken while the operation waits for it.
        let waiting = std::thread::spawn(move || control.may_become_writable());
        guarded.set(Some(later));
        assert_eq!(waiting.join().unwrap(), Ok(()));
        guarded.limit(None);
        assert!(!guarded.armed());
    }
}
