//! Facts change the view.

use super::{Ended, PeerRound, Seen, View};
use crate::asked::Ask;
use crate::lease_view::Agreement;
use crate::slots::Told;
use crate::wishes::Pending;
use crate::{Lock, Observation};
use pgherd_types::{
    Cluster, DcsWrite, Instant, LeaseGrant, Now, Operation, OperationEnd, OperationId, PRE_PROMOTE, PeerReport,
    PostgresState, Refused, Server, Settings, SlotReport, SyncApply, SyncName, SyncWrite, millis,
};
use std::sync::Arc;

/// So many crashes are remembered.
const CRASHES_KEPT: usize = 8;

impl View {
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
                self.sync.refused = false;
                if matches!(self.pending, Some(Pending::Reinitialize { .. })) {
                    self.pending = None; // the leader's data are not replaced
                }
                self.acquire_unsure = false;
                self.refused_promotion_at = None;
                self.made_way_at = None;
                if self.ended.as_ref().is_some_and(|ended| matches!(ended.operation, Operation::Promote { .. })) {
                    self.ended = None; // failures of an earlier lead say nothing of this one
                }
                self.releasing = None;
                self.released = false; // whatever was given up before, this key is a new one
                self.lease.prove(grant, now);
            }
            Observation::AcquireRefused(why) => {
                answer(&mut self.asked.acquire, now, false);
                self.acquire_unsure = matches!(why, Refused::Unreachable(_));
                match why {
                    Refused::Compare => self.lose_lock(now),
                    Refused::LeaseGone => {
                        self.lease.current = None;
                        self.lease_gone(now);
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
                if matches!(why, Refused::Denied(_)) {
                    self.releasing = None; // nothing was written
                }
                if matches!(why, Refused::Compare | Refused::LeaseGone) {
                    self.released = true;
                    self.lose_lock(now);
                }
            }
            Observation::Written(write) => {
                self.asked.write_answered(&write, now, true);
                self.named |= matches!(write, DcsWrite::Member(_));
                if write.key() == "sync" {
                    self.sync.in_doubt = None;
                }
                if let DcsWrite::ReserveTimeline { timeline, .. } = write {
                    // a primary has the number of its own timeline reserved, which is no promise of a promotion
                    let serves = self.postgres.get().and_then(|p| p.running()).is_some_and(|r| !r.in_recovery);
                    self.reservation = Some(timeline).filter(|_| !serves);
                }
            }
            Observation::WriteRefused(write, why) => {
                self.asked.write_answered(&write, now, false);
                match (&write, &why) {
                    (DcsWrite::Sync(SyncWrite { seen, .. }), Refused::Unreachable(_)) => {
                        self.sync.in_doubt = Some(*seen);
                    }
                    (DcsWrite::DropSync { seen }, Refused::Unreachable(_)) => self.sync.in_doubt = Some(Some(*seen)),
                    (DcsWrite::Sync(_) | DcsWrite::DropSync { .. }, Refused::Compare) => self.sync.refused = true,
                    _ => {}
                }
                if why == Refused::LeaseGone {
                    self.lease.current = None;
                }
            }
            Observation::Postgres(state) => self.postgres_looked_at(state),
            Observation::Peers { round, reports } => self.peers_answered(round, reports, now),
            Observation::OperationFinished { id, end } => self.operation_finished(id, end, now),
            Observation::SlotsAligned { round, report } => self.slots_aligned(round, report, now),
            Observation::SyncAligned { round, ok } => {
                if let Some((_, ask)) = self.asked.sync.as_mut().filter(|(r, _)| *r == round) {
                    ask.answered(now, ok);
                    if ok && ask.what == SyncApply::ForceWal {
                        self.sync.ready.forced();
                    }
                }
            }
            Observation::Settings(settings) => self.take_settings(settings),
            Observation::Tags(tags) => self.me.tags = tags,
            Observation::Wished { id, wish } => self.wished(id, wish, now),
            Observation::FailsafePromised { to, slots } => {
                self.slots.told = self.postgres.get().and_then(|p| p.running()).map(|running| Told {
                    leader: to.clone(),
                    timeline: running.timeline,
                    slots,
                });
                self.promised = Some((to, now));
            }
            Observation::FailsafeAsked { round, asked_at, refused } => {
                self.failsafe_asked(round, asked_at, refused.is_empty(), now);
            }
            Observation::WatchdogFailed(failed) => self.watchdog_failed = failed,
            Observation::ShutdownRequested => self.shutdown = self.shutdown.or(Some(now)),
        }
    }

    /// A leader that did not hear of a shorter time to live yet counts on promises for the longer one.
    fn take_settings(&mut self, settings: Settings) {
        let leads_on = self.cluster.get().and_then(|c| c.leader.as_ref()).and_then(|leader| leader.lease);
        if settings.ttl < self.settings.ttl {
            self.ttl_before = Some((self.settings.ttl, leads_on));
        }
        self.was_standby_cluster |= self.settings.standby_cluster.is_some();
        if self.settings.standby_cluster != settings.standby_cluster {
            self.diverged = None; // it was found by the history of somebody who does not count any more
        }
        self.settings = settings;
    }

    fn lose_lock(&mut self, now: Instant) {
        self.lease.lose(now);
        self.reservation = None;
        self.releasing = None;
        self.handover = None;
        self.makes_room = false;
    }

    /// The release was sent, and the key is gone: whatever became of the answer, that was it.
    fn key_given_up(&mut self, now: Instant) {
        self.released = true;
        self.lose_lock(now);
    }

    /// The lease lapsed in etcd. A primary that all members agreed to keep may take the key again on a new one.
    fn lease_gone(&mut self, now: Instant) {
        if self.lease.agreed(now) {
            (self.lease.vanished, self.lease.lapsed) = (true, true);
        } else {
            self.lose_lock(now);
        }
    }

    fn failsafe_asked(&mut self, round: u64, asked_at: Instant, agreed: bool, now: Instant) {
        let Some(ask) = self.asked.failsafe.as_mut().filter(|ask| ask.what == round) else { return };
        ask.answered(now, agreed);
        // the members' promise counts for the time that was in force when they were asked
        // and only on top of a lead that lasts: meanwhile somebody else may have taken an expired one
        if agreed && self.lease.lock(now) != Lock::No && self.settings.failsafe_mode {
            let ttl_ms = millis(self.settings.ttl);
            let older = self.lease.agreed.is_none_or(|agreed| agreed.asked_at <= asked_at);
            if older {
                self.lease.agreed = Some(Agreement { asked_at, ttl_ms });
            }
        }
    }

    fn cluster_read(&mut self, cluster: Arc<Cluster>, read_at: Instant, now: Instant) {
        if self.cluster.when().is_some_and(|last| read_at < last) {
            return; // an older reading that was overtaken
        }
        self.dcs_lost_since = None;
        self.slots.told = None; // the key says it, too
        self.judge_lock_by(&cluster, read_at, now);
        match cluster.leader {
            None => self.leaderless_since = Some(self.leaderless_since.unwrap_or(now)),
            Some(_) => self.leaderless_since = None,
        }
        if let Some((to, _)) = &self.promised
            && cluster.leader.as_ref().is_some_and(|leader| leader.name != *to)
        {
            self.promised = None; // somebody else leads by now
        }
        let leads_on = cluster.leader.as_ref().and_then(|leader| leader.lease);
        if self.ttl_before.is_some_and(|(_, lease)| leads_on.is_some() && leads_on != lease) {
            self.ttl_before = None; // that leader has another lease by now, or another one leads
        }
        for (name, member) in cluster.members.iter().filter(|(name, _)| **name != self.me.name) {
            if let Some(api) = &member.doc.api_url {
                self.known_apis.insert(name.clone(), api.clone());
            }
            if let Some(endpoint) = member.doc.endpoint() {
                self.known_servers.insert(name.clone(), (endpoint, member.doc.role));
            }
            self.member_seen.insert(name.clone(), now);
            self.sync.tags.insert(SyncName::from(name), member.doc.tags.clone());
            if !member.doc.tags.nostream {
                self.slots_wanted.insert(name.slot_name(), now);
            }
        }
        self.retain_slots(&cluster, now);
        let request = cluster.failover.as_ref().map(|key| key.mod_revision);
        if request != self.request_seen.map(|(revision, _)| revision) {
            self.request_seen = request.map(|revision| (revision, now));
        }
        // our own lead changes nothing: what was safe under the last leader is what this node is promoted with
        if let Some(leader) = cluster.leader.as_ref().filter(|leader| leader.name != self.me.name) {
            self.slots.readiness.led_by(&leader.name);
        }
        if self.operation.is_none() && self.cluster.get().is_none_or(|before| before.leader != cluster.leader) {
            self.slots.copies.over(); // what is waited for is what that leader tells
        }
        self.sync.key_read(&cluster.sync, self.settings.sync_mode());
        self.cluster = Seen::At(cluster, read_at);
    }

    /// How long the slot of an absent member is kept is the leader's affair. A new leader, and one whose agent was started
    /// again, begin with what was published.
    fn retain_slots(&mut self, cluster: &Cluster, now: Instant) {
        let published = &cluster.status.retain_slots;
        let leads_on = self.leads(now) && self.cluster.get().is_some();
        if leads_on || published.is_empty() {
            return;
        }
        let present = |slot: &String| {
            cluster
                .members
                .values()
                .any(|m| m.name != self.me.name && !m.doc.tags.nostream && m.name.slot_name() == *slot)
        };
        self.slots_wanted.retain(|slot, _| published.contains(slot) || present(slot));
        let own = self.me.name.slot_name();
        self.slots_wanted.extend(published.iter().filter(|slot| **slot != own).map(|slot| (slot.clone(), now)));
    }

    fn slots_aligned(&mut self, round: u64, report: Option<SlotReport>, now: Instant) {
        let Some((_, ask)) = self.asked.slots.as_mut().filter(|(r, _)| *r == round) else { return };
        ask.answered(now, report.is_some());
        let Some(report) = report else { return };
        self.slots.aligned(&ask.what, &report, now);
        let running = self.postgres.get().and_then(|p| p.running());
        if let (Some(said), Some(asked), Some(running)) = (&report.leader, &ask.what.compare, running) {
            self.slots.readiness.answered(said, &asked.through, &running.slots);
        }
    }

    /// A reading that began after our last proof was complete is newer than the proof.
    fn judge_lock_by(&mut self, cluster: &Cluster, read_at: Instant, now: Instant) {
        let Some(proof) = self.lease.leader.filter(|proof| read_at >= proof.known_at) else { return };
        match &cluster.leader {
            None if self.releasing.is_some() => self.key_given_up(now),
            None if self.was_succeeded(cluster) => self.lose_lock(now),
            None => self.lease.vanished = true,
            Some(key) if key.name == self.me.name && key.lease == Some(proof.grant.lease) => {
                self.lease.vanished = false
            }
            // on the new lease already, perhaps: the answer to the move will say so, and its promise is not counted yet
            Some(key) if key.name == self.me.name && self.lease.moving.is_some() => {}
            Some(_) => self.lose_lock(now),
        }
    }

    /// The key was removed, and before this node heard of that somebody else took it, reserved a timeline and gave the key
    /// up again: there may be commits on that timeline.
    fn was_succeeded(&self, cluster: &Cluster) -> bool {
        let running = self.postgres.get().and_then(|p| p.running()).filter(|running| !running.in_recovery);
        let ours = running.and_then(|running| running.timeline);
        self.reservation.is_none() && ours.is_some_and(|ours| cluster.timeline_reserved > Some(ours))
    }

    fn lease_renewed(&mut self, grant: LeaseGrant, leader_proven: bool, now: Instant) {
        answer(&mut self.asked.renew, now, true);
        self.move_answered(now, true);
        self.dcs_lost_since = None;
        if self.lease.current.is_some_and(|old| old.lease != grant.lease) && !leader_proven {
            self.lease_gone(now);
        }
        self.lease.current = Some(grant);
        if leader_proven {
            self.released = false;
            self.lease.prove(grant, now);
        }
    }

    /// A renewal that was to move the keys was answered; later ones say nothing of that.
    fn move_answered(&mut self, now: Instant, yes: bool) {
        if let Some(ask) = self.asked.moved.as_mut().filter(|ask| ask.answer.is_none()) {
            ask.answered(now, yes);
        }
    }

    fn lease_refused(&mut self, why: &Refused, now: Instant) {
        let proving = self.asked.renew.as_ref().is_some_and(|ask| ask.what);
        answer(&mut self.asked.renew, now, false);
        self.move_answered(now, false);
        match why {
            Refused::LeaseGone => {
                self.lease.current = None;
                self.lease_gone(now);
            }
            Refused::Compare if proving => self.lose_lock(now),
            // the lease lives and nobody else can have the key: it may be taken back as long as the last proof lasts
            Refused::Absent if self.releasing.is_some() => self.key_given_up(now),
            Refused::Absent if self.lease.leader.is_some() => self.lease.vanished = true,
            Refused::Absent | Refused::Compare | Refused::Denied(_) | Refused::Unreachable(_) => {}
        }
    }

    fn postgres_looked_at(&mut self, state: Arc<PostgresState>) {
        if self.postgres.when().is_some_and(|last| state.looked_at < last) {
            return;
        }
        let before = self.postgres.get().and_then(|p| p.running());
        match &state.server {
            Server::Running(running) => {
                self.crashed = false;
                self.served = Some(running.in_recovery);
                self.was_standby_cluster &= running.in_recovery;
                if before.is_none_or(|before| before.position() != running.position()) {
                    self.moved_at = Some(state.looked_at);
                }
            }
            // its end may be seen in steps: no answer first, then nobody there
            Server::Stopped | Server::Orphaned => {
                let served = self.served.take().filter(|_| self.operation.is_none());
                self.crashed |= served.is_some();
                if served == Some(false) {
                    self.crashes.push(state.looked_at);
                    let surplus = self.crashes.len().saturating_sub(CRASHES_KEPT);
                    self.crashes.drain(..surplus);
                }
            }
            Server::Starting | Server::Stopping | Server::Archiving | Server::Unresponsive(_) => {}
        }
        self.unresponsive_since = match state.server {
            Server::Unresponsive(_) => self.unresponsive_since.or(Some(state.looked_at)),
            _ => None,
        };
        self.starting_since = match state.server {
            Server::Starting if self.operation.is_none() => self.starting_since.or(Some(state.looked_at)),
            _ => None,
        };
        self.archiving_since = match state.server {
            Server::Archiving => self.archiving_since.or(Some(state.looked_at)),
            _ => None,
        };
        let at = state.looked_at;
        self.sync.looked(state.running(), at);
        self.slots.looked(state.running(), &self.settings.slots, at);
        let promoting =
            matches!(&self.operation, Some(running) if matches!(running.operation, Operation::Promote { .. }));
        if !promoting && state.running().is_some_and(|running| running.in_recovery) {
            self.slots.unsafe_when_promoted.clear();
        }
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
        if end == OperationEnd::Done && matches!(running.operation, Operation::Rewind { .. } | Operation::Clone { .. })
        {
            self.diverged = None;
        }
        if let Operation::CopySlots { .. } = &running.operation {
            self.slots.copies.over();
            if let OperationEnd::Failed(why) = &end {
                self.slots.copies.failed = Some(why.clone());
            }
        }
        if let (Operation::Promote { .. }, OperationEnd::Failed(why)) = (&running.operation, &end)
            && why.starts_with(PRE_PROMOTE)
        {
            self.refused_promotion_at = Some(now);
        }
        if matches!(
            running.operation,
            Operation::Stop { .. } | Operation::StartPrimary | Operation::StartReplica { .. }
        ) {
            // what was asked of a server that is no more has no answer worth waiting for
            self.asked.sync.take_if(|(_, ask)| ask.answer.is_none());
        }
        self.wish_goes_on(&running.operation, &end, now);
        self.ended = Some(Ended { operation: running.operation, end, at: now, failures });
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
