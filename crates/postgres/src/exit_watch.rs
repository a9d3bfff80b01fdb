//! Waiting for the end of a process through a pidfd, in a small thread of its own: it works for processes that are not
//! our children, and a process number that is used again cannot deceive it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Names one process, even after its number was given to another.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens it; fails if no process has this number. A zombie still counts as one here.
    pub fn open(pid: i32) -> rustix::io::Result<Self> {
        pidfd_open(Pid::from_raw(pid).ok_or(Errno::INVAL)?, PidfdFlags::empty()).map(Self)
    }
    /// Sends a signal; an error means that the process is gone.
    pub fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        pidfd_send_signal(&self.0, signal)
    }
    /// Waits for its end; false when `patience` ran out first.
    pub fn wait(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
            let timeout = Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
    /// The same without a thread and without a limit; it needs the I/O driver of a tokio runtime.
    pub async fn exited(self) -> std::io::Result<()> {
        // Deprecated because other types may close their descriptor meanwhile; one that is owned stays open.
        #[allow(deprecated)]
        let fd = AsyncFd::with_interest(self.0, Interest::READABLE)?;
        fd.readable().await.map(drop)
    }
    /// Has it ended?
    pub fn ended(&self) -> bool {
        self.wait(Duration::ZERO)
    }
}

/// Ends the watch when dropped.
#[derive(Debug)]
pub struct ExitWatch {
    given_up: Arc<AtomicBool>,
}

impl Drop for ExitWatch {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::SeqCst);
    }
}

/// Calls `ended` once, from a thread of its own, when the process has ended (at once if it is gone already).
/// After the watch is dropped it is not called any more; the thread then ends within a second.
pub fn watch_exit(pid: i32, start_ticks: u64, ended: impl FnOnce() + Send + 'static) -> std::io::Result<ExitWatch> {
    let given_up = Arc::new(AtomicBool::new(false));
    let fd = PidFd::open(pid).ok().filter(|_| crate::process::start_ticks(pid) == Some(start_ticks));
    let stop = given_up.clone();
    let wait = move || {
        while fd.as_ref().is_some_and(|fd| !fd.wait(Duration::from_secs(1))) {
            if stop.load(Ordering::SeqCst) {
                return;
            }
        }
        if !stop.load(Ordering::SeqCst) {
            ended();
        }
    };
    std::thread::Builder::new().name(format!("exit-{pid}")).stack_size(256 << 10).spawn(wait)?;
    Ok(ExitWatch { given_up })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_exit_can_be_awaited() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let exited = PidFd::open(i32::try_from(child.id()).unwrap()).unwrap().exited();
        let mut exited = std::pin::pin!(exited);
        let soon = tokio::time::timeout(Duration::from_millis(1), &mut exited).await;
        assert!(soon.is_err(), "it lives");
        child.kill().unwrap();
        tokio::time::timeout(Duration::from_secs(30), exited).await.expect("in time").unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn an_exit_is_reported_once_and_a_dropped_watch_is_silent() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let ticks = crate::process::start_ticks(pid).unwrap();
        let (sent, seen) = std::sync::mpsc::channel();
        let dropped = sent.clone();
        let watch = watch_exit(pid, ticks, move || sent.send("kept").unwrap()).unwrap();
        drop(watch_exit(pid, ticks, move || dropped.send("dropped").unwrap()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(seen.recv_timeout(Duration::from_secs(30)), Ok("kept"));
        assert!(seen.recv_timeout(Duration::from_secs(30)).is_err());
        drop(watch);
    }
}
