//! PostgreSQL's operator on a node: begins one operation, watches it end, gives it up when told to.

use crate::network::End;
use crate::node::Op;
use crate::postgres::{Data, Proc};
use crate::remote::{self, REMOTE};
use crate::slots::Slots;
use crate::world::{Ev, World};
use pgherd_kernel::Observation;
use pgherd_kernel::view::Mutant;
use pgherd_kernel::wishes::Pending;
use pgherd_types::postgres::ControlState;
use pgherd_types::{LeaseId, Operation, OperationEnd, OperationId, StopMode, SystemId, Upstream};

/// A fast stop that takes longer than this has failed.
const FAST_STOP_PATIENCE_MS: u64 = 30_000;

/// What became of the server.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// It serves.
    Ready,
    /// It left recovery.
    Promoted,
    /// No process is left.
    Dead,
}

impl World {
    fn op_mut(&mut self, n: usize, id: u64) -> Option<&mut Op> {
        self.nodes[n].agent.as_mut()?.op.as_mut().filter(|op| op.id.0 == id)
    }

    /// The operation ends; the coordinator is told after a look.
    pub fn op_ends(&mut self, n: usize, end: OperationEnd) {
        let (now, inc) = (self.now, self.nodes[n].inc);
        let Some(op) = self.nodes[n].agent.as_mut().and_then(|a| a.op.take()) else { return };
        self.nodes[n].recorded_promotion = false;
        self.trace.detail(now, || format!("n{} {} ended: {end:?}", n + 1, op.operation.name()));
        self.trace.count(&format!("operation:{} {}", op.operation.name(), kind(&end)));
        let took = self.rng.range(1, 8);
        self.push(now + took, Ev::OpEnd { n, inc, id: op.id.0, end: Box::new(end) });
    }

    /// The look and the end reach the coordinator.
    pub fn op_end(&mut self, n: usize, id: u64, end: OperationEnd) {
        self.look(n);
        self.turn(n, Some(Observation::OperationFinished { id: OperationId(id), end }));
    }

    /// The operator comes to the command.
    pub fn op_begin(&mut self, n: usize, id: u64) {
        let local = self.local(n);
        let obeys = self.setup.mutant != Some(Mutant::LateCommandNotDropped);
        let Some(op) = self.op_mut(n, id).filter(|op| !op.begun) else { return };
        if op.fence.is_some_and(|until| local >= until) {
            if obeys {
                self.trace.count("happened:late command dropped");
                return self.op_ends(n, OperationEnd::TooLate);
            }
            self.trace.count("happened:late command carried out");
        }
        let Some(op) = self.op_mut(n, id) else { return };
        op.begun = true;
        let operation = op.operation.clone();
        self.trace.tell(self.now, || format!("n{}    begins {}", n + 1, describe(&operation)));
        if Self::makes_writable(&operation) {
            self.check_promotion_has_lock(n, &operation);
        }
        match operation {
            Operation::Bootstrap => {
                self.check_directory_is_empty(n);
                self.op_create(n, id, 1500, 4000);
            }
            Operation::Clone { replace: false, .. } => {
                self.check_directory_is_empty(n);
                self.op_create(n, id, 1000, 5000);
            }
            Operation::Clone { replace: true, .. } => self.op_create(n, id, 1000, 5000),
            Operation::Restore => {
                self.check_directory_is_empty(n);
                self.op_create(n, id, 1000, 5000);
            }
            Operation::Rewind { .. } => self.op_create(n, id, 200, 3000),
            Operation::StartPrimary => self.op_start(n, true),
            Operation::StartReplica { upstream } => {
                if let Some(data) = self.nodes[n].pg.data.as_mut() {
                    data.standby_signal = true;
                    data.upstream = upstream.map(endpoint);
                }
                self.op_start(n, false);
            }
            Operation::Follow { upstream } => self.op_follow(n, id, upstream),
            Operation::CopySlots { from, slots } => self.op_copy_slots(n, &from, &slots),
            Operation::Promote { timeline } => self.op_promote(n, timeline),
            Operation::Stop { mode } => self.op_stop(n, id, mode),
        }
    }

    fn op_create(&mut self, n: usize, id: u64, shortest: u64, longest: u64) {
        let took = self.rng.range(shortest, longest);
        let inc = self.nodes[n].inc;
        self.push(self.now + took, Ev::OpStep { n, inc, id });
    }

    fn op_start(&mut self, n: usize, primary: bool) {
        let pg = &self.nodes[n].pg;
        if pg.alive() || pg.data.is_none() {
            return self.op_ends(n, OperationEnd::Failed("a server is running or there are no data".to_owned()));
        }
        if primary && self.nodes[n].pg.data.as_ref().is_some_and(|d| d.standby_signal) {
            return self.op_ends(n, OperationEnd::Failed("a standby signal is there".to_owned()));
        }
        self.pg_start(n, primary);
    }

    fn op_follow(&mut self, n: usize, id: u64, upstream: Option<Upstream>) {
        let pg = &mut self.nodes[n].pg;
        let Some(data) = pg.data.as_mut().filter(|_| pg.proc == Proc::Running && pg.in_recovery) else {
            return self.op_ends(n, OperationEnd::Failed("no running standby".to_owned()));
        };
        data.upstream = upstream.map(endpoint);
        pg.receiver = None;
        self.receiver_retry(n, 10, 100);
        let inc = self.nodes[n].inc;
        let took = self.rng.range(30, 300);
        self.push(self.now + took, Ev::OpStep { n, inc, id });
    }

    fn op_promote(&mut self, n: usize, timeline: pgherd_types::Timeline) {
        let pg = &self.nodes[n].pg;
        if pg.proc != Proc::Running || !pg.in_recovery || pg.stalled_until > self.now {
            return self.op_ends(n, OperationEnd::Failed("no running standby that answers".to_owned()));
        }
        if pg.data.as_ref().is_some_and(|data| data.timeline >= timeline) {
            return self.op_ends(n, OperationEnd::Failed("the data are on a later timeline".to_owned()));
        }
        let pid = pg.pid;
        self.nodes[n].recorded_promotion = true;
        let took = if self.rng.permille(700) { self.rng.range(20, 200) } else { self.rng.range(200, 1500) };
        self.push(self.now + took, Ev::PgPromoted { n, pid, timeline });
    }

    fn op_stop(&mut self, n: usize, id: u64, mode: StopMode) {
        if !self.nodes[n].pg.alive() {
            return self.op_ends(n, OperationEnd::Done);
        }
        let inc = self.nodes[n].inc;
        match mode {
            StopMode::Fast => {
                self.pg_stop_fast(n);
                self.push(self.now + FAST_STOP_PATIENCE_MS, Ev::OpStep { n, inc, id });
            }
            StopMode::Immediate => {
                self.pg_stop_immediately(n);
                let took = self.kill_time() + if self.nodes[n].pg.proc == Proc::Orphaned { 0 } else { 200 };
                self.pg_kill(n, took);
            }
        }
    }

    /// Work that takes time is through.
    pub fn op_step(&mut self, n: usize, id: u64) {
        let Some(op) = self.op_mut(n, id).filter(|op| op.begun) else { return };
        let (operation, cancelled) = (op.operation.clone(), op.cancelled);
        let fails = self.mishap(20);
        match operation {
            Operation::Stop { .. } if cancelled => {}
            _ if cancelled => self.op_ends(n, OperationEnd::Cancelled),
            Operation::Bootstrap | Operation::Clone { .. } | Operation::Restore | Operation::Rewind { .. } if fails => {
                self.op_ends(n, OperationEnd::Failed("no luck".to_owned()));
            }
            Operation::Bootstrap => {
                let system = SystemId(self.rng.bits());
                self.nodes[n].pg.data = Some(Data::initdb(system));
                self.trace.count("happened:bootstrap");
                self.op_ends(n, OperationEnd::Done);
            }
            // The model has no archive.
            Operation::Restore => self.op_ends(n, OperationEnd::Failed("nothing to restore from".to_owned())),
            Operation::Clone { from, replace, .. } => {
                let end = self.clone_from(n, &from, replace);
                self.op_ends(n, end);
            }
            Operation::Rewind { from } => {
                let end = self.rewind_from(n, &from);
                self.op_ends(n, end);
            }
            Operation::Follow { .. } => self.op_ends(n, OperationEnd::Done),
            Operation::Stop { .. } if self.nodes[n].pg.proc == Proc::Archiving => {}
            Operation::Stop { .. } => {
                self.op_ends(n, OperationEnd::Failed("PostgreSQL did not stop in time".to_owned()))
            }
            Operation::StartPrimary
            | Operation::StartReplica { .. }
            | Operation::Promote { .. }
            | Operation::CopySlots { .. } => {}
        }
    }

    /// The data of a source that runs and can be reached.
    fn data_of(&self, from: &Upstream, n: usize) -> Option<(usize, Data)> {
        if from.host == remote::HOST {
            return Some((REMOTE, self.remote.data.clone()?));
        }
        let source = self.nodes.iter().position(|node| node.me.name == from.member)?;
        let node = &self.nodes[source];
        let usable = node.up && node.pg.proc == Proc::Running && self.net.both(End::Node(source), End::Node(n));
        Some((source, node.pg.data.clone().filter(|_| usable)?))
    }

    fn clone_from(&mut self, n: usize, from: &Upstream, replace: bool) -> OperationEnd {
        let Some((_, copy)) = self.data_of(from, n) else {
            return OperationEnd::Failed("the source cannot be reached".to_owned());
        };
        if replace {
            self.check_replacement(n);
            let pending = self.nodes[n].agent.as_ref().and_then(|agent| agent.view.pending.as_ref());
            if matches!(pending, Some(Pending::Reinitialize { .. })) {
                self.checks.timelines[n] = None; // an operator's copy may come from a member that is behind
            }
        } else {
            self.check_directory_is_empty(n);
        }
        let end = (copy.timeline, copy.wal_end);
        self.nodes[n].pg.data = Some(Data {
            standby_signal: true,
            upstream: Some(endpoint(from.clone())),
            min_recovery: end,
            checkpoint: end,
            slots: Default::default(),
            logical: Slots { vacuumed: copy.logical.vacuumed, ..Slots::default() },
            names: None,
            ..copy
        });
        self.data_changed();
        self.trace.count("happened:clone");
        OperationEnd::Done
    }

    /// Back to the point where the histories part, and what the source has from there on is still to be replayed.
    fn rewind_from(&mut self, n: usize, from: &Upstream) -> OperationEnd {
        let Some((source, theirs)) =
            self.data_of(from, n).filter(|(s, _)| *s == REMOTE || !self.nodes[*s].pg.in_recovery)
        else {
            return OperationEnd::Failed("the source cannot be reached or is no primary".to_owned());
        };
        self.check_rewind(n, source, &theirs);
        if source == REMOTE {
            self.trace.count("happened:rewind to the remote primary");
        }
        let end = (theirs.timeline, theirs.wal_end);
        if let Some(data) = self.nodes[n].pg.data.as_mut() {
            *data = Data {
                standby_signal: true,
                upstream: Some(endpoint(from.clone())),
                min_recovery: end,
                checkpoint: end,
                state: ControlState::InArchiveRecovery,
                slots: Default::default(),
                logical: Slots { vacuumed: theirs.logical.vacuumed, ..Slots::default() },
                wal_end_found: false,
                names: None,
                ..theirs
            };
        }
        self.data_changed();
        self.trace.count("happened:rewind");
        OperationEnd::Done
    }

    /// The operation is to be given up.
    pub fn op_cancel(&mut self, n: usize, id: u64) {
        let Some(op) = self.op_mut(n, id) else { return };
        op.cancelled = true;
        let operation = op.operation.clone();
        self.trace.count("happened:operation cancelled");
        match operation {
            Operation::StartPrimary
            | Operation::StartReplica { .. }
            | Operation::Promote { .. }
            | Operation::Stop { .. } => {
                self.pg_stop_immediately(n);
                let took = self.kill_time() + 200;
                self.pg_kill(n, took);
            }
            Operation::Bootstrap | Operation::Clone { .. } | Operation::Restore | Operation::Rewind { .. } => {
                let inc = self.nodes[n].inc;
                self.push(self.now + 100, Ev::OpStep { n, inc, id });
            }
            Operation::Follow { .. } | Operation::CopySlots { .. } => {}
        }
    }

    /// The lease was proven again: the running operation may go on.
    pub fn op_extend(&mut self, n: usize) {
        let local = self.local(n);
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let pgherd_kernel::Lock::Held { until } = agent.view.lock(local) else { return };
        if let Some(op) = agent.op.as_mut().filter(|op| op.operation.needs_lock()) {
            op.fence = op.fence.max(Some(until));
        }
    }

    /// Something became of the server: the operation may be done by that, else the monitor looks.
    pub fn op_notice(&mut self, n: usize, notice: Notice) {
        let inc = self.nodes[n].inc;
        let op = self.nodes[n].agent.as_ref().and_then(|a| a.op.as_ref()).filter(|op| op.begun);
        let copies = op.is_some_and(|op| matches!(op.operation, Operation::CopySlots { .. }));
        if copies && notice == Notice::Dead && self.nodes[n].slots_on_their_way.is_some() {
            return self.op_slots_copied(n);
        }
        let end = op.and_then(|op| match (&op.operation, notice) {
            (Operation::StartPrimary | Operation::StartReplica { .. }, Notice::Ready) if !op.cancelled => {
                Some(OperationEnd::Done)
            }
            (Operation::Promote { .. }, Notice::Promoted) if !op.cancelled => Some(OperationEnd::Done),
            (Operation::Stop { .. }, Notice::Dead) => Some(OperationEnd::Done),
            (Operation::Bootstrap | Operation::Clone { .. } | Operation::Restore | Operation::Rewind { .. }, _) => None,
            (_, Notice::Dead) if op.cancelled => Some(OperationEnd::Cancelled),
            (_, Notice::Dead) => Some(OperationEnd::Failed("PostgreSQL ended".to_owned())),
            _ => None,
        });
        match end {
            Some(end) => self.op_ends(n, end),
            None => {
                let took = self.rng.range(1, 20);
                self.push(self.now + took, Ev::Look { n, inc });
            }
        }
    }

    /// The lease of a node's watcher.
    pub fn lease_of(&self, n: usize) -> Option<LeaseId> {
        self.nodes[n].agent.as_ref()?.lease
    }
}

fn endpoint(upstream: Upstream) -> (String, u16) {
    (upstream.host, upstream.port)
}

fn kind(end: &OperationEnd) -> &'static str {
    match end {
        OperationEnd::Done => "done",
        OperationEnd::Failed(_) => "failed",
        OperationEnd::Cancelled => "cancelled",
        OperationEnd::TooLate => "too late",
    }
}

fn describe(operation: &Operation) -> String {
    match operation {
        Operation::Bootstrap => "initdb".to_owned(),
        Operation::Clone { from, replace: false, .. } => format!("clone of {}", from.member),
        Operation::Clone { from, replace: true, .. } => format!("replacement by a clone of {}", from.member),
        Operation::Restore => "restore without a source".to_owned(),
        Operation::Rewind { from } => format!("rewind from {}", from.member),
        Operation::StartPrimary => "start as primary".to_owned(),
        Operation::StartReplica { upstream } => format!("start as standby of {}", whom(upstream.as_ref())),
        Operation::Follow { upstream } => format!("following {}", whom(upstream.as_ref())),
        Operation::CopySlots { from, slots } => {
            let names: Vec<&str> = slots.keys().map(String::as_str).collect();
            format!("copy of logical slots {} of {}", names.join(", "), from.member)
        }
        Operation::Promote { timeline } => format!("promotion to timeline {timeline}"),
        Operation::Stop { mode: StopMode::Fast } => "fast stop".to_owned(),
        Operation::Stop { mode: StopMode::Immediate } => "immediate stop".to_owned(),
    }
}

fn whom(upstream: Option<&Upstream>) -> String {
    upstream.map_or_else(|| "nobody".to_owned(), |u| u.member.to_string())
}
