//! What happens to PostgreSQL's processes over time, and replication between them.

use crate::network::End;
use crate::operator::Notice;
use crate::postgres::{CHECKPOINT_BYTES, Proc, Receiver};
use crate::remote::{self, REMOTE};
use crate::sync_rep::SyncRep;
use crate::world::{Ev, World};
use pgherd_types::postgres::ControlState;
use pgherd_types::{HistoryRow, Lsn, Timeline};
use std::sync::Arc;

/// How a server dies.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Death {
    /// In order, with a shutdown checkpoint.
    Orderly,
    /// SIGQUIT, or the last orphan went; waits while the server is stalled.
    Abrupt,
    /// SIGKILL of every process.
    Killed,
}

impl World {
    /// A postmaster is started.
    pub fn pg_start(&mut self, n: usize, primary: bool) {
        let crashed = |s| !matches!(s, ControlState::ShutDown | ControlState::ShutDownInRecovery);
        let pg = &mut self.nodes[n].pg;
        let Some(data) = pg.data.as_mut() else { return };
        let slow = crashed(data.state);
        data.wal_end_found = false;
        data.state = if primary { ControlState::InCrashRecovery } else { ControlState::InArchiveRecovery };
        (pg.pid, pg.proc, pg.in_recovery, pg.writable, pg.received) =
            (pg.pid + 1, Proc::Starting, !primary, false, false);
        (pg.receiver, pg.kill_queued) = (None, false);
        pg.sync = pg.data.as_ref().map(SyncRep::of).unwrap_or_default();
        (pg.waited_for, pg.consumers_held) = (pg.waited_file.clone(), false);
        let pid = pg.pid;
        let took = self.rng.range(100, if slow { 2500 } else { 800 });
        let fails = self.mishap(10);
        self.push(
            self.now + took,
            if fails { Ev::PgDead { n, pid, death: Death::Abrupt } } else { Ev::PgReady { n, pid } },
        );
        self.fence_alarm(n);
    }

    /// It serves.
    pub fn pg_ready(&mut self, n: usize) {
        let pg = &mut self.nodes[n].pg;
        if pg.proc != Proc::Starting {
            return;
        }
        pg.proc = Proc::Running;
        let Some(data) = pg.data.as_mut() else { return };
        if pg.in_recovery {
            if data.min_recovery.1 == 0 {
                data.min_recovery = (data.timeline, data.wal_end); // a former primary: the end of its crash recovery
            }
            self.receiver_retry(n, 5, 50);
        } else {
            data.state = ControlState::InProduction;
            data.wal_end += CHECKPOINT_BYTES;
            data.checkpoint = (data.timeline, data.wal_end);
            data.min_recovery = (Timeline(0), 0);
            pg.writable = true;
            self.became_writable(n);
        }
        self.nodes[n].disturbed_at = self.now;
        self.op_notice(n, Notice::Ready);
    }

    /// It left recovery.
    pub fn pg_promoted(&mut self, n: usize, timeline: Timeline) {
        let pg = &mut self.nodes[n].pg;
        if pg.proc != Proc::Running || !pg.in_recovery {
            return;
        }
        let Some(data) = pg.data.as_mut() else { return };
        let mut history = data.history.to_vec();
        history.push(HistoryRow {
            timeline: data.timeline,
            switch_lsn: Lsn(data.wal_end),
            reason: "no recovery target specified".to_owned(),
            at: None,
            new_leader: None,
        });
        let before = data.timeline;
        (data.history, data.timeline, data.standby_signal) = (Arc::new(history), timeline, false);
        data.wal_end += CHECKPOINT_BYTES;
        (data.checkpoint, data.min_recovery) = ((timeline, data.wal_end), (Timeline(0), 0));
        data.state = ControlState::InProduction;
        (pg.in_recovery, pg.writable, pg.receiver) = (false, true, None);
        pg.attempts += 1;
        self.trace.tell(self.now, || format!("n{}    promoted to timeline {timeline}", n + 1));
        self.trace.count("happened:promotion");
        self.note_promotion();
        self.note_slot_promise(n, timeline);
        self.check_no_consumer_is_ahead(n, timeline);
        self.timeline_made(n, before, timeline);
        self.became_writable(n);
        self.ship(n);
        self.op_notice(n, Notice::Promoted);
    }

    /// SIGINT.
    pub fn pg_stop_fast(&mut self, n: usize) {
        let pg = &mut self.nodes[n].pg;
        let pid = pg.pid;
        match pg.proc {
            Proc::Starting => self.pg_stop_immediately(n),
            Proc::Running => {
                pg.proc = Proc::Stopping;
                let took = self.rng.range(5, 100);
                self.push(self.now + took, Ev::PgCut { n, pid });
            }
            Proc::Stopped | Proc::Stopping | Proc::Archiving | Proc::Dying | Proc::Orphaned => {}
        }
    }

    /// A fast stop has ended the clients and writes its checkpoint; standbys get that too.
    pub fn pg_cut(&mut self, n: usize) {
        let pg = &mut self.nodes[n].pg;
        let pid = pg.pid;
        let Some(data) = pg.data.as_mut().filter(|_| pg.proc == Proc::Stopping) else { return };
        if pg.in_recovery {
            let took = self.rng.range(10, 200);
            return self.push(self.now + took, Ev::PgDead { n, pid, death: Death::Orderly });
        }
        (pg.writable, pg.proc) = (false, Proc::Archiving);
        data.wal_end += CHECKPOINT_BYTES;
        (data.checkpoint, data.state) = ((data.timeline, data.wal_end), ControlState::ShutDown);
        self.ship(n);
        self.push(self.now + 20, Ev::PgFlushed { n, pid });
        // the operation that stops it tells of it
        let (inc, told) = (self.nodes[n].inc, self.rng.range(1, 100));
        self.push(self.now + told, Ev::Look { n, inc });
    }

    /// Do the connected standbys have everything?
    pub fn pg_flushed(&mut self, n: usize) {
        let pg = &self.nodes[n].pg;
        let (pid, end) = (pg.pid, pg.data.as_ref().map_or(0, |d| d.wal_end));
        if pg.proc != Proc::Archiving {
            return;
        }
        let waits = self.standbys_of(n).any(|s| self.nodes[s].pg.data.as_ref().is_some_and(|d| d.wal_end < end));
        if waits {
            self.push(self.now + 20, Ev::PgFlushed { n, pid });
        } else {
            let longest = (2 * self.ms(self.setup.settings.ttl)).min(self.setup.heal_at.saturating_sub(self.now));
            let slow = self.mishap(200) && longest > 10;
            let took = if slow { self.rng.range(10, longest) } else { 10 };
            self.push(self.now + took, Ev::PgDead { n, pid, death: Death::Orderly });
        }
    }

    /// SIGQUIT.
    pub fn pg_stop_immediately(&mut self, n: usize) {
        let pg = &mut self.nodes[n].pg;
        let pid = pg.pid;
        if matches!(pg.proc, Proc::Starting | Proc::Running | Proc::Stopping | Proc::Archiving) {
            pg.proc = Proc::Dying;
            let took = self.rng.range(5, 150);
            self.push(self.now + took, Ev::PgDead { n, pid, death: Death::Abrupt });
        }
    }

    /// SIGKILL of everything, which takes effect after so long.
    pub fn pg_kill(&mut self, n: usize, took: u64) {
        let pg = &mut self.nodes[n].pg;
        let pid = pg.pid;
        if pg.alive() && !std::mem::replace(&mut pg.kill_queued, true) {
            self.push(self.now + took, Ev::PgDead { n, pid, death: Death::Killed });
        }
    }

    /// The postmaster alone dies; busy backends go on for a moment.
    pub fn pg_crash(&mut self, n: usize) {
        let pg = &mut self.nodes[n].pg;
        let pid = pg.pid;
        if !matches!(pg.proc, Proc::Starting | Proc::Running) {
            return;
        }
        pg.proc = Proc::Orphaned;
        pg.receiver = None;
        pg.sync.senders.clear();
        pg.attempts += 1;
        let inc = self.nodes[n].inc;
        let (alive, notice) = (self.rng.range(1, 2000), self.rng.range(1, 20));
        self.push(self.now + alive, Ev::PgDead { n, pid, death: Death::Abrupt });
        self.drop_standbys(n, 10, 200);
        self.push(self.now + notice, Ev::Look { n, inc });
    }

    /// No process is left.
    pub fn pg_dead(&mut self, n: usize, death: Death) {
        let pg = &mut self.nodes[n].pg;
        if pg.proc == Proc::Stopped {
            return;
        }
        if let Some(data) = pg.data.as_mut() {
            match (death, pg.in_recovery) {
                (Death::Orderly, true) => {
                    data.state = ControlState::ShutDownInRecovery;
                    data.min_recovery = (data.timeline, data.wal_end);
                    data.checkpoint = (data.timeline, data.wal_end);
                }
                (Death::Orderly, false) => data.state = ControlState::ShutDown,
                (Death::Abrupt | Death::Killed, _) => {}
            }
        }
        (pg.proc, pg.writable, pg.receiver, pg.kill_queued) = (Proc::Stopped, false, None, false);
        pg.sync = SyncRep::default();
        pg.pid += 1;
        pg.attempts += 1;
        self.trace.tell(self.now, || format!("n{}    PostgreSQL is down ({death:?})", n + 1));
        self.drop_standbys(n, 10, 200);
        self.op_notice(n, Notice::Dead);
    }

    // ---- replication ----

    fn standbys_of(&self, n: usize) -> impl Iterator<Item = usize> + '_ {
        let pid = self.nodes[n].pg.pid;
        let of = move |r: &Receiver| (r.upstream, r.upstream_pid) == (n, pid);
        (0..self.nodes.len()).filter(move |s| self.nodes[*s].pg.receiver.as_ref().is_some_and(of))
    }

    /// The standbys of a server that went notice so after a while.
    pub fn drop_standbys(&mut self, n: usize, soon: u64, late: u64) {
        for s in 0..self.nodes.len() {
            if self.nodes[s].pg.receiver.is_some_and(|r| r.upstream == n) {
                self.nodes[s].pg.receiver = None;
                self.receiver_retry(s, soon, late);
            }
        }
    }

    /// The walreceiver tries again after a while.
    pub fn receiver_retry(&mut self, n: usize, soon: u64, late: u64) {
        let took = self.rng.range(soon, late);
        let pg = &mut self.nodes[n].pg;
        pg.attempts += 1;
        let (pid, attempt) = (pg.pid, pg.attempts);
        self.push(self.now + took, Ev::Receive { n, pid, attempt });
    }

    /// The walreceiver tries to connect.
    pub fn receive(&mut self, n: usize) {
        let pg = &self.nodes[n].pg;
        if pg.proc != Proc::Running || !pg.in_recovery || pg.receiver.is_some() {
            return;
        }
        let Some((host, _)) = pg.data.as_ref().and_then(|d| d.upstream.as_ref()) else { return };
        if host == remote::HOST && self.streams_from_remote(n) {
            self.nodes[n].pg.receiver = Some(Receiver { upstream: REMOTE, upstream_pid: 0, connection: 0 });
            return self.ship_remote();
        }
        let upstream = self.nodes.iter().position(|node| node.me.name.as_str() == host);
        match upstream.filter(|u| self.can_stream(n, *u)) {
            Some(upstream) => {
                self.connect(n, upstream);
                self.ship(upstream);
            }
            None => self.receiver_retry(n, 1000, 5000),
        }
    }

    /// Is the standby on the upstream's history, can it reach it, is its slot there?
    fn can_stream(&self, n: usize, upstream: usize) -> bool {
        let (theirs, ours) = (&self.nodes[upstream], &self.nodes[n]);
        let (Some(there), Some(here)) = (&theirs.pg.data, &ours.pg.data) else { return false };
        let serves =
            theirs.up && theirs.pg.proc == Proc::Running && theirs.pg.stalled_until <= self.now && upstream != n;
        let slot = !self.setup.settings.use_slots || there.slots.contains(&ours.me.name.slot_name());
        serves && slot && self.net.both(End::Node(n), End::Node(upstream)) && here.is_within(there)
    }

    /// Send what a server has to its standbys.
    pub fn ship(&mut self, n: usize) {
        let Some(data) = self.nodes[n].pg.data.as_ref() else { return };
        let sent = (data.timeline, data.wal_end, Arc::clone(&data.history));
        let vacuumed = data.logical.vacuumed;
        for s in 0..self.nodes.len() {
            if !self.nodes[s].pg.receiver.is_some_and(|r| r.upstream == n && r.upstream_pid == self.nodes[n].pg.pid) {
                continue;
            }
            let (pid, attempt) = (self.nodes[s].pg.pid, self.nodes[s].pg.attempts);
            match self.net.delay(&mut self.rng, End::Node(n), End::Node(s)) {
                Some(delay) => {
                    let (timeline, end, history) = sent.clone();
                    self.push(self.now + delay, Ev::Wal { n: s, pid, attempt, timeline, end, history, vacuumed });
                }
                None => {
                    self.nodes[s].pg.receiver = None;
                    self.receiver_retry(s, 1000, 5000);
                }
            }
        }
    }

    /// WAL arrives at a standby.
    pub fn wal(&mut self, n: usize, timeline: Timeline, end: u64, history: Arc<Vec<HistoryRow>>, vacuumed: u64) {
        let restartpoint = self.rng.permille(30);
        let flush = self.rng.permille(100);
        let pg = &mut self.nodes[n].pg;
        let Some(data) = pg.data.as_mut().filter(|_| pg.receiver.is_some()) else { return };
        if (timeline, end) > (data.timeline, data.wal_end) {
            (data.timeline, data.wal_end, data.history) = (timeline, end, history);
        }
        data.logical.vacuumed = data.logical.vacuumed.max(vacuumed);
        let upstream = pg.receiver.map(|receiver| receiver.upstream);
        pg.received = true;
        if flush || restartpoint {
            data.min_recovery = (data.timeline, data.wal_end);
        }
        if restartpoint {
            data.checkpoint = (data.timeline, data.wal_end);
        }
        if self.has_logical_slot()
            && self.slot_rng.permille(500)
            && let Some(upstream) = upstream
        {
            self.feedback(n, upstream);
        }
        self.reply(n);
        if self.standbys_of(n).next().is_some() {
            self.ship(n);
        }
    }
}
