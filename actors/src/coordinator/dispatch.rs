//! Carrying a decision out: each part of it becomes a message, each answer (or its absence) a fact.

use super::{Coordinator, sync_words};
use crate::callbacks::Announce;
use actix::fut::wrap_future;
use actix::prelude::*;
use pgherd_kernel::sync::duty;
use pgherd_kernel::{Action, Decision, Lock, Me, Observation, slots};
use pgherd_protocol::dcs_watcher::{AcquireLease, ChangeTimes, ReleaseLease, RenewLease, WriteKey};
use pgherd_protocol::events::EventSink;
use pgherd_protocol::peer_prober::{AskFailsafe, ProbePeers};
use pgherd_protocol::postgres_monitor::{ChangeSchedule, LookNow};
use pgherd_protocol::postgres_operator::{
    CancelOperation, ConfigChanged, ConsumersWaitFor, ExtendFence, KeepRows, LeadStandbyCluster, StartOperation,
};
use pgherd_protocol::slot_manager::AlignSlots;
use pgherd_protocol::sync_manager::AlignSync;
use pgherd_types::{DcsWrite, Instant, Now, Operation, OperationEnd, OperationId, Refused, Settings};
use std::time::Duration;

/// How much longer than the receiver's own deadline an answer is awaited.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// How long the record of the promise may take before a move to another lease, or the release of the key.
const RECORD_PATIENCE: Duration = Duration::from_millis(500);

/// Where commands go.
pub struct Links {
    /// To the DCS watcher.
    pub renew: Recipient<RenewLease>,
    /// To the DCS watcher.
    pub acquire: Recipient<AcquireLease>,
    /// To the DCS watcher.
    pub release: Recipient<ReleaseLease>,
    /// To the DCS watcher.
    pub write: Recipient<WriteKey>,
    /// To the DCS watcher.
    pub times: Recipient<ChangeTimes>,
    /// To the peer prober.
    pub probe: Recipient<ProbePeers>,
    /// To the peer prober.
    pub failsafe: Recipient<AskFailsafe>,
    /// To the PostgreSQL monitor.
    pub look: Recipient<LookNow>,
    /// To the PostgreSQL monitor.
    pub schedule: Recipient<ChangeSchedule>,
    /// To the PostgreSQL operator.
    pub start: Recipient<StartOperation>,
    /// To the PostgreSQL operator.
    pub cancel: Recipient<CancelOperation>,
    /// To the PostgreSQL operator.
    pub extend: Recipient<ExtendFence>,
    /// To the PostgreSQL operator.
    pub config: Recipient<ConfigChanged>,
    /// To the PostgreSQL operator.
    pub lead_standby_cluster: Recipient<LeadStandbyCluster>,
    /// To the PostgreSQL operator.
    pub keep_rows: Recipient<KeepRows>,
    /// To the PostgreSQL operator.
    pub waited_slots: Recipient<ConsumersWaitFor>,
    /// To the slot manager.
    pub slots: Recipient<AlignSlots>,
    /// To the sync manager.
    pub sync: Recipient<AlignSync>,
    /// To the caller of the user's scripts.
    pub callbacks: Announce,
    /// To the record of what happens.
    pub events: EventSink,
}

impl Links {
    /// Tell everybody who keeps time or configuration.
    pub(super) fn configure(&self, settings: &Settings, text: &str, _ctx: &mut Context<Coordinator>) {
        let Settings { ttl, loop_wait, retry_timeout, .. } = *settings;
        crate::tell::tell(&self.times, ChangeTimes { ttl, loop_wait, retry_timeout });
        crate::tell::tell(&self.schedule, ChangeSchedule { every: loop_wait });
        crate::tell::tell(&self.config, ConfigChanged(text.to_owned()));
    }
}

impl Coordinator {
    pub(super) fn dispatch(&mut self, decision: Decision, now: Now, ctx: &mut Context<Self>) {
        let Decision { role, upkeep, .. } = decision;
        if let Some(prove_leader) = upkeep.renew {
            match upkeep.new_ttl {
                None => self.renew(prove_leader, None, now.mono, ctx),
                Some(_) => self.move_lease(prove_leader, upkeep.new_ttl, ctx),
            }
        }
        self.role(role, now.mono, ctx);
        for write in upkeep.writes {
            self.write(write, now, ctx);
        }
        if upkeep.repair_config {
            self.write(DcsWrite::Config(self.config.text().to_owned()), now, ctx);
        }
        if upkeep.look {
            crate::tell::tell(&self.links.look, LookNow);
        }
        if let Some((round, members)) = upkeep.failsafe {
            let Me { name: me, conn_url, api_url, .. } = self.view.me.clone();
            let patience = pgherd_kernel::failsafe::PATIENCE;
            let slots = slots::told_in_failsafe(&self.view, now.mono);
            let ask = AskFailsafe { round, members, me, conn_url, api_url, slots, patience };
            crate::tell::tell(&self.links.failsafe, ask);
        }
        self.waiting.answer(upkeep.answers);
        self.sync_told.commits_wait(upkeep.commits_wait, &self.view);
        self.sync_told.borrowed(duty::borrowed(&self.view, now.mono), now.mono);
        if let Some((round, apply)) = upkeep.sync {
            let fence = self.fence_deadline(now.mono);
            crate::tell::tell(&self.links.sync, AlignSync { round, apply, fence });
        }
        if let Some((round, target)) = upkeep.slots {
            let fence = self.fence_deadline(now.mono);
            crate::tell::tell(&self.links.slots, AlignSlots { round, target, fence });
        }
    }

    fn role(&mut self, action: Action, now: Instant, ctx: &mut Context<Self>) {
        match action {
            Action::Hold => {}
            Action::Acquire => self.acquire(now, ctx),
            Action::Release(status) => self.release(status, now, ctx),
            Action::Start { id, operation, fence } => self.begin(id, operation, fence, ctx),
            Action::Cancel(id) => crate::tell::tell(&self.links.cancel, CancelOperation(id)),
            Action::Probe { round, peers } => crate::tell::tell(&self.links.probe, ProbePeers { round, peers }),
            Action::Write(write) => self.write(write, pgherd_clock::now(), ctx),
            Action::Exit => self.finish(),
        }
    }

    fn fence_deadline(&self, now: Instant) -> Option<Instant> {
        match self.view.lock(now) {
            Lock::Held { until } => Some(until),
            Lock::Vanished { .. } | Lock::No => None,
        }
    }

    fn deadline(&self, now: Instant) -> Instant {
        now + self.view.settings.retry_timeout
    }

    /// The shorter promise is on record before etcd is asked: whoever takes over after this process must not count on more.
    fn move_lease(&self, prove_leader: bool, new_ttl: Option<Duration>, ctx: &mut Context<Self>) {
        let on_record = self.fence.when_recorded(self.view.promise(), RECORD_PATIENCE);
        ctx.spawn(wrap_future::<_, Self>(on_record).map(move |recorded, coordinator, ctx| {
            if recorded {
                coordinator.renew(prove_leader, new_ttl, pgherd_clock::boottime(), ctx);
            } else {
                let why = "the lease record beside the data directory could not be written".to_owned();
                coordinator.turn(Observation::LeaseRefused { why: Refused::Unreachable(why) }, ctx);
            }
        }));
    }

    fn renew(&self, prove_leader: bool, new_ttl: Option<Duration>, now: Instant, ctx: &mut Context<Self>) {
        let deadline = self.deadline(now);
        self.ask(
            &self.links.renew,
            RenewLease { prove_leader, new_ttl, deadline },
            deadline,
            ctx,
            |coordinator, answer, ctx| match answer {
                Ok(renewed) => {
                    let fact = Observation::LeaseRenewed { grant: renewed.grant, leader_proven: renewed.leader_proven };
                    coordinator.turn(fact, ctx);
                    coordinator.extend_fence();
                }
                Err(why) => coordinator.turn(Observation::LeaseRefused { why }, ctx),
            },
        );
    }

    /// An operation that needs the lock may go on as long as the lock does.
    fn extend_fence(&self) {
        let needs_lock = self.view.operation.as_ref().is_some_and(|running| running.operation.needs_lock());
        if let (true, Some(until)) = (needs_lock, self.fence_deadline(pgherd_clock::boottime())) {
            crate::tell::tell(&self.links.extend, ExtendFence(until));
        }
    }

    fn acquire(&self, now: Instant, ctx: &mut Context<Self>) {
        let deadline = self.deadline(now);
        let acquire = AcquireLease { sync: self.view.sync_guard(now), deadline };
        self.ask(&self.links.acquire, acquire, deadline, ctx, |coordinator, answer, ctx| {
            coordinator.turn(answer.map_or_else(Observation::AcquireRefused, Observation::LeaderAcquired), ctx);
        });
    }

    /// The promise is withdrawn first: a successor of this process must not rely on a lease that a request on its way may
    /// take the leader key from.
    fn release(&self, status: Option<pgherd_types::StatusKey>, now: Instant, ctx: &mut Context<Self>) {
        let (deadline, withdrawn) = (self.deadline(now), self.fence.when_recorded(None, RECORD_PATIENCE));
        ctx.spawn(wrap_future::<_, Self>(withdrawn).map(move |withdrawn, coordinator, ctx| {
            if !withdrawn {
                log::warn!("the lease record could not be removed in time; the leader key is given up all the same");
            }
            let release = ReleaseLease { status, deadline };
            coordinator.ask(&coordinator.links.release, release, deadline, ctx, |coordinator, answer, ctx| {
                let fact = answer.map_or_else(Observation::ReleaseRefused, |()| Observation::LeaderReleased);
                coordinator.turn(fact, ctx);
            });
        }));
    }

    fn write(&self, write: DcsWrite, now: Now, ctx: &mut Context<Self>) {
        let deadline = self.deadline(now.mono);
        let sent = WriteKey { write: stamped(write.clone(), now), deadline };
        self.ask(&self.links.write, sent, deadline, ctx, move |coordinator, answer, ctx| {
            match &answer {
                Err(Refused::Compare) => log::info!("{} was not written: somebody else was first", write.key()),
                Err(why) => log::warn!("{} was not written: {why:?}", write.key()),
                Ok(()) => sync_words::written(&write, &coordinator.view),
            }
            let fact = match answer {
                Ok(()) => Observation::Written(write),
                Err(why) => Observation::WriteRefused(write, why),
            };
            coordinator.turn(fact, ctx);
        });
    }

    fn begin(&self, id: OperationId, operation: Operation, fence: Option<Instant>, ctx: &mut Context<Self>) {
        let request = self.links.start.send(StartOperation { id, operation, fence });
        let request = tokio::time::timeout(ANSWER_GRACE, request);
        ctx.spawn(wrap_future::<_, Self>(request).map(move |answer, coordinator, ctx| {
            let refused = match answer {
                Ok(Ok(Ok(()))) => return,
                Ok(Ok(Err(busy))) => format!("PostgreSQL's operator is busy with operation {}", busy.0.0),
                Ok(Err(_)) | Err(_) => "PostgreSQL's operator gave no answer".to_owned(),
            };
            coordinator.turn(Observation::OperationFinished { id, end: OperationEnd::Failed(refused) }, ctx);
        }));
    }

    /// Send a request to the DCS watcher and hand its answer on; no answer in time is an answer too.
    fn ask<M, T>(
        &self,
        to: &Recipient<M>,
        message: M,
        deadline: Instant,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Result<T, Refused>, &mut Context<Self>) + 'static,
    ) where
        M: Message<Result = Result<T, Refused>> + Send + 'static,
        T: Send + 'static,
    {
        let patience = pgherd_clock::left_until(deadline) + ANSWER_GRACE;
        let request = tokio::time::timeout(patience, to.send(message));
        ctx.spawn(wrap_future::<_, Self>(request).map(move |answer, coordinator, ctx| {
            let answer = match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(e)) => Err(Refused::Unreachable(format!("the DCS watcher did not take the request: {e}"))),
                Err(_) => Err(Refused::Unreachable("the DCS watcher gave no answer in time".to_owned())),
            };
            then(coordinator, answer, ctx);
        }));
    }
}

/// The newest row of the history gets its time here: the kernel has no calendar.
fn stamped(write: DcsWrite, now: Now) -> DcsWrite {
    let DcsWrite::History(mut rows) = write else { return write };
    for row in rows.iter_mut().filter(|row| row.at.is_none() && row.new_leader.is_some()) {
        row.at = jiff::Timestamp::from_millisecond(now.wall.0)
            .ok()
            .map(|t| t.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S.%f%:z").to_string());
    }
    DcsWrite::History(rows)
}
