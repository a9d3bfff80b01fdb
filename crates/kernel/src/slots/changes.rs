//! From the slots that are there and the slots that should be there to the steps between them.

use super::wanted::{Wanted, Wants};
use super::{CAN_ADVANCE, NATIVE_FAILOVER, major_version};
use crate::View;
use pgherd_types::{Cluster, Instant, Lsn, RunningServer, SeenSlot, SlotChange, SlotKind, SlotTarget};

/// All WAL on the way is decoded when a logical slot is moved forward: not more than this at a time.
const LOGICAL_STEP_BYTES: u64 = 64 << 20;

/// The steps.
pub(super) fn changes(
    view: &View,
    cluster: &Cluster,
    running: &RunningServer,
    wants: &Wants,
    now: Instant,
) -> SlotTarget {
    let led_by_another = cluster.leader.as_ref().is_some_and(|leader| leader.name != view.me.name);
    let drops = !view.settings.pause && view.dcs_lost_since.is_none();
    let on_leaders_branch = cluster
        .leader_member()
        .is_some_and(|leader| leader.doc.timeline.is_some() && leader.doc.timeline == running.timeline);
    let version = major_version(running);
    let planner = Planner { view, running, version, led_by_another, on_leaders_branch, drops };
    let mut target = SlotTarget::default();
    for slot in &running.slots {
        match wants.slots.get(&slot.name) {
            Some(wanted) => planner.wanted(slot, wanted, &mut target),
            None => planner.unwanted(slot, &mut target),
        }
    }
    for (name, wanted) in wants.slots.iter().filter(|(name, _)| running.slots.iter().all(|s| s.name != **name)) {
        target.changes.extend(planner.create(name, &wanted.kind));
    }
    target.forget = running.slots_gone.iter().filter(|name| !wants.slots.contains_key(*name)).cloned().collect();
    target.changes.retain(|change| !view.slots.is_given_time(change.slot(), now));
    target
}

struct Planner<'v> {
    view: &'v View,
    running: &'v RunningServer,
    version: u32,
    led_by_another: bool,
    /// What the leader says of positions is true here: not before this server has come to the same timeline, and not if
    /// it has diverged.
    on_leaders_branch: bool,
    /// Not in maintenance mode, and not while the DCS is lost.
    drops: bool,
}

impl Planner<'_> {
    fn drop(&self, slot: &SeenSlot, why: &'static str) -> Option<SlotChange> {
        let may = self.drops && !slot.active && (slot.managed || self.view.settings.slots.drop_unknown);
        may.then(|| SlotChange::Drop { name: slot.name.clone(), why })
    }

    fn unwanted(&self, slot: &SeenSlot, target: &mut SlotTarget) {
        let ignored = self.view.settings.slots.ignore.iter().any(|matcher| matcher.matches(slot));
        if ignored || slot.synced {
            return;
        }
        if let Some(change) = self.in_the_way(slot) {
            return target.changes.push(change);
        }
        if !slot.failover || slot.managed {
            let why = if slot.managed { "it is not wanted any more" } else { "it is unknown" };
            target.changes.extend(self.drop(slot, why));
        }
    }

    /// On a standby the server does not copy a slot of the primary over one that is there already.
    fn in_the_way(&self, slot: &SeenSlot) -> Option<SlotChange> {
        let in_the_way = self.version >= NATIVE_FAILOVER
            && self.running.in_recovery
            && self.led_by_another
            && slot.failover
            && !slot.synced
            && !slot.active
            && self.drops;
        in_the_way.then(|| SlotChange::Drop {
            name: slot.name.clone(),
            why: "it has failover=true and synced=false, and the server is to copy the primary's",
        })
    }

    fn wanted(&self, slot: &SeenSlot, wanted: &Wanted, target: &mut SlotTarget) {
        let as_configured = match &wanted.kind {
            SlotKind::Physical => slot.physical,
            SlotKind::Logical(decoding) => slot.decodes(decoding),
        };
        if !as_configured {
            return target.changes.extend(self.drop(slot, "the configuration says something else of it"));
        }
        if !slot.managed {
            target.claim.insert(slot.name.clone());
        }
        match &wanted.kind {
            SlotKind::Physical => self.physical(slot, wanted, target),
            SlotKind::Logical(_) => {
                target.changes.extend(self.in_the_way(slot).or_else(|| self.logical(slot, wanted)));
            }
        }
    }

    fn physical(&self, slot: &SeenSlot, wanted: &Wanted, target: &mut SlotTarget) {
        let anew = match () {
            () if slot.lost => Some("the WAL it needs is gone"),
            () if self.version < CAN_ADVANCE || slot.active || wanted.used_here == Some(true) => None,
            () if slot.restart_lsn.is_none() => Some("it keeps no WAL"),
            () if self.keeps_old_rows(slot, wanted) => Some("nobody uses it here, and it holds back vacuum"),
            () => None,
        };
        if let Some(why) = anew {
            if let Some(drop) = self.drop(slot, why) {
                target.changes.extend([drop, SlotChange::CreatePhysical { name: slot.name.clone() }]);
            }
            return;
        }
        let unused = self.version >= CAN_ADVANCE && !slot.active && wanted.used_here != Some(true);
        if let (true, Some(to), Some(from)) = (unused, self.reachable(wanted.at), slot.restart_lsn)
            && to > from
        {
            target.changes.push(SlotChange::Advance { name: slot.name.clone(), to, database: None });
        }
    }

    /// What a standby once reported to this slot stays in it, and nobody will ever move it. A new slot begins at the last
    /// checkpoint: not before its owner is past that.
    fn keeps_old_rows(&self, slot: &SeenSlot, wanted: &Wanted) -> bool {
        let checkpoint = self.view.postgres.get().and_then(|p| p.control()).map(|control| control.checkpoint_lsn);
        let past = wanted.at.zip(checkpoint).is_some_and(|(at, checkpoint)| at >= checkpoint);
        let unused_here = wanted.used_here == Some(false) && (self.led_by_another || !self.running.in_recovery);
        unused_here && (slot.xmin.is_some() || slot.catalog_xmin.is_some()) && past
    }

    /// Logical slots of a standby follow those of the leader.
    fn logical(&self, slot: &SeenSlot, wanted: &Wanted) -> Option<SlotChange> {
        if !self.running.in_recovery || !self.on_leaders_branch || slot.lost || slot.active || slot.failover {
            return None;
        }
        let (to, from) = (self.reachable(wanted.at)?, slot.confirmed?);
        let (to, database) = (to.min(Lsn(from.0 + LOGICAL_STEP_BYTES)), slot.database.clone());
        (to > from).then(|| SlotChange::Advance { name: slot.name.clone(), to, database })
    }

    /// Not beyond what this server has.
    fn reachable(&self, at: Option<Lsn>) -> Option<Lsn> {
        let end = if self.running.in_recovery { self.running.replayed } else { self.running.flushed };
        at.map(|at| at.min(end)).filter(|at| !at.is_zero())
    }

    fn create(&self, name: &str, kind: &SlotKind) -> Option<SlotChange> {
        match kind {
            SlotKind::Physical => Some(SlotChange::CreatePhysical { name: name.to_owned() }),
            SlotKind::Logical(_) if self.running.in_recovery => None, // a copy of the leader's
            SlotKind::Logical(decoding) => Some(SlotChange::CreateLogical {
                name: name.to_owned(),
                decoding: decoding.clone(),
                failover: self.version >= NATIVE_FAILOVER,
            }),
        }
    }
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
