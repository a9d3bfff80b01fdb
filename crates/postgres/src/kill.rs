//! The hard end of a server: nothing of its data directory is left alive. Everything here is synchronous and needs no
//! runtime, so that a plain thread can do it while all else hangs.

use crate::exit_watch::PidFd;
use crate::process::{belongs_to, descendants, find_postmaster, server_processes};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long one round waits for the killed processes to go.
const ROUND: Duration = Duration::from_secs(5);

/// Stops or kills the server of one data directory, and never touches another.
#[derive(Clone, Debug)]
pub struct Killer {
    /// The data directory.
    pub data_dir: PathBuf,
}

impl Killer {
    /// For this data directory.
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    /// SIGQUIT to the postmaster: it ends its children at once. True if there was one. Returns without waiting.
    pub fn stop_immediate(&self) -> bool {
        self.signal_postmaster(Signal::QUIT)
    }

    /// Signals the postmaster, if there is one.
    pub fn signal_postmaster(&self, signal: Signal) -> bool {
        let Some(postmaster) = find_postmaster(&self.data_dir) else { return false };
        let Ok(fd) = PidFd::open(postmaster.pid) else { return false };
        // Asked again now that the number cannot be given to another process unnoticed.
        find_postmaster(&self.data_dir).map(|p| p.pid) == Some(postmaster.pid) && fd.signal(signal).is_ok()
    }

    /// Is any process of the data directory alive?
    pub fn anything_alive(&self) -> bool {
        !server_processes(&self.data_dir).is_empty()
    }

    /// Kills every process of the data directory and returns when none is left, or an error at the end of `patience`
    /// (a process in an uninterruptible wait cannot be killed).
    pub fn kill_all(&self, patience: Duration) -> Result<(), StillAlive> {
        let end = Instant::now() + patience;
        loop {
            let round = (Instant::now() + ROUND).min(end);
            for fd in self.kill_round() {
                fd.wait(round.saturating_duration_since(Instant::now()));
            }
            let left = server_processes(&self.data_dir);
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(StillAlive(left));
            }
        }
    }

    /// The postmaster is stopped first, so that it cannot start a backend while the list is read.
    fn kill_round(&self) -> Vec<PidFd> {
        let postmaster =
            find_postmaster(&self.data_dir).map(|p| p.pid).and_then(|pid| Some((pid, PidFd::open(pid).ok()?)));
        let postmaster = postmaster.filter(|(pid, _)| find_postmaster(&self.data_dir).is_some_and(|p| p.pid == *pid));
        let mut targets = Vec::new();
        if let Some((pid, fd)) = postmaster {
            let _ = fd.signal(Signal::STOP);
            let children = descendants(pid).into_iter().filter_map(|child| Some((child, PidFd::open(child).ok()?)));
            let children: Vec<_> = children.collect();
            // A number that was reused between the list and the opening is not a descendant any more.
            let still = descendants(pid);
            targets.extend(children.into_iter().filter(|(child, _)| still.contains(child)).map(|(_, fd)| fd));
            targets.push(fd);
        }
        for pid in server_processes(&self.data_dir) {
            targets.extend(PidFd::open(pid).ok().filter(|_| belongs_to(pid, &self.data_dir)));
        }
        for fd in &targets {
            let _ = fd.signal(Signal::KILL);
        }
        targets
    }
}

/// These processes could not be killed in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("processes {0:?} of the data directory are still alive after SIGKILL; they probably wait for storage")]
pub struct StillAlive(pub Vec<i32>);
