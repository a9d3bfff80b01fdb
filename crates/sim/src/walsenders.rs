//! Synchronous replication over time. The postmaster reads its configuration file on a signal, and the checkpointer and
//! each walsender do so a moment later, up to 100 ms. Commits wait once the checkpointer has read that they shall; a
//! walsender lets them go by the names that it has read itself when its standby acknowledges something.

use crate::network::End;
use crate::postgres::{Proc, Receiver};
use crate::remote::REMOTE;
use crate::sync_rep::{STATUS_EVERY_MS, Sender, Waiting};
use crate::world::{Ev, World};
use pgherd_types::MemberName;

/// A process takes up to so long to read the configuration file after its signal.
pub const READ_WITHIN_MS: u64 = 100;
/// So many clients write at a time; each waits for its commit.
const CLIENTS: usize = 8;

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
        let Some(receiver) = pg.receiver.filter(|r| self.setup.follows_standbys() && r.upstream != REMOTE) else {
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
        if !self.setup.follows_standbys() {
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
        let standby = sender.standby;
        let released = pg.sync.released_by(connection, &names);
        self.slot_flushed(n, standby, end);
        if let Some(released) = released {
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
