//! The testing driver on a FIFO, read by the test.

use super::*;
use crate::options::WatchdogDriver;
use pgherd_types::LeaseId;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

struct Fifo {
    path: PathBuf,
    reader: OwnedFd,
}

impl Fifo {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pgherd-watchdog-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let reader = rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
        Self { path, reader }
    }
    fn watchdog(&self, mode: WatchdogMode) -> Watchdog {
        let (driver, device) = (WatchdogDriver::Testing, self.path.clone());
        Watchdog::new(WatchdogOptions { mode, driver, device, ..WatchdogOptions::default() })
    }
    /// One of which the kernel says that it was left armed, and whose driver was loaded with `nowayout`.
    fn played(&self, left_armed: bool, nowayout: bool) -> Watchdog {
        let mut watchdog = self.watchdog(WatchdogMode::Automatic);
        watchdog.options.driver = WatchdogDriver::Played { left_armed, nowayout };
        watchdog
    }
    /// What was written since.
    fn said(&self) -> String {
        let mut bytes = [0; 1000];
        match read(&self.reader, &mut bytes) {
            Ok(len) => String::from_utf8_lossy(&bytes[..len]).into_owned(),
            Err(Errno::AGAIN) => String::new(),
            Err(e) => panic!("{e}"),
        }
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn wish(order: FenceOrder, ttl_s: u64) -> Wish {
    Wish { order, ttl: Duration::from_secs(ttl_s), loop_wait: Duration::from_secs(ttl_s / 3), paused: false }
}

/// Under a lease that was renewed then.
fn renewed(sent_ms: u64, ttl_s: u64) -> Wish {
    let (end, margin) = (sent_ms + ttl_s * 1000, (ttl_s * 100).max(1000));
    wish(FenceOrder::Armed { lease: LeaseId(1), stop_at: at(end - margin), kill_at: at(end - margin / 2) }, ttl_s)
}

fn disarmed() -> Wish {
    wish(FenceOrder::Disarmed, 20)
}

#[test]
fn it_is_armed_pinged_at_renewals_only_and_disarmed() {
    let fifo = Fifo::new();
    let mut watchdog = fifo.watchdog(WatchdogMode::Automatic);
    watchdog.tend(&disarmed(), at(1));
    assert_eq!(fifo.said(), "");
    watchdog.tend(&renewed(1_000, 20), at(1_100));
    assert!(watchdog.is_armed());
    assert_eq!(fifo.said(), "Ctimeout=15\n1");
    watchdog.tend(&renewed(1_000, 20), at(1_200));
    watchdog.tend(&renewed(1_000, 20), at(6_000));
    assert_eq!(fifo.said(), "", "nothing was renewed");
    watchdog.tend(&renewed(6_000, 20), at(6_100));
    assert_eq!(fifo.said(), "1");
    watchdog.tend(&disarmed(), at(7_000));
    assert_eq!(fifo.said(), "V");
    watchdog.tend(&disarmed(), at(7_001));
    assert_eq!(fifo.said(), "");
    assert!(!watchdog.is_armed());
}

#[test]
fn one_that_cannot_be_stopped_is_pinged_on_until_it_is_needed_again() {
    let fifo = Fifo::new();
    let mut watchdog = fifo.played(false, true);
    watchdog.tend(&renewed(0, 20), at(10));
    assert_eq!(fifo.said(), "Ctimeout=15\n1");
    assert_eq!(watchdog.tend(&disarmed(), at(5_000)), Some(at(10_000)), "a third of its timeout later");
    assert_eq!(fifo.said(), "Ctimeout=15\n1");
    assert!(!watchdog.is_armed());
    assert_eq!(watchdog.tend(&disarmed(), at(9_999)), Some(at(10_000)));
    assert_eq!(fifo.said(), "");
    assert_eq!(watchdog.tend(&disarmed(), at(10_010)), Some(at(15_010)));
    assert_eq!(fifo.said(), "1");

    // now the order counts, and nothing else
    let order = renewed(12_000, 20);
    assert_eq!(watchdog.tend(&order, at(12_100)), Some(at(24_500)));
    assert_eq!(fifo.said(), "Ctimeout=15\n1");
    assert!(watchdog.is_armed());
    assert_eq!(watchdog.tend(&order, at(15_010)), Some(at(24_500)));
    assert_eq!(fifo.said(), "");
    assert_eq!(watchdog.tend(&Wish { paused: true, ..order }, at(16_000)), Some(at(21_000)));
    assert_eq!(fifo.said(), "Ctimeout=15\n1", "in maintenance mode too");
    watchdog.leave();
    assert_eq!(fifo.said(), "1");
    assert_eq!(watchdog.tend(&disarmed(), at(22_000)), None);
    assert_eq!(fifo.said(), "", "the rest is its successor's business");
}

#[test]
fn one_that_cannot_be_stopped_is_pinged_on_where_it_does_not_fit() {
    let fifo = Fifo::new();
    let mut watchdog = fifo.played(false, true);
    watchdog.tend(&renewed(0, 20), at(10));
    watchdog.tend(&disarmed(), at(1_000));
    fifo.said();
    watchdog.options.safety_margin_s = Some(17);
    watchdog.tend(&renewed(2_000, 20), at(2_010));
    assert!(!watchdog.is_armed() && watchdog.problem().is_some());
    watchdog.tend(&renewed(2_000, 20), at(6_000));
    assert_eq!(fifo.said(), "1");
}

#[test]
fn one_that_was_left_armed_is_disarmed_once_or_pinged_on() {
    let paused = Wish { paused: true, ..renewed(0, 20) };
    for first in [disarmed(), paused] {
        let fifo = Fifo::new();
        let mut watchdog = fifo.played(true, false);
        watchdog.tend(&first, at(1));
        assert_eq!(fifo.said(), "V");
        watchdog.tend(&first, at(2));
        assert_eq!(fifo.said(), "");

        let mut watchdog = fifo.played(true, true);
        assert_eq!(watchdog.tend(&first, at(1)), Some(at(5_001)));
        assert_eq!(fifo.said(), "Ctimeout=15\n1");
    }
}

#[test]
fn one_that_was_left_armed_is_taken_over_by_a_primary() {
    let fifo = Fifo::new();
    let mut watchdog = fifo.played(true, false);
    watchdog.tend(&renewed(0, 20), at(10));
    assert_eq!(fifo.said(), "Ctimeout=15\n1");
    watchdog.tend(&disarmed(), at(20));
    watchdog.tend(&disarmed(), at(30));
    assert_eq!(fifo.said(), "V");
}

#[test]
fn what_does_not_run_or_is_off_is_not_touched() {
    let fifo = Fifo::new();
    fifo.watchdog(WatchdogMode::Automatic).tend(&disarmed(), at(1));
    let mut off = fifo.played(true, false);
    off.options.mode = WatchdogMode::Off;
    off.tend(&disarmed(), at(1));
    assert_eq!(fifo.said(), "");
}

#[test]
fn a_changed_ttl_counts_from_the_next_ping_on() {
    let fifo = Fifo::new();
    let mut watchdog = fifo.watchdog(WatchdogMode::Automatic);
    watchdog.tend(&renewed(0, 21), at(10));
    assert_eq!(fifo.said(), "Ctimeout=16\n1");
    let shorter = Wish { ttl: Duration::from_secs(20), ..renewed(0, 21) };
    watchdog.tend(&shorter, at(20));
    assert_eq!(fifo.said(), "");
    watchdog.tend(&Wish { order: renewed(5_000, 21).order, ..shorter }, at(5_010));
    assert_eq!(fifo.said(), "Ctimeout=15\n1");
}

#[test]
fn it_never_outlives_the_lease() {
    let fifo = Fifo::new();
    let mut watchdog = fifo.watchdog(WatchdogMode::Automatic);
    // found running: six seconds are left
    watchdog.tend(&renewed(0, 20), at(14_000));
    assert_eq!(fifo.said(), "Ctimeout=6\n1");
    // an answer that took long
    watchdog.tend(&renewed(15_000, 20), at(22_500));
    assert_eq!(fifo.said(), "Ctimeout=12\n1");
    watchdog.tend(&renewed(23_000, 20), at(23_100));
    assert_eq!(fifo.said(), "Ctimeout=15\n1");
}

#[test]
fn without_renewals_it_fires_after_the_fence_and_before_the_end_of_the_lease() {
    let fifo = Fifo::new();
    let mut watchdog = fifo.watchdog(WatchdogMode::Automatic);
    let order = renewed(0, 20);
    let mut wake = watchdog.tend(&order, at(100));
    assert_eq!(fifo.said(), "Ctimeout=15\n1");
    assert_eq!(wake, Some(at(12_500)));
    wake = watchdog.tend(&order, at(12_499));
    assert_eq!((fifo.said().as_str(), wake), ("", Some(at(12_500))));
    wake = watchdog.tend(&order, at(12_503));
    assert_eq!((fifo.said().as_str(), wake), ("Ctimeout=7\n1", None), "at 19.5 s; the lease ends at 20 s");
    assert_eq!(watchdog.tend(&order, at(18_500)), None, "the deadline has passed");
    assert_eq!(fifo.said(), "");
    watchdog.tend(&disarmed(), at(18_600));
    assert_eq!(fifo.said(), "V", "the fence has worked");
}

#[test]
fn in_maintenance_mode_it_is_disarmed_and_off_means_off() {
    let fifo = Fifo::new();
    let mut watchdog = fifo.watchdog(WatchdogMode::Automatic);
    watchdog.tend(&renewed(0, 20), at(10));
    watchdog.tend(&Wish { paused: true, ..renewed(5_000, 20) }, at(5_010));
    assert_eq!(fifo.said(), "Ctimeout=15\n1V");
    let mut off = fifo.watchdog(WatchdogMode::Off);
    assert_eq!(off.tend(&renewed(0, 20), at(10)), None);
    assert_eq!((fifo.said().as_str(), off.problem()), ("", None));
}

#[test]
fn what_cannot_be_used_says_why_and_is_tried_again_at_the_next_renewal() {
    let fifo = Fifo::new();
    let mut watchdog = fifo.watchdog(WatchdogMode::Required);
    std::fs::remove_file(&fifo.path).unwrap();
    watchdog.tend(&renewed(0, 20), at(10));
    let problem = watchdog.problem().unwrap().to_owned();
    assert!(problem.contains(fifo.path.to_str().unwrap()) && problem.contains("there is no such device"), "{problem}");
    watchdog.check(&disarmed());
    assert_eq!(watchdog.problem(), Some(problem.as_str()));

    let fifo = Fifo::new();
    watchdog.options.device = fifo.path.clone();
    watchdog.tend(&renewed(0, 20), at(20));
    assert!(!watchdog.is_armed(), "nothing changed");
    watchdog.tend(&renewed(5_000, 20), at(5_010));
    assert!(watchdog.is_armed() && watchdog.problem().is_none());
    assert_eq!(fifo.said(), "Ctimeout=15\n1");

    let mut watchdog = fifo.watchdog(WatchdogMode::Required);
    watchdog.options.safety_margin_s = Some(17);
    watchdog.tend(&renewed(0, 20), at(10));
    assert!(watchdog.problem().unwrap().contains("shorter than the time between two renewals"));
    watchdog.options.driver = WatchdogDriver::Linux;
    watchdog.options.safety_margin_s = Some(5);
    watchdog.tend(&renewed(1_000, 20), at(1_010));
    assert!(watchdog.problem().unwrap().contains("is no watchdog device"));
}

#[test]
fn a_device_that_breaks_is_a_problem() {
    let fifo = Fifo::new();
    let mut watchdog = fifo.watchdog(WatchdogMode::Required);
    watchdog.tend(&renewed(0, 20), at(10));
    assert!(watchdog.is_armed());
    drop(std::mem::replace(&mut { fifo }.reader, std::fs::File::open("/dev/null").unwrap().into()));
    watchdog.tend(&renewed(5_000, 20), at(5_010));
    assert!(!watchdog.is_armed());
    assert!(watchdog.problem().unwrap().starts_with("cannot ping"), "{:?}", watchdog.problem());
}
