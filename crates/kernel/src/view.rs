//! Everything one node knows. It changes only through [`View::apply`] and [`View::dispatched`].

use crate::asked::{Ask, Asked};
use crate::{Action, Decision, LeaseView, Lock, Observation, Reason};
use pgherd_types::{
    Cluster, DcsWrite, FenceOrder, Instant, LeaseGrant, MemberName, Now, Operation, OperationEnd, OperationId,
    PeerReport, PostgresState, Refused, Server, Settings, SystemId, Tags, Timeline,
};
use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// When each other member's slot was last wanted.
    pub slots_wanted: BTreeMap<String, Instant>,
    /// The lease.
    pub lease: LeaseView,
    /// PostgreSQL, by the time the look began.
    pub postgres: Seen<Arc<PostgresState>>,
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
    /// The process should end, since.
    pub shutdown: Option<Instant>,
    /// A number drawn anew by the caller for every operation: the kernel has no randomness of its own.
    pub dice: u64,
    /// What was asked for.
    pub asked: Asked,
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
}

impl View {
    /// A node that knows nothing but itself, its settings and the promise recorded by its predecessor.
    pub fn new(me: Me, settings: Settings, recorded: Option<LeaseGrant>, now: Instant) -> Self {
        let mut lease = LeaseView::default();
        if let Some(grant) = recorded {
            lease.prove(grant, now);
        }
        Self { me, settings, lease, ..Self::default() }
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
    /// The system identifier of our data.
    pub fn system_id(&self) -> Option<SystemId> {
        Some(self.postgres.get()?.control()?.system_id)
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
    /// What the fence thread must be told.
    pub fn fence_order(&self, now: Instant) -> FenceOrder {
        let unknown_but_relied_upon = self.postgres.get().is_none() && self.lease.leader.is_some();
        if self.may_be_writable() || unknown_but_relied_upon {
            self.lease.fence_order(now)
        } else {
            FenceOrder::Disarmed
        }
    }

    /// The only way a fact changes the view.
    pub fn apply(&mut self, fact: Observation, now: Now) {
        let now = now.mono;
        match fact {
            Observation::Cluster { cluster, read_at } => self.cluster_read(cluster, read_at, now),
            Observation::DcsLost { since } => self.dcs_lost_since = Some(self.dcs_lost_since.unwrap_or(since)),
            Observation::LeaseRenewed { grant, leader_proven } => self.lease_renewed(grant, leader_proven, now),
            Observation::LeaseRefused { why } => self.lease_refused(&why, now),
            Observation::LeaderAcquired(grant) => {
                answer(&mut self.asked.acquire, now, true);
                self.dcs_lost_since = None;
                self.reservation = None;
                self.released = false; // whatever was given up before, this key is a new one
                self.lease.prove(grant, now);
            }
            Observation::AcquireRefused(why) => {
                answer(&mut self.asked.acquire, now, false);
                match why {
                    Refused::Compare => self.lose_lock(now),
                    Refused::LeaseGone => {
                        self.lease.current = None;
                        self.lose_lock(now);
                    }
                    Refused::Absent | Refused::Denied(_) | Refused::Unreachable(_) => {}
                }
            }
            Observation::LeaderReleased => {
                answer(&mut self.asked.release, now, true);
                self.released = true;
                self.lose_lock(now);
            }
            Observation::ReleaseRefused(why) => {
                answer(&mut self.asked.release, now, false);
                if matches!(why, Refused::Compare | Refused::LeaseGone) {
                    self.released = true;
                    self.lose_lock(now);
                }
            }
            Observation::Written(write) => {
                self.asked.write_answered(&write, now, true);
                if let DcsWrite::ReserveTimeline { timeline, .. } = write {
                    self.reservation = Some(timeline);
                }
            }
            Observation::WriteRefused(write, why) => {
                self.asked.write_answered(&write, now, false);
                if why == Refused::LeaseGone {
                    self.lease.current = None;
                }
            }
            Observation::Postgres(state) => self.postgres_looked_at(state),
            Observation::Peers { round, reports } => self.peers_answered(round, reports, now),
            Observation::OperationFinished { id, end } => self.operation_finished(id, end, now),
            Observation::SlotsAligned { round, ok } => {
                if let Some((_, ask)) = self.asked.slots.as_mut().filter(|(r, _)| *r == round) {
                    ask.answered(now, ok);
                }
            }
            Observation::Settings(settings) => self.settings = settings,
            Observation::ShutdownRequested => self.shutdown = self.shutdown.or(Some(now)),
        }
    }

    fn lose_lock(&mut self, now: Instant) {
        self.lease.lose(now);
        self.reservation = None;
    }

    fn cluster_read(&mut self, cluster: Arc<Cluster>, read_at: Instant, now: Instant) {
        if self.cluster.when().is_some_and(|last| read_at < last) {
            return; // an older reading that was overtaken
        }
        self.dcs_lost_since = None;
        self.judge_lock_by(&cluster, read_at, now);
        match cluster.leader {
            None => self.leaderless_since = Some(self.leaderless_since.unwrap_or(now)),
            Some(_) => self.leaderless_since = None,
        }
        for (name, member) in cluster.members.iter().filter(|(name, _)| **name != self.me.name) {
            if let Some(api) = &member.doc.api_url {
                self.known_apis.insert(name.clone(), api.clone());
            }
            if !member.doc.tags.nostream {
                self.slots_wanted.insert(name.slot_name(), now);
            }
        }
        self.cluster = Seen::At(cluster, read_at);
    }

    /// A reading that began after our last proof was complete is newer than the proof.
    fn judge_lock_by(&mut self, cluster: &Cluster, read_at: Instant, now: Instant) {
        let Some(proof) = self.lease.leader.filter(|proof| read_at >= proof.known_at) else { return };
        match &cluster.leader {
            None => self.lease.vanished = true,
            Some(key) if key.name == self.me.name && key.lease == Some(proof.grant.lease) => {
                self.lease.vanished = false
            }
            Some(_) => self.lose_lock(now),
        }
    }

    fn lease_renewed(&mut self, grant: LeaseGrant, leader_proven: bool, now: Instant) {
        answer(&mut self.asked.renew, now, true);
        self.dcs_lost_since = None;
        if self.lease.current.is_some_and(|old| old.lease != grant.lease) && !leader_proven {
            self.lose_lock(now);
        }
        self.lease.current = Some(grant);
        if leader_proven {
            self.released = false;
            self.lease.prove(grant, now);
        }
    }

    fn lease_refused(&mut self, why: &Refused, now: Instant) {
        let proving = self.asked.renew.as_ref().is_some_and(|ask| ask.what);
        answer(&mut self.asked.renew, now, false);
        match why {
            Refused::LeaseGone => {
                self.lease.current = None;
                self.lose_lock(now);
            }
            Refused::Compare if proving => self.lose_lock(now),
            // the lease lives and nobody else can have the key: it may be taken back as long as the last proof lasts
            Refused::Absent if self.lease.leader.is_some() => self.lease.vanished = true,
            Refused::Absent | Refused::Compare | Refused::Denied(_) | Refused::Unreachable(_) => {}
        }
    }

    fn postgres_looked_at(&mut self, state: Arc<PostgresState>) {
        if self.postgres.when().is_some_and(|last| state.looked_at < last) {
            return;
        }
        let was_running = self.postgres.get().is_some_and(|p| p.running().is_some());
        match state.server {
            Server::Running(_) => self.crashed = false,
            Server::Stopped | Server::Orphaned => self.crashed |= was_running && self.operation.is_none(),
            Server::Starting | Server::Stopping | Server::Unresponsive(_) => {}
        }
        let at = state.looked_at;
        self.postgres = Seen::At(state, at);
    }

    fn peers_answered(&mut self, round: u64, reports: Vec<PeerReport>, now: Instant) {
        let Some(ask) = self.asked.probe.as_mut().filter(|ask| ask.what == round) else { return };
        ask.answered(now, true);
        self.peers = Some(PeerRound { asked_at: ask.at, reports });
    }

    fn operation_finished(&mut self, id: OperationId, end: OperationEnd, now: Instant) {
        let Some(running) = self.operation.take_if(|running| running.id == id) else { return };
        let failed = matches!(end, OperationEnd::Failed(_));
        let before = self
            .ended
            .as_ref()
            .filter(|last| same_kind(&last.operation, &running.operation))
            .map_or(0, |last| last.failures);
        let failures = if failed { before + 1 } else { 0 };
        self.ended = Some(Ended { operation: running.operation, end, at: now, failures });
    }

    /// Note what a decision asked for, before it is sent.
    pub fn dispatched(&mut self, decision: &Decision, now: Now) {
        let now = now.mono;
        match &decision.role {
            Action::Hold | Action::Exit => {}
            Action::Acquire => self.asked.acquire = Some(Ask::new((), now)),
            Action::Release(_) => self.asked.release = Some(Ask::new((), now)),
            Action::Start { id, operation, .. } => {
                self.last_operation = id.0;
                self.operation = Some(Running { id: *id, operation: operation.clone(), since: now, cancelled: false });
            }
            Action::Cancel(id) => {
                if let Some(running) = self.operation.as_mut().filter(|running| running.id == *id) {
                    running.cancelled = true;
                }
            }
            Action::Probe { round, .. } => {
                self.last_round = *round;
                self.asked.probe = Some(Ask::new(*round, now));
            }
            Action::Write(write) => self.note_write(write, now),
        }
        if let Reason::Diverged(found) = &decision.because {
            self.diverged = Some(found.clone());
        }
        self.note_upkeep(decision, now);
    }

    fn note_upkeep(&mut self, decision: &Decision, now: Instant) {
        let upkeep = &decision.upkeep;
        if let Some(prove) = upkeep.renew {
            self.asked.renew = Some(Ask::new(prove, now));
        }
        for write in &upkeep.writes {
            self.note_write(write, now);
        }
        if upkeep.repair_config {
            self.asked.config = Some(Ask::new((), now));
        }
        if upkeep.look {
            self.asked.look = Some(now);
        }
        if let Some((round, target)) = &upkeep.slots {
            self.last_round = *round;
            self.asked.slots = Some((*round, Ask::new(target.clone(), now)));
        }
    }

    fn note_write(&mut self, write: &DcsWrite, now: Instant) {
        self.asked.writes.insert(write.key(), Ask::new(write.clone(), now));
    }
}

fn answer<T: PartialEq>(ask: &mut Option<Ask<T>>, now: Instant, yes: bool) {
    if let Some(ask) = ask {
        ask.answered(now, yes);
    }
}

fn same_kind(a: &Operation, b: &Operation) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}
