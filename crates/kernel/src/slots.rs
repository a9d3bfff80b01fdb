//! Which slots this node should have (spec/slots.md 2): one for every other member that may stream from it, now or
//! after a failover, kept for a while after the member is gone. Slots the agent does not know are never touched.

use crate::View;
use pgherd_types::{Cluster, Instant, RunningServer, SlotTarget};

/// The slots, or `None` when they are not managed.
pub fn plan(view: &View, cluster: &Cluster, running: &RunningServer, now: Instant) -> Option<SlotTarget> {
    if !view.settings.use_slots {
        return None;
    }
    let leads_standbys = view.settings.standby_cluster.is_some() && view.leads(now);
    let own = view.me.name.slot_name();
    let mut target = SlotTarget { reserve: !running.in_recovery || leads_standbys, ..SlotTarget::default() };
    for (slot, wanted_at) in view.slots_wanted.iter().filter(|(slot, _)| **slot != own) {
        if now.since(*wanted_at) <= view.settings.member_slots_ttl {
            target.members.insert(slot.clone());
        } else if !view.settings.pause {
            target.expired.insert(slot.clone());
        }
    }
    if !view.me.tags.may_lead() {
        target.members.retain(|slot| streams_from_us(view, cluster, slot));
    }
    Some(target)
}

/// A node that never leads keeps slots only for those who stream from it.
fn streams_from_us(view: &View, cluster: &Cluster, slot: &str) -> bool {
    let ours = |tag: &Option<String>| tag.as_deref() == Some(view.me.name.as_str());
    cluster.members.values().any(|m| m.name.slot_name() == slot && ours(&m.doc.tags.replicatefrom))
}

/// Does the server lack something of the target?
pub fn differs(target: &SlotTarget, running: &RunningServer) -> bool {
    let has = |name: &String| running.slots.iter().any(|s| s.physical && s.name == *name);
    let droppable = |name: &String| running.slots.iter().any(|s| s.physical && s.name == *name && !s.active);
    target.members.iter().any(|name| !has(name)) || target.expired.iter().any(droppable)
}
