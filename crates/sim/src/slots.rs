//! Slots in the model: physical ones of members, and in some runs one or two permanent logical slots with their consumers,
//! of which that of the first is looked after by a checker. WAL is not kept, so a slot is a position; what its consumer needs of the catalog is a position, too: rows that were removed by
//! vacuum on a primary are gone on every standby that has replayed so far.

use crate::mutants::Planted;
use crate::network::End;
use crate::postgres::{Data, Proc};
use crate::world::{Ev, World};
use pgherd_kernel::Observation;
use pgherd_types::{
    Decoding, LeaderSlots, Lsn, OperationEnd, PermanentSlot, SeenSlot, SlotChange, SlotComparison, SlotFault, SlotKind,
    SlotReport, SlotTarget, Upstream, Xid,
};
use std::collections::BTreeMap;

/// The names of the logical slots.
pub const SLOTS: [&str; 2] = ["cdc", "more"];
/// The first of them.
pub const SLOT: &str = SLOTS[0];
/// The oldest position that a slot may need WAL of, behind the end: what is older is not kept.
const WAL_KEPT: u64 = 64 << 20;
/// So long PostgreSQL may take to make a logical slot, at most.
const CREATE_WITHIN_MS: u64 = 9_000;

/// Of each logical slot that is there: up to where its consumer has confirmed.
pub type Confirmed = [Option<u64>; SLOTS.len()];

/// The slots on a disk.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    /// The logical slots.
    pub confirmed: Confirmed,
    /// Which of them the server itself copied from its primary.
    pub synced: [bool; SLOTS.len()],
    /// What standbys have flushed, by their slots.
    pub flushed: BTreeMap<String, u64>,
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

fn number_of(name: &str) -> Option<usize> {
    SLOTS.iter().position(|slot| *slot == name)
}

impl Slots {
    /// The logical slots as the monitor sees them; `by_itself`: the server keeps copies on standbys by itself.
    pub fn seen_logical(&self, by_itself: bool, in_recovery: bool) -> impl Iterator<Item = SeenSlot> {
        let there = SLOTS.iter().zip(self.confirmed).zip(self.synced);
        let there = there.filter_map(|((name, confirmed), synced)| Some((*name, confirmed?, synced)));
        there.map(move |(name, confirmed, synced)| SeenSlot {
            failover: by_itself,
            synced: by_itself && in_recovery && synced,
            name: name.to_owned(),
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
    pub fn needs(&self) -> Option<u64> {
        self.confirmed.into_iter().flatten().chain(self.marks.values().copied()).min()
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
        let mut faults = BTreeMap::new();
        if works {
            for (done, change) in target.changes.iter().enumerate() {
                if done > 0 && self.waits_for_transactions(n, change) {
                    return self.goes_on_later(n, round, target, done);
                }
                if done == 0 && self.waits_for_transactions(n, change) && self.gives_up_waiting() {
                    let text = "canceling statement due to statement timeout".to_owned();
                    faults.insert(change.slot().to_owned(), SlotFault { text, wal_is_gone: false });
                    continue;
                }
                self.change_slot(n, change);
            }
            self.look(n);
        }
        let leader = target.compare.as_ref().filter(|_| works).and_then(|asked| self.compared(n, asked));
        let report = works.then_some(SlotReport { leader, faults });
        self.turn(n, Some(Observation::SlotsAligned { round, report }));
    }

    /// PostgreSQL makes a logical slot once the transactions that run are over. (In runs with one slot this makes no
    /// difference.)
    fn waits_for_transactions(&self, n: usize, change: &SlotChange) -> bool {
        let two = self.setup.settings.slots.permanent.contains_key(SLOTS[1]);
        two && !self.nodes[n].pg.in_recovery && matches!(change, SlotChange::CreateLogical { .. })
    }

    fn gives_up_waiting(&mut self) -> bool {
        self.setup.mishaps && self.now < self.setup.heal_at && self.slot_rng.permille(200)
    }

    /// Who looks meanwhile sees what was done so far.
    fn goes_on_later(&mut self, n: usize, round: u64, target: &SlotTarget, done: usize) {
        let rest = SlotTarget { changes: target.changes[done..].to_vec(), ..target.clone() };
        let (inc, took) = (self.nodes[n].inc, self.slot_rng.range(50, CREATE_WITHIN_MS));
        self.push(self.now + took, Ev::Slots { n, inc, round, target: Box::new(rest) });
        self.look(n);
    }

    fn change_slot(&mut self, n: usize, change: &SlotChange) {
        let pg = &mut self.nodes[n].pg;
        let (in_recovery, Some(data)) = (pg.in_recovery, pg.data.as_mut()) else { return };
        match change {
            SlotChange::CreatePhysical { name } => {
                data.slots.insert(name.clone());
            }
            SlotChange::Drop { name, .. } => {
                if let Some(slot) = number_of(name) {
                    data.logical.confirmed[slot] = None;
                }
                data.slots.remove(name);
                data.logical.marks.remove(name);
                data.logical.flushed.remove(name);
            }
            SlotChange::CreateLogical { name, .. } => {
                let absent = number_of(name).filter(|slot| data.logical.confirmed[*slot].is_none());
                let Some(slot) = absent.filter(|_| !in_recovery) else { return };
                (data.logical.confirmed[slot], data.logical.synced[slot]) = (Some(data.wal_end), false);
                let data = data.clone();
                if name == SLOT {
                    self.checks.consumer.begins_anew(&data);
                }
                self.trace.tell(self.now, || format!("n{}    makes logical slot {name}", n + 1));
                self.trace.count("happened:logical slot made");
            }
            SlotChange::Advance { name, to, .. } => {
                let (Some(slot), end) = (number_of(name), data.wal_end) else { return };
                let Some(at) = data.logical.confirmed[slot].as_mut().filter(|at| **at < to.0) else { return };
                *at = to.0.min(end);
                let (at, data) = (*at, data.clone());
                if name == SLOT {
                    self.check_moved(n, &data, at);
                }
                self.trace.count("happened:logical slot moved on a standby");
            }
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
            oldest_logical: data.logical.confirmed.into_iter().flatten().min().map(xid),
        })
    }

    /// The node of this name, if it serves as a primary and can be reached.
    fn primary_named(&self, n: usize, from: &Upstream) -> Option<usize> {
        let found = self.nodes.iter().position(|node| node.me.name == from.member)?;
        let node = &self.nodes[found];
        let serves = node.up && node.pg.proc == Proc::Running && !node.pg.in_recovery;
        (serves && node.pg.stalled_until <= self.now && self.net.both(End::Node(found), End::Node(n))).then_some(found)
    }

    /// Those of the leader's slots that can be copied to this node: it has the WAL that is needed.
    fn slots_to_copy(&self, n: usize, from: &Upstream, named: &BTreeMap<String, Decoding>) -> Option<Confirmed> {
        let leader = self.primary_named(n, from)?;
        let (theirs, ours) = (self.nodes[leader].pg.data.as_ref()?, self.nodes[n].pg.data.as_ref()?);
        let usable = |slot: usize| {
            let at = theirs.logical.confirmed[slot].filter(|_| named.contains_key(SLOTS[slot]))?;
            (theirs.system == ours.system && at + WAL_KEPT >= ours.wal_end).then_some(at)
        };
        let copied: Confirmed = std::array::from_fn(usable);
        copied.iter().any(Option::is_some).then_some(copied)
    }

    /// A copy of the leader's slots begins: nothing is stopped for nothing.
    pub fn op_copy_slots(&mut self, n: usize, from: &Upstream, named: &BTreeMap<String, Decoding>) {
        let copied = self.slots_to_copy(n, from, named);
        let Some(copied) = copied.filter(|_| !self.mishap(100)) else {
            return self.op_ends(n, OperationEnd::Failed("no slot can be copied".to_owned()));
        };
        self.nodes[n].slots_on_their_way = Some(copied);
        if self.nodes[n].pg.alive() {
            self.check_one_restart_for_all(n, named);
            self.pg_stop_fast(n);
        } else {
            self.op_slots_copied(n);
        }
    }

    /// The server is down: the slots are put in place.
    pub fn op_slots_copied(&mut self, n: usize) {
        let copied = self.nodes[n].slots_on_their_way.take().unwrap_or_default();
        let mut moved_back = None;
        if let Some(data) = self.nodes[n].pg.data.as_mut() {
            for (there, at) in data.logical.confirmed.iter_mut().zip(copied) {
                moved_back = moved_back.or(there.filter(|before| at.is_some_and(|at| at < *before)));
                *there = at.or(*there);
            }
        }
        if let Some(before) = moved_back {
            self.fail(format!(
                "slots: n{} had a logical slot at {before:#x} and took an older one in its place",
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

    /// It is being promoted: did its kernel know that the slot is not safe here?
    pub fn note_slot_promise(&mut self, n: usize, timeline: pgherd_types::Timeline) {
        let warned = self.nodes[n].agent.as_ref().is_none_or(|a| a.view.slots.unsafe_when_promoted.contains_key(SLOT));
        let there = self.nodes[n].pg.data.as_ref().is_some_and(|data: &Data| data.logical.confirmed[0].is_some());
        self.checks.consumer.promoted(timeline, warned, there);
    }
}
