//! The world: virtual time, the heap of events, and who handles which. Everything that happens is an event; the checkers
//! look after every one of them.

use crate::checkers::Checks;
use crate::client::Ledger;
use crate::etcd::{Etcd, Reply, Request};
use crate::faults::Fault;
use crate::mutants::Planted;
use crate::network::Network;
use crate::node::{Clock, Node};
use crate::postgres::Proc;
use crate::remote::Remote;
use crate::rng::Rng;
use crate::scenario::Setup;
use crate::server::Death;
use crate::sync_manager::Order;
use crate::trace::Trace;
use pgherd_kernel::Observation;
use pgherd_types::{HistoryRow, Instant, Lsn, OperationEnd, PeerSaid, SlotTarget, SyncSettings, Timeline};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

/// More events than any honest run has: something goes round in circles.
const EVENTS_MAX: u64 = 3_000_000;
/// More turns of coordinators than any honest run has.
const TURNS_MAX: u64 = 400_000;

/// Everything that can happen. `n` is the node, `inc` its agent's number, `pid` its PostgreSQL's.
#[derive(Debug)]
#[allow(missing_docs, reason = "the handler that each is given to says what it is")]
pub enum Ev {
    Client,
    Fault { index: usize },
    FaultEnd { index: usize, node: usize },
    Heal,
    Alarm { n: usize, inc: u32 },
    Fence { n: usize },
    Turn { n: usize, inc: u32, fact: Box<Observation> },
    AgentStart { n: usize },
    AgentGo { n: usize, inc: u32 },
    Look { n: usize, inc: u32 },
    LookTick { n: usize, inc: u32 },
    ReadTick { n: usize, inc: u32 },
    Hint { n: usize, inc: u32 },
    EtcdRequest { n: usize, inc: u32, id: u64, attempt: u32, lost_at: u64, request: Box<Request> },
    EtcdReply { n: usize, inc: u32, id: u64, attempt: u32, reply: Box<Reply> },
    CallTimeout { n: usize, inc: u32, id: u64, attempt: u32 },
    LeaseCheck { lease: i64 },
    LeaseRevoke { lease: i64 },
    LeaseEnded { lease: i64 },
    OpBegin { n: usize, inc: u32, id: u64 },
    OpStep { n: usize, inc: u32, id: u64 },
    OpCancel { n: usize, inc: u32, id: u64 },
    OpEnd { n: usize, inc: u32, id: u64, end: Box<OperationEnd> },
    Slots { n: usize, inc: u32, round: u64, target: Box<SlotTarget> },
    SyncOrder { n: usize, inc: u32, order: Box<Order> },
    SyncDone { n: usize, inc: u32, round: u64, pid: u64 },
    Acked { n: usize, pid: u64, connection: u32, end: u64 },
    Reload { n: usize, pid: u64 },
    NamesRead { n: usize, pid: u64, who: Option<u32> },
    WaitedRead { n: usize, pid: u64 },
    Asked { n: usize, inc: u32, round: u64, slot: usize, peer: usize, until: u64 },
    PeerSaid { n: usize, inc: u32, round: u64, slot: usize, said: Option<Box<(PeerSaid, u64)>> },
    ProbeEnd { n: usize, inc: u32, round: u64, slot: usize },
    AgreementAsked { n: usize, inc: u32, round: u64, peer: usize, until: u64, slots: Arc<BTreeMap<String, Lsn>> },
    AgreementSaid { n: usize, inc: u32, round: u64, peer: usize, agrees: bool },
    AgreementEnd { n: usize, inc: u32, round: u64 },
    PgReady { n: usize, pid: u64 },
    PgPromoted { n: usize, pid: u64, timeline: Timeline },
    PgCut { n: usize, pid: u64 },
    PgFlushed { n: usize, pid: u64 },
    PgDead { n: usize, pid: u64, death: Death },
    Receive { n: usize, pid: u64, attempt: u64 },
    Wal { n: usize, pid: u64, attempt: u64, timeline: Timeline, end: u64, history: Arc<Vec<HistoryRow>>, vacuumed: u64 },
}

struct Queued {
    at: u64,
    seq: u64,
    ev: Ev,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// See the module.
pub struct World {
    /// True time in milliseconds.
    pub now: u64,
    seq: u64,
    heap: BinaryHeap<Reverse<Queued>>,
    /// The generator.
    pub rng: Rng,
    /// One of its own for synchronous replication, so that runs without it are the same with and without this model.
    pub sync_rng: Rng,
    /// Another one for slots.
    pub slot_rng: Rng,
    /// How this run is set up.
    pub setup: Setup,
    /// The store.
    pub etcd: Etcd,
    /// The links.
    pub net: Network,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The settings of synchronous replication that are wanted.
    pub sync: SyncSettings,
    /// Counts connections of standbys.
    pub connections: u32,
    /// Counts backends that waited.
    pub backends: u32,
    /// The other cluster.
    pub remote: Remote,
    /// Acknowledged commits.
    pub ledger: Ledger,
    /// What the checkers remember.
    pub checks: Checks,
    /// What happened.
    pub trace: Trace,
    /// The `config` key, as operators wrote it.
    pub config: crate::requests::OperatorsConfig,
    /// Turns of coordinators.
    pub turns: u64,
    /// Events handled.
    pub events: u64,
    /// The first thing that must not be.
    pub failure: Option<String>,
}

impl World {
    /// A world at time 0.
    pub fn new(setup: Setup, trace: Trace) -> Self {
        let mut rng = Rng::new(setup.seed);
        let clock =
            |rng: &mut Rng| Clock { offset: rng.range(1_000_000, 9_000_000), ppm: rng.range(0, 2000) as i64 - 1000 };
        let mut nodes: Vec<Node> = (0..setup.nodes).map(|i| Node::new(i, clock(&mut rng))).collect();
        nodes.iter_mut().for_each(|node| node.pg.blind_to_wal = setup.planted == Some(Planted::BlindToWal));
        nodes.iter_mut().for_each(|node| node.pg.native = setup.native);
        let mut world = Self {
            now: 0,
            seq: 0,
            heap: BinaryHeap::new(),
            rng,
            sync_rng: Rng::new(!setup.seed),
            slot_rng: Rng::new(setup.seed ^ 0x0510_7000),
            checks: Checks::new(nodes.len()),
            sync: setup.settings.sync,
            setup,
            etcd: Etcd::default(),
            net: Network::default(),
            nodes,
            connections: 0,
            backends: 0,
            remote: Remote::default(),
            ledger: Ledger::default(),
            trace,
            config: Default::default(),
            turns: 0,
            events: 0,
            failure: None,
        };
        world.tag();
        world.tag_synchronous();
        world.begin();
        world
    }

    /// Some nodes are preferred in a race, or as sources of clones.
    fn tag(&mut self) {
        if !self.setup.mishaps {
            return;
        }
        for node in &mut self.nodes {
            node.me.tags.clonefrom = self.rng.permille(250);
            node.me.tags.failover_priority = self.rng.permille(250).then(|| self.rng.range(1, 3) as i32);
        }
    }

    fn begin(&mut self) {
        for (index, planned) in self.setup.faults.clone().into_iter().enumerate() {
            self.push(planned.at, Ev::Fault { index });
        }
        self.push(self.setup.heal_at, Ev::Heal);
        self.push(100, Ev::Client);
        self.net.calm = !self.setup.mishaps;
        for n in 0..self.nodes.len() {
            self.agent_start(n);
        }
    }

    /// Something will happen.
    pub fn push(&mut self, at: u64, ev: Ev) {
        self.seq += 1;
        self.heap.push(Reverse(Queued { at: at.max(self.now), seq: self.seq, ev }));
    }
    /// What a node's boot-time clock shows.
    pub fn local(&self, n: usize) -> Instant {
        self.nodes[n].clock.at(self.now)
    }
    /// A duration in milliseconds.
    pub fn ms(&self, d: Duration) -> u64 {
        d.as_millis() as u64
    }
    /// Does a small mishap happen, in so many of a thousand cases?
    pub fn mishap(&mut self, permille: u64) -> bool {
        self.setup.mishaps && self.now < self.setup.heal_at && self.rng.permille(permille)
    }
    /// Will the time to live be changed in this run?
    fn ttl_changes(&self) -> bool {
        self.setup.faults.iter().any(|planned| planned.fault == Fault::TtlChanged)
    }
    /// The shortest time to live that may be in force in this run.
    pub fn ttl_shortest(&self) -> u64 {
        let s = &self.setup.settings;
        let ttl = self.ms(s.ttl);
        if self.ttl_changes() { self.ms(s.loop_wait + 2 * s.retry_timeout).max(ttl / 2) } else { ttl }
    }
    /// The longest one.
    pub fn ttl_longest(&self) -> u64 {
        self.ms(self.setup.settings.ttl) * if self.ttl_changes() { 2 } else { 1 }
    }
    /// Something must not be.
    pub fn fail(&mut self, what: String) {
        if self.failure.is_none() {
            self.trace.tell(self.now, || format!("FAILED: {what}"));
            self.failure = Some(format!("at {:.3} s: {what}", self.now as f64 / 1000.0));
        }
    }

    /// Run to the end or to the first failure.
    pub fn run(&mut self) {
        while let Some(Reverse(queued)) = self.heap.pop() {
            if queued.at > self.setup.end_at || self.failure.is_some() {
                break;
            }
            self.now = queued.at;
            self.events += 1;
            if self.events > EVENTS_MAX || self.turns > TURNS_MAX {
                self.fail(format!("{} events and {} turns: something goes round in circles", self.events, self.turns));
            }
            let ticks = matches!(queued.ev, Ev::Client);
            self.handle(queued.ev);
            self.check();
            if ticks && self.setup.mishaps && self.settled() {
                break;
            }
        }
        if self.failure.is_none() {
            self.check_at_the_end();
        }
    }

    /// Is this still the agent that the event is for? If it is paused, the event waits.
    fn for_agent(&mut self, n: usize, inc: u32, ev: Ev) -> Option<Ev> {
        let node = &self.nodes[n];
        if node.inc != inc || node.agent.is_none() {
            return None;
        }
        if node.paused_until > self.now {
            self.push(node.paused_until, ev);
            return None;
        }
        Some(ev)
    }

    fn handle(&mut self, ev: Ev) {
        match ev {
            Ev::Client => self.client(),
            Ev::Fault { index } => self.strike(index),
            Ev::FaultEnd { index, node } => self.fault_over(index, node),
            Ev::Heal => self.healed(),
            Ev::LeaseCheck { lease } => self.lease_check(lease),
            Ev::LeaseEnded { lease } => {
                self.etcd.revoke(lease);
                self.etcd_changed();
            }
            Ev::LeaseRevoke { lease } => self.lease_revoke(lease),
            Ev::EtcdRequest { n, inc, id, attempt, lost_at, request } => {
                self.etcd_request(n, inc, id, attempt, lost_at, request);
            }
            Ev::Asked { n, inc, round, slot, peer, until } => self.asked(n, inc, round, slot, peer, until),
            Ev::AgreementAsked { n, inc, round, peer, until, slots } => {
                self.agreement_asked(n, inc, round, peer, until, slots);
            }
            Ev::AgentStart { n } => self.agent_start(n),
            Ev::AgentGo { n, inc } if self.nodes[n].inc == inc && self.nodes[n].agent.is_none() && self.nodes[n].up => {
                self.agent_go(n);
            }
            Ev::AgentGo { .. } => {}
            Ev::Fence { n } => self.fence(n), // whatever the agent is doing
            Ev::PgReady { n, pid }
            | Ev::PgPromoted { n, pid, .. }
            | Ev::PgCut { n, pid }
            | Ev::PgFlushed { n, pid }
            | Ev::PgDead { n, pid, .. }
            | Ev::Receive { n, pid, .. }
            | Ev::Acked { n, pid, .. }
            | Ev::Reload { n, pid }
            | Ev::NamesRead { n, pid, .. }
            | Ev::WaitedRead { n, pid }
            | Ev::Wal { n, pid, .. } => self.server_event(n, pid, ev),
            Ev::Alarm { n, inc }
            | Ev::Turn { n, inc, .. }
            | Ev::Look { n, inc }
            | Ev::LookTick { n, inc }
            | Ev::ReadTick { n, inc }
            | Ev::Hint { n, inc }
            | Ev::EtcdReply { n, inc, .. }
            | Ev::CallTimeout { n, inc, .. }
            | Ev::OpBegin { n, inc, .. }
            | Ev::OpStep { n, inc, .. }
            | Ev::OpCancel { n, inc, .. }
            | Ev::OpEnd { n, inc, .. }
            | Ev::Slots { n, inc, .. }
            | Ev::SyncOrder { n, inc, .. }
            | Ev::SyncDone { n, inc, .. }
            | Ev::PeerSaid { n, inc, .. }
            | Ev::ProbeEnd { n, inc, .. }
            | Ev::AgreementSaid { n, inc, .. }
            | Ev::AgreementEnd { n, inc, .. } => {
                if let Some(ev) = self.for_agent(n, inc, ev) {
                    self.agent_event(n, inc, ev);
                }
            }
        }
    }

    fn agent_event(&mut self, n: usize, inc: u32, ev: Ev) {
        let every = self.ms(self.setup.settings.loop_wait);
        match ev {
            Ev::Alarm { .. } => self.alarm(n),
            Ev::Turn { fact, .. } => {
                let renewed = matches!(*fact, Observation::LeaseRenewed { .. });
                self.turn(n, Some(*fact));
                if renewed {
                    self.op_extend(n);
                }
            }
            Ev::Look { .. } => self.look(n),
            Ev::LookTick { .. } => {
                self.push(self.now + every, Ev::LookTick { n, inc });
                self.look(n);
            }
            Ev::ReadTick { .. } => {
                self.push(self.now + every, Ev::ReadTick { n, inc });
                self.read(n);
            }
            Ev::Hint { .. } => self.read(n),
            Ev::EtcdReply { id, attempt, reply, .. } => self.etcd_reply(n, id, attempt, *reply),
            Ev::CallTimeout { id, attempt, .. } => self.call_timeout(n, id, attempt),
            Ev::OpBegin { id, .. } => self.op_begin(n, id),
            Ev::OpStep { id, .. } => self.op_step(n, id),
            Ev::OpCancel { id, .. } => self.op_cancel(n, id),
            Ev::OpEnd { id, end, .. } => self.op_end(n, id, *end),
            Ev::Slots { round, target, .. } => self.slots(n, round, &target),
            Ev::SyncOrder { order, .. } => self.sync_order(n, *order),
            Ev::SyncDone { round, pid, .. } => self.sync_done(n, round, pid),
            Ev::PeerSaid { round, slot, said, .. } => self.peer_said(n, round, slot, said.map(|s| *s)),
            Ev::ProbeEnd { round, slot, .. } => self.peer_said(n, round, slot, None),
            Ev::AgreementSaid { round, peer, agrees, .. } => self.agreement_said(n, round, peer, agrees),
            Ev::AgreementEnd { round, .. } => self.agreement_end(n, round),
            _ => {}
        }
    }

    /// A stalled server does nothing, except die of SIGKILL.
    fn server_event(&mut self, n: usize, pid: u64, ev: Ev) {
        let pg = &self.nodes[n].pg;
        if pg.pid != pid {
            return;
        }
        let killed = matches!(ev, Ev::PgDead { death: Death::Killed, .. });
        if pg.stalled_until > self.now && !killed {
            return self.push(pg.stalled_until, ev);
        }
        let attempts = pg.attempts;
        match ev {
            Ev::PgReady { .. } => self.pg_ready(n),
            Ev::PgPromoted { timeline, .. } => self.pg_promoted(n, timeline),
            Ev::PgCut { .. } => self.pg_cut(n),
            Ev::PgFlushed { .. } => self.pg_flushed(n),
            Ev::PgDead { death, .. } => self.pg_dead(n, death),
            Ev::Acked { connection, end, .. } => self.acked(n, connection, end),
            Ev::Reload { .. } => self.reload(n),
            Ev::NamesRead { who, .. } => self.names_read(n, who),
            Ev::WaitedRead { .. } => self.waited_read(n),
            Ev::Receive { attempt, .. } if attempt == attempts => self.receive(n),
            Ev::Wal { attempt, timeline, end, history, vacuumed, .. } if attempt == attempts => {
                self.wal(n, timeline, end, history, vacuumed)
            }
            _ => {}
        }
    }

    fn client(&mut self) {
        self.push(self.now + self.setup.write_every, Ev::Client);
        self.remote_ticks();
        self.status_replies();
        self.consume();
        for n in 0..self.nodes.len() {
            let waits = self.clients_wait(n);
            let pg = &mut self.nodes[n].pg;
            let busy = pg.writable && pg.stalled_until <= self.now;
            let served = pg.proc == Proc::Running || (busy && self.rng.permille(300));
            let Some(data) = pg.data.as_mut().filter(|_| busy && served && !waits) else { continue };
            data.wal_end += self.setup.write_bytes;
            let (end, orphaned) = (data.wal_end, pg.proc == Proc::Orphaned);
            self.commit(n, end);
            if !orphaned {
                self.ship(n);
            }
        }
    }

    fn lease_check(&mut self, lease: i64) {
        let Some(held) = self.etcd.leases.get(&lease) else { return };
        let (expires, lazily) = (held.expires, if self.rng.permille(500) { 500 } else { 50 });
        if expires > self.now || self.etcd.frozen_until > self.now {
            self.push(expires.max(self.etcd.frozen_until), Ev::LeaseCheck { lease });
        } else {
            let late = self.rng.below(lazily);
            self.push(self.now + late, Ev::LeaseRevoke { lease });
        }
    }

    fn lease_revoke(&mut self, lease: i64) {
        let refreshed = self.etcd.leases.get(&lease).is_some_and(|l| l.expires > self.now);
        if refreshed || self.etcd.frozen_until > self.now {
            return self.lease_check(lease);
        }
        self.trace.count("happened:lease lapsed");
        self.etcd.revoke(lease);
        self.etcd_changed();
    }

    fn healed(&mut self) {
        self.trace.tell(self.now, || "*** all faults are over".to_owned());
        self.set_standby_cluster(false);
        self.set_pause(false);
        self.mend_sync_key();
        self.net = Network { calm: true, ..Network::default() };
        self.etcd.frozen_until = self.etcd.frozen_until.min(self.now);
        for n in 0..self.nodes.len() {
            let node = &mut self.nodes[n];
            (node.operator_slow, node.up) = (0, true);
            node.pg.stalled_until = node.pg.stalled_until.min(self.now);
            if node.down == 0 {
                self.agent_start(n);
            }
        }
    }
}
