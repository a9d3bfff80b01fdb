//! Slots in the model: physical ones of members, and in some runs one permanent logical slot with its consumer. WAL is not
//! kept, so a slot is a position; what its consumer needs of the catalog is a position, too: rows that were removed by
//! vacuum on a primary are gone on every standby that has replayed so far.

use crate::mutants::Planted;
use crate::network::End;
use crate::postgres::{Data, Proc};
use crate::world::World;
use pgherd_kernel::Observation;
use pgherd_types::{
    Decoding, LeaderSlots, Lsn, OperationEnd, PermanentSlot, SeenSlot, SlotChange, SlotComparison, SlotKind,
    SlotReport, SlotTarget, Upstream, Xid,
};
use std::collections::BTreeMap;

/// The name of the logical slot.
pub const SLOT: &str = "cdc";
/// The oldest position that a slot may need WAL of, behind the end: what is older is not kept.
const WAL_KEPT: u64 = 64 << 20;

/// The slots on a disk.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    /// The logical slot: up to where its consumer has confirmed.
    pub confirmed: Option<u64>,
    /// What standbys said that they need, by their slots.
    pub marks: BTreeMap<String, u64>,
    /// Rows that are needed by who is not beyond this position are gone.
    pub vacuumed: u64,
}

/// A position as a transaction id.
fn xid(at: u64) -> Xid {
    Xid((at >> 4) as u32)
}

/// The setting of the slot.
pub fn setting() -> PermanentSlot {
    let decoding = Decoding { database: "postgres".to_owned(), plugin: "test_decoding".to_owned() };
    PermanentSlot { kind: SlotKind::Logical(decoding), in_standby_cluster: None }
}

impl Slots {
    /// A logical slot as the monitor sees it.
    pub fn seen_logical(&self) -> Option<SeenSlot> {
        let confirmed = self.confirmed?;
        Some(SeenSlot {
            name: SLOT.to_owned(),
            managed: true,
            database: Some("postgres".to_owned()),
            plugin: Some("test_decoding".to_owned()),
            restart_lsn: Some(Lsn(confirmed)),
            confirmed: Some(Lsn(confirmed)),
            catalog_xmin: Some(xid(confirmed)),
            ..SeenSlot::default()
        })
    }

    /// The oldest position that anything here, or below, needs rows of.
    fn needs(&self) -> Option<u64> {
        self.confirmed.into_iter().chain(self.marks.values().copied()).min()
    }
}

impl World {
    /// Is there a logical slot in this run?
    pub fn has_logical_slot(&self) -> bool {
        self.setup.settings.slots.permanent.contains_key(SLOT)
    }

    /// The slot manager carries an order out.
    pub fn slots(&mut self, n: usize, round: u64, target: &SlotTarget) {
        let pg = &self.nodes[n].pg;
        let works = pg.proc == Proc::Running && pg.stalled_until <= self.now && pg.data.is_some();
        if works {
            for change in &target.changes {
                self.change_slot(n, change);
            }
            self.look(n);
        }
        let leader = target.compare.as_ref().filter(|_| works).and_then(|asked| self.compared(n, asked));
        let report = works.then(|| SlotReport { leader, ..SlotReport::default() });
        self.turn(n, Some(Observation::SlotsAligned { round, report }));
    }

    fn change_slot(&mut self, n: usize, change: &SlotChange) {
        let pg = &mut self.nodes[n].pg;
        let (in_recovery, Some(data)) = (pg.in_recovery, pg.data.as_mut()) else { return };
        match change {
            SlotChange::CreatePhysical { name } => {
                data.slots.insert(name.clone());
            }
            SlotChange::Drop { name, .. } if name == SLOT => data.logical.confirmed = None,
            SlotChange::Drop { name, .. } => {
                data.slots.remove(name);
                data.logical.marks.remove(name);
            }
            SlotChange::CreateLogical { .. } if !in_recovery && data.logical.confirmed.is_none() => {
                data.logical.confirmed = Some(data.wal_end);
                let data = data.clone();
                self.checks.consumer.begins_anew(&data);
                self.trace.count("happened:logical slot made");
            }
            SlotChange::CreateLogical { .. } => {}
            SlotChange::Advance { name, to, .. } if name == SLOT => {
                let end = data.wal_end;
                if let Some(at) = data.logical.confirmed.as_mut().filter(|at| **at < to.0) {
                    *at = to.0.min(end);
                    let (at, data) = (*at, data.clone());
                    self.check_moved(n, &data, at);
                    self.trace.count("happened:logical slot moved on a standby");
                }
            }
            SlotChange::Advance { .. } => {}
        }
    }

    /// What the leader says when it is asked.
    fn compared(&self, n: usize, asked: &SlotComparison) -> Option<LeaderSlots> {
        let leader = self.primary_named(n, &asked.leader)?;
        let data = self.nodes[leader].pg.data.as_ref()?;
        let through = data.slots.contains(&asked.through);
        if self.setup.planted == Some(Planted::CopiesCountAsSafe) {
            let nothing_missing = Some(xid(0));
            let leader = asked.leader.member.clone();
            return Some(LeaderSlots { leader, through: Some(nothing_missing), oldest_logical: nothing_missing });
        }
        Some(LeaderSlots {
            leader: asked.leader.member.clone(),
            through: through.then(|| data.logical.marks.get(&asked.through).map(|at| xid(*at))),
            oldest_logical: data.logical.confirmed.map(xid),
        })
    }

    /// The node of this name, if it serves as a primary and can be reached.
    fn primary_named(&self, n: usize, from: &Upstream) -> Option<usize> {
        let found = self.nodes.iter().position(|node| node.me.name == from.member)?;
        let node = &self.nodes[found];
        let serves = node.up && node.pg.proc == Proc::Running && !node.pg.in_recovery;
        (serves && node.pg.stalled_until <= self.now && self.net.both(End::Node(found), End::Node(n))).then_some(found)
    }

    /// The leader's slot, if it can be copied to this node: it has the WAL that is needed.
    fn slot_to_copy(&self, n: usize, from: &Upstream) -> Option<u64> {
        let leader = self.primary_named(n, from)?;
        let (theirs, ours) = (self.nodes[leader].pg.data.as_ref()?, self.nodes[n].pg.data.as_ref()?);
        let at = theirs.logical.confirmed?;
        (theirs.system == ours.system && at + WAL_KEPT >= ours.wal_end).then_some(at)
    }

    /// A copy of the leader's slot begins: nothing is stopped for nothing.
    pub fn op_copy_slots(&mut self, n: usize, from: &Upstream) {
        let copied = self.slot_to_copy(n, from);
        let Some(at) = copied.filter(|_| !self.mishap(100)) else {
            return self.op_ends(n, OperationEnd::Failed("no slot can be copied".to_owned()));
        };
        self.nodes[n].slot_on_its_way = Some(at);
        if self.nodes[n].pg.alive() {
            self.pg_stop_fast(n);
        } else {
            self.op_slots_copied(n);
        }
    }

    /// The server is down: the slot is put in place.
    pub fn op_slots_copied(&mut self, n: usize) {
        let at = self.nodes[n].slot_on_its_way.take();
        let moved_back = match (self.nodes[n].pg.data.as_mut(), at) {
            (Some(data), Some(at)) => {
                let before = data.logical.confirmed.replace(at);
                before.is_some_and(|before| at < before).then_some(before)
            }
            _ => None,
        };
        if let Some(Some(before)) = moved_back {
            self.fail(format!(
                "slots: n{} had its logical slot at {before:#x} and took an older one in its place",
                n + 1
            ));
        }
        self.trace.count("happened:logical slot copied");
        self.op_ends(n, OperationEnd::Done);
    }

    /// A standby tells its upstream what it needs, by way of its slot there, and hears what was removed.
    pub fn feedback(&mut self, n: usize, upstream: usize) {
        let slot = self.nodes[n].me.name.slot_name();
        let needs = self.nodes[n].pg.data.as_ref().and_then(|data| data.logical.needs());
        let Some(theirs) = self.nodes.get_mut(upstream).and_then(|node| node.pg.data.as_mut()) else { return };
        match needs.filter(|_| theirs.slots.contains(&slot)) {
            Some(at) => drop(theirs.logical.marks.insert(slot, at)),
            None => drop(theirs.logical.marks.remove(&slot)),
        }
    }

    /// Vacuum, and the consumer, on every primary.
    pub fn consume(&mut self) {
        if !self.has_logical_slot() {
            return;
        }
        for n in 0..self.nodes.len() {
            let (reads, vacuums) = (self.slot_rng.permille(700), self.slot_rng.permille(500));
            let pg = &mut self.nodes[n].pg;
            let serves = pg.writable && pg.proc == Proc::Running && pg.stalled_until <= self.now;
            let Some(data) = pg.data.as_mut().filter(|_| serves) else { continue };
            if vacuums {
                let horizon = data.logical.needs().unwrap_or(data.wal_end);
                data.logical.vacuumed = data.logical.vacuumed.max(horizon);
            }
            if reads && let Some(at) = data.logical.confirmed {
                let (copy, end) = (data.clone(), data.wal_end);
                data.logical.confirmed = Some(end.max(at));
                self.check_consumed(n, &copy, at, end);
            }
        }
    }

    /// It is being promoted: did its kernel know that the slot is not safe here?
    pub fn note_slot_promise(&mut self, n: usize, timeline: pgherd_types::Timeline) {
        let warned = self.nodes[n].agent.as_ref().is_none_or(|a| a.view.slots.unsafe_when_promoted.contains_key(SLOT));
        let there = self.nodes[n].pg.data.as_ref().is_some_and(|data: &Data| data.logical.confirmed.is_some());
        self.checks.consumer.promoted(timeline, warned, there);
    }
}
