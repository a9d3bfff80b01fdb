//! Consumers of logical slots, and servers like PostgreSQL 17 and later, which keep copies of a primary's slots by
//! themselves and let consumers wait for standbys (`synchronized_standby_slots`).

use crate::checkers::slots::Ahead;
use crate::mutants::Planted;
use crate::network::End;
use crate::postgres::Proc;
use crate::scenario::Setup;
use crate::walsenders::READ_WITHIN_MS;
use crate::world::{Ev, World};
use pgherd_kernel::slots;
use pgherd_types::Timeline;

impl Setup {
    /// The run with such servers, whose consumers wait.
    pub fn with_consumers_that_wait(self) -> Self {
        let mut setup = Self { native: true, ..self.with_slot() };
        setup.settings.slots.consumers_wait = true;
        setup
    }

    /// Do primaries have to know how far each standby is?
    pub fn follows_standbys(&self) -> bool {
        self.native || self.may_be_synchronous()
    }
}

impl World {
    /// Vacuum, and the consumers, on every primary.
    pub fn consume(&mut self) {
        if !self.has_logical_slot() {
            return;
        }
        for n in 0..self.nodes.len() {
            self.copies_slots_by_itself(n);
            let (reads, vacuums) = (self.slot_rng.permille(700), self.slot_rng.permille(500));
            let pg = &mut self.nodes[n].pg;
            let serves = pg.writable && pg.proc == Proc::Running && pg.stalled_until <= self.now;
            let Some(data) = pg.data.as_mut().filter(|_| serves) else { continue };
            if vacuums {
                let horizon = data.logical.needs().unwrap_or(data.wal_end);
                data.logical.vacuumed = data.logical.vacuumed.max(horizon);
            }
            if reads {
                self.read_slots(n);
            }
        }
    }

    fn read_slots(&mut self, n: usize) {
        let limit = self.consumers_may_read_to(n);
        let Some(data) = self.nodes[n].pg.data.as_mut() else { return };
        let (copy, end) = (data.clone(), data.wal_end.min(limit));
        data.logical.confirmed.iter_mut().flatten().for_each(|at| *at = end.max(*at));
        if let Some(at) = copy.logical.confirmed[0] {
            self.check_consumed(n, &copy, at, end.max(at));
        }
        self.tell_of_wait(n, end < copy.wal_end);
    }

    /// What every standby in the list has flushed.
    fn consumers_may_read_to(&self, n: usize) -> u64 {
        let pg = &self.nodes[n].pg;
        let Some(data) = pg.data.as_ref().filter(|_| self.setup.native) else { return u64::MAX };
        if self.setup.planted == Some(Planted::ConsumersDoNotWait) {
            return u64::MAX;
        }
        let flushed = |slot: &String| data.logical.flushed.get(slot).copied().unwrap_or(0);
        pg.waited_for.iter().map(flushed).min().unwrap_or(u64::MAX)
    }

    fn tell_of_wait(&mut self, n: usize, waits: bool) {
        if self.setup.native && std::mem::replace(&mut self.nodes[n].pg.consumers_held, waits) != waits {
            let list: Vec<&str> = self.nodes[n].pg.waited_for.iter().map(String::as_str).collect();
            let list = list.join(", ");
            if waits {
                self.trace.count("happened:consumers waited for a standby");
            }
            self.trace.tell(self.now, || match waits {
                true => format!("n{}    its consumers wait for {list}", n + 1),
                false => format!("n{}    its consumers go on", n + 1),
            });
        }
    }

    /// A standby's slot on its primary moves with what it has flushed.
    pub fn slot_flushed(&mut self, n: usize, standby: usize, end: u64) {
        let slot = self.nodes[standby].me.name.slot_name();
        if let Some(data) = self.nodes[n].pg.data.as_mut().filter(|data| data.slots.contains(&slot)) {
            let at = data.logical.flushed.entry(slot).or_default();
            *at = end.max(*at);
        }
    }

    /// The coordinator tells the operator for whom consumers are to wait; the server reads that a moment later.
    pub fn tell_whom_consumers_await(&mut self, n: usize) {
        let local = self.local(n);
        let Some(agent) = self.nodes[n].agent.as_ref().filter(|_| self.setup.native) else { return };
        let Some(list) = slots::waited_for(&agent.view, local).filter(|list| *list != self.nodes[n].pg.waited_file)
        else {
            return;
        };
        let (now, took) = (self.now, self.slot_rng.range(2, READ_WITHIN_MS));
        self.nodes[n].pg.waited_file = list;
        let pid = self.nodes[n].pg.pid;
        self.push(now + took, Ev::WaitedRead { n, pid });
    }

    /// The server reads its file.
    pub fn waited_read(&mut self, n: usize) {
        let pg = &mut self.nodes[n].pg;
        let changed = std::mem::replace(&mut pg.waited_for, pg.waited_file.clone()) != pg.waited_file;
        let shown = pg.waited_for.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        if changed && !pg.in_recovery {
            self.trace.tell(self.now, || format!("n{}    lets consumers wait for ({shown})", n + 1));
        }
    }

    /// The server of a standby copies its primary's slots: those that it has all WAL and all rows for, and not over slots
    /// that it did not copy.
    fn copies_slots_by_itself(&mut self, n: usize) {
        let Some(upstream) = self.copies_from(n) else { return };
        let Some(theirs) = self.nodes[upstream].pg.data.as_ref().map(|data| data.logical.confirmed) else { return };
        let Some(data) = self.nodes[n].pg.data.as_mut() else { return };
        let (end, logical) = (data.wal_end, &mut data.logical);
        for ((ours, synced), theirs) in logical.confirmed.iter_mut().zip(&mut logical.synced).zip(theirs) {
            match (*ours, theirs) {
                (Some(_), _) if !*synced => {}
                (Some(_), None) => *ours = None,
                (Some(here), Some(there)) if here < there && there <= end => *ours = theirs,
                (None, Some(there)) if logical.vacuumed <= there && there <= end => {
                    (*ours, *synced) = (theirs, true);
                    self.trace.count("happened:a server copied a slot by itself");
                }
                _ => {}
            }
        }
        self.feedback(n, upstream);
    }

    fn copies_from(&self, n: usize) -> Option<usize> {
        let node = &self.nodes[n];
        let pg = &node.pg;
        let works = self.setup.native && pg.proc == Proc::Running && pg.in_recovery && pg.stalled_until <= self.now;
        let upstream = pg.receiver.filter(|_| works)?.upstream;
        let serves = |server: &crate::postgres::Postgres| {
            server.proc == Proc::Running && !server.in_recovery && server.stalled_until <= self.now
        };
        let there = self.nodes.get(upstream).is_some_and(|node| serves(&node.pg));
        let may = node.agent.as_ref().is_some_and(|agent| slots::server_may_copy(&agent.view) == Some(true));
        (there && may && self.net.both(End::Node(n), End::Node(upstream))).then_some(upstream)
    }

    /// It was promoted: no consumer has seen more of the former timelines.
    pub fn check_no_consumer_is_ahead(&mut self, n: usize, timeline: Timeline) {
        if !self.setup.native || !self.setup.settings.slots.consumers_wait {
            return;
        }
        let Some(data) = self.nodes[n].pg.data.as_ref() else { return };
        if let Some(Ahead { on, seen, end }) = self.checks.consumer.ahead_of(data) {
            self.fail(format!(
                "slots: n{} is promoted to timeline {timeline} with {end:#x} of timeline {on}, and its consumer has seen that up to {seen:#x}",
                n + 1
            ));
        }
    }
}
