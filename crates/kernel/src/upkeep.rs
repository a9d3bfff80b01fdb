//! What is owed beside the decision about the role: renewal, the member key, the leader's keys, a look, slots.

use crate::asked::Ask;
use crate::decide::Verdict;
use crate::shown::{checkpoint_pending, member_doc};
use crate::wishes;
use crate::{Action, Reason, Upkeep, View, history, slots};
use pgherd_types::{Cluster, DcsWrite, Instant, MemberName, Now, RunningServer, StatusKey, WallTime};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a member may take to agree that a primary goes on without the DCS.
pub const FAILSAFE_PATIENCE: Duration = Duration::from_secs(2);

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
        if unproven {
            due = self.now;
        }
        if let Some(ask) = &view.asked.renew {
            due = due.max(self.renewal_gap(ask));
        }
        if due > self.now {
            self.wake(due);
        } else if !(lock_request || view.released && view.shutdown.is_some() && view.operation.is_none()) {
            self.upkeep.renew = Some(leads || view.key_is_ours());
        }
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
            Reason::AwaitingOwnPosition if !asked_lately => self.upkeep.look = true,
            Reason::AwaitingOwnPosition => self.wake(self.now + Duration::from_millis(500)),
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
        let running = view.postgres.get().and_then(|p| p.running()).filter(|r| !r.in_recovery);
        let (Some(cluster), Some(running)) = (view.cluster.get(), running) else { return };
        if !view.leads(self.now) {
            return;
        }
        if view.dcs_lost_since.is_some() {
            return self.ask_members(cluster);
        }
        self.failsafe_topology(cluster);
        self.status(&cluster.status, running);
        if let Some(rows) = history::owed(view, cluster, running) {
            self.write(DcsWrite::History(rows));
        }
        if let (None, Some(ours)) = (&cluster.initialize, view.system_id()) {
            self.write(DcsWrite::AdoptInitialize(ours));
        }
        if !cluster.config.as_ref().is_some_and(|config| config.valid) {
            self.repair_config();
        }
    }

    /// Whom to ask when the DCS is lost: every member, also one whose key went a moment ago.
    fn failsafe_topology(&mut self, cluster: &Cluster) {
        let view = self.view;
        if !view.settings.failsafe_mode {
            return;
        }
        let lately = |name: &MemberName| {
            view.member_seen.get(name).is_some_and(|at| self.now < *at + view.settings.ttl + view.settings.loop_wait)
        };
        let mut members: BTreeMap<MemberName, String> =
            view.known_apis.iter().filter(|(name, _)| lately(name)).map(|(n, api)| (n.clone(), api.clone())).collect();
        members.insert(view.me.name.clone(), view.me.api_url.clone());
        if cluster.failsafe.as_ref() != Some(&members) {
            self.write(DcsWrite::Failsafe(members));
        }
    }

    /// The DCS is lost: may this primary go on? Asked so often that a refusal can be mended before the fence.
    fn ask_members(&mut self, cluster: &Cluster) {
        let view = self.view;
        let (Some(lost_since), true) = (view.dcs_lost_since, view.settings.failsafe_mode && !view.settings.pause)
        else {
            return;
        };
        let Some(members) = cluster.failsafe.as_ref().filter(|members| members.contains_key(&view.me.name)) else {
            return;
        };
        let Some(usable) = view.lease.usable() else { return };
        let first = lost_since + view.settings.retry_timeout.min(usable / 4);
        let due = match &view.asked.failsafe {
            Some(ask) if ask.at >= lost_since => match ask.answer {
                None => ask.at + FAILSAFE_PATIENCE + crate::asked::ANSWER_GRACE,
                Some((_, true)) => ask.at + (usable * 2 / 5).min(view.settings.loop_wait),
                Some((at, false)) => at + Duration::from_millis(500),
            },
            _ => first,
        };
        if self.now < due {
            return self.wake(due);
        }
        self.upkeep.failsafe = Some((view.last_round + 3, members.clone()));
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

    fn status(&mut self, known: &StatusKey, running: &RunningServer) {
        let mut status =
            StatusKey { optime: running.flushed, slots: Default::default(), retain_slots: known.retain_slots.clone() };
        status.slots.extend(running.slots.iter().filter_map(|s| Some((s.name.clone(), s.restart_lsn?))));
        status.slots.insert(self.view.me.name.slot_name(), running.flushed);
        let ask = self.view.asked.writes.get("status");
        let due = ask.map_or(self.now, |ask| ask.at + self.view.settings.loop_wait);
        if status == *known {
            return;
        }
        if self.now < due { self.wake(due) } else { self.write(DcsWrite::Status(status)) }
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
        let Some(target) = slots::plan(view, cluster, running, self.now) else { return };
        if !slots::differs(&target, running) {
            return;
        }
        if let Some((_, ask)) = &view.asked.slots {
            if let Some(until) = ask.blocked_until(self.now, Duration::from_secs(5)) {
                return self.wake(until);
            }
            if ask.granted(&target).is_some_and(|at| looked_at < at) {
                return; // done; the next look will show it
            }
        }
        self.upkeep.slots = Some((self.next_round(), target));
    }

    /// A round's number is used once; a probe decided in the same turn has the next one.
    fn next_round(&self) -> u64 {
        self.view.last_round + 2
    }
}
