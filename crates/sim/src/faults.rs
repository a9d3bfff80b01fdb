//! What goes wrong. Every fault is counted when it strikes; one that found nothing to break is not.

use crate::network::End;
use crate::postgres::Proc;
use crate::sync_rep::SyncRep;
use crate::world::{Ev, World};
use pgherd_kernel::lease_view;
use pgherd_types::FenceOrder;

/// A kind of fault. Durations are drawn when it strikes, unless a story gives one.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Agent and PostgreSQL die together; the machine stays up and both may come back.
    NodeDeath,
    /// The agent alone dies and is restarted much later.
    AgentDeath,
    /// The agent alone dies and is restarted at once.
    AgentRestart,
    /// The postmaster dies, its backends live on for a moment.
    PostmasterCrash,
    /// PostgreSQL does nothing for a while.
    PostgresStall,
    /// The node cannot reach etcd (one or both directions).
    EtcdCut,
    /// Two nodes cannot reach each other (one or both directions).
    PeerCut,
    /// The node reaches nobody.
    Isolation,
    /// The node reaches nobody, and its PostgreSQL does nothing, not even stop.
    StalledIsolation,
    /// etcd answers nobody for a while.
    EtcdFreeze,
    /// etcd elects a new leader: a short silence, every lease is full again.
    EtcdLeaderChange,
    /// Many replies to a node get lost.
    LostReplies,
    /// Every message of a node takes long.
    SlowLink,
    /// The agent gets no processor time, for less than half of the margin.
    SlowAgent,
    /// The operator takes up commands late.
    SlowOperator,
    /// SIGTERM, and a restart later.
    Shutdown,
    /// The machine loses power and comes back.
    Reboot,
    /// Somebody removes the leader key.
    KeyRemoved,
    /// A standby's data directory is emptied while its node is down.
    DataLoss,
    /// An operator asks the leader to hand over.
    Switchover,
    /// An operator names the next leader.
    Failover,
    /// An operator asks for a restart of PostgreSQL.
    Restart,
    /// An operator asks for a new copy of a node's data.
    Reinitialize,
    /// Maintenance mode, for a while.
    Pause,
    /// The cluster follows another one, for a while.
    StandbyCluster,
    /// An operator changes the cluster's time to live.
    TtlChanged,
    /// Two logical slots come into the configuration (in stories only).
    SlotsConfigured,
    /// An operator changes the settings of synchronous replication, for good.
    SyncSettings,
    /// An operator removes the `sync` key.
    SyncKeyRemoved,
    /// An operator writes garbage into it.
    SyncKeyGarbage,
}

/// Those of synchronous replication.
pub const SYNCHRONOUS: [Fault; 3] = [Fault::SyncSettings, Fault::SyncKeyRemoved, Fault::SyncKeyGarbage];

/// All other kinds.
pub const ALL: [Fault; 26] = [
    Fault::NodeDeath,
    Fault::AgentDeath,
    Fault::AgentRestart,
    Fault::PostmasterCrash,
    Fault::PostgresStall,
    Fault::EtcdCut,
    Fault::PeerCut,
    Fault::Isolation,
    Fault::StalledIsolation,
    Fault::EtcdFreeze,
    Fault::EtcdLeaderChange,
    Fault::LostReplies,
    Fault::SlowLink,
    Fault::SlowAgent,
    Fault::SlowOperator,
    Fault::Shutdown,
    Fault::Reboot,
    Fault::KeyRemoved,
    Fault::DataLoss,
    Fault::Switchover,
    Fault::Failover,
    Fault::Restart,
    Fault::Reinitialize,
    Fault::Pause,
    Fault::StandbyCluster,
    Fault::TtlChanged,
];

impl Fault {
    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().chain(SYNCHRONOUS).chain([Self::SlotsConfigured]).find(|fault| format!("{fault:?}") == name)
    }
}

/// Whom a fault strikes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Whom {
    /// Drawn when it strikes, the leader more often than not.
    Drawn,
    /// Whoever holds the leader key then.
    Leader,
    /// This node.
    Node(usize),
}

/// A fault that is to come.
#[derive(Copy, Clone, Debug)]
pub struct Planned {
    /// When (true time).
    pub at: u64,
    /// What.
    pub fault: Fault,
    /// Whom.
    pub whom: Whom,
    /// How long; `None`: drawn when it strikes.
    pub lasts: Option<u64>,
}

impl World {
    fn target(&mut self, planned: &Planned) -> usize {
        match (planned.whom, self.etcd.leader()) {
            (Whom::Node(node), _) => node,
            (Whom::Leader, Some(leader)) => leader,
            (Whom::Drawn, Some(leader)) if self.rng.permille(600) => leader,
            _ => self.rng.below(self.nodes.len() as u64) as usize,
        }
    }

    /// The fault strikes.
    pub fn strike(&mut self, index: usize) {
        let planned = self.setup.faults[index];
        let n = self.target(&planned);
        let ttl = self.ms(self.setup.settings.ttl);
        let drawn = if self.rng.permille(500) { self.rng.range(500, ttl) } else { self.rng.range(ttl / 2, ttl * 2) };
        let left = self.setup.heal_at.saturating_sub(self.now);
        let lasts = planned.lasts.unwrap_or_else(|| drawn.min(left));
        let struck = self.apply_fault(index, planned.fault, n, lasts);
        if struck {
            self.trace.count(&format!("fault:{:?}", planned.fault));
            self.trace.tell(self.now, || format!("*** {:?} n{}", planned.fault, n + 1));
            self.nodes[n].disturbed_at = self.now;
        }
    }

    fn apply_fault(&mut self, index: usize, fault: Fault, n: usize, lasts: u64) -> bool {
        let over = self.now + lasts;
        let end = Ev::FaultEnd { index, node: n };
        match fault {
            Fault::NodeDeath | Fault::Reboot | Fault::DataLoss => {
                if !self.nodes[n].up || self.nodes[n].agent.is_none() {
                    return false;
                }
                if fault == Fault::DataLoss && (self.nodes[n].pg.writable || self.only_data_on(n)) {
                    return false;
                }
                self.power_off(n, fault);
                self.push(over, end);
            }
            Fault::AgentDeath | Fault::AgentRestart => {
                if self.nodes[n].agent.is_none() {
                    return false;
                }
                self.agent_gone(n);
                self.nodes[n].down += 1;
                let back = if fault == Fault::AgentRestart { self.now + self.rng.range(200, 2000) } else { over };
                self.push(back, end);
            }
            Fault::PostmasterCrash => {
                if self.nodes[n].pg.proc != Proc::Running {
                    return false;
                }
                self.pg_crash(n);
            }
            Fault::PostgresStall => {
                if !self.nodes[n].pg.alive() {
                    return false;
                }
                self.nodes[n].pg.stalled_until = over;
            }
            Fault::EtcdCut | Fault::PeerCut | Fault::Isolation => self.cut(index, fault, n, over),
            Fault::StalledIsolation => {
                self.cut(index, fault, n, over);
                self.nodes[n].pg.stalled_until = over;
            }
            Fault::LostReplies => {
                let chance = self.rng.range(100, 600);
                self.net.lossy.push((index, End::Node(n), chance));
                self.push(over, end);
            }
            Fault::SlowLink => {
                let slow = self.rng.range(100, 2000);
                self.net.slow.push((index, End::Node(n), slow));
                self.push(over, end);
            }
            Fault::EtcdFreeze => self.etcd.frozen_until = over,
            Fault::EtcdLeaderChange => {
                let silence = self.rng.range(100, 1500);
                self.etcd.change_leader(self.now + silence);
                self.etcd.frozen_until = self.etcd.frozen_until.max(self.now + silence);
            }
            Fault::SlowAgent => {
                if self.nodes[n].agent.is_none() {
                    return false;
                }
                let longest = lease_view::margin_ms(self.ttl_shortest()) / 2;
                self.nodes[n].paused_until = self.now + self.rng.range(longest / 4, longest - 10);
            }
            Fault::SlowOperator => {
                self.nodes[n].operator_slow = 2 * self.ms(self.setup.settings.ttl);
                self.push(over, end);
            }
            Fault::Shutdown => {
                if self.nodes[n].agent.is_none() {
                    return false;
                }
                self.nodes[n].down += 1;
                let inc = self.nodes[n].inc;
                self.push(self.now, Ev::Turn { n, inc, fact: Box::new(pgherd_kernel::Observation::ShutdownRequested) });
                self.push(over, end);
            }
            Fault::Switchover => return self.ask_for_failover(true),
            Fault::Failover => return self.ask_for_failover(false),
            Fault::Restart => return self.ask_for_restart(n),
            Fault::Reinitialize => return self.ask_for_copy(n),
            Fault::Pause => {
                self.set_pause(true);
                self.push(over, end);
            }
            Fault::StandbyCluster => {
                if self.remote.wanted || self.etcd.leader().is_none() {
                    return false;
                }
                self.set_standby_cluster(true);
                self.push(over, end);
            }
            Fault::SlotsConfigured => {
                self.setup = self.setup.clone().with_slot().with_another();
                return self.change_config(|config| config.slots = true);
            }
            Fault::SyncSettings => self.change_sync_settings(),
            Fault::SyncKeyRemoved | Fault::SyncKeyGarbage => return self.lay_hands_on_sync_key(fault),
            Fault::TtlChanged => {
                let times = [self.ttl_shortest(), self.ms(self.setup.settings.ttl), self.ttl_longest()];
                let ttl_s = times[self.rng.below(3) as usize] / 1000;
                return self.change_config(|config| config.ttl_s = Some(ttl_s));
            }
            Fault::KeyRemoved => {
                let Some(leader) = self.etcd.leader() else { return false };
                self.nodes[leader].exempt_until = self.now + self.ttl_longest();
                self.etcd.key_removed_at = Some(self.now);
                self.etcd.drop_leader();
                self.etcd_changed();
            }
        }
        true
    }

    fn only_data_on(&self, n: usize) -> bool {
        let copies = self.nodes.iter().filter(|node| node.pg.data.is_some()).count();
        copies < self.nodes.len() || self.etcd.leader().is_none_or(|leader| leader == n)
    }

    fn power_off(&mut self, n: usize, fault: Fault) {
        self.agent_gone(n);
        self.nodes[n].down += 1;
        self.nodes[n].up = false;
        let pg = &mut self.nodes[n].pg;
        (pg.proc, pg.writable, pg.receiver, pg.kill_queued, pg.stalled_until) = (Proc::Stopped, false, None, false, 0);
        pg.sync = SyncRep::default();
        pg.pid += 1;
        pg.attempts += 1;
        if let Some(data) = pg.data.as_mut() {
            data.wal_end_found = false;
        }
        if fault == Fault::DataLoss {
            pg.data = None;
        }
        self.data_changed();
        if fault == Fault::Reboot {
            self.nodes[n].recorded = None;
            self.nodes[n].clock.offset = self.rng.range(1_000_000, 9_000_000);
        }
        (self.nodes[n].fence, self.nodes[n].fence_at) = (FenceOrder::Disarmed, u64::MAX);
        self.drop_standbys(n, 1000, 10_000);
    }

    fn cut(&mut self, index: usize, fault: Fault, n: usize, over: u64) {
        let other = (n + 1 + self.rng.below(self.nodes.len() as u64 - 1) as usize) % self.nodes.len();
        let ends: Vec<End> = match fault {
            Fault::EtcdCut => vec![End::Etcd],
            Fault::PeerCut => vec![End::Node(other)],
            _ => (0..self.nodes.len()).filter(|m| *m != n).map(End::Node).chain([End::Etcd]).collect(),
        };
        let ways = if matches!(fault, Fault::Isolation | Fault::StalledIsolation) { 0 } else { self.rng.below(4) };
        for end in ends {
            if ways != 1 {
                self.net.cuts.push((index, End::Node(n), end));
            }
            if ways != 2 {
                self.net.cuts.push((index, end, End::Node(n)));
            }
            if let End::Node(m) = end {
                self.nodes[m].disturbed_at = self.now;
            }
        }
        self.push(over, Ev::FaultEnd { index, node: n });
    }

    /// The fault is over.
    pub fn fault_over(&mut self, index: usize, n: usize) {
        let fault = self.setup.faults[index].fault;
        self.trace.tell(self.now, || format!("*** {fault:?} n{} over", n + 1));
        self.net.heal(index);
        for node in &mut self.nodes {
            node.disturbed_at = self.now;
        }
        match fault {
            Fault::SlowOperator => self.nodes[n].operator_slow = 0,
            Fault::Pause => self.set_pause(false),
            Fault::StandbyCluster => self.set_standby_cluster(false),
            Fault::NodeDeath
            | Fault::Reboot
            | Fault::DataLoss
            | Fault::AgentDeath
            | Fault::AgentRestart
            | Fault::Shutdown => {
                self.nodes[n].down -= 1;
                if self.nodes[n].down == 0 {
                    self.nodes[n].up = true;
                    self.agent_start(n);
                }
            }
            _ => {}
        }
    }
}
