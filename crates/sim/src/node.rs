//! A node: a machine with a clock, a PostgreSQL and, while it runs, an agent, which is the kernel's view and what the
//! actors around it would hold.

use crate::dcs::Call;
use crate::postgres::Postgres;
use crate::slots::Confirmed;
use pgherd_kernel::view::Mutant;
use pgherd_kernel::{Me, Reason, View};
use pgherd_types::{FenceOrder, Instant, LeaseGrant, LeaseId, Operation, OperationId, PeerReport, Settings};

/// A boot-time clock that is off and drifts.
#[derive(Copy, Clone, Debug)]
pub struct Clock {
    /// What it showed at true time 0.
    pub offset: u64,
    /// Parts per million that it is fast.
    pub ppm: i64,
}

impl Clock {
    /// What it shows at a true time.
    pub fn at(&self, true_ms: u64) -> Instant {
        let drift = true_ms as i64 * self.ppm / 1_000_000;
        Instant::from_millis((self.offset as i64 + true_ms as i64 + drift) as u64)
    }
    /// The first true time at which it shows this.
    pub fn when(&self, local: Instant) -> u64 {
        let target = local.as_millis() as i64 - self.offset as i64;
        let mut guess = (target * 1_000_000 / (1_000_000 + self.ppm)).max(0) as u64;
        while guess > 0 && self.at(guess - 1) >= local {
            guess -= 1;
        }
        while self.at(guess) < local {
            guess += 1;
        }
        guess
    }
}

/// An operation as PostgreSQL's operator has it.
#[derive(Clone, Debug)]
pub struct Op {
    /// Its number.
    pub id: OperationId,
    /// What.
    pub operation: Operation,
    /// Its fence.
    pub fence: Option<Instant>,
    /// When the operator comes to it (true time).
    pub begins_at: u64,
    /// It was begun.
    pub begun: bool,
    /// It was told to give up.
    pub cancelled: bool,
}

/// Peers being asked.
#[derive(Clone, Debug)]
pub struct Round {
    /// The number.
    pub round: u64,
    /// Whose answers are still awaited.
    pub awaited: Vec<bool>,
    /// Those that came.
    pub reports: Vec<PeerReport>,
}

/// The agent's process.
#[derive(Debug)]
pub struct Agent {
    /// The kernel's view.
    pub view: View,
    /// DCS watcher: its lease.
    pub lease: Option<LeaseId>,
    /// DCS watcher: the time to live it was asked with.
    pub lease_asked_ms: u64,
    /// DCS watcher: the lease that the keys may have been moved to, and what it was asked with.
    pub moving: Option<(LeaseId, u64)>,
    /// DCS watcher: calls under way.
    pub calls: Vec<Call>,
    /// DCS watcher: the number of the last call.
    pub last_call: u64,
    /// DCS watcher: a reading is under way; read again after it.
    pub read_again: bool,
    /// DCS watcher: a hint is under way.
    pub hinted: bool,
    /// PostgreSQL's operator.
    pub op: Option<Op>,
    /// When the coordinator's alarm rings (true time).
    pub alarm_at: u64,
    /// The alarm that is on the heap.
    pub alarm_queued: u64,
    /// The sync manager is busy until then (true time).
    pub sync_busy_until: u64,
    /// Peers being asked.
    pub round: Option<Round>,
    /// Members being asked for their agreement.
    pub agreement: Option<crate::requests::AgreementRound>,
    /// The last reason.
    pub because: Option<Reason>,
}

impl Agent {
    /// A new process.
    pub fn new(me: Me, settings: Settings, recorded: Option<LeaseGrant>, now: Instant, mutant: Option<Mutant>) -> Self {
        let mut view = View::new(me, settings, recorded, now);
        view.mutant = mutant;
        if mutant == Some(Mutant::NoMargin) {
            view.lease.margin_override_ms = Some(0);
        }
        Self {
            view,
            lease: recorded.map(|g| g.lease),
            lease_asked_ms: recorded.map_or(0, |g| g.asked_ttl_ms.unwrap_or(g.ttl_ms)),
            moving: None,
            calls: Vec::new(),
            last_call: 0,
            read_again: false,
            hinted: false,
            op: None,
            alarm_at: u64::MAX,
            alarm_queued: u64::MAX,
            sync_busy_until: 0,
            round: None,
            agreement: None,
            because: None,
        }
    }
}

/// A machine.
#[derive(Debug)]
pub struct Node {
    /// Who it is.
    pub me: Me,
    /// Its boot-time clock.
    pub clock: Clock,
    /// The machine is up.
    pub up: bool,
    /// Counts agents; events of earlier ones are void.
    pub inc: u32,
    /// The agent.
    pub agent: Option<Box<Agent>>,
    /// The agent gets no processor time before this (true time).
    pub paused_until: u64,
    /// Its PostgreSQL.
    pub pg: Postgres,
    /// The promise on record beside the data directory.
    pub recorded: Option<LeaseGrant>,
    /// Maintenance mode is on, by the record beside the data directory.
    pub recorded_pause: bool,
    /// A promotion was ordered and its end was not seen, by the record beside the data directory.
    pub recorded_promotion: bool,
    /// The logical slots that are being copied.
    pub slots_on_their_way: Option<Confirmed>,
    /// The order in force at the fence thread and at the guard process, which outlives the agent.
    pub fence: FenceOrder,
    /// When the first of them looks next (true time).
    pub fence_at: u64,
    /// PostgreSQL was stopped for this order.
    pub fence_stopped: Option<FenceOrder>,
    /// S1 is not counted against it until then: an operator removed its leader key.
    pub exempt_until: u64,
    /// The last time a fault, or its own start, touched it (true time).
    pub disturbed_at: u64,
    /// Commands to its operator begin up to this much late.
    pub operator_slow: u64,
    /// Faults that keep it from starting.
    pub down: u32,
}

impl Node {
    /// A node that is off.
    pub fn new(index: usize, clock: Clock) -> Self {
        let name = format!("n{}", index + 1);
        let me = Me {
            conn_url: format!("postgres://{name}:5432/postgres"),
            api_url: format!("http://{name}:8008/patroni"),
            name: name.as_str().into(),
            can_bootstrap: true,
            ..Me::default()
        };
        Self {
            me,
            clock,
            up: true,
            inc: 0,
            agent: None,
            paused_until: 0,
            pg: Postgres::default(),
            recorded: None,
            recorded_pause: false,
            recorded_promotion: false,
            slots_on_their_way: None,
            fence: FenceOrder::Disarmed,
            fence_at: u64::MAX,
            fence_stopped: None,
            exempt_until: 0,
            disturbed_at: 0,
            operator_slow: 0,
            down: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_read_both_ways() {
        for ppm in [-1000, -1, 0, 7, 1000] {
            let clock = Clock { offset: 123_456, ppm };
            for true_ms in [0, 1, 999, 300_000] {
                let when = clock.when(clock.at(true_ms));
                assert!(when <= true_ms && clock.at(when) == clock.at(true_ms), "{ppm} {true_ms}");
            }
        }
    }
}
