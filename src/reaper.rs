//! The duty of process 1, which an agent is in a container: whoever loses its parent becomes its child and must be
//! waited for, or dead ones fill the process table (backends of a killed postmaster, what scripts leave behind).
//!
//! The agent's own children have threads that wait for them at once, and whose answer must not be taken away. So only a
//! dead child that nobody has waited for during several looks is taken for an orphan.

use rustix::process::{Pid, WaitOptions, waitpid};
use std::collections::HashMap;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// An own child is waited for within milliseconds.
const LOOKS: u32 = 3;
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Is this process the one that orphans come to?
pub fn is_needed() -> bool {
    std::process::id() == 1
}

/// Waits for orphans as long as the agent runs.
pub async fn run() {
    let Ok(mut child_ended) = signal(SignalKind::child()) else {
        return log::error!("cannot listen for the end of children: orphans are not waited for");
    };
    let mut reaper = Reaper::default();
    while child_ended.recv().await.is_some() {
        while reaper.look(dead_children(1)) > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// How often each dead child was seen.
#[derive(Default)]
struct Reaper(HashMap<i32, u32>);

impl Reaper {
    /// Waits for those of the dead children that were seen often enough; how many are left.
    fn look(&mut self, dead: Vec<i32>) -> usize {
        self.0.retain(|pid, _| dead.contains(pid));
        for pid in dead {
            let seen = self.0.entry(pid).or_default();
            *seen += 1;
            if *seen >= LOOKS {
                let _ = waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
                self.0.remove(&pid);
            }
        }
        self.0.len()
    }
}

fn dead_children(parent: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| is_dead_child(*pid, parent) == Some(true)).collect()
}

fn is_dead_child(pid: i32, parent: i32) -> Option<bool> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the program's name stands in parentheses and may itself contain some
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some(fields.next()? == "Z" && fields.next()?.parse() == Ok(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_child_is_waited_for_only_when_nobody_else_does() {
        let me = i32::try_from(std::process::id()).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while is_dead_child(pid, me) != Some(true) {
            std::thread::yield_now();
        }
        let mut reaper = Reaper::default();
        for _ in 1..LOOKS {
            assert!(dead_children(me).contains(&pid));
            assert_eq!(reaper.look(vec![pid]), 1);
            assert_eq!(is_dead_child(pid, me), Some(true));
        }
        assert_eq!(reaper.look(vec![pid]), 0);
        assert_eq!(is_dead_child(pid, me), None, "it is gone");
        assert!(child.wait().is_err());
    }
}
