//! Is a standby's logical slot safe to be used once it leads? The catalog rows that decoding needs from its position on must
//! still be here, and a standby removes what its primary's vacuum removed. So the primary must keep them for us: through
//! the physical slot by which we are fed, with `hot_standby_feedback`.
//!
//! Nothing was ever removed that is not older than the oldest mark of the primary's own logical slots. When the physical
//! slot is first seen to keep something, let that be H. From then on nothing is removed that is not older than P, the
//! mark of the physical slot, which only grows as well. Our slot needs what is not older than L. So it is safe once
//! H <= L and P <= L. (A server of version 17 or later that copies slots by itself says so itself.)

use super::chain::{applying, way_to_leader};
use super::wanted::Wants;
use super::{NATIVE_FAILOVER, major_version, wanted};
use crate::View;
use crate::rules::bootstrap::upstream_of;
use pgherd_types::{
    Cluster, Decoding, Instant, LeaderSlots, MemberName, RunningServer, SeenSlot, Settings, SlotComparison, SlotKind,
    Xid,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The leader is asked about copies that are not safe yet this often, or each `loop_wait` if that is longer.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// What is known of the copies. It counts for one leader and one run of our server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Readiness {
    leader: Option<MemberName>,
    server: String,
    /// H, above.
    kept_since: Option<Xid>,
    safe: BTreeSet<String>,
    asked_at: Option<Instant>,
    /// What keeps every copy from being safe.
    obstacle: Option<String>,
}

impl Readiness {
    fn forget(&mut self) {
        self.safe.clear();
        self.kept_since = None;
        self.obstacle = None;
        self.asked_at = None;
    }

    /// Somebody leads.
    pub(crate) fn led_by(&mut self, leader: &MemberName) {
        if self.leader.as_ref() != Some(leader) {
            self.forget();
            self.leader = Some(leader.clone());
        }
    }

    /// A slot that is not there any more begins anew.
    pub(crate) fn looked(&mut self, ours: &[SeenSlot]) {
        self.safe.retain(|name| ours.iter().any(|slot| slot.name == *name && !slot.lost));
    }

    /// Our server that was started then runs.
    pub(crate) fn of_server(&mut self, started: &str) {
        if self.server != started {
            self.forget();
            started.clone_into(&mut self.server);
        }
    }

    /// The leader is being asked.
    pub(crate) fn asked(&mut self, now: Instant) {
        self.asked_at = Some(now);
    }

    /// The leader has answered.
    pub(crate) fn answered(&mut self, said: &LeaderSlots, through: &str, ours: &[SeenSlot]) {
        if self.leader.as_ref() != Some(&said.leader) {
            return;
        }
        self.obstacle = match said.through {
            None => Some(format!("the physical slot {through} does not exist on {}", said.leader)),
            Some(None) => Some(format!(
                "{} keeps no catalog rows through the slot {through} yet: this needs hot_standby_feedback on every server \
                 on the way, which the agent sets (is it overridden in postgresql.auto.conf?), and a moment",
                said.leader
            )),
            Some(Some(_)) => None,
        };
        let Some(Some(kept)) = said.through else {
            self.kept_since = None; // whatever was kept is not any more
            return;
        };
        self.kept_since = self.kept_since.or(said.oldest_logical);
        let Some(since) = self.kept_since else { return };
        let needs = |slot: &SeenSlot| slot.catalog_xmin.filter(|_| !slot.physical);
        let safe = |ours: Xid| since.not_after(ours) && kept.not_after(ours);
        let found = ours.iter().filter(|slot| needs(slot).is_some_and(safe)).map(|slot| slot.name.clone());
        self.safe.extend(found);
    }

    fn is_safe(&self, slot: &str) -> bool {
        self.safe.contains(slot)
    }
}

/// What to ask the leader now, if anything.
pub(super) fn comparison(
    view: &View,
    cluster: &Cluster,
    running: &RunningServer,
    wants: &Wants,
    now: Instant,
) -> Option<SlotComparison> {
    let readiness = &view.slots.readiness;
    let every = ASK_EVERY.max(view.settings.loop_wait);
    if !running.in_recovery
        || major_version(running) >= NATIVE_FAILOVER
        || view.dcs_lost_since.is_some()
        || readiness.asked_at.is_some_and(|at| now < at + every)
    {
        return None;
    }
    let leader = cluster.leader_member().filter(|leader| leader.name != view.me.name)?;
    let open = |(name, decoding): &(&String, &Decoding)| {
        !readiness.is_safe(name) && running.slots.iter().any(|slot| slot.name == **name && slot.decodes(decoding))
    };
    if !logical(wants).any(|slot| open(&slot)) {
        return None;
    }
    let way = way_to_leader(cluster, &view.me.name, &view.me.tags)?;
    let through = way.last().map_or(&view.me.name, |top| &top.name).slot_name();
    Some(SlotComparison { leader: upstream_of(leader)?, through })
}

fn logical(wants: &Wants) -> impl Iterator<Item = (&String, &Decoding)> {
    wants.slots.iter().filter_map(|(name, wanted)| match &wanted.kind {
        SlotKind::Logical(decoding) => Some((name, decoding)),
        SlotKind::Physical => None,
    })
}

/// The permanent logical slots that are known to exist: whoever leads next must have them.
pub fn needed_of(settings: &Settings, cluster: &Cluster) -> BTreeSet<String> {
    let known = |name: &String| cluster.status.slots.contains_key(name);
    applying(settings).filter(|name| known(name)).cloned().collect()
}

/// The same, and those of this node if it is the primary.
pub fn needed(view: &View, cluster: &Cluster) -> BTreeSet<String> {
    let mut slots = needed_of(&view.settings, cluster);
    let ours = view.postgres.get().and_then(|p| p.running()).filter(|r| !r.in_recovery);
    let has = |name: &String| ours.is_some_and(|r| r.slots.iter().any(|slot| !slot.physical && slot.name == *name));
    slots.extend(applying(&view.settings).filter(|name| has(name)).cloned());
    slots
}

/// Why a logical slot of this standby cannot be relied upon.
fn obstacle(view: &View, running: &RunningServer, name: &str, decoding: &Decoding) -> Option<String> {
    let Some(slot) = running.slots.iter().find(|slot| slot.name == name) else {
        let failed = view.slots.copies.failed.as_ref();
        return Some(
            failed.map_or_else(|| "it is not here yet".to_owned(), |why| format!("it could not be copied: {why}")),
        );
    };
    if !slot.decodes(decoding) {
        return Some("a slot of another kind, database or plugin has its name".to_owned());
    }
    if slot.lost {
        return Some("WAL or rows that it needs are gone".to_owned());
    }
    if major_version(running) >= NATIVE_FAILOVER {
        return (!slot.synced).then(|| "the server does not keep it in step with the primary's".to_owned());
    }
    if let Some(failing) = view.slots.failing.get(name) {
        return Some(format!("it cannot be moved forward: {}", failing.fault.text));
    }
    if view.slots.readiness.is_safe(name) {
        return None;
    }
    let why = view.slots.readiness.obstacle.clone();
    Some(why.unwrap_or_else(|| "it is not known yet whether all that it needs is here".to_owned()))
}

/// The logical slots of this standby that could not be relied upon if it were promoted, and why. One that the leader has
/// not told of is perhaps none yet.
pub fn unsafe_slots(view: &View, cluster: &Cluster, running: &RunningServer, now: Instant) -> BTreeMap<String, String> {
    let there =
        |name: &String| cluster.status.slots.contains_key(name) || running.slots.iter().any(|slot| slot.name == *name);
    let mut all = unsafe_in_promotion(view, cluster, running, now);
    all.retain(|name, _| there(name));
    all
}

/// The same for a standby that is being promoted now: a leader may have made a slot and died before it told of it.
pub(super) fn unsafe_in_promotion(
    view: &View,
    cluster: &Cluster,
    running: &RunningServer,
    now: Instant,
) -> BTreeMap<String, String> {
    if !running.in_recovery || !view.settings.use_slots {
        return BTreeMap::new();
    }
    let wants = wanted(view, cluster, running, now);
    logical(&wants)
        .filter_map(|(name, decoding)| Some((name.clone(), obstacle(view, running, name, decoding)?)))
        .collect()
}

/// The logical slots that are safe to be used once this node leads.
pub fn safe(view: &View, now: Instant) -> BTreeSet<String> {
    let running = view.postgres.get().and_then(|p| p.running());
    let (Some(cluster), Some(running)) = (view.cluster.get(), running) else { return BTreeSet::new() };
    let wants = wanted(view, cluster, running, now);
    let usable = |(name, decoding): &(&String, &Decoding)| match running.in_recovery {
        true => obstacle(view, running, name, decoding).is_none(),
        false => running.slots.iter().any(|slot| slot.name == **name && slot.decodes(decoding) && !slot.lost),
    };
    logical(&wants).filter(usable).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
#[path = "ready_tests.rs"]
mod tests;
