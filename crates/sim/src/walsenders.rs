//! Synchronous replication as PostgreSQL does it: walsenders, what standbys acknowledge, whom each process waits for, and
//! the commits that wait.
//!
//! The postmaster reads its configuration file on a signal, and the checkpointer and each walsender do so a moment later, up
//! to 100 ms. Commits wait once the checkpointer has read that they shall; a walsender lets them go by the names that it
//! has read itself when its standby acknowledges something.

use crate::network::End;
use crate::postgres::{Data, Postgres, Proc, Receiver};
use crate::remote::REMOTE;
use crate::world::{Ev, World};
use pgherd_types::postgres::{SeenSlot, WalSender};
use pgherd_types::{Lsn, MemberName, StandbyNames, SyncKind, SyncName, SyncReport};
use std::collections::BTreeMap;

/// A process takes up to so long to read the configuration file after its signal.
pub const READ_WITHIN_MS: u64 = 100;
/// `wal_receiver_status_interval`.
const STATUS_EVERY_MS: u64 = 10_000;
/// So many clients write at a time; each waits for its commit.
const CLIENTS: usize = 8;

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
    fn released_by(&self, pid: u32, names: &[MemberName]) -> Option<u64> {
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
            restart_lsn: None,
        });
        seen.collect()
    }
}

impl World {
    /// The members' names by number.
    pub fn names(&self) -> Vec<MemberName> {
        self.nodes.iter().map(|node| node.me.name.clone()).collect()
    }

    /// A standby connects: a walsender begins.
    pub fn connect(&mut self, n: usize, upstream: usize) {
        self.connections += 1;
        let (connection, now, slots) = (self.connections, self.now, self.setup.settings.use_slots);
        let server = &mut self.nodes[upstream].pg;
        let names = server.data.as_ref().and_then(|data| data.names.clone()).unwrap_or_default();
        if slots {
            server.sync.senders.retain(|sender| sender.standby != n); // the slot has one holder
        }
        let sender = Sender { standby: n, pid: connection, flushed: None, replied_at: now, names, ends_at: None };
        server.sync.senders.push(sender);
        let upstream_pid = server.pid;
        self.nodes[n].pg.receiver = Some(Receiver { upstream, upstream_pid, connection });
        self.reply(n);
    }

    /// A standby tells what it has flushed.
    pub fn reply(&mut self, n: usize) {
        let pg = &mut self.nodes[n].pg;
        let Some(receiver) = pg.receiver.filter(|r| self.setup.may_be_synchronous() && r.upstream != REMOTE) else {
            return;
        };
        let Some(end) = pg.data.as_ref().map(|data| data.wal_end) else { return };
        pg.replied_at = self.now;
        let Receiver { upstream, upstream_pid: pid, connection } = receiver;
        if let Some(delay) = self.net.delay(&mut self.sync_rng, End::Node(n), End::Node(upstream)) {
            self.push(self.now + delay, Ev::Acked { n: upstream, pid, connection, end });
        }
    }

    /// Standbys that have had nothing to say answer all the same; walsenders find out that their standby is gone.
    pub fn status_replies(&mut self) {
        if !self.setup.may_be_synchronous() {
            return;
        }
        for n in 0..self.nodes.len() {
            let pg = &self.nodes[n].pg;
            if pg.stalled_until <= self.now && self.now >= pg.replied_at + STATUS_EVERY_MS {
                self.reply(n);
            }
            self.find_lost_standbys(n);
        }
    }

    /// A standby whose process ended hangs up; one whose machine or network is gone is missed some time later.
    pub fn find_lost_standbys(&mut self, n: usize) {
        let now = self.now;
        let mut senders = std::mem::take(&mut self.nodes[n].pg.sync.senders);
        for sender in senders.iter_mut().filter(|sender| sender.ends_at.is_none()) {
            let there = &self.nodes[sender.standby];
            let connected = there.pg.receiver.is_some_and(|receiver| receiver.connection == sender.pid);
            if !connected {
                let hangs_up = there.up && self.net.up(End::Node(sender.standby), End::Node(n));
                let took = if hangs_up { self.sync_rng.below(20) } else { self.sync_rng.range(500, 8000) };
                sender.ends_at = Some(now + took);
            }
        }
        senders.retain(|sender| sender.ends_at.is_none_or(|at| at > now));
        self.nodes[n].pg.sync.senders = senders;
    }

    /// A client's commit is WAL now. Is it acknowledged at once?
    pub fn commit(&mut self, n: usize, end: u64) {
        let now = self.now;
        let pg = &mut self.nodes[n].pg;
        if pg.sync.in_force.is_none() {
            return self.acknowledge(n, end);
        }
        self.backends += 1;
        pg.sync.waiting.push(Waiting { end, since: now, backend: self.backends });
        self.trace.count("happened:a commit waited");
    }

    /// Every client waits for its commit.
    pub fn clients_wait(&self, n: usize) -> bool {
        self.nodes[n].pg.sync.waiting.len() >= CLIENTS
    }

    /// A standby's answer arrives.
    pub fn acked(&mut self, n: usize, connection: u32, end: u64) {
        let (now, names) = (self.now, self.names());
        let pg = &mut self.nodes[n].pg;
        let Some(sender) = pg.sync.senders.iter_mut().find(|sender| sender.pid == connection) else { return };
        sender.flushed = sender.flushed.max(Some(end));
        sender.replied_at = now;
        if let Some(released) = pg.sync.released_by(connection, &names) {
            self.release(n, released);
        }
    }

    /// Commits up to there are acknowledged.
    fn release(&mut self, n: usize, released: u64) {
        let pg = &mut self.nodes[n].pg;
        let serves = pg.writable && matches!(pg.proc, Proc::Running | Proc::Stopping | Proc::Dying);
        if !serves {
            return;
        }
        let last = pg.sync.waiting.iter().map(|it| it.end).filter(|end| *end <= released).max();
        pg.sync.waiting.retain(|it| it.end > released);
        if let Some(end) = last {
            self.acknowledge(n, end);
        }
    }

    /// The postmaster reads its file, and tells the others to.
    pub fn reload(&mut self, n: usize) {
        let pg = &mut self.nodes[n].pg;
        let Some(data) = pg.data.as_ref() else { return };
        pg.sync.shown = data.names.clone().unwrap_or_default();
        let pid = pg.pid;
        let who: Vec<Option<u32>> =
            pg.sync.senders.iter().map(|sender| Some(sender.pid)).chain(std::iter::once(None)).collect();
        for who in who {
            let took = self.sync_rng.below(READ_WITHIN_MS);
            self.push(self.now + took, Ev::NamesRead { n, pid, who });
        }
    }

    /// The checkpointer (`None`) or a walsender reads the file.
    pub fn names_read(&mut self, n: usize, who: Option<u32>) {
        let pg = &mut self.nodes[n].pg;
        let names = pg.data.as_ref().and_then(|data| data.names.clone()).unwrap_or_default();
        match who {
            None => {
                let nobody = names.is_none();
                pg.sync.in_force = names;
                if nobody {
                    self.release(n, u64::MAX); // the checkpointer wakes all who wait
                }
            }
            Some(pid) => {
                if let Some(sender) = pg.sync.senders.iter_mut().find(|sender| sender.pid == pid) {
                    sender.names = names;
                }
            }
        }
    }

    /// Has every process read the file as it is?
    pub fn all_have_read(&self, n: usize) -> bool {
        let pg = &self.nodes[n].pg;
        let names = pg.data.as_ref().and_then(|data| data.names.clone()).unwrap_or_default();
        pg.sync.shown == names && pg.sync.in_force == names && pg.sync.senders.iter().all(|it| it.names == names)
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
