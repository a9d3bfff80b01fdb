//! Which walsenders are watched: the loss of a standby that commits wait for shall be seen when its walsender ends, and
//! not at the next look.

use actix::SpawnHandle;
use pgherd_postgres::PidFd;
use pgherd_types::{RunningServer, StandbyNames, SyncName, WalSender};
use std::collections::{BTreeMap, BTreeSet};

/// So many are watched at most.
const MAX: usize = 32;

/// The watched walsenders. Each is a pidfd in the runtime's own poll: no thread, and nothing is asked again and again.
#[derive(Default)]
pub(crate) struct WalsenderWatch(BTreeMap<u32, Option<SpawnHandle>>);

/// What a look changes.
pub(crate) struct Change {
    /// To be watched from now on.
    pub begun: Vec<(u32, PidFd)>,
    /// To be watched no longer.
    pub given_up: Vec<SpawnHandle>,
    /// One has ended since the look.
    pub look_again: bool,
}

impl WalsenderWatch {
    /// After a look.
    pub fn looked(&mut self, running: Option<&RunningServer>) -> Change {
        let wanted = running.map(|r| those_that_count(&r.walsenders, &r.sync.names)).unwrap_or_default();
        let gone: Vec<u32> = self.0.keys().filter(|pid| !wanted.contains(pid)).copied().collect();
        let given_up = gone.iter().filter_map(|pid| self.0.remove(pid).flatten()).collect();
        let mut change = Change { begun: Vec::new(), given_up, look_again: false };
        for pid in wanted.into_iter().filter(|pid| !self.0.contains_key(pid)).collect::<Vec<_>>() {
            match i32::try_from(pid).map(PidFd::open) {
                Ok(Ok(fd)) => change.begun.push((pid, fd)),
                // It is remembered, so that a process that cannot be watched at all does not cause look after look.
                Ok(Err(_)) | Err(_) => {
                    self.0.insert(pid, None);
                    change.look_again = true;
                }
            }
        }
        change
    }

    /// Its end will be told.
    pub fn watches(&mut self, pid: u32, handle: SpawnHandle) {
        self.0.insert(pid, Some(handle));
    }

    /// It has ended.
    pub fn ended(&mut self, pid: u32) {
        self.0.remove(&pid);
    }
}

/// All while they are few, else those whose names commits wait for.
fn those_that_count(walsenders: &[WalSender], names: &str) -> BTreeSet<u32> {
    let names = StandbyNames::read(names);
    let few = walsenders.len() <= MAX;
    let counts = |name: &str| few || names.has_star || names.names.contains(&SyncName::from(name));
    let counting = walsenders.iter().filter(|sender| sender.pid > 0 && counts(&sender.application_name));
    counting.map(|sender| sender.pid).take(MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn senders(names: impl Iterator<Item = String>) -> Vec<WalSender> {
        let sender = |(pid, application_name)| WalSender {
            usename: "replicator".to_owned(),
            application_name,
            client_addr: None,
            state: "streaming".to_owned(),
            sync_state: "async".to_owned(),
            sync_priority: 0,
            pid,
            written: None,
            flushed: None,
            replayed: None,
            replied_ms_ago: None,
        };
        (1..).zip(names).map(sender).collect()
    }

    #[test]
    fn a_few_are_all_watched_and_of_many_those_that_commits_wait_for() {
        let few = senders((1..=32).map(|n| format!("n{n}")));
        assert_eq!(those_that_count(&few, "").len(), 32);
        let many = senders((1..=40).map(|n| format!("n{n}")));
        assert_eq!(those_that_count(&many, "ANY 1 (N39,n40,other)"), BTreeSet::from([39, 40]));
        assert!(those_that_count(&many, "").is_empty());
        assert_eq!(those_that_count(&many, "*").len(), 32);
    }
}
