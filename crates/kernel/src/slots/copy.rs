//! When copies of the leader's logical slots are to be put in place. PostgreSQL reads slots when it starts, so this costs
//! a restart: it is one for all that are missing, it comes only when there is something to put in place, and after any
//! attempt the next one waits, longer each time.

use super::memory::Copies;
use super::wanted::Wants;
use super::{CAN_ADVANCE, NATIVE_FAILOVER, major_version, wanted};
use crate::sync::duty::{is_waited_for, waits_to_be_let_go};
use crate::view::{Memory, Mutant};
use crate::{Reason, View};
use pgherd_types::{
    Cluster, ControlData, Decoding, Instant, Operation, OperationEnd, RunningServer, SlotKind, SyncMode, Upstream,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often WAL that a slot needs may be found missing before the slot is copied anew.
const WAL_MISSED_MAX: u32 = 2;
/// A standby that is restarted streams again, and may be synchronous, after this time.
const EACH_TAKES: Duration = Duration::from_secs(5);
/// So long the leader may take to make other slots that are configured, too, and to tell where they are.
const OTHERS_TAKE: Duration = Duration::from_secs(10);

/// The copy that a running standby needs, if it may be made now.
pub fn owed(
    view: &View,
    cluster: &Cluster,
    running: &RunningServer,
    leader: &Upstream,
    now: Instant,
) -> Option<Operation> {
    if !view.settings.use_slots || view.settings.pause || !by_copying(major_version(running)) {
        return None;
    }
    let slots = missing(view, running, &wanted(view, cluster, running, now));
    let waits = view.slots.next_copy_at().is_some_and(|at| now < at);
    (!slots.is_empty() && !waits).then(|| Operation::CopySlots { from: leader.clone(), slots })
}

/// What a standby that needs copies does now.
#[derive(Clone, PartialEq, Debug)]
pub enum Turn {
    /// It gets them.
    Now,
    /// This is noted first, and it waits, for that reason.
    Note(Memory, Reason),
    /// It waits until then: for other slots, for other members, or to be let go.
    Wait(Instant, Reason),
}

/// It waits a little for slots that come, too; then a synchronous standby asks to be let go.
pub fn turn(view: &View, cluster: &Cluster, running: &RunningServer, now: Instant) -> Turn {
    waits_for_other_slots(view, cluster, running, now).unwrap_or_else(|| in_turn(view, cluster, now))
}

/// The leader makes slots one after the other and may tell of the first before it has the last: one restart is to be enough
/// for all. A slot that it cannot make, or that has to wait for a long transaction, is not waited for any longer.
fn waits_for_other_slots(view: &View, cluster: &Cluster, running: &RunningServer, now: Instant) -> Option<Turn> {
    let copies = &view.slots.copies;
    let slots = to_come(running, &wanted(view, cluster, running, now));
    if slots.is_empty() || copies.owed_since.is_some() || view.mutant == Some(Mutant::SlotsOneByOne) {
        return None;
    }
    let because = Reason::AwaitingOtherSlots { slots };
    match copies.others_awaited_since.map(|since| since + OTHERS_TAKE) {
        None => Some(Turn::Note(Memory::OtherSlotsAwaited, because)),
        Some(until) => (now < until).then_some(Turn::Wait(until, because)),
    }
}

/// A synchronous standby asks to be let go before it is stopped, so that no commit waits for it; and one after the other,
/// so that there is always one to take its place: members that are not synchronous go at once.
fn in_turn(view: &View, cluster: &Cluster, now: Instant) -> Turn {
    if view.settings.sync_mode() == SyncMode::Off || !is_waited_for(view) {
        return Turn::Now;
    }
    let wait = |until| Turn::Wait(until, Reason::AwaitingSyncRelease);
    let note = |memory| Turn::Note(memory, Reason::AwaitingSyncRelease);
    let Copies { owed_since, leaves_since, .. } = view.slots.copies;
    if let Some(since) = leaves_since {
        return waits_to_be_let_go(view, since, now).map_or(Turn::Now, wait);
    }
    let Some(owed_since) = owed_since else { return note(Memory::CopyOwed) };
    let before = cluster.members.keys().filter(|name| **name < view.me.name).count();
    let turn_at = owed_since + EACH_TAKES * (u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)).min(100);
    if now < turn_at { wait(turn_at) } else { note(Memory::LeavesForCopy) }
}

/// A copy of the data, and a rewind, leave no slots behind: those of the leader are put in place before the first start.
pub fn before_start(view: &View, cluster: &Cluster, control: &ControlData, leader: &Upstream) -> Option<Operation> {
    let made = |operation: &Operation| matches!(operation, Operation::Clone { .. } | Operation::Rewind { .. });
    view.ended.as_ref().filter(|last| made(&last.operation) && last.end == OperationEnd::Done)?;
    let applies = view.settings.use_slots
        && view.settings.standby_cluster.is_none()
        && view.me.tags.may_lead()
        && by_copying(control.major_version)
        && super::chain::way_to_leader(cluster, &view.me.name, &view.me.tags).is_some();
    let known = |name: &String| cluster.status_is_leaders && cluster.status.slots.contains_key(name);
    let here = |name: &String| view.settings.slots.permanent[name].in_standby_cluster != Some(true);
    let slots: BTreeMap<String, Decoding> = view
        .settings
        .slots
        .logical()
        .filter(|(name, _)| known(name) && here(name))
        .map(|(name, decoding)| (name.clone(), decoding.clone()))
        .collect();
    (applies && !slots.is_empty()).then(|| Operation::CopySlots { from: leader.clone(), slots })
}

fn by_copying(version: u32) -> bool {
    (CAN_ADVANCE..NATIVE_FAILOVER).contains(&version)
}

/// Logical slots that the leader has and this standby lacks, or has without what they need.
fn missing(view: &View, running: &RunningServer, wants: &Wants) -> BTreeMap<String, Decoding> {
    let lacks = |name: &String, decoding: &Decoding| match running.slots.iter().find(|slot| slot.name == *name) {
        None => true,
        Some(slot) if !slot.decodes(decoding) || slot.active => false,
        Some(slot) => slot.lost || wal_is_gone(view, name),
    };
    let logical = wants.slots.iter().filter_map(|(name, wanted)| match &wanted.kind {
        SlotKind::Logical(decoding) if wanted.at.is_some() && lacks(name, decoding) => {
            Some((name.clone(), decoding.clone()))
        }
        SlotKind::Logical(_) | SlotKind::Physical => None,
    });
    if running.in_recovery { logical.collect() } else { BTreeMap::new() }
}

/// Logical slots that are wanted here, not here, and not told of by the leader yet.
fn to_come(running: &RunningServer, wants: &Wants) -> Vec<String> {
    let here = |name: &String| running.slots.iter().any(|slot| slot.name == *name);
    let to_come = wants
        .slots
        .iter()
        .filter(|(name, wanted)| matches!(wanted.kind, SlotKind::Logical(_)) && wanted.at.is_none() && !here(name));
    to_come.map(|(name, _)| name.clone()).collect()
}

fn wal_is_gone(view: &View, slot: &str) -> bool {
    view.slots.failing.get(slot).is_some_and(|failing| failing.fault.wal_is_gone && failing.count >= WAL_MISSED_MAX)
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
