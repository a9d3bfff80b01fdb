//! Synchronous replication in one PostgreSQL server: its walsenders, what standbys acknowledge, whom each process waits
//! for, and the commits that wait.

use crate::postgres::{Data, Postgres};
use pgherd_types::postgres::{SeenSlot, WalSender};
use pgherd_types::{Lsn, MemberName, StandbyNames, SyncKind, SyncName, SyncReport};
use std::collections::BTreeMap;

/// `wal_receiver_status_interval`.
pub const STATUS_EVERY_MS: u64 = 10_000;

/// A walsender.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Its standby.
    pub standby: usize,
    /// Its process, which is also the number of the connection.
    pub pid: u32,
    /// What the standby has acknowledged to have flushed.
    pub flushed: Option<u64>,
    /// When it last answered (true time).
    pub replied_at: u64,
    /// Whom commits wait for, as this process has read it.
    pub names: StandbyNames,
    /// The standby is gone; this process will find out then (true time).
    pub ends_at: Option<u64>,
}

/// A commit that waits.
#[derive(Copy, Clone, Debug)]
pub struct Waiting {
    /// Where it ends.
    pub end: u64,
    /// Since when (true time).
    pub since: u64,
    /// The backend.
    pub backend: u32,
}

/// A server's part in it, from its start to its end.
#[derive(Clone, Debug, Default)]
pub struct SyncRep {
    /// Walsenders.
    pub senders: Vec<Sender>,
    /// Commits that wait.
    pub waiting: Vec<Waiting>,
    /// Whom to wait for, as the postmaster and new sessions have read it.
    pub shown: StandbyNames,
    /// Whom to wait for, as the checkpointer has read it: nobody, and commits do not wait.
    pub in_force: StandbyNames,
}

impl SyncRep {
    /// Of a server that starts with these data.
    pub fn of(data: &Data) -> Self {
        let names = data.names.clone().unwrap_or_default();
        Self { shown: names.clone(), in_force: names, ..Self::default() }
    }

    /// Up to where commits may go, as this walsender sees it.
    pub fn released_by(&self, pid: u32, names: &[MemberName]) -> Option<u64> {
        let by = self.senders.iter().find(|sender| sender.pid == pid)?;
        let mut flushed = BTreeMap::new();
        for sender in self.senders.iter().filter(|sender| sender.is_listed(names)) {
            let best = flushed.entry(SyncName::from(&names[sender.standby])).or_insert(0);
            *best = sender.flushed.unwrap_or_default().max(*best);
        }
        let number = by.names.number as usize;
        if number == 0 || flushed.len() < number || !by.is_listed(names) {
            return None;
        }
        let mut ends: Vec<u64> = flushed.into_values().collect();
        match by.names.kind {
            SyncKind::First => ends.truncate(number),
            SyncKind::Any => ends.sort_by_key(|end| std::cmp::Reverse(*end)),
        }
        ends.into_iter().take(number).min()
    }

    /// `pg_stat_replication.sync_state`.
    fn state(&self, of: &Sender, names: &[MemberName]) -> &'static str {
        let name = |sender: &Sender| SyncName::from(&names[sender.standby]);
        if !of.is_listed(names) || self.shown.is_none() {
            return "async";
        }
        let before = self.senders.iter().filter(|other| other.is_listed(names) && name(other) < name(of)).count();
        match self.shown.kind {
            SyncKind::Any => "quorum",
            SyncKind::First if before < self.shown.number as usize => "sync",
            SyncKind::First => "potential",
        }
    }
}

impl Sender {
    fn is_listed(&self, names: &[MemberName]) -> bool {
        self.names.names.contains(&SyncName::from(&names[self.standby]))
    }
}

impl Postgres {
    /// What one look sees of synchronous replication.
    pub fn seen_sync(&self, names: &[MemberName], now: u64) -> (Vec<WalSender>, SyncReport) {
        let sender = |sender: &Sender| {
            let at = sender.flushed.map(Lsn);
            WalSender {
                usename: "replicator".to_owned(),
                application_name: names[sender.standby].to_string(),
                client_addr: None,
                state: "streaming".to_owned(),
                sync_state: self.sync.state(sender, names).to_owned(),
                sync_priority: 0,
                pid: sender.pid,
                written: at,
                flushed: at,
                replayed: at,
                replied_ms_ago: Some(now - sender.replied_at),
            }
        };
        let report = SyncReport {
            names: self.sync.shown.to_string(),
            managed: self.data.as_ref().is_some_and(|data| data.names.is_some()),
            user_names: String::new(),
            commit: "on".to_owned(),
            status_interval_ms: STATUS_EVERY_MS,
            waiting: self.sync.waiting.iter().map(|it| (it.backend, it.since.to_string())).collect(),
        };
        (self.sync.senders.iter().map(sender).collect(), report)
    }

    /// Slots with the processes that hold them.
    pub fn seen_slots(&self, names: &[MemberName]) -> Vec<SeenSlot> {
        let holder = |slot: &str| {
            let held = self.sync.senders.iter().find(|sender| names[sender.standby].slot_name() == slot);
            held.map(|sender| sender.pid)
        };
        let slots = self.data.iter().flat_map(|data| &data.slots);
        let seen = slots.map(|name| (name, holder(name))).map(|(name, active_pid)| SeenSlot {
            name: name.clone(),
            physical: true,
            active: active_pid.is_some(),
            active_pid,
            managed: true,
            restart_lsn: self.data.as_ref().map(|data| Lsn(data.wal_end)),
            ..SeenSlot::default()
        });
        seen.chain(self.data.iter().flat_map(|data| data.logical.seen_logical(self.native, self.in_recovery))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<MemberName> {
        ["n1", "n2", "n3"].map(MemberName::from).into()
    }

    fn server(text: &str, flushed: &[(usize, u64)]) -> SyncRep {
        let names = StandbyNames::read(text);
        let sender = |(standby, end): &(usize, u64)| Sender {
            standby: *standby,
            pid: *standby as u32,
            flushed: Some(*end),
            replied_at: 0,
            names: names.clone(),
            ends_at: None,
        };
        let senders = flushed.iter().map(sender).collect();
        SyncRep { senders, shown: names.clone(), in_force: names.clone(), ..SyncRep::default() }
    }

    #[test]
    fn commits_go_by_the_names() {
        for (text, flushed, expected) in [
            ("n2", [(1, 10), (2, 20)], Some(10)),
            ("2 (n2,n3)", [(1, 10), (2, 20)], Some(10)),
            ("ANY 1 (n2,n3)", [(1, 10), (2, 20)], Some(20)),
            ("ANY 2 (n2,n3)", [(1, 10), (2, 20)], Some(10)),
            ("ANY 2 (n1,n2)", [(1, 10), (2, 20)], None),
            ("", [(1, 10), (2, 20)], None),
        ] {
            assert_eq!(server(text, &flushed).released_by(1, &names()), expected, "{text}");
        }
    }

    #[test]
    fn a_walsender_goes_by_what_it_has_read() {
        let mut server = server("n2", &[(1, 10), (2, 20)]);
        server.senders[1].names = StandbyNames::read("ANY 1 (n2,n3)");
        assert_eq!(server.released_by(2, &names()), Some(20));
        assert_eq!(server.released_by(1, &names()), Some(10));
    }

    #[test]
    fn states_are_those_of_pg_stat_replication() {
        let state = |text: &str, at: usize| {
            let server = server(text, &[(1, 10), (2, 20)]);
            server.state(&server.senders[at], &names())
        };
        assert_eq!((state("n2", 0), state("n2", 1)), ("sync", "async"));
        assert_eq!((state("1 (n2,n3)", 0), state("1 (n2,n3)", 1)), ("sync", "potential"));
        assert_eq!((state("ANY 1 (n2,n3)", 0), state("", 1)), ("quorum", "async"));
    }
}
