//! S1, S2, S4 and S6.

use crate::postgres::Data;
use crate::remote::REMOTE;
use crate::world::World;
use pgherd_types::{HistoryRow, Initialize, Operation, Timeline};

impl World {
    /// After every event.
    pub fn check(&mut self) {
        self.check_one_writable();
        self.check_timelines_grow();
        self.check_whoever_wins_has_everything();
        self.check_serving();
        self.check_commits_go_on();
    }

    /// S1: at most one PostgreSQL that can acknowledge a client's commit.
    fn check_one_writable(&mut self) {
        let mut first = None;
        for (n, node) in self.nodes.iter().enumerate() {
            // maintenance mode lets a primary go on whatever happens, and an operator answers for it
            let by_operator = node.recorded_pause && self.etcd.leader() != Some(n);
            if !node.pg.writable || node.exempt_until > self.now || by_operator {
                continue;
            }
            if let Some(other) = first {
                return self.fail(format!("S1: n{} and n{} can both acknowledge commits", other + 1usize, n + 1));
            }
            first = Some(n);
        }
    }

    /// S4: the timeline of a data directory never goes back.
    fn check_timelines_grow(&mut self) {
        for n in 0..self.nodes.len() {
            let now = self.nodes[n].pg.data.as_ref().map(|d| (d.system.0, d.timeline));
            let before = std::mem::replace(&mut self.checks.timelines[n], now);
            // the other cluster counts for itself: who followed it may come back from its numbers
            let ours = |timeline| timeline == Timeline(1) || self.checks.made.contains_key(&timeline);
            if let (Some((system, before)), Some((same, now))) = (before, now)
                && system == same
                && now < before
                && ours(before)
            {
                self.fail(format!("S4: the data of n{} went back from timeline {before} to {now}", n + 1));
            }
        }
    }

    /// S2: a promotion, or a start as primary, begins only while the leader key hangs on this node's lease.
    pub fn check_promotion_has_lock(&mut self, n: usize, operation: &Operation) {
        let moving = self.nodes[n].agent.as_ref().and_then(|agent| agent.moving).map(|(lease, _)| lease);
        let held = self.lease_of(n).into_iter().chain(moving).any(|lease| self.etcd.leader_on(lease));
        let ttl = self.ttl_longest();
        let removed_lately = self.etcd.key_removed_at.is_some_and(|at| self.now < at + ttl);
        let local = self.local(n);
        let agreed = self.nodes[n].agent.as_ref().is_some_and(|agent| agent.view.lease.agreed(local));
        if !held && !removed_lately && !agreed {
            self.fail(format!("S2: n{} begins {} and the leader key is not its own", n + 1, operation.name()));
        }
    }

    /// S4: nobody else made this timeline; S6: the cluster it serves is the registered one.
    pub fn timeline_made(&mut self, n: usize, from: Timeline, timeline: Timeline) {
        if timeline <= from {
            self.fail(format!("S4: n{} went from timeline {from} to {timeline}", n + 1));
        }
        if let Some((other, _)) = self.checks.made.insert(timeline, (n, from)) {
            self.fail(format!("S4: timeline {timeline} was made by n{} and now by n{}", other + 1, n + 1));
        }
    }

    /// A server left recovery.
    pub fn became_writable(&mut self, n: usize) {
        let Some(data) = &self.nodes[n].pg.data else { return };
        let registered = match self.etcd.cluster.initialize {
            Some(Initialize::Done(system)) => system == data.system,
            _ => false,
        };
        if !registered {
            self.fail(format!("S6: n{} serves data that are not the registered cluster's", n + 1));
        }
        self.check_promise_kept(n);
        self.check_nothing_confirmed_is_lost(n);
    }

    /// S4: the `history` key says what really happened.
    pub fn history_written(&mut self, n: usize, rows: &[HistoryRow]) {
        let Some(data) = &self.nodes[n].pg.data else { return };
        let agrees = rows.iter().all(|row| {
            data.history.iter().any(|real| real.timeline == row.timeline && real.switch_lsn == row.switch_lsn)
        });
        if !agrees {
            self.fail(format!("S4: n{} wrote a history that its data do not have: {rows:?}", n + 1));
        }
    }

    /// S6: a running leader's data are never rebuilt.
    pub fn check_replacement(&mut self, n: usize) {
        if self.nodes[n].pg.alive() || self.etcd.leader() == Some(n) {
            self.fail(format!("S6: n{} replaces the data of a running server or of the leader", n + 1));
        }
    }

    /// S6: only data that have really diverged are rewound, and never those of a running server.
    pub fn check_rewind(&mut self, n: usize, source: usize, theirs: &Data) {
        let here = &self.nodes[n].pg;
        // a remote primary is asked by pg_rewind itself, which changes nothing if nothing has diverged
        let diverged = source == REMOTE || here.data.as_ref().is_some_and(|ours| !ours.is_within(theirs));
        if here.alive() || !diverged {
            self.fail(format!("S6: n{} rewinds data that are in use or on the source's history", n + 1));
        }
    }

    /// S6: nothing is overwritten, and nothing is rebuilt while its server runs.
    pub fn check_directory_is_empty(&mut self, n: usize) {
        let pg = &self.nodes[n].pg;
        if pg.data.is_some() || pg.alive() {
            self.fail(format!("S6: n{} overwrites a data directory that is not empty", n + 1));
        }
    }
}
