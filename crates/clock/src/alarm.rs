//! A thread's alarm on the boot-time clock: it rings during or right after a suspend, when every timer that stands
//! still with the machine would be late, and needs no periodic wake-ups.

use pgherd_types::Instant;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::{Errno, read, write};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::sync::Arc;

/// The waiting end.
#[derive(Debug)]
pub struct Alarm {
    timer: OwnedFd,
    woken: Arc<OwnedFd>,
}

/// Ends a wait from another thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// The waiting thread looks again, now or before its next wait.
    pub fn wake(&self) {
        // a full counter means that it will wake anyway
        let _ = write(&self.0, &1u64.to_ne_bytes());
    }
}

impl Alarm {
    /// An alarm and what wakes it early.
    pub fn new() -> std::io::Result<(Self, Waker)> {
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let woken = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok((Self { timer, woken: woken.clone() }, Waker(woken)))
    }

    /// Waits until then, or until it is woken; with `None` only until it is woken. May return early, never late.
    pub fn wait(&self, until: Option<Instant>) -> std::io::Result<()> {
        self.wait_also(until, &[])
    }

    /// The same, and a wait that ends too when there is something to read from one of these, or its other end is gone.
    pub fn wait_also(&self, until: Option<Instant>, others: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        // zero would disarm the timer; an instant that has passed rings at once
        let at = until.map_or(0, |at| at.as_millis().max(1));
        let value = Timespec {
            tv_sec: i64::try_from(at / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(at % 1000 * 1_000_000).unwrap_or(0),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        let mut fds = vec![PollFd::new(&self.timer, PollFlags::IN), PollFd::new(&self.woken, PollFlags::IN)];
        fds.extend(others.iter().map(|other| PollFd::new(other, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let mut counter = [0u8; 8];
        let _ = read(&self.woken, &mut counter);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boottime;
    use std::time::Duration;

    #[test]
    fn it_rings_at_its_time_and_not_before() {
        let (alarm, _waker) = Alarm::new().unwrap();
        let at = boottime() + Duration::from_millis(30);
        alarm.wait(Some(at)).unwrap();
        assert!(boottime() >= at);
        alarm.wait(Some(Instant::from_millis(0))).unwrap();
    }

    #[test]
    fn a_wake_before_or_during_the_wait_ends_it() {
        let (alarm, waker) = Alarm::new().unwrap();
        waker.wake();
        waker.wake();
        alarm.wait(None).unwrap();
        let thread = std::thread::spawn(move || alarm.wait(None));
        waker.wake();
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn something_to_read_ends_the_wait() {
        use std::io::Write;
        use std::os::fd::AsFd;
        let (alarm, _waker) = Alarm::new().unwrap();
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.write_all(b"x").unwrap();
        alarm.wait_also(None, &[theirs.as_fd()]).unwrap();
    }
}
