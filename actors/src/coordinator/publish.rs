//! Publishing what this node says of itself. Claims carry their expiry; readers compare it with the clock.

use super::Coordinator;
use pgherd_kernel::{Decision, Lock, shown, slots};
use pgherd_protocol::events::Told;
use pgherd_protocol::postgres_operator::{ConsumersWaitFor, KeepRows, LeadStandbyCluster};
use pgherd_types::node_status::ReasonText;
use pgherd_types::{NodeStatus, Now, Role, ServerPhase};
use std::sync::Arc;

impl Coordinator {
    pub(super) fn publish(&mut self, decision: &Decision, now: Now) {
        self.tell_whom_consumers_await(now);
        let view = &self.view;
        let role = shown::role(view, now.mono);
        let leads_standbys = role == Role::StandbyLeader;
        if std::mem::replace(&mut self.leads_standbys, leads_standbys) != leads_standbys {
            crate::tell::tell(&self.links.lead_standby_cluster, LeadStandbyCluster(leads_standbys));
        }
        if let Some(rows) = slots::feedback(view) {
            let copies = slots::server_may_copy(view).or(self.keeps_rows.map(|keep| keep.copies)).unwrap_or(false);
            let keep = KeepRows { rows, copies };
            if self.keeps_rows.replace(keep) != Some(keep) {
                crate::tell::tell(&self.links.keep_rows, keep);
            }
        }
        let (slot_notes, safe_slots) = (slots::notes(view, now.mono), slots::safe(view, now.mono));
        let postgres = view.postgres.get().cloned();
        // while the server does not answer nothing is known of its slots
        if postgres.as_ref().is_some_and(|postgres| postgres.running().is_some()) {
            self.slots_told.notes(&slot_notes, &safe_slots);
        }
        let cluster = view.cluster.get().cloned().zip(view.cluster.when());
        // only a leader that is not on its way down says so
        let leader_until = match view.lock(now.mono) {
            Lock::Held { until } if shown::phase(view) != ServerPhase::Stopping => Some(until),
            _ => None,
        };
        let timeline =
            postgres.as_ref().and_then(|p| p.running()?.timeline.or(p.control().map(|c| c.checkpoint_timeline)));
        self.status.store(Arc::new(NodeStatus {
            name: view.me.name.clone(),
            scope: self.scope.clone(),
            tags: shown::tags(view),
            role,
            phase: shown::phase(view),
            leader_until,
            turned_at: now.mono,
            postgres,
            cluster,
            dcs_last_seen: self.dcs_last_seen,
            dcs_lost_since: view.dcs_lost_since,
            dcs_survey: self.dcs_survey.clone(),
            settings: view.settings.clone(),
            system_id: view.system_id(),
            timeline,
            operation: view.operation.as_ref().map(|running| running.operation.name()),
            scheduled_restart: view.scheduled_restart.clone(),
            failsafe_active: view.dcs_lost_since.is_some() && view.lease.agreed(now.mono),
            watchdog_failed: view.watchdog_failed,
            slot_notes,
            safe_slots,
            reason: ReasonText { id: decision.because.id(), text: self.words(&decision.because) },
            counts: self.metrics.counts(),
        }));
        self.links.callbacks.published(&self.status.load());
        self.links.events.tell(Told::Status(self.status.load_full()));
    }

    /// To whom that is told forgets it when the server is stopped.
    fn tell_whom_consumers_await(&mut self, now: Now) {
        let view = &self.view;
        if view.postgres.get().is_none_or(|postgres| postgres.running().is_none()) {
            self.waited_slots = None;
        }
        let Some(slots) = slots::waited_for(view, now.mono).map(ConsumersWaitFor) else { return };
        if self.waited_slots.as_ref() != Some(&slots) {
            let names = slots.0.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            log::info!("consumers of logical slots wait for the standbys of these slots: {names}");
            self.waited_slots = Some(slots.clone());
            crate::tell::tell(&self.links.waited_slots, slots);
        }
    }
}
