//! Commits that waited for synchronous standbys and ceased to although no standby confirmed anything: the client
//! cancelled the wait, or its backend was ended. PostgreSQL makes such a commit visible, and it may be lost in a failover
//! (docs/failure-modes.md); the agent can only count what it sees of it.
//!
//! Three looks are needed for that. A backend waits in the second and not in the third, and no standby that counts has
//! moved from the first to the third: whatever let the commit go, it was no standby. (The waits of a look are read a moment
//! before its positions, so two looks would not do.) What waits for less than the time between two looks is not seen, and
//! where a standby moved meanwhile nobody knows; neither is counted.

use pgherd_types::{Lsn, RunningServer, StandbyNames, SyncName, SyncReport, WalSender};
use std::collections::{BTreeMap, BTreeSet};

/// So many waits a look holds at most: beyond that one that is not in the list may still wait.
const WAITS_MAX: usize = 100;

/// A connection and how far its standby has confirmed: written, flushed, replayed.
type Confirmed = BTreeMap<u32, [Option<Lsn>; 3]>;

/// What matters of one look.
struct Look {
    server: String,
    names: String,
    confirmed: Confirmed,
    waiting: BTreeSet<(u32, String)>,
}

/// See the module.
#[derive(Default)]
pub struct SyncWaits {
    /// The look before the last, and the last.
    before: Option<Look>,
    last: Option<Look>,
}

impl SyncWaits {
    /// A look; how many waits were cancelled by it.
    pub fn looked(&mut self, running: Option<&RunningServer>) -> u64 {
        let primary = running.filter(|running| !running.in_recovery);
        self.seen(primary.map(|primary| Look::of(&primary.postmaster_start_time, &primary.sync, &primary.walsenders)))
    }

    fn seen(&mut self, look: Option<Look>) -> u64 {
        let cancelled = match (&self.before, &self.last, &look) {
            (Some(first), Some(second), Some(third)) => cancelled(first, second, third),
            _ => 0,
        };
        self.before = std::mem::replace(&mut self.last, look);
        cancelled
    }
}

fn cancelled(first: &Look, second: &Look, third: &Look) -> u64 {
    let still = |a: &Look, b: &Look| (&a.server, &a.names, &a.confirmed) == (&b.server, &b.names, &b.confirmed);
    if !still(first, second) || !still(second, third) || third.waiting.len() >= WAITS_MAX {
        return 0;
    }
    second.waiting.difference(&third.waiting).count() as u64
}

impl Look {
    fn of(server: &str, sync: &SyncReport, walsenders: &[WalSender]) -> Self {
        let names = StandbyNames::read(&sync.names);
        // of standbys that do not count it does not matter how they move
        let counts = |name: &str| names.has_star || names.names.contains(&SyncName::from(name));
        let counted = walsenders.iter().filter(|sender| counts(&sender.application_name));
        Self {
            server: server.to_owned(),
            names: sync.names.clone(),
            confirmed: counted.map(|s| (s.pid, [s.written, s.flushed, s.replayed])).collect(),
            waiting: sync.waiting.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(name: &str, flushed: u64) -> WalSender {
        WalSender {
            usename: String::new(),
            application_name: name.into(),
            client_addr: None,
            state: "streaming".into(),
            sync_state: "sync".into(),
            sync_priority: 1,
            pid: name.len() as u32,
            written: Some(Lsn(flushed)),
            flushed: Some(Lsn(flushed)),
            replayed: None,
            replied_ms_ago: None,
        }
    }

    fn look(waiting: &[u32], standbys: &[(&str, u64)]) -> Look {
        let walsenders: Vec<_> = standbys.iter().map(|(name, flushed)| sender(name, *flushed)).collect();
        let waiting = waiting.iter().map(|pid| (*pid, "12:00".into())).collect();
        Look::of(
            "begin",
            &SyncReport { names: "b".into(), managed: true, waiting, ..SyncReport::default() },
            &walsenders,
        )
    }

    fn total(looks: impl IntoIterator<Item = Look>) -> u64 {
        let mut waits = SyncWaits::default();
        looks.into_iter().map(|look| waits.seen(Some(look))).sum()
    }

    #[test]
    fn a_wait_that_ends_while_no_standby_moves_was_cancelled() {
        assert_eq!(total([look(&[], &[]), look(&[7, 8], &[]), look(&[8], &[]), look(&[], &[])]), 2);
        // asynchronous ones may move
        let with = |waiting: &[u32], other| look(waiting, &[("b", 10), ("other", other)]);
        assert_eq!(total([with(&[7], 1), with(&[7], 2), with(&[], 3)]), 1);
    }

    #[test]
    fn where_a_standby_may_have_confirmed_it_nothing_is_counted() {
        let of = |waiting: &[u32], flushed| look(waiting, &[("b", flushed)]);
        assert_eq!(total([of(&[], 1), of(&[7], 1), of(&[], 2)]), 0, "it moved after the wait was seen");
        assert_eq!(total([of(&[], 1), of(&[7], 2), of(&[], 2)]), 0, "perhaps between the wait and the position");
        assert_eq!(total([look(&[], &[]), look(&[7], &[]), of(&[], 2)]), 0, "it came");
        assert_eq!(total([of(&[], 2), of(&[7], 2), look(&[], &[])]), 0, "it went");
    }

    #[test]
    fn a_change_of_names_or_server_ends_waits_too() {
        let changed = |change: fn(&mut Look)| {
            let mut third = look(&[], &[]);
            change(&mut third);
            total([look(&[7], &[]), look(&[7], &[]), third])
        };
        assert_eq!(changed(|_| {}), 1);
        assert_eq!(changed(|look| look.names.clear()), 0);
        assert_eq!(changed(|look| look.server = "later".into()), 0);
        let mut waits = SyncWaits::default();
        let looks = [Some(look(&[7], &[])), Some(look(&[7], &[])), None, Some(look(&[], &[]))];
        assert_eq!(looks.into_iter().map(|look| waits.seen(look)).sum::<u64>(), 0, "it was no primary meanwhile");
        let many: Vec<u32> = (100..200).collect();
        assert_eq!(total([look(&[7], &[]), look(&[7], &[]), look(&many, &[])]), 0, "it may still wait");
    }
}
