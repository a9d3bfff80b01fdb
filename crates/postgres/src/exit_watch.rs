//! Waiting for the end of a process through a pidfd: it works for processes that are not our children, and a process
//! number that is used again cannot deceive it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
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
    /// The process of this number that was started then, if it still lives.
    pub fn of(pid: i32, start_ticks: u64) -> Option<Self> {
        Self::open(pid).ok().filter(|_| crate::process::start_ticks(pid) == Some(start_ticks))
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
    fn a_number_that_was_given_to_another_process_is_not_mistaken() {
        let me = i32::try_from(std::process::id()).unwrap();
        let ticks = crate::process::start_ticks(me).unwrap();
        assert!(!PidFd::of(me, ticks).unwrap().ended());
        assert!(PidFd::of(me, ticks + 1).is_none());
    }
}
