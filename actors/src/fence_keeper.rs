//! The fence: an operating-system thread that ends PostgreSQL when the lease can no longer be relied upon, whatever
//! the actors are doing. It wakes at least four times a second, because timers stand still while a machine sleeps and
//! the boot-time clock does not.
//!
//! A second thread keeps the record of the present promise beside the data directory, for the agent that may have to
//! take over after this process; it is separate, because a disk may hang and the fence must not.

use pgherd_postgres::Killer;
use pgherd_types::{FenceOrder, Instant, LeaseGrant, LeaseId};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const WAKE_AT_LEAST: Duration = Duration::from_millis(250);
const KILL_PATIENCE: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Shared<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, T> {
        // nothing that holds this lock can panic, so a poisoned value is still whole
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn set(&self, value: T) {
        *self.lock() = value;
        self.changed.notify_one();
    }
}

/// The coordinator's end of the fence.
#[derive(Clone)]
pub struct FenceHandle {
    order: Arc<Shared<FenceOrder>>,
    record: Arc<Shared<Option<LeaseGrant>>>,
}

impl FenceHandle {
    /// What must be fenced and when; the promise it rests on is recorded.
    pub fn order(&self, order: FenceOrder, promise: Option<LeaseGrant>) {
        if *self.order.lock() != order {
            self.order.set(order);
        }
        if *self.record.lock() != promise {
            self.record.set(promise);
        }
    }

    /// Everything is left in order: nothing is fenced and the record says so.
    pub fn forget(&self) {
        self.order(FenceOrder::Disarmed, None);
    }
}

/// Start the fence with the order that is in force already.
pub fn start(killer: Killer, record_path: PathBuf, initial: FenceOrder, recorded: Option<LeaseGrant>) -> std::io::Result<FenceHandle> {
    let handle = FenceHandle {
        order: Arc::new(Shared { value: Mutex::new(initial), changed: Condvar::new() }),
        record: Arc::new(Shared { value: Mutex::new(recorded), changed: Condvar::new() }),
    };
    let order = Arc::clone(&handle.order);
    std::thread::Builder::new().name("fence".into()).stack_size(256 << 10).spawn(move || watch(&order, &killer))?;
    let record = Arc::clone(&handle.record);
    std::thread::Builder::new().name("fence-record".into()).stack_size(128 << 10).spawn(move || keep(&record, &record_path, recorded))?;
    Ok(handle)
}

/// What the thread has done about the order in force.
#[derive(PartialEq)]
enum Done {
    Nothing,
    Stopped,
}

fn watch(shared: &Shared<FenceOrder>, killer: &Killer) {
    let mut done = Done::Nothing;
    loop {
        let order = *shared.lock();
        let now = pgherd_clock::boottime();
        let wait = match order {
            FenceOrder::Disarmed => {
                done = Done::Nothing;
                WAKE_AT_LEAST
            }
            FenceOrder::Armed { stop_at, .. } if now < stop_at => {
                done = Done::Nothing;
                now.until(stop_at).min(WAKE_AT_LEAST)
            }
            FenceOrder::Armed { kill_at, .. } if now < kill_at => {
                if done == Done::Nothing && killer.stop_immediate() {
                    log::error!(target: "critical", "the lease can no longer be relied upon: stopped PostgreSQL immediately");
                }
                done = Done::Stopped;
                now.until(kill_at).min(Duration::from_millis(50))
            }
            FenceOrder::Armed { .. } => {
                kill(killer);
                Duration::from_millis(50)
            }
        };
        let guard = shared.lock();
        if *guard == order {
            let _ = shared.changed.wait_timeout(guard, wait);
        }
    }
}

fn kill(killer: &Killer) {
    if !killer.anything_alive() {
        return;
    }
    match killer.kill_all(KILL_PATIENCE) {
        Ok(()) => log::error!(target: "critical", "the lease can no longer be relied upon: killed PostgreSQL"),
        Err(e) => log::error!(target: "critical", "processes {:?} of PostgreSQL survive SIGKILL; trying again", e.0),
    }
}

fn keep(shared: &Shared<Option<LeaseGrant>>, path: &std::path::Path, mut written: Option<LeaseGrant>) {
    loop {
        let wanted = *shared.lock();
        if wanted != written {
            match write_record(path, wanted) {
                Ok(()) => written = wanted,
                Err(e) => log::error!("cannot write the lease record {}: {e}; after a restart of the agent PostgreSQL would be stopped", path.display()),
            }
        }
        let guard = shared.lock();
        if *guard == wanted {
            let _ = shared.changed.wait_timeout(guard, Duration::from_secs(1));
        }
    }
}

/// One line: boot id, lease, when the renewal was sent (boot-time clock, ms), granted time to live (ms).
fn write_record(path: &std::path::Path, promise: Option<LeaseGrant>) -> std::io::Result<()> {
    let Some(LeaseGrant { lease, sent_at, ttl_ms }) = promise else {
        return match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        };
    };
    let line = format!("{} {} {} {}\n", pgherd_clock::boot_id(), lease.0, sent_at.as_millis(), ttl_ms);
    // no fsync: the record must outlive this process, not this boot
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, line)?;
    std::fs::rename(fresh, path)
}

/// The promise that a predecessor recorded in this boot, if any.
pub fn read_record(path: &std::path::Path) -> Option<LeaseGrant> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut words = text.split_whitespace();
    if words.next()? != pgherd_clock::boot_id() {
        return None;
    }
    let lease = LeaseId(words.next()?.parse().ok()?);
    let sent_at = Instant::from_millis(words.next()?.parse().ok()?);
    let ttl_ms = words.next()?.parse().ok()?;
    Some(LeaseGrant { lease, sent_at, ttl_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_this_boot_comes_back_and_others_do_not() {
        let path = std::env::temp_dir().join(format!("pgherd-record-{}", std::process::id()));
        let promise = LeaseGrant { lease: LeaseId(-7), sent_at: Instant::from_millis(1234), ttl_ms: 30_000 };
        write_record(&path, Some(promise)).unwrap();
        assert_eq!(read_record(&path), Some(promise));
        for damaged in ["", "another-boot 1 2 3", &format!("{} 1 x 3", pgherd_clock::boot_id())] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(read_record(&path), None, "{damaged:?}");
        }
        write_record(&path, None).unwrap();
        write_record(&path, None).unwrap();
        assert!(!path.exists());
    }
}
