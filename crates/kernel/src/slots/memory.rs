//! What is remembered of slots: changes that did not work, copies that were tried, which copies are safe.

use super::ready::Readiness;
use super::waited_for::Streamed;
use crate::View;
use pgherd_types::{
    Instant, Lsn, MemberName, RunningServer, SeenSlot, SlotFault, SlotReport, SlotSettings, SlotTarget, Timeline,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The wait after the first failure; it doubles with each.
const BACKOFF: Duration = Duration::from_secs(10);
/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// After this time without an attempt the count of copies begins anew.
const COPIES_FORGOTTEN: Duration = Duration::from_secs(900);

/// A change that keeps failing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failing {
    /// The last failure.
    pub fault: SlotFault,
    /// How many in a row.
    pub count: u32,
    /// When it may be tried again.
    pub until: Instant,
}

/// Copies that were tried.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Copies {
    /// How many lately.
    pub count: u32,
    /// When the last one began.
    pub last: Option<Instant>,
    /// Why the last one did not work.
    pub failed: Option<String>,
    /// Others that are configured are waited for since then.
    pub others_awaited_since: Option<Instant>,
    /// A synchronous standby needs one since then.
    pub owed_since: Option<Instant>,
    /// It asks to be let go for it.
    pub leaves_since: Option<Instant>,
}

impl Copies {
    /// Is a copy being waited for?
    pub(crate) fn awaited(&self) -> bool {
        self.others_awaited_since.is_some() || self.owed_since.is_some()
    }

    /// Nothing is owed any more.
    pub(crate) fn over(&mut self) {
        (self.others_awaited_since, self.owed_since, self.leaves_since) = (None, None, None);
    }
}

/// Positions that a leader told directly, while the DCS does not answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// Who.
    pub leader: MemberName,
    /// Ours then: a position is one on the leader's branch, and not on a later one.
    pub timeline: Option<Timeline>,
    /// By slot.
    pub slots: BTreeMap<String, Lsn>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlotMemory {
    /// Changes that do not work, by slot.
    pub failing: BTreeMap<String, Failing>,
    /// Copies of the leader's logical slots.
    pub copies: Copies,
    /// Which copies are safe to be used.
    pub readiness: Readiness,
    /// Who has streamed from this primary.
    pub streamed: Streamed,
    /// Slots that hold back more WAL than is liked.
    pub holding: BTreeSet<String>,
    /// What a leader without the DCS said of its slots.
    pub told: Option<Told>,
    /// Logical slots that were not safe when this node was promoted, and why.
    pub unsafe_when_promoted: BTreeMap<String, String>,
}

fn wait_after(failures: u32) -> Duration {
    (BACKOFF * (1 << failures.saturating_sub(1).min(5))).min(BACKOFF_MAX)
}

impl SlotMemory {
    /// A change of this slot failed lately: it is not tried now.
    pub(super) fn is_given_time(&self, slot: &str, now: Instant) -> bool {
        self.failing.get(slot).is_some_and(|failing| now < failing.until)
    }

    /// The slot manager has carried an order out.
    pub(crate) fn aligned(&mut self, ordered: &SlotTarget, report: &SlotReport, now: Instant) {
        for name in ordered.changes.iter().map(|change| change.slot()) {
            match report.faults.get(name) {
                None => drop(self.failing.remove(name)),
                Some(fault) => {
                    let count = self.failing.get(name).map_or(0, |before| before.count) + 1;
                    let until = now + wait_after(count);
                    self.failing.insert(name.to_owned(), Failing { fault: fault.clone(), count, until });
                }
            }
        }
    }

    /// A copy begins.
    pub(crate) fn copy_begins(&mut self, now: Instant) {
        let forgotten = self.copies.last.is_none_or(|last| now >= last + COPIES_FORGOTTEN);
        let count = if forgotten { 1 } else { self.copies.count + 1 };
        // until it is down, it is not to be counted as a synchronous standby again
        self.copies = Copies { count, last: Some(now), failed: None, ..std::mem::take(&mut self.copies) };
    }

    /// Until when no other copy is tried.
    pub(super) fn next_copy_at(&self) -> Option<Instant> {
        Some(self.copies.last? + wait_after(self.copies.count))
    }

    /// A slot about the limit is not to be reported again and again: it ends below three quarters of it.
    fn weigh(&mut self, running: &RunningServer, limit: u64) {
        let before = std::mem::take(&mut self.holding);
        let holds = |slot: &&SeenSlot| {
            let enough = if before.contains(&slot.name) { limit / 4 * 3 } else { limit };
            limit > 0 && slot.held_bytes.is_some_and(|held| held > enough)
        };
        self.holding = running.slots.iter().filter(holds).map(|slot| slot.name.clone()).collect();
    }

    /// What is there now.
    pub(crate) fn looked(&mut self, running: Option<&RunningServer>, settings: &SlotSettings, at: Instant) {
        let Some(running) = running else { return };
        self.streamed.looked(running, at);
        self.weigh(running, settings.wal_warning);
        self.readiness.of_server(&running.postmaster_start_time);
        self.readiness.looked(&running.slots);
        self.failing.retain(|name, _| running.slots.iter().any(|slot| slot.name == *name) || !running.in_recovery);
    }
}

impl View {
    /// This node is about to be promoted: what is not safe then stays known.
    pub(crate) fn note_unsafe_slots(&mut self, now: Instant) {
        let running = self.postgres.get().and_then(|p| p.running());
        let (Some(cluster), Some(running)) = (self.cluster.get(), running) else { return };
        self.slots.unsafe_when_promoted = super::ready::unsafe_in_promotion(self, cluster, running, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::server;

    #[test]
    fn a_slot_about_the_limit_is_reported_once() {
        let (mut memory, settings) = (SlotMemory::default(), SlotSettings { wal_warning: 100, ..Default::default() });
        let mut reported = |held_bytes, settings: &SlotSettings| {
            let slot = SeenSlot { name: "x".into(), physical: true, held_bytes, ..SeenSlot::default() };
            let server = RunningServer { slots: vec![slot], ..server(false) };
            memory.looked(Some(&server), settings, Instant::default());
            memory.holding.contains("x")
        };
        let held = [99, 100, 101, 99, 76, 75, 99, 101].map(|held| reported(Some(held), &settings));
        assert_eq!(held, [false, false, true, true, true, false, false, true]);
        assert!(!reported(None, &settings));
        assert!(!reported(Some(1000), &SlotSettings { wal_warning: 0, ..Default::default() }), "switched off");
    }
}
