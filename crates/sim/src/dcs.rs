//! The DCS watcher and its adapter on a node: every call of the protocol as a chain of requests that may get lost, be
//! carried out late, or be carried out with the reply lost. Ambiguous writes are read back.

use crate::etcd::{Etcd, Reply, Request};
use crate::mutants::Planted;
use crate::network::End;
use crate::world::{Ev, World};
use pgherd_kernel::Observation;
use pgherd_kernel::view::Mutant;
use pgherd_types::{Cluster, DcsWrite, Instant, LeaseGrant, LeaseId, Refused, StatusKey, SyncGuard};
use std::sync::Arc;

/// What the call is for.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Read the cluster.
    Read,
    /// Keep or get a lease; with true prove the leader key.
    Renew(bool),
    /// Move the keys to a new lease with this time to live; with true prove the leader key.
    Move(bool, u64),
    /// Take the leader key, if the `sync` key is still as the race was judged by.
    Acquire(SyncGuard),
    /// Give it up.
    Release(Option<StatusKey>),
    /// Write.
    Write(Arc<DcsWrite>),
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its number.
    pub id: u64,
    /// What for.
    pub kind: Kind,
    /// When it began, on the node's clock.
    pub began: Instant,
    /// True time at which it gives up.
    pub until: u64,
    /// The request under way.
    pub request: Request,
    /// Counts requests; answers to earlier ones are void.
    pub attempt: u32,
    /// The lease it is about.
    pub lease: Option<LeaseId>,
    /// When its keepalive or grant left, on the node's clock.
    pub sent_at: Instant,
    /// The time to live that was granted.
    pub ttl_ms: u64,
    /// An earlier copy of the write may have been carried out.
    pub unsure: bool,
    /// The lease was granted in the course of this call.
    pub regranted: bool,
    /// The time to live the lease was asked with.
    pub asked_ttl_ms: u64,
    /// The lease that the keys are moved away from.
    pub moves_from: Option<LeaseId>,
}

impl Call {
    /// etcd's promise, as of the keepalive or grant of this call.
    fn grant(&self) -> Result<LeaseGrant, Refused> {
        let Self { sent_at, ttl_ms, asked_ttl_ms, .. } = *self;
        let asked_ttl_ms = Some(asked_ttl_ms);
        self.lease.map(|lease| LeaseGrant { lease, sent_at, ttl_ms, asked_ttl_ms }).ok_or(Refused::LeaseGone)
    }
}

impl World {
    /// Begin a call.
    pub fn call(&mut self, n: usize, kind: Kind) {
        let (now, local) = (self.now, self.local(n));
        let patience = self.ms(self.setup.settings.retry_timeout);
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        agent.last_call += 1;
        let (id, mut lease, mut moves_from) = (agent.last_call, agent.lease, None);
        let ttl_ms = agent.view.settings.ttl.as_millis() as u64;
        let mut asked_ttl_ms = agent.lease_asked_ms;
        let first = match (&kind, lease) {
            (Kind::Read, _) => Ok(Request::Range),
            // an earlier move is settled by whatever renews next
            (Kind::Renew(_) | Kind::Move(..), Some(old)) if agent.moving.is_some() => {
                let (new, asked) = agent.moving.unwrap_or((old, 0));
                (lease, moves_from, asked_ttl_ms) = (Some(new), Some(old), asked);
                Ok(Request::KeepAlive(new))
            }
            (Kind::Move(_, ttl_ms), Some(old)) => {
                moves_from = Some(old);
                Ok(Request::GrantAnother(*ttl_ms))
            }
            (Kind::Renew(false) | Kind::Move(false, _) | Kind::Acquire(_), None) => Ok(Request::Grant(ttl_ms)),
            (Kind::Renew(_) | Kind::Acquire(_), Some(lease)) => Ok(Request::KeepAlive(lease)),
            (Kind::Release(status), Some(lease)) => Ok(Request::Release(lease, status.clone())),
            (Kind::Write(write), lease) => Ok(Request::Write(lease, Arc::clone(write))),
            (Kind::Renew(true) | Kind::Move(true, _) | Kind::Release(_), None) => Err(Refused::LeaseGone),
        };
        let request = match first {
            Ok(request) => request,
            Err(why) => return self.call_answered(n, kind, local, Err(why)),
        };
        let call = Call {
            id,
            kind,
            began: local,
            until: now + patience,
            request,
            attempt: 0,
            lease,
            sent_at: local,
            ttl_ms,
            unsure: false,
            regranted: false,
            asked_ttl_ms,
            moves_from,
        };
        agent.calls.push(call);
        self.send(n, id);
    }

    /// Send the call's present request.
    fn send(&mut self, n: usize, id: u64) {
        let (now, local, inc) = (self.now, self.local(n), self.nodes[n].inc);
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        let granting = |c: &Call| matches!(c.request, Request::Grant(_));
        let another_grants = agent.calls.iter().any(|c| c.id < id && granting(c));
        let lease = agent.lease;
        let Some(call) = agent.calls.iter_mut().find(|c| c.id == id) else { return };
        call.attempt += 1;
        if granting(call) {
            // one lease for each node: what another call was granted is used, what it asks for is waited for
            if let Some(lease) = lease {
                (call.lease, call.request) = (Some(lease), Request::KeepAlive(lease));
            } else if another_grants {
                let attempt = call.attempt;
                return self.push(now + 20, Ev::CallTimeout { n, inc, id, attempt });
            }
        }
        if matches!(call.request, Request::KeepAlive(_) | Request::Grant(_) | Request::GrantAnother(_)) {
            call.sent_at = local;
        }
        let (attempt, request) = (call.attempt, call.request.clone());
        self.trace.detail(now, || format!("   n{} call {id} sends {request:?}", n + 1));
        let lost_at = now + self.request_patience();
        let delay = self.net.delay(&mut self.rng, End::Node(n), End::Etcd);
        if delay.is_none_or(|d| now + d >= lost_at) {
            self.push(lost_at, Ev::CallTimeout { n, inc, id, attempt });
        }
        if let Some(delay) = delay {
            self.push(now + delay, Ev::EtcdRequest { n, inc, id, attempt, lost_at, request: Box::new(request) });
        }
    }

    fn request_patience(&self) -> u64 {
        (self.ms(self.setup.settings.retry_timeout) / 3).max(300)
    }

    /// A request reaches etcd, whatever has become of its sender.
    pub fn etcd_request(&mut self, n: usize, inc: u32, id: u64, attempt: u32, lost_at: u64, request: Box<Request>) {
        if self.etcd.frozen_until > self.now {
            let at = self.etcd.frozen_until + self.rng.below(20);
            if self.now < lost_at && at >= lost_at {
                self.push(lost_at, Ev::CallTimeout { n, inc, id, attempt });
            }
            return self.push(at, Ev::EtcdRequest { n, inc, id, attempt, lost_at, request });
        }
        let name = self.nodes[n].me.name.clone();
        let reply = self.etcd.serve(n, &name, &request, self.now);
        self.etcd_happened(n, &request, &reply);
        if self.now >= lost_at {
            return; // nobody waits for it
        }
        let lost = self.net.loses_reply(&mut self.rng, End::Node(n));
        let delay = self.net.delay(&mut self.rng, End::Etcd, End::Node(n)).filter(|d| !lost && self.now + d < lost_at);
        match delay {
            Some(delay) => self.push(self.now + delay, Ev::EtcdReply { n, inc, id, attempt, reply: Box::new(reply) }),
            None => {
                if request.writes() && matches!(reply, Reply::Yes) {
                    self.trace.count("fault:reply lost after effect");
                }
                self.push(lost_at, Ev::CallTimeout { n, inc, id, attempt });
            }
        }
    }

    fn etcd_happened(&mut self, n: usize, request: &Request, reply: &Reply) {
        self.trace.detail(self.now, || match reply {
            Reply::All(_) => String::new(),
            _ => format!("   etcd n{}: {request:?} -> {reply:?}", n + 1),
        });
        match (request, reply) {
            (Request::Grant(ttl) | Request::GrantAnother(ttl), Reply::Granted(lease, _)) => {
                self.push(self.now + ttl, Ev::LeaseCheck { lease: lease.0 })
            }
            (Request::CreateLeader(..), Reply::Yes) => {
                self.trace.tell(self.now, || format!("etcd  leader key: n{}", n + 1));
                self.trace.count("happened:leader key taken");
            }
            (Request::CreateLeader(..), Reply::No) => self.trace.count("happened:acquire refused"),
            (Request::Release(..), Reply::Yes) => {
                self.trace.count("happened:leader key released");
                if self.nodes[n].pg.proc == crate::postgres::Proc::Archiving {
                    self.trace.count("happened:leader key released while archiving");
                }
            }
            (Request::MoveKeys { .. }, Reply::Yes) => self.trace.count("happened:keys moved to another lease"),
            (Request::KeepAlive(_), Reply::NoTtl) => self.trace.count("happened:keepalive of a lost lease"),
            (Request::Write(_, write), Reply::Yes) => match &**write {
                DcsWrite::History(rows) => self.history_written(n, rows),
                DcsWrite::Sync(_) | DcsWrite::DropSync { .. } => self.sync_key_written(n),
                _ => {}
            },
            _ => {}
        }
        self.etcd_changed();
    }

    /// Tell the watchers, as far as the network lets.
    pub fn etcd_changed(&mut self) {
        if self.etcd.leader_gone {
            self.etcd.leader_gone = false;
            self.trace.tell(self.now, || "etcd  leader key: gone".to_owned());
            self.leader_lapsed();
        }
        if !std::mem::take(&mut self.etcd.changed) {
            return;
        }
        self.note_slots_told();
        for n in 0..self.nodes.len() {
            let inc = self.nodes[n].inc;
            let Some(agent) = self.nodes[n].agent.as_mut() else { continue };
            if std::mem::replace(&mut agent.hinted, true) {
                continue;
            }
            // a watch event that gets lost is made good by the next reading on schedule
            match self.net.delay(&mut self.rng, End::Etcd, End::Node(n)).filter(|_| !self.rng.permille(10)) {
                Some(delay) => self.push(self.now + delay, Ev::Hint { n, inc }),
                None => {
                    if let Some(agent) = self.nodes[n].agent.as_mut() {
                        agent.hinted = false;
                    }
                }
            }
        }
    }

    /// Read the cluster, unless a reading is under way: then once more after it.
    pub fn read(&mut self, n: usize) {
        let Some(agent) = self.nodes[n].agent.as_mut() else { return };
        agent.hinted = false;
        if agent.calls.iter().any(|c| matches!(c.kind, Kind::Read)) {
            agent.read_again = true;
        } else {
            agent.read_again = false;
            self.call(n, Kind::Read);
        }
    }

    fn call_mut(&mut self, n: usize, id: u64) -> Option<&mut Call> {
        self.nodes[n].agent.as_mut()?.calls.iter_mut().find(|c| c.id == id)
    }

    fn take_call(&mut self, n: usize, id: u64) -> Option<Call> {
        let calls = &mut self.nodes[n].agent.as_mut()?.calls;
        let at = calls.iter().position(|c| c.id == id)?;
        Some(calls.swap_remove(at))
    }

    /// No reply in time.
    pub fn call_timeout(&mut self, n: usize, id: u64, attempt: u32) {
        let (now, patience) = (self.now, self.request_patience());
        let Some(call) = self.call_mut(n, id).filter(|c| c.attempt == attempt) else { return };
        call.unsure |= call.request.writes();
        let give_up = now + patience / 2 >= call.until || matches!(call.kind, Kind::Read);
        if !give_up {
            if call.request.writes() {
                call.request = Request::Range;
            }
            return self.send(n, id);
        }
        let Some(call) = self.take_call(n, id) else { return };
        self.trace.count("happened:call unreachable");
        self.call_answered(n, call.kind, call.began, Err(Refused::Unreachable("no answer in time".to_owned())));
    }

    /// A reply.
    pub fn etcd_reply(&mut self, n: usize, id: u64, attempt: u32, reply: Reply) {
        let Some(call) = self.call_mut(n, id).filter(|c| c.attempt == attempt).map(|c| c.clone()) else { return };
        let stale = self.is_about_an_old_lease(n, &call);
        match self.step(n, &call, reply) {
            Step::Next(request) => {
                if let Some(call) = self.call_mut(n, id) {
                    call.request = request;
                }
                self.send(n, id);
            }
            Step::Done(result) => {
                let _ = self.take_call(n, id);
                let result = match result {
                    Err(Refused::LeaseGone | Refused::Compare | Refused::Absent) if stale => {
                        Err(Refused::Unreachable("about an old lease".to_owned()))
                    }
                    result => result,
                };
                self.call_answered(n, call.kind, call.began, result);
            }
        }
    }

    fn step(&mut self, n: usize, call: &Call, reply: Reply) -> Step {
        match (&call.kind, reply) {
            (Kind::Read, Reply::All(cluster)) => Step::Done(Ok(Answer::Cluster(cluster))),
            (_, reply) if call.moves_from.is_some() => self.move_step(n, call, reply),
            (
                Kind::Renew(_) | Kind::Move(..) | Kind::Acquire(_),
                reply @ (Reply::NoTtl | Reply::Ttl(_) | Reply::Granted(..)),
            ) => self.lease_step(n, call, &reply),
            (Kind::Renew(_) | Kind::Move(..), Reply::Yes) => {
                Step::Done(call.grant().map(|grant| Answer::Renewed(grant, true)))
            }
            (Kind::Acquire(_), Reply::Yes) => Step::Done(call.grant().map(|grant| Answer::Renewed(grant, true))),
            (_, Reply::Yes) => Step::Done(Ok(Answer::Done)),
            (_, Reply::Absent) => Step::Done(Err(Refused::Absent)),
            (_, Reply::No) if call.unsure && call.request.writes() => Step::Next(Request::Range),
            (_, Reply::No) => Step::Done(Err(Refused::Compare)),
            (kind, Reply::LeaseGone) => {
                self.forget_lease(n, call.lease);
                // a lease that was lost between keepalive and key: once more, on a new one
                let again = matches!(kind, Kind::Acquire(_)) && !call.regranted;
                if again { Step::Next(Request::Grant(call.ttl_ms)) } else { Step::Done(Err(Refused::LeaseGone)) }
            }
            (_, Reply::All(cluster)) => self.read_back(n, call, &cluster),
            (_, Reply::Granted(..) | Reply::Ttl(_) | Reply::NoTtl) => {
                Step::Done(Err(Refused::Denied("unexpected".to_owned())))
            }
        }
    }

    /// A keepalive or a grant was answered; what is it for?
    fn lease_step(&mut self, n: usize, call: &Call, reply: &Reply) -> Step {
        let lenient = self.setup.mutant == Some(Mutant::KeepaliveWithoutTtl);
        let mut call = call.clone();
        match reply {
            Reply::NoTtl if !lenient => {
                self.forget_lease(n, call.lease);
                let proving = matches!(call.kind, Kind::Renew(true) | Kind::Move(true, _));
                return if proving {
                    Step::Done(Err(Refused::LeaseGone))
                } else {
                    Step::Next(Request::Grant(call.ttl_ms))
                };
            }
            Reply::Granted(lease, ttl_ms) => {
                (call.lease, call.ttl_ms, call.asked_ttl_ms) = (Some(*lease), *ttl_ms, *ttl_ms);
                call.regranted = true;
                if let Some(agent) = self.nodes[n].agent.as_mut() {
                    (agent.lease, agent.lease_asked_ms) = (Some(*lease), *ttl_ms);
                }
                if let Some(kept) = self.call_mut(n, call.id) {
                    *kept = call.clone();
                }
            }
            Reply::Ttl(ttl_ms) => {
                call.ttl_ms = *ttl_ms;
                if let Some(kept) = self.call_mut(n, call.id) {
                    kept.ttl_ms = *ttl_ms;
                }
            }
            _ => {}
        }
        match (&call.kind, call.lease) {
            (Kind::Renew(true) | Kind::Move(true, _), Some(lease)) => Step::Next(Request::CompareLeader(lease)),
            (Kind::Acquire(guard), Some(lease)) => Step::Next(Request::CreateLeader(lease, *guard)),
            _ => Step::Done(call.grant().map(|grant| Answer::Renewed(grant, false))),
        }
    }

    /// A call that moves the keys to another lease, or settles an earlier one that did.
    fn move_step(&mut self, n: usize, call: &Call, reply: Reply) -> Step {
        let prove = matches!(call.kind, Kind::Renew(true) | Kind::Move(true, _));
        let (Some(from), Some(to)) = (call.moves_from, call.lease) else {
            return Step::Done(Err(Refused::Denied("nothing to move".to_owned())));
        };
        match reply {
            Reply::Granted(lease, ttl_ms) => {
                if let Some(agent) = self.nodes[n].agent.as_mut() {
                    agent.moving = Some((lease, ttl_ms));
                }
                if let Some(kept) = self.call_mut(n, call.id) {
                    (kept.lease, kept.ttl_ms, kept.asked_ttl_ms) = (Some(lease), ttl_ms, ttl_ms);
                }
                Step::Next(Request::Range)
            }
            Reply::Ttl(ttl_ms) => {
                if let Some(kept) = self.call_mut(n, call.id) {
                    kept.ttl_ms = ttl_ms;
                }
                Step::Next(Request::Range)
            }
            Reply::NoTtl | Reply::LeaseGone => {
                // nothing can move to it any more: on with the old one
                let agent = self.nodes[n].agent.as_mut();
                let asked = agent.map_or(0, |agent| {
                    agent.moving = None;
                    agent.lease_asked_ms
                });
                if let Some(kept) = self.call_mut(n, call.id) {
                    (kept.lease, kept.moves_from, kept.asked_ttl_ms) = (Some(from), None, asked);
                }
                Step::Next(Request::KeepAlive(from))
            }
            Reply::Yes => self.moved(n, call, from),
            Reply::No => Step::Next(Request::Range),
            Reply::Absent => Step::Done(Err(Refused::Absent)),
            Reply::All(cluster) => {
                let leader = cluster.leader.as_ref().and_then(|leader| leader.lease);
                let member = cluster.members.get(&self.nodes[n].me.name).and_then(|member| member.lease);
                if prove && leader != Some(from) && leader != Some(to) {
                    if let Some(agent) = self.nodes[n].agent.as_mut() {
                        agent.moving = None;
                    }
                    let absent = cluster.leader.is_none();
                    return Step::Done(Err(if absent { Refused::Absent } else { Refused::Compare }));
                }
                if leader != Some(from) && member != Some(from) {
                    return self.moved(n, call, from);
                }
                Step::Next(Request::MoveKeys { from, to, read_at: cluster.revision })
            }
        }
    }

    fn moved(&mut self, n: usize, call: &Call, from: LeaseId) -> Step {
        let prove = matches!(call.kind, Kind::Renew(true) | Kind::Move(true, _));
        if let Some(agent) = self.nodes[n].agent.as_mut() {
            (agent.lease, agent.lease_asked_ms, agent.moving) = (call.lease, call.asked_ttl_ms, None);
        }
        if let Some(delay) = self.net.delay(&mut self.rng, End::Node(n), End::Etcd) {
            self.push(self.now + delay, Ev::LeaseEnded { lease: from.0 });
        }
        Step::Done(call.grant().map(|grant| Answer::Renewed(grant, prove)))
    }

    /// What the keys say of a write whose reply was lost.
    fn read_back(&self, n: usize, call: &Call, cluster: &Cluster) -> Step {
        let leader = cluster.leader.as_ref();
        let ours = leader.is_some_and(|l| l.lease.is_some() && l.lease == call.lease);
        let done = Step::Done(match call.kind {
            Kind::Acquire(_) => call.grant().map(|grant| Answer::Renewed(grant, true)),
            _ => Ok(Answer::Done),
        });
        let again = |request| Step::Next(request);
        match (&call.kind, call.lease) {
            (Kind::Acquire(_), _) if ours => done,
            (Kind::Acquire(guard), Some(lease)) if leader.is_none() && guard_holds(cluster, *guard) => {
                again(Request::CreateLeader(lease, *guard))
            }
            (Kind::Release(_), _) if !ours => done,
            (Kind::Release(status), Some(lease)) => again(Request::Release(lease, status.clone())),
            (Kind::Write(write), lease) => {
                let of_leaders = matches!(**write, DcsWrite::Sync(_) | DcsWrite::DropSync { .. });
                if (ours || !of_leaders) && Etcd::shows(cluster, &self.nodes[n].me.name, lease, write) {
                    return done;
                }
                let for_leaders = matches!(
                    **write,
                    DcsWrite::Status(_)
                        | DcsWrite::LegacyOptime(_)
                        | DcsWrite::History(_)
                        | DcsWrite::ReserveTimeline { .. }
                        | DcsWrite::Config(_)
                        | DcsWrite::Failsafe(_)
                        | DcsWrite::Sync(_)
                        | DcsWrite::DropSync { .. }
                );
                let guarded = match &**write {
                    DcsWrite::ReserveTimeline { seen, .. } => ours && cluster.timeline_reserved == *seen,
                    DcsWrite::ClaimInitialize | DcsWrite::AdoptInitialize(_) => cluster.initialize.is_none(),
                    DcsWrite::Config(_) => ours && cluster.config.is_none(),
                    DcsWrite::Sync(write) => ours && cluster.sync.revision() == write.seen,
                    DcsWrite::DropSync { seen } => ours && cluster.sync.revision() == Some(*seen),
                    DcsWrite::ReplaceConfig { seen, .. } => {
                        cluster.config.as_ref().map_or(0, |c| c.mod_revision) == *seen
                    }
                    DcsWrite::AskFailover { seen: Some(seen), .. } | DcsWrite::ClearFailover { seen } => {
                        cluster.failover.as_ref().map_or(0, |key| key.mod_revision) == *seen
                    }
                    _ => ours || !for_leaders,
                };
                if guarded {
                    again(Request::Write(lease, Arc::clone(write)))
                } else {
                    Step::Done(Err(Refused::Compare))
                }
            }
            _ => Step::Done(Err(Refused::Compare)),
        }
    }

    fn forget_lease(&mut self, n: usize, lease: Option<LeaseId>) {
        if let Some(agent) = self.nodes[n].agent.as_mut().filter(|a| a.lease == lease) {
            agent.lease = None;
        }
    }

    /// Another call may have replaced the lease meanwhile: what is said of the old one says nothing of the new one.
    fn is_about_an_old_lease(&self, n: usize, call: &Call) -> bool {
        let present = self.nodes[n].agent.as_ref().and_then(|agent| agent.lease);
        matches!(call.kind, Kind::Renew(true)) && call.moves_from.is_none() && present != call.lease
    }

    /// The answer becomes a fact.
    fn call_answered(&mut self, n: usize, kind: Kind, began: Instant, result: Result<Answer, Refused>) {
        let fact = match (kind, result) {
            (Kind::Read, Ok(Answer::Cluster(mut cluster))) => {
                if self.setup.planted == Some(Planted::TrustsFormerLeader) {
                    Arc::make_mut(&mut cluster).status_is_leaders = true;
                }
                Observation::Cluster { cluster, read_at: began }
            }
            (Kind::Read, _) => Observation::DcsLost { since: began },
            (Kind::Renew(_) | Kind::Move(..), Ok(Answer::Renewed(grant, leader_proven))) => {
                Observation::LeaseRenewed { grant, leader_proven }
            }
            (Kind::Renew(_) | Kind::Move(..), Ok(_)) => return,
            (Kind::Renew(_) | Kind::Move(..), Err(why)) => Observation::LeaseRefused { why },
            (Kind::Acquire(_), Ok(Answer::Renewed(grant, _))) => Observation::LeaderAcquired(grant),
            (Kind::Acquire(_), Ok(_)) => return,
            (Kind::Acquire(_), Err(why)) => Observation::AcquireRefused(why),
            (Kind::Release(_), Ok(_)) => Observation::LeaderReleased,
            (Kind::Release(_), Err(why)) => Observation::ReleaseRefused(why),
            (Kind::Write(write), Ok(_)) => Observation::Written(Arc::unwrap_or_clone(write)),
            (Kind::Write(write), Err(why)) => Observation::WriteRefused(Arc::unwrap_or_clone(write), why),
        };
        let (reading, lost) =
            (matches!(fact, Observation::Cluster { .. }), matches!(fact, Observation::DcsLost { .. }));
        if lost {
            let inc = self.nodes[n].inc;
            self.push(self.now + 200, Ev::Hint { n, inc });
        }
        self.trace.detail(self.now, || format!("   n{} learns {fact:?}", n + 1));
        // a fact is a message to the coordinator: it takes its turn, after what is being done now
        let inc = self.nodes[n].inc;
        self.push(self.now, Ev::Turn { n, inc, fact: Box::new(fact) });
        if reading && self.nodes[n].agent.as_ref().is_some_and(|a| a.read_again) {
            self.read(n);
        }
    }
}

/// Is the `sync` key as the race was judged by?
pub fn guard_holds(cluster: &Cluster, guard: SyncGuard) -> bool {
    match guard {
        SyncGuard::Unguarded => true,
        SyncGuard::At(revision) => cluster.sync.revision() == revision,
    }
}

enum Answer {
    Cluster(Arc<Cluster>),
    Renewed(LeaseGrant, bool),
    Done,
}

enum Step {
    Next(Request),
    Done(Result<Answer, Refused>),
}
