//! The sync manager of a node: carries out one order after the other and answers once it is in force.

use crate::postgres::Proc;
use crate::walsenders::READ_WITHIN_MS;
use crate::world::{Ev, World};
use pgherd_kernel::sync::duty::STEP_PATIENCE;
use pgherd_kernel::{Lock, Observation};
use pgherd_types::{Instant, SyncApply};

/// WAL that is written for standbys to prove themselves by.
const FORCED_BYTES: u64 = 100;

/// How an order goes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Course {
    /// As it should.
    Well,
    /// Nothing is done, and the answer says so.
    Fails,
    /// The answer says that it failed, and it was done.
    DoneUntold,
    /// Done, and nobody is told.
    Unanswered,
    /// PostgreSQL gets the signal late, and the answer says that it failed.
    Late,
}

/// An order on its way.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its round.
    pub round: u64,
    /// What.
    pub apply: SyncApply,
    /// Dropped if it arrives after this, on the node's clock.
    pub fence: Option<Instant>,
    /// How it goes.
    pub course: Course,
}

impl World {
    /// The coordinator sends an order.
    pub fn order_sync(&mut self, n: usize, round: u64, apply: SyncApply) {
        let (now, local, inc) = (self.now, self.local(n), self.nodes[n].inc);
        let took = self.sync_rng.range(2, 40);
        let course = match self.sync_rng.below(100) {
            _ if !self.setup.mishaps || now >= self.setup.heal_at => Course::Well,
            0 => Course::Fails,
            1 => Course::DoneUntold,
            // the wait for its answer is part of the fault
            2 if now + STEP_PATIENCE.as_millis() as u64 >= self.setup.heal_at => Course::DoneUntold,
            2 => Course::Unanswered,
            3 => Course::Late,
            _ => Course::Well,
        };
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let fence = match agent.view.lock(local) {
            Lock::Held { until } => Some(until),
            Lock::Vanished { .. } | Lock::No => None,
        };
        // one mailbox: an order waits for the end of the one before
        let at = (now + took).max(agent.sync_busy_until);
        agent.sync_busy_until = at + READ_WITHIN_MS;
        let order = Box::new(Order { round, apply, fence, course });
        self.push(at, Ev::SyncOrder { n, inc, order });
    }

    /// It is carried out.
    pub fn sync_order(&mut self, n: usize, order: Order) {
        let (now, inc) = (self.now, self.nodes[n].inc);
        let Order { round, apply, fence, course } = order;
        let in_time = fence.is_some_and(|until| self.local(n) < until);
        let pg = &mut self.nodes[n].pg;
        let pid = pg.pid;
        let works = pg.proc == Proc::Running && pg.stalled_until <= now && in_time;
        let Some(data) = pg.data.as_mut().filter(|_| works && course != Course::Fails) else {
            return self.sync_aligned(n, round, false);
        };
        let took = match apply {
            SyncApply::ForceWal => {
                data.wal_end += if pg.in_recovery { 0 } else { FORCED_BYTES };
                self.trace.count("happened:WAL forced");
                self.ship(n);
                5
            }
            SyncApply::Names(_) | SyncApply::UserNames => {
                data.names = match apply {
                    SyncApply::Names(names) => Some(names),
                    SyncApply::UserNames | SyncApply::ForceWal => None,
                };
                let shown = data.names.clone();
                self.trace.tell(now, || format!("n{}    waits for ({})", n + 1, shown.unwrap_or_default()));
                self.trace.count("happened:names set");
                let (soonest, latest) = if course == Course::Late { (500, 5000) } else { (1, 10) };
                let signal = self.sync_rng.range(soonest, latest);
                self.push(now + signal, Ev::Reload { n, pid });
                signal + READ_WITHIN_MS
            }
        };
        match course {
            Course::Unanswered => {}
            Course::Well => self.push(now + took, Ev::SyncDone { n, inc, round, pid }),
            Course::Fails | Course::DoneUntold | Course::Late => self.sync_aligned(n, round, false),
        }
    }

    /// Time for every process to have read its file has passed; a stalled server has not moved on.
    pub fn sync_done(&mut self, n: usize, round: u64, pid: u64) {
        let pg = &self.nodes[n].pg;
        if pg.pid != pid || pg.stalled_until > self.now || pg.proc != Proc::Running {
            return self.sync_aligned(n, round, false);
        }
        if !self.all_have_read(n) {
            let inc = self.nodes[n].inc;
            return self.push(self.now + 10, Ev::SyncDone { n, inc, round, pid });
        }
        self.sync_aligned(n, round, true);
    }

    fn sync_aligned(&mut self, n: usize, round: u64, ok: bool) {
        let inc = self.nodes[n].inc;
        self.push(self.now + 2, Ev::Look { n, inc });
        self.turn(n, Some(Observation::SyncAligned { round, ok }));
    }
}
