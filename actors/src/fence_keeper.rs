//! The fence: an operating-system thread that ends PostgreSQL when the lease can no longer be relied upon, whatever
//! the actors are doing. It waits on the boot-time clock, so a machine that was suspended past the deadline fences first
//! thing after it wakes up.
//!
//! Every order goes on to the guard process, too, which outlives this one and ends PostgreSQL if nobody else does.
//!
//! The watchdog device belongs to this thread, too: it is armed with the order and pinged when a renewal extended it.
//!
//! A second thread keeps the record of the present promise beside the data directory, for the agent that may have to
//! take over after this process; it is separate, because a disk may hang and the fence must not.

mod watchdog_keeper;

pub use watchdog_keeper::Watch;

use actix::prelude::Recipient;
use pgherd_clock::{Alarm, Waker};
use pgherd_guard::{GuardProgram, Link};
use pgherd_postgres::{GuardedUntil, Killer, WatchdogGate};
use pgherd_protocol::coordinator::WatchdogChecked;
use pgherd_types::{FenceDue, FenceOrder, Instant, LeaseGrant, LeaseId};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use watchdog_keeper::{Told, WatchdogKeeper};

const KILL_PATIENCE: Duration = Duration::from_millis(200);
/// Between two attempts to kill, or to look whether there is something to kill.
const KILL_AGAIN: Duration = Duration::from_millis(50);
/// Between two attempts to write the record.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

/// A value that one thread sets and another waits for.
struct Shared<T> {
    value: Mutex<T>,
    waker: Waker,
}

impl<T: Copy + PartialEq> Shared<T> {
    fn new(value: T) -> std::io::Result<(Arc<Self>, Alarm)> {
        let (alarm, waker) = Alarm::new()?;
        Ok((Arc::new(Self { value: Mutex::new(value), waker }), alarm))
    }
    fn get(&self) -> T {
        // nothing that holds this lock can panic, so a poisoned value is still whole
        *self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn set(&self, value: T) {
        self.change(|now| *now = value);
    }
    fn change(&self, change: impl FnOnce(&mut T)) {
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *value;
        change(&mut value);
        if before != *value {
            self.waker.wake();
        }
    }
}

/// What a successor of this process must know.
#[derive(Copy, Clone, PartialEq, Eq)]
struct Record {
    promise: Option<LeaseGrant>,
    paused: bool,
}

/// What the fence thread is told.
#[derive(Copy, Clone, PartialEq, Eq)]
struct Standing {
    order: FenceOrder,
    /// What the order rests on: the time to live that was granted, once the coordinator has said anything at all.
    granted_ttl: Option<Option<Duration>>,
    /// The agent leaves in order, and the guard shall go with it.
    leaving: bool,
}

/// The coordinator's end of the fence.
#[derive(Clone)]
pub struct FenceHandle {
    standing: Arc<Shared<Standing>>,
    record: Arc<Shared<Record>>,
    on_disk: watch::Receiver<Record>,
    guarded: Option<GuardedUntil>,
    watchdog_gate: Option<WatchdogGate>,
    watchdog_told: Told,
    dismissed: Arc<Mutex<Receiver<()>>>,
}

impl FenceHandle {
    /// What must be fenced and when; the promise it rests on is recorded.
    pub fn order(&self, order: FenceOrder, promise: Option<LeaseGrant>) {
        let granted_ttl = Some(promise.map(|promise| Duration::from_millis(promise.ttl_ms)));
        self.standing.change(|standing| (standing.order, standing.granted_ttl) = (order, granted_ttl));
        self.record.change(|record| record.promise = promise);
    }

    /// Waits until this promise is on disk for a successor (`None`: until there is none); false when it was not in time.
    pub fn when_recorded(&self, promise: Option<LeaseGrant>, patience: Duration) -> impl Future<Output = bool> + use<> {
        let mut on_disk = self.on_disk.clone();
        async move {
            let recorded = on_disk.wait_for(|record| record.promise == promise);
            matches!(tokio::time::timeout(patience, recorded).await, Ok(Ok(_)))
        }
    }

    /// Maintenance mode is on, or off: a restarted agent must know, because in it a primary is not fenced.
    pub fn paused(&self, paused: bool) {
        self.record.change(|record| record.paused = paused);
    }

    /// Everything is left in order: nothing is fenced, the record says so and the guard process goes.
    pub fn forget(&self) {
        self.standing.set(Standing { order: FenceOrder::Disarmed, granted_ttl: Some(None), leaving: true });
        self.record.change(|record| record.promise = None);
    }

    /// Waits until the guard process has gone after `forget`; false if it had not in time (it then goes by itself).
    pub fn wait_for_guard(&self, patience: Duration) -> bool {
        self.dismissed.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(patience).is_ok()
    }

    /// Says whether the guard process is armed; `None` where there is none.
    pub fn guarded(&self) -> Option<GuardedUntil> {
        self.guarded.clone()
    }

    /// Says whether the watchdog is armed; `None` where it need not be.
    pub fn watchdog_gate(&self) -> Option<WatchdogGate> {
        self.watchdog_gate.clone()
    }

    /// Tells this one whether a watchdog that is required can be used, now and when that changes.
    pub fn tell_watchdog(&self, to: Recipient<WatchdogChecked>) {
        *self.watchdog_told.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
        self.standing.waker.wake();
    }
}

/// Start the fence with the order that is in force already, and the guard process if one is wanted. The watchdog is left
/// alone until the coordinator has given an order.
pub fn start(
    killer: Killer,
    record_path: PathBuf,
    initial: FenceOrder,
    recorded: Option<LeaseGrant>,
    guard: Option<GuardProgram>,
    watch: Watch,
) -> std::io::Result<FenceHandle> {
    let (standing, alarm) = Shared::new(Standing { order: initial, granted_ttl: None, leaving: false })?;
    let found = Record { promise: recorded, paused: is_paused(&record_path) };
    let (record, record_alarm) = Shared::new(found)?;
    let (written, on_disk) = watch::channel(found);
    let guarded = guard.is_some().then(GuardedUntil::default);
    let link = guard.zip(guarded.clone()).map(|(guard, by)| Link::new(guard, standing.waker.clone(), by));
    let (dismiss, dismissed) = sync_channel(1);
    let dismissed = Arc::new(Mutex::new(dismissed));
    let watchdog_told = Told::default();
    let watchdog = WatchdogKeeper::new(watch, watchdog_told.clone());
    let handle = FenceHandle {
        standing: standing.clone(),
        record: record.clone(),
        on_disk,
        guarded,
        watchdog_gate: watchdog.gate(),
        watchdog_told,
        dismissed,
    };
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned()).stack_size(256 << 10);
    let mut fence = Fence { standing, alarm, killer, stopped: false, watchdog, link, dismiss };
    thread("fence").spawn(move || fence.watch())?;
    thread("fence-record").spawn(move || keep(&record, &record_alarm, &record_path, &written))?;
    Ok(handle)
}

/// What the fence thread works with.
struct Fence {
    standing: Arc<Shared<Standing>>,
    alarm: Alarm,
    killer: Killer,
    /// The immediate stop that is due was carried out.
    stopped: bool,
    watchdog: WatchdogKeeper,
    link: Option<Link>,
    dismiss: SyncSender<()>,
}

impl Fence {
    fn watch(&mut self) {
        loop {
            let standing = self.standing.get();
            let act_again_at = self.act(standing.order);
            let watch_again_at =
                standing.granted_ttl.and_then(|ttl| self.watchdog.tend(standing.order, ttl, pgherd_clock::boottime()));
            if standing.leaving {
                self.watchdog.leave();
            }
            let tend_again_at = self.tend(standing);
            let guard = self.link.as_ref().and_then(Link::fd);
            let until = act_again_at.into_iter().chain(watch_again_at).chain(tend_again_at).min();
            if let Err(e) = self.alarm.wait_also(until, guard.as_slice()) {
                // without an alarm there is no fence: the successor of this process fences first thing
                log::error!(target: "critical", "the fence's alarm failed ({e}): ending the agent");
                std::process::abort();
            }
        }
    }

    /// Does what is due; when to look again.
    fn act(&mut self, order: FenceOrder) -> Option<Instant> {
        let due = order.due(pgherd_clock::boottime());
        let stopped = std::mem::replace(&mut self.stopped, !matches!(due, FenceDue::Nothing { .. }));
        match due {
            FenceDue::Nothing { until } => until,
            FenceDue::Stop { kill_at } => {
                if !stopped && self.killer.stop_immediate() {
                    log::error!(target: "critical", "the lease can no longer be relied upon: stopped PostgreSQL immediately");
                }
                Some(kill_at)
            }
            FenceDue::Kill => {
                kill(&self.killer);
                Some(pgherd_clock::boottime() + KILL_AGAIN)
            }
        }
    }

    /// Hands the order on to the guard process; when to look again. Never waits.
    fn tend(&mut self, Standing { order, leaving, .. }: Standing) -> Option<Instant> {
        let Some(link) = &mut self.link else {
            if leaving {
                let _ = self.dismiss.try_send(());
            }
            return None;
        };
        if !leaving || order != FenceOrder::Disarmed {
            return link.tend(order);
        }
        if link.dismiss() {
            let _ = self.dismiss.try_send(());
            return None;
        }
        link.tend_again_at()
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

fn keep(shared: &Shared<Record>, alarm: &Alarm, path: &Path, written: &watch::Sender<Record>) {
    loop {
        let wanted = shared.get();
        let mut again_at = None;
        if wanted != *written.borrow() {
            match write_record(path, wanted.promise).and_then(|()| mark_paused(path, wanted.paused)) {
                Ok(()) => drop(written.send_replace(wanted)),
                Err(e) => {
                    let path = path.display();
                    log::error!("cannot write the lease record {path}: {e}; a restarted agent would stop PostgreSQL");
                    again_at = Some(pgherd_clock::boottime() + RECORD_AGAIN);
                }
            }
        }
        if let Err(e) = alarm.wait(again_at) {
            log::error!("the record's alarm failed: {e}");
            std::thread::sleep(RECORD_AGAIN);
        }
    }
}

/// One line: boot id, lease, when the renewal was sent (boot-time clock, ms), granted time to live (ms), and the one the
/// lease was asked with (ms), if it is known.
fn write_record(path: &Path, promise: Option<LeaseGrant>) -> std::io::Result<()> {
    let Some(LeaseGrant { lease, sent_at, ttl_ms, asked_ttl_ms }) = promise else {
        return match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        };
    };
    let asked = asked_ttl_ms.map_or_else(String::new, |ms| format!(" {ms}"));
    let line = format!("{} {} {} {ttl_ms}{asked}\n", pgherd_clock::boot_id(), lease.0, sent_at.as_millis());
    // no fsync: the record must outlive this process, not this boot
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, line)?;
    std::fs::rename(fresh, path)
}

/// Beside the record of the promise.
fn pause_marker(record_path: &Path) -> PathBuf {
    record_path.with_file_name("paused")
}

fn mark_paused(record_path: &Path, paused: bool) -> std::io::Result<()> {
    let marker = pause_marker(record_path);
    match paused {
        true => std::fs::write(marker, ""),
        false => match std::fs::remove_file(marker) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        },
    }
}

/// Was maintenance mode on, by what this node last knew?
pub fn is_paused(record_path: &Path) -> bool {
    pause_marker(record_path).exists()
}

/// The promise that a predecessor recorded in this boot, if any.
pub fn read_record(path: &Path) -> Option<LeaseGrant> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut words = text.split_whitespace();
    if words.next()? != pgherd_clock::boot_id() {
        return None;
    }
    let lease = LeaseId(words.next()?.parse().ok()?);
    let sent_at = Instant::from_millis(words.next()?.parse().ok()?);
    let ttl_ms = words.next()?.parse().ok()?;
    let asked_ttl_ms = words.next().and_then(|word| word.parse().ok());
    Some(LeaseGrant { lease, sent_at, ttl_ms, asked_ttl_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_this_boot_comes_back_and_others_do_not() {
        let path = std::env::temp_dir().join(format!("pgherd-record-{}", std::process::id()));
        let sent_at = Instant::from_millis(1234);
        for asked_ttl_ms in [None, Some(20_000)] {
            let promise = LeaseGrant { lease: LeaseId(-7), sent_at, ttl_ms: 30_000, asked_ttl_ms };
            write_record(&path, Some(promise)).unwrap();
            assert_eq!(read_record(&path), Some(promise));
        }
        for damaged in ["", "another-boot 1 2 3", &format!("{} 1 x 3", pgherd_clock::boot_id())] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(read_record(&path), None, "{damaged:?}");
        }
        write_record(&path, None).unwrap();
        write_record(&path, None).unwrap();
        assert!(!path.exists());
    }
}
