//! Everything one node knows. It changes only through [`View::apply`] and [`View::dispatched`].

mod facts;
mod sent;

use crate::asked::Asked;
use crate::rules::handover::Handover;
use crate::slots::SlotMemory;
use crate::sync::SyncMemory;
use crate::wishes::Pending;
use crate::{LeaseView, Lock};
use pgherd_types::{
    Cluster, FenceOrder, Instant, LeaseGrant, LeaseId, MemberName, Operation, OperationEnd, OperationId, PeerReport,
    PostgresState, Role, ScheduledRestart, Settings, StatusKey, SyncGuard, SystemId, Tags, Timeline, Upstream,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Who this node is.
#[derive(Clone, Debug, Default)]
pub struct Me {
    /// Its name.
    pub name: MemberName,
    /// Its `conn_url`.
    pub conn_url: String,
    /// Its `api_url`.
    pub api_url: String,
    /// Its `proxy_url`, if a connection pooler is before it.
    pub proxy_url: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// The local configuration has a `bootstrap` section.
    pub can_bootstrap: bool,
    /// A new cluster is made by the user's own program, not by initdb.
    pub custom_bootstrap: bool,
    /// A method of making replicas works without a leader.
    pub can_restore: bool,
}

/// A fact and when it was found, or none yet.
#[derive(Clone, Debug, Default)]
pub enum Seen<T> {
    /// Not known.
    #[default]
    Never,
    /// Known, as of then.
    At(T, Instant),
}

impl<T> Seen<T> {
    /// The fact.
    pub fn get(&self) -> Option<&T> {
        match self {
            Self::Never => None,
            Self::At(fact, _) => Some(fact),
        }
    }
    /// Its time.
    pub fn when(&self) -> Option<Instant> {
        match self {
            Self::Never => None,
            Self::At(_, at) => Some(*at),
        }
    }
}

/// The operation that PostgreSQL's operator is busy with.
#[derive(Clone, PartialEq, Debug)]
pub struct Running {
    /// Its number.
    pub id: OperationId,
    /// What.
    pub operation: Operation,
    /// Since when.
    pub since: Instant,
    /// It was told to give up.
    pub cancelled: bool,
}

/// How the last operation ended.
#[derive(Clone, PartialEq, Debug)]
pub struct Ended {
    /// What.
    pub operation: Operation,
    /// How.
    pub end: OperationEnd,
    /// When.
    pub at: Instant,
    /// How many of this kind have failed in a row.
    pub failures: u32,
}

/// Answers of peers.
#[derive(Clone, PartialEq, Debug)]
pub struct PeerRound {
    /// When they were asked.
    pub asked_at: Instant,
    /// What they said.
    pub reports: Vec<PeerReport>,
}

/// This node's data is not on the leader's history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diverged {
    /// Our timeline.
    pub timeline: Timeline,
    /// The leader's timeline when that was found.
    pub leader_timeline: Timeline,
    /// The words for it.
    pub text: String,
}

/// What a decision wants to be remembered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Memory {
    /// The lead is being handed over.
    Handover(Handover),
    /// It is not any more.
    HandoverOver,
    /// Another node would serve better than this one: the key is given up once PostgreSQL is down.
    MakesRoom,
    /// The scheduled restart begins.
    RestartBegun,
    /// The scheduled restart is not needed any more.
    ScheduleDropped,
    /// Copies of slots are needed, and others of the configuration are to come.
    OtherSlotsAwaited,
    /// A synchronous standby needs copies of slots, which means a restart.
    CopyOwed,
    /// Its turn has come: it asks to be let go.
    LeavesForCopy,
    /// It needs none any more.
    CopyNotOwed,
}

/// What one node knows.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Itself.
    pub me: Me,
    /// Settings in force.
    pub settings: Settings,
    /// The cluster, by the time its reading began.
    pub cluster: Seen<Arc<Cluster>>,
    /// The DCS has not answered since.
    pub dcs_lost_since: Option<Instant>,
    /// No leader has been seen since.
    pub leaderless_since: Option<Instant>,
    /// The API of every member ever seen beside a leader: those whose keys just lapsed are still asked.
    pub known_apis: BTreeMap<MemberName, String>,
    /// Where the PostgreSQL of every member ever seen is, and its role then.
    pub known_servers: BTreeMap<MemberName, ((String, u16), Option<Role>)>,
    /// This was a standby cluster, and no primary was seen since.
    pub was_standby_cluster: bool,
    /// When each member's slot was last wanted: the member was there, or a leader said so.
    pub slots_wanted: BTreeMap<String, Instant>,
    /// The lease.
    pub lease: LeaseView,
    /// PostgreSQL, by the time the look began.
    pub postgres: Seen<Arc<PostgresState>>,
    /// It served when it last answered, and nothing was done to it since: as a standby (true) or as a primary.
    pub served: Option<bool>,
    /// It went away without being asked to.
    pub crashed: bool,
    /// The last round of answers.
    pub peers: Option<PeerRound>,
    /// The operation under way.
    pub operation: Option<Running>,
    /// The last one that ended.
    pub ended: Option<Ended>,
    /// The timeline reserved in this term of leadership.
    pub reservation: Option<Timeline>,
    /// The last finding of a divergence.
    pub diverged: Option<Diverged>,
    /// The leader key was given up in the course of a shutdown, or need not be.
    pub released: bool,
    /// The last request for the leader key had no answer that settles it.
    pub acquire_unsure: bool,
    /// The release of the leader key was sent and its fate is not known: until it is, this key allows nothing new. What was
    /// to be published with it.
    pub releasing: Option<Option<StatusKey>>,
    /// The process should end, since.
    pub shutdown: Option<Instant>,
    /// The member key was ours since this process began.
    pub named: bool,
    /// When this view began.
    pub began: Instant,
    /// The lead is being handed over.
    pub handover: Option<Handover>,
    /// Another node would serve better: the key is given up once PostgreSQL is down.
    pub makes_room: bool,
    /// An operator's wish that is being fulfilled.
    pub pending: Option<Pending>,
    /// A restart at a time.
    pub scheduled_restart: Option<ScheduledRestart>,
    /// A primary that lost the DCS was promised that this node does not race: who, and when.
    pub promised: Option<(MemberName, Instant)>,
    /// The time to live before it was made shorter, and the lease that the leader key hung on then.
    pub ttl_before: Option<(Duration, Option<LeaseId>)>,
    /// The manual request in force, by its revision, and since when it is known.
    pub request_seen: Option<(i64, Instant)>,
    /// The key was given up then, because another node would serve better.
    pub made_way_at: Option<Instant>,
    /// The user's script refused the promotion of this node then.
    pub refused_promotion_at: Option<Instant>,
    /// The watchdog is required and cannot be used.
    pub watchdog_failed: bool,
    /// When the server went away without being asked to, while it led; the newest last, a few of them.
    pub crashes: Vec<Instant>,
    /// The server has ended its clients, written its shutdown checkpoint and archives since.
    pub archiving_since: Option<Instant>,
    /// The server has been starting since, with no operation under way.
    pub starting_since: Option<Instant>,
    /// The server has not answered since.
    pub unresponsive_since: Option<Instant>,
    /// The standby's position last moved then.
    pub moved_at: Option<Instant>,
    /// When each other member's key was last seen.
    pub member_seen: BTreeMap<MemberName, Instant>,
    /// A number drawn anew by the caller for every operation: the kernel has no randomness of its own.
    pub dice: u64,
    /// What was asked for.
    pub asked: Asked,
    /// What is remembered of synchronous replication.
    pub sync: SyncMemory,
    /// What is remembered of slots.
    pub slots: SlotMemory,
    /// The last number given to an operation.
    pub last_operation: u64,
    /// The last number given to a round (of probes or slots).
    pub last_round: u64,
    /// Planted bugs, for the simulator's own test.
    pub mutant: Option<Mutant>,
}

/// A bug that a simulator must find.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// The lease is relied upon to its very end.
    NoMargin,
    /// Promotion does not wait for the lock.
    PromoteWithoutLock,
    /// Workers carry out commands whose fence has passed.
    LateCommandNotDropped,
    /// A keepalive answer without a TTL counts as success.
    KeepaliveWithoutTtl,
    /// A standby is removed from PostgreSQL's list before it is from the `sync` key.
    NamesBeforeKey,
    /// A standby does not wait for other slots before it is restarted for copies of those that it knows of.
    SlotsOneByOne,
}

impl View {
    /// A node that knows nothing but itself, its settings and the promise recorded by its predecessor.
    pub fn new(me: Me, settings: Settings, recorded: Option<LeaseGrant>, now: Instant) -> Self {
        let mut lease = LeaseView::default();
        if let Some(grant) = recorded {
            lease.prove(grant, now);
        }
        Self { me, settings, lease, began: now, ..Self::default() }
    }

    /// How the leader lock stands.
    pub fn lock(&self, now: Instant) -> Lock {
        let serves = || self.postgres.get().is_some_and(|p| p.running().is_some());
        if self.mutant == Some(Mutant::PromoteWithoutLock) && self.leaderless_since.is_some() && serves() {
            return Lock::Held { until: now + self.settings.ttl };
        }
        self.lease.lock(now)
    }
    /// Is the leader lock ours?
    pub fn leads(&self, now: Instant) -> bool {
        matches!(self.lock(now), Lock::Held { .. })
    }
    /// Does the leader key, as last read, hang on our lease?
    pub fn key_is_ours(&self) -> bool {
        let leader = self.cluster.get().and_then(|c| c.leader.as_ref());
        leader.is_some_and(|l| {
            l.name == self.me.name && l.lease.is_some() && l.lease == self.lease.current.map(|g| g.lease)
        })
    }
    /// For how long a promise to a primary without the DCS is kept.
    pub fn promise_lasts(&self) -> Duration {
        self.ttl_before.map_or(self.settings.ttl, |(ttl, _)| ttl.max(self.settings.ttl))
    }
    /// How long a primary may take to start: zero says what to do after a crash, not that nothing may be started.
    pub fn start_timeout(&self) -> Duration {
        let configured = self.settings.primary_start_timeout;
        if configured.is_zero() { Settings::default().primary_start_timeout } else { configured }
    }
    /// Where the API of another living node with our name is. Its key hangs on its lease, so one that is dead lapses; one
    /// with our own address is our predecessor's.
    pub fn namesake(&self) -> Option<&str> {
        let member = self.cluster.get()?.members.get(&self.me.name).filter(|_| !self.named)?;
        let foreign = member.lease.is_some() && member.lease != self.lease.current.map(|grant| grant.lease);
        member.doc.api_url.as_deref().filter(|api_url| foreign && *api_url != self.me.api_url)
    }
    /// The primary of another cluster that this one follows.
    pub fn remote(&self) -> Option<Upstream> {
        self.settings.standby_cluster.as_ref()?.upstream()
    }
    /// May only members on the latest timeline lead? A standby cluster's timelines are not its own.
    pub fn checks_timeline(&self) -> bool {
        self.settings.check_timeline && self.settings.standby_cluster.is_none()
    }
    /// What the `sync` key must still be when the leader key is taken now.
    pub fn sync_guard(&self, now: Instant) -> SyncGuard {
        match self.lock(now) {
            Lock::Vanished { .. } => SyncGuard::Unguarded,
            Lock::Held { .. } | Lock::No => SyncGuard::At(self.cluster.get().and_then(|c| c.sync.revision())),
        }
    }
    /// The system identifier of our data.
    pub fn system_id(&self) -> Option<SystemId> {
        Some(self.postgres.get()?.control()?.system_id)
    }
    /// Is an operation under way that makes it writable?
    pub fn becomes_writable(&self) -> bool {
        self.operation.as_ref().is_some_and(|running| running.operation.needs_lock())
    }
    /// Could a client's commit succeed here now, or soon without a further decision?
    pub fn may_be_writable(&self) -> bool {
        match &self.operation {
            Some(running) if running.operation.needs_lock() => true,
            // initdb's server can be reached by nobody, and its data belong to no cluster yet; the others only begin on a
            // server that is down or in recovery, and a look that overlaps them may see half of their work
            Some(Running { operation, .. }) if !matches!(operation, Operation::Stop { .. }) => false,
            _ => self.postgres.get().is_some_and(|p| p.may_be_writable()),
        }
    }
    /// The promise that a successor of this process may rely on. None once the release of the leader key was sent: a
    /// request that is still on its way may give the key up at any time, and a successor knows nothing of it.
    pub fn promise(&self) -> Option<LeaseGrant> {
        self.lease.promise().filter(|_| self.releasing.is_none())
    }
    /// What the fence thread must be told.
    pub fn fence_order(&self, now: Instant) -> FenceOrder {
        if self.settings.pause && !self.becomes_writable() {
            return FenceOrder::Disarmed; // in maintenance mode a primary goes on whatever happens (spec/ha.md 16)
        }
        let unknown_but_relied_upon = self.postgres.get().is_none() && self.lease.leader.is_some();
        if self.may_be_writable() || unknown_but_relied_upon {
            self.lease.fence_order(now)
        } else {
            FenceOrder::Disarmed
        }
    }
}
