//! What is owed beside the decision about the role: renewal, the member key, the leader's keys, a look, slots.

use crate::asked::Ask;
use crate::decide::Verdict;
use crate::shown::{checkpoint_pending, member_doc};
use crate::sync::{SyncStep, Waiting, duty};
use crate::wishes;
use crate::{Action, Reason, Upkeep, View, failsafe, history, slots};
use pgherd_types::{
    Cluster, DcsWrite, Initialize, Instant, Now, Operation, RunningServer, SlotTarget, SyncMode, Timeline, WallTime,
};
use std::time::Duration;

/// How long an order about slots may take.
const SLOTS_PATIENCE: Duration = Duration::from_secs(30);

/// What is owed now, and when something will be owed next.
pub fn owed(view: &View, now: Now, verdict: &Verdict) -> (Upkeep, Option<Instant>) {
    let mut owed = Owed { view, now: now.mono, wall: now.wall, upkeep: Upkeep::default(), next: None };
    if verdict.role == Action::Exit {
        return (owed.upkeep, None);
    }
    owed.answers();
    owed.renewal(&verdict.role);
    owed.look(&verdict.because);
    if owed.view.lease.current.is_some() && owed.view.cluster.get().is_some() {
        owed.member(&verdict.because);
        owed.leaders_keys();
    }
    owed.slots();
    owed.sync();
    (owed.upkeep, owed.next)
}

struct Owed<'v> {
    view: &'v View,
    now: Instant,
    wall: WallTime,
    upkeep: Upkeep,
    next: Option<Instant>,
}

impl Owed<'_> {
    fn wake(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    fn answers(&mut self) {
        if let Some((id, end)) = wishes::restart_ended(self.view, self.now) {
            self.upkeep.answers.extend(id.map(|id| (id, end)));
        }
        if let Some(at) = wishes::overdue_at(self.view) {
            self.wake(at);
        }
        if let Some(ahead_ms) = self.view.scheduled_restart.as_ref().map(|restart| restart.at.0 - self.wall.0)
            && let Ok(ahead_ms @ 1..) = u64::try_from(ahead_ms)
        {
            self.wake(self.now + Duration::from_millis(ahead_ms));
        }
    }

    fn renewal(&mut self, role: &Action) {
        let view = self.view;
        let lock_request = matches!(role, Action::Acquire | Action::Release(_))
            || view.asked.lock_request_pending(self.now, view.settings.retry_timeout);
        let leads = view.leads(self.now);
        let unproven = view.key_is_ours() && !leads;
        let mut due = view.lease.renewal_due_at(view.settings.loop_wait).unwrap_or(self.now);
        let new_ttl = self.another_ttl(leads);
        if unproven || new_ttl.is_some() || view.lease.moving.is_some() {
            due = self.now;
        }
        if let Some(ask) = &view.asked.renew {
            due = due.max(self.renewal_gap(ask));
        }
        if due > self.now {
            self.wake(due);
        } else if !(lock_request || view.released && view.shutdown.is_some() && view.operation.is_none()) {
            self.upkeep.renew = Some(leads || view.key_is_ours());
            self.upkeep.new_ttl = new_ttl;
        }
    }

    /// The time to live was changed, and etcd cannot change a lease: our keys are moved to a new one. Not while a key hangs
    /// on the lease that is not moved (`initialize` of a bootstrap) or may be written on it at the same time.
    fn another_ttl(&mut self, leads: bool) -> Option<Duration> {
        let view = self.view;
        let ttl = view.settings.ttl;
        let registered = view
            .cluster
            .get()
            .is_some_and(|cluster| matches!(cluster.initialize, Some(Initialize::Done(_) | Initialize::Garbage)));
        let in_order = view.dcs_lost_since.is_none()
            && view.shutdown.is_none()
            && view.releasing.is_none()
            && !view.lease.vanished
            && (leads || !view.key_is_ours())
            && !matches!(&view.operation, Some(running) if running.operation == Operation::Bootstrap);
        if !(view.lease.is_asked_otherwise(ttl) && registered && in_order) {
            return None;
        }
        let writes = view.asked.writes.get("members");
        let writing = writes.is_some_and(|ask| ask.pending(self.now, view.settings.retry_timeout));
        // plain renewals go on after a failure
        let failed = view.asked.moved.as_ref().and_then(|ask| match ask.answer {
            Some((at, false)) => Some(at + view.settings.loop_wait).filter(|until| self.now < *until),
            _ => None,
        });
        if let Some(until) = failed {
            self.wake(until);
        }
        (!writing && failed.is_none()).then_some(ttl)
    }

    /// Not before the pending one is answered or lost; after a failure soon, but not at once.
    fn renewal_gap(&self, ask: &Ask<bool>) -> Instant {
        match ask.answer {
            None => ask.at + self.view.settings.retry_timeout + crate::asked::ANSWER_GRACE,
            Some((at, true)) => at,
            Some((at, false)) => {
                at + (self.view.settings.ttl / 15).clamp(Duration::from_millis(100), Duration::from_secs(1))
            }
        }
    }

    /// A race needs our position as of after the loss of the leader.
    fn look(&mut self, because: &Reason) {
        let asked_lately = self.view.asked.look.is_some_and(|at| self.now < at + Duration::from_secs(1));
        match because {
            Reason::AwaitingOwnPosition | Reason::LeavingRemotePrimary if !asked_lately => self.upkeep.look = true,
            Reason::AwaitingOwnPosition | Reason::LeavingRemotePrimary => {
                self.wake(self.now + Duration::from_millis(500))
            }
            // others wait for the end of the checkpoint after our promotion
            _ if checkpoint_pending(self.view, self.now) && self.view.operation.is_none() => {
                self.upkeep.look = !asked_lately;
                self.wake(self.now + Duration::from_secs(1));
            }
            _ => {}
        }
    }

    fn member(&mut self, because: &Reason) {
        let view = self.view;
        let Some(cluster) = view.cluster.get() else { return };
        let moves = view.asked.moved.as_ref().is_some_and(|ask| ask.pending(self.now, view.settings.retry_timeout));
        if moves || self.upkeep.new_ttl.is_some() {
            return; // on which lease?
        }
        let Some(doc) = member_doc(view, because, self.now).filter(|_| view.namesake().is_none()) else { return };
        let in_place = cluster.members.get(&view.me.name).filter(|m| m.lease == view.lease.current.map(|g| g.lease));
        let asked = view.asked.writes.get("members");
        let last = asked.and_then(|ask| match (&ask.what, ask.answer) {
            (DcsWrite::Member(doc), Some((_, true))) => Some((doc.as_ref(), ask.at)),
            _ => None,
        });
        if let (Some(_), Some((last, at))) = (in_place, last) {
            if *last == doc {
                return;
            }
            let due = at + view.settings.loop_wait;
            if last.without_positions() == doc.without_positions() && self.now < due {
                return self.wake(due);
            }
        }
        self.write(DcsWrite::Member(Box::new(doc)));
    }

    /// Ask for a write unless an answer is pending, a refusal is recent, or the very same was just granted.
    fn write(&mut self, write: DcsWrite) {
        let asked = self.view.asked.writes.get(write.key());
        if let Some(until) = asked.and_then(|ask| ask.blocked_until(self.now, self.view.settings.retry_timeout)) {
            return self.wake(until);
        }
        if let Some(granted_at) = asked.and_then(|ask| ask.granted(&write)) {
            let shown_by = granted_at + Duration::from_secs(1);
            if self.now < shown_by || self.view.cluster.when().is_none_or(|read_at| read_at < granted_at) {
                return self.wake(shown_by.max(self.now + Duration::from_millis(100)));
            }
        }
        self.upkeep.writes.push(write);
    }

    /// The keys that only a primary with the lock writes.
    fn leaders_keys(&mut self) {
        let view = self.view;
        let standby = view.settings.standby_cluster.is_some();
        let running = view.postgres.get().and_then(|p| p.running()).filter(|r| !r.in_recovery || standby);
        let (Some(cluster), Some(running)) = (view.cluster.get(), running) else { return };
        if !view.leads(self.now) {
            return;
        }
        if view.dcs_lost_since.is_some() {
            if !running.in_recovery {
                self.ask_members(cluster); // a standby has nothing to go on with
            }
            return;
        }
        if !running.in_recovery {
            self.failsafe_topology(cluster);
        }
        self.status(cluster, running);
        // a standby cluster's history is that of the other cluster, until it promotes
        if let Some(rows) = history::owed(view, cluster, running).filter(|_| !running.in_recovery) {
            self.write(DcsWrite::History(rows));
        }
        // made by a custom bootstrap, or by a member that reserves nothing: no later promotion may use the number
        if let Some(timeline) = running.timeline.filter(|ours| *ours > cluster.timeline_reserved.unwrap_or(Timeline(1)))
        {
            self.write(DcsWrite::ReserveTimeline { timeline, seen: cluster.timeline_reserved });
        }
        if let (None, Some(ours)) = (&cluster.initialize, view.system_id()) {
            self.write(DcsWrite::AdoptInitialize(ours));
        }
        if !cluster.config.as_ref().is_some_and(|config| config.valid) {
            self.repair_config();
        }
    }

    /// Whom to ask when the DCS is lost, written down as long as it answers.
    fn failsafe_topology(&mut self, cluster: &Cluster) {
        if !self.view.settings.failsafe_mode {
            return;
        }
        let members = failsafe::members(self.view, self.now);
        if cluster.failsafe.as_ref() != Some(&members) {
            self.write(DcsWrite::Failsafe(members));
        }
    }

    /// The DCS is lost: may this primary go on?
    fn ask_members(&mut self, cluster: &Cluster) {
        let Some((due, members)) = failsafe::question(self.view, cluster) else { return };
        if self.now < due {
            return self.wake(due);
        }
        self.upkeep.failsafe = Some((self.view.last_round + 3, members));
    }

    fn repair_config(&mut self) {
        let ask = self.view.asked.config.as_ref();
        if let Some(until) = ask.and_then(|ask| ask.blocked_until(self.now, self.view.settings.retry_timeout)) {
            return self.wake(until);
        }
        match ask.and_then(|ask| ask.granted(&())) {
            Some(at) if self.view.cluster.when().is_none_or(|read_at| read_at < at) => {
                self.wake(self.now + Duration::from_millis(100));
            }
            _ => self.upkeep.repair_config = true,
        }
    }

    /// One write for the position, the slots and those that are kept; none when nothing changed.
    fn status(&mut self, cluster: &Cluster, running: &RunningServer) {
        let status = slots::status(self.view, cluster, running, self.now);
        let ask = self.view.asked.writes.get("status");
        let due = ask.map_or(self.now, |ask| ask.at + self.view.settings.loop_wait);
        if status == cluster.status {
            return;
        }
        if self.now < due {
            return self.wake(due);
        }
        if let Some(optime) = slots::legacy_optime(cluster, status.optime) {
            self.write(DcsWrite::LegacyOptime(optime));
        }
        self.write(DcsWrite::Status(status));
    }

    fn slots(&mut self) {
        let view = self.view;
        let running = view.postgres.get().and_then(|p| p.running());
        let (Some(cluster), Some(running), Some(looked_at)) = (view.cluster.get(), running, view.postgres.when())
        else {
            return;
        };
        if view.operation.is_some() || (!running.in_recovery && !view.leads(self.now)) {
            return;
        }
        let Some(mut target) = slots::plan(view, cluster, running, self.now) else { return };
        if target.is_empty() {
            return;
        }
        if let Some((_, ask)) = &view.asked.slots {
            if let Some(until) = ask.blocked_until(self.now, SLOTS_PATIENCE) {
                return self.wake(until);
            }
            // done: the next look will show it. If it does not, the same is not ordered all the time
            if let Some((at, true)) = ask.answer {
                let notes = |target: &SlotTarget| (target.claim.clone(), target.forget.clone());
                let again = ask.what.changes == target.changes && notes(&ask.what) == notes(&target);
                let next = at + view.settings.loop_wait;
                if again && looked_at >= at && self.now < next {
                    self.wake(next);
                }
                if looked_at < at || (again && self.now < next) {
                    target = SlotTarget { compare: target.compare, ..SlotTarget::default() };
                }
            }
        }
        if target.is_empty() {
            return;
        }
        self.upkeep.slots = Some((self.next_round(), target));
    }

    /// In a synchronous mode the next step, and a look each second: a standby that falls silent holds up every commit.
    fn sync(&mut self) {
        let view = self.view;
        let Some(step) = duty::due(view, self.now) else { return self.watch_standbys() };
        self.upkeep.commits_wait = step == SyncStep::Wait(Waiting::Standby);
        if let Some(write) = duty::write_of(&step) {
            self.write(write);
        }
        if let Some(order) = duty::order_of(&step) {
            match view.asked.sync.as_ref().and_then(|(_, ask)| ask.blocked_until(self.now, duty::STEP_PATIENCE)) {
                Some(until) => self.wake(until),
                None => self.upkeep.sync = Some((view.last_round + 4, order)),
            }
        }
        self.watch_standbys();
    }

    fn watch_standbys(&mut self) {
        let view = self.view;
        let primary = view.postgres.get().and_then(|p| p.running()).is_some_and(|r| !r.in_recovery);
        if view.settings.sync_mode() == SyncMode::Off || !primary || !view.leads(self.now) || view.operation.is_some() {
            return;
        }
        let seen = view.postgres.when().unwrap_or_default();
        let due = view.asked.look.map_or(seen, |asked| asked.max(seen)) + duty::LOOK_EVERY;
        if self.now < due { self.wake(due) } else { self.upkeep.look = true }
    }

    /// A round's number is used once; a probe decided in the same turn has the next one.
    fn next_round(&self) -> u64 {
        self.view.last_round + 2
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use crate::{Lock, Observation, decide};
    use pgherd_types::*;
    use std::time::Duration;

    fn changed(case: Case, ttl_s: u64) -> Case {
        case.with_view(|v| v.settings.ttl = Duration::from_secs(ttl_s))
    }
    fn new_ttl(case: Case) -> Option<u64> {
        case.decide().1.upkeep.new_ttl.map(|ttl| ttl.as_secs())
    }
    fn at(ms: u64) -> Now {
        Now { mono: Instant::from_millis(ms), ..Now::default() }
    }
    fn granted(sent_ms: u64, ttl_s: u64) -> LeaseGrant {
        let ttl_ms = ttl_s * 1000;
        LeaseGrant { lease: LeaseId(77), sent_at: Instant::from_millis(sent_ms), ttl_ms, asked_ttl_ms: Some(ttl_ms) }
    }

    #[test]
    fn a_changed_time_to_live_needs_another_lease_at_once() {
        assert_eq!(new_ttl(primary()), None);
        let (_, decision) = changed(primary(), 20).decide();
        assert_eq!((decision.upkeep.renew, decision.upkeep.new_ttl), (Some(true), Some(Duration::from_secs(20))));
        let (_, decision) = changed(replica(), 60).decide();
        assert_eq!((decision.upkeep.renew, decision.upkeep.new_ttl), (Some(false), Some(Duration::from_secs(60))));
    }

    #[test]
    fn not_while_another_key_hangs_on_the_lease_or_the_lock_is_in_doubt() {
        let claim = Some(Initialize::InProgress { lease: Some(LEASE) });
        assert_eq!(new_ttl(changed(replica(), 20).unlocked().empty().with_cluster(|c| c.initialize = claim)), None);
        assert_eq!(new_ttl(changed(primary(), 20).unlocked()), None, "the key is taken again first");
        assert_eq!(new_ttl(changed(primary(), 20).with_view(|v| v.lease.leader = None)), None, "it is proven first");
        assert_eq!(new_ttl(changed(primary(), 20).with_view(|v| v.shutdown = Some(Instant::default()))), None);
        let (mut view, now) = changed(primary(), 20).build();
        view.apply(Observation::DcsLost { since: now.mono }, now);
        assert_eq!(decide(&view, now).upkeep.new_ttl, None);
    }

    #[test]
    fn the_new_lease_counts_with_its_proof() {
        let (mut view, _) = changed(primary(), 5).decide();
        assert_eq!(
            view.lock(at(60_000).mono),
            Lock::Held { until: Instant::from_millis(64_000) },
            "neither promise alone"
        );
        view.apply(Observation::LeaseRenewed { grant: granted(60_050, 5), leader_proven: true }, at(60_100));
        assert_eq!(view.lock(at(60_100).mono), Lock::Held { until: Instant::from_millis(64_050) });
        let decision = decide(&view, at(60_101));
        assert_eq!((decision.because.id().as_str(), decision.upkeep.new_ttl), ("LeaderWithLock", None));
    }

    #[test]
    fn a_reading_that_shows_the_key_on_the_new_lease_first_is_no_loss() {
        let (mut view, _) = changed(primary(), 60).decide();
        let shows = |view: &crate::View, name: &str| {
            let leader = Some(LeaderKey { name: name.into(), lease: Some(LeaseId(77)) });
            std::sync::Arc::new(Cluster { leader, ..view.cluster.get().unwrap().as_ref().clone() })
        };
        let (ours, theirs) = (shows(&view, "a"), shows(&view, "b"));
        view.apply(Observation::Cluster { cluster: ours, read_at: at(60_020).mono }, at(60_040));
        assert_eq!(view.lock(at(60_040).mono), Lock::Held { until: Instant::from_millis(85_000) });
        let mut lost = view.clone();
        view.apply(Observation::LeaseRenewed { grant: granted(60_010, 60), leader_proven: true }, at(60_050));
        assert_eq!(view.lock(at(60_050).mono), Lock::Held { until: Instant::from_millis(114_010) });
        lost.apply(Observation::Cluster { cluster: theirs, read_at: at(60_045).mono }, at(60_046));
        assert_eq!(lost.lock(at(60_046).mono), Lock::No);
    }

    #[test]
    fn slots_that_do_not_come_to_be_are_not_ordered_all_the_time() {
        let (mut view, decision) = primary().decide();
        assert_eq!(decision.upkeep.slots.map(|(_, target)| target.changes.len()), Some(2));
        view.apply(
            Observation::SlotsAligned { round: view.last_round, report: Some(SlotReport::default()) },
            at(60_100),
        );
        assert!(decide(&view, at(60_101)).upkeep.slots.is_none(), "the next look will show them");
        let mut state = view.postgres.get().unwrap().as_ref().clone();
        state.looked_at = Instant::from_millis(60_200);
        view.apply(Observation::Postgres(std::sync::Arc::new(state)), at(60_200));
        assert!(decide(&view, at(60_201)).upkeep.slots.is_none(), "it does not");
        assert!(decide(&view, at(70_100)).upkeep.slots.is_some());
    }

    #[test]
    fn after_a_failure_plain_renewals_go_on_and_settle_it() {
        let (mut view, _) = changed(primary(), 60).decide();
        view.apply(Observation::LeaseRefused { why: Refused::Unreachable("no answer".into()) }, at(61_000));
        assert!(matches!(view.lock(at(61_000).mono), Lock::Held { .. }));
        let decision = decide(&view, at(62_100));
        assert_eq!((decision.upkeep.renew, decision.upkeep.new_ttl), (Some(true), None));
        view.dispatched(&decision, at(62_100));
        for write in decision.upkeep.writes {
            view.apply(Observation::Written(write), at(62_150));
        }
        let old =
            LeaseGrant { lease: LEASE, sent_at: Instant::from_millis(62_100), ttl_ms: 30_000, asked_ttl_ms: None };
        view.apply(Observation::LeaseRenewed { grant: old, leader_proven: true }, at(62_200));
        assert_eq!(view.lock(at(62_200).mono), Lock::Held { until: Instant::from_millis(89_100) });
        assert_eq!(decide(&view, at(62_201)).upkeep.new_ttl, None);
        assert_eq!(decide(&view, at(71_000)).upkeep.new_ttl, Some(Duration::from_secs(60)), "it is tried again");
    }

    #[test]
    fn a_promise_to_a_primary_lasts_as_long_as_that_may_count_on_it() {
        let (mut view, now) = replica().build();
        let shorter = Settings { ttl: Duration::from_secs(5), ..view.settings.clone() };
        view.apply(Observation::Settings(shorter), now);
        assert_eq!(view.promise_lasts(), Duration::from_secs(30));
        let mut cluster = view.cluster.get().unwrap().as_ref().clone();
        cluster.leader.as_mut().unwrap().lease = Some(LeaseId(123));
        let later = at(61_000);
        view.apply(Observation::Cluster { cluster: std::sync::Arc::new(cluster), read_at: later.mono }, later);
        assert_eq!(view.promise_lasts(), Duration::from_secs(5));
    }
}
