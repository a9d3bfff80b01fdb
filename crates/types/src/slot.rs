//! Replication slots: what is asked for, what was seen of them, and what is to be done about them.

use crate::{Lsn, MemberName, Upstream};
use std::collections::{BTreeMap, BTreeSet};

/// What decodes a logical slot, and where.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Decoding {
    /// The database it belongs to.
    pub database: String,
    /// The output plugin.
    pub plugin: String,
}

/// The kind of a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SlotKind {
    /// Keeps WAL.
    Physical,
    /// Keeps WAL and catalog rows, and decodes.
    Logical(Decoding),
}

/// A permanent slot of the dynamic configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PermanentSlot {
    /// Its kind.
    pub kind: SlotKind,
    /// Only in a standby cluster (true) or only in one with a primary (false).
    pub in_standby_cluster: Option<bool>,
}

/// Slots that are left alone: what is given must be equal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlotMatcher {
    /// The name.
    pub name: Option<String>,
    /// Physical (true) or logical.
    pub physical: Option<bool>,
    /// The database.
    pub database: Option<String>,
    /// The output plugin.
    pub plugin: Option<String>,
}

impl SlotMatcher {
    /// Is this slot meant?
    pub fn matches(&self, slot: &SeenSlot) -> bool {
        self.name.as_ref().is_none_or(|name| *name == slot.name)
            && self.physical.is_none_or(|physical| physical == slot.physical)
            && self.database.as_ref().is_none_or(|name| slot.database.as_ref() == Some(name))
            && self.plugin.as_ref().is_none_or(|name| slot.plugin.as_ref() == Some(name))
    }
}

/// What the dynamic configuration says of slots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotSettings {
    /// `slots`.
    pub permanent: BTreeMap<String, PermanentSlot>,
    /// `ignore_slots`.
    pub ignore: Vec<SlotMatcher>,
    /// `drop_unknown_slots`: drop unused slots that the agent neither wants nor made (Patroni's behaviour).
    pub drop_unknown: bool,
    /// `slot_wal_warning`: a slot that holds back more WAL than this is reported, in bytes; 0: never.
    pub wal_warning: u64,
    /// `manage_synchronized_standby_slots`: from PostgreSQL 17 on, consumers of slots that outlive a failover wait for the
    /// standbys that may be promoted.
    pub consumers_wait: bool,
}

impl Default for SlotSettings {
    fn default() -> Self {
        Self {
            permanent: BTreeMap::new(),
            ignore: Vec::new(),
            drop_unknown: false,
            wal_warning: 4 << 30,
            consumers_wait: false,
        }
    }
}

impl SlotSettings {
    /// The permanent logical slots.
    pub fn logical(&self) -> impl Iterator<Item = (&String, &Decoding)> {
        self.permanent.iter().filter_map(|(name, slot)| match &slot.kind {
            SlotKind::Logical(decoding) => Some((name, decoding)),
            SlotKind::Physical => None,
        })
    }
}

/// A transaction id; they wrap around.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Xid(pub u32);

impl Xid {
    /// Is it the other one or an older one? Of two ids that are in use at the same time, the older one is less than half
    /// of the whole circle behind.
    pub const fn not_after(self, other: Self) -> bool {
        other.0.wrapping_sub(self.0) < 1 << 31
    }
}

/// A replication slot as seen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SeenSlot {
    /// Its name.
    pub name: String,
    /// `physical` (true) or `logical`.
    pub physical: bool,
    /// A consumer is connected.
    pub active: bool,
    /// Its process.
    pub active_pid: Option<u32>,
    /// Oldest WAL kept for it.
    pub restart_lsn: Option<Lsn>,
    /// Logical: its database.
    pub database: Option<String>,
    /// Logical: its output plugin.
    pub plugin: Option<String>,
    /// Logical: up to where its consumer has confirmed.
    pub confirmed: Option<Lsn>,
    /// The oldest transaction whose rows it keeps.
    pub xmin: Option<Xid>,
    /// The oldest transaction whose catalog rows it keeps.
    pub catalog_xmin: Option<Xid>,
    /// It cannot be used any more: WAL or rows that it needs are gone.
    pub lost: bool,
    /// Of PostgreSQL 17 and later: the server itself keeps it on standbys.
    pub failover: bool,
    /// The server's own copy of such a slot of the primary.
    pub synced: bool,
    /// So much WAL lies behind `restart_lsn`.
    pub held_bytes: Option<u64>,
    /// The agent made it, or found it where it wanted one.
    pub managed: bool,
}

impl SeenSlot {
    /// The position that its consumer has reached.
    pub fn position(&self) -> Option<Lsn> {
        if self.physical { self.restart_lsn } else { self.confirmed }
    }
    /// A logical slot of this database and plugin?
    pub fn decodes(&self, decoding: &Decoding) -> bool {
        !self.physical
            && self.database.as_ref() == Some(&decoding.database)
            && self.plugin.as_ref() == Some(&decoding.plugin)
    }
}

/// One change of a slot. Each is done only if the slot is as the change supposes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SlotChange {
    /// Drop it if nobody uses it; the text says why.
    Drop {
        /// The slot.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// Make a physical slot that keeps WAL from now on.
    CreatePhysical {
        /// The slot.
        name: String,
    },
    /// Make a logical slot.
    CreateLogical {
        /// The slot.
        name: String,
        /// What decodes it.
        decoding: Decoding,
        /// The server is to keep it on standbys (PostgreSQL 17 and later).
        failover: bool,
    },
    /// Move it forward to this position, or as far as this server may.
    Advance {
        /// The slot.
        name: String,
        /// Where to.
        to: Lsn,
        /// Of a logical slot: its database.
        database: Option<String>,
    },
}

impl SlotChange {
    /// The slot it is about.
    pub fn slot(&self) -> &str {
        match self {
            Self::Drop { name, .. }
            | Self::CreatePhysical { name }
            | Self::CreateLogical { name, .. }
            | Self::Advance { name, .. } => name,
        }
    }
}

/// What the slot manager makes true.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlotTarget {
    /// Slots that are there and wanted: noted as managed by the agent.
    pub claim: BTreeSet<String>,
    /// Names that are neither there nor wanted: if one of them is there one day, somebody else made it.
    pub forget: BTreeSet<String>,
    /// In this order.
    pub changes: Vec<SlotChange>,
    /// Ask the leader how far its slots are; of a standby with logical slots.
    pub compare: Option<SlotComparison>,
}

impl SlotTarget {
    /// Nothing is to be done.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A question to the leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotComparison {
    /// Where it is.
    pub leader: Upstream,
    /// The physical slot there by which its catalog rows are kept for us.
    pub through: String,
}

/// The leader's answer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaderSlots {
    /// Who.
    pub leader: MemberName,
    /// Does it have the physical slot, and what does that keep?
    pub through: Option<Option<Xid>>,
    /// The oldest mark of all its logical slots.
    pub oldest_logical: Option<Xid>,
}

/// A change that did not work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotFault {
    /// The server's words.
    pub text: String,
    /// WAL that the slot needs is not here.
    pub wal_is_gone: bool,
}

/// How an order of the slot manager ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlotReport {
    /// Changes that did not work, by slot.
    pub faults: BTreeMap<String, SlotFault>,
    /// What the leader said, if it was asked and answered.
    pub leader: Option<LeaderSlots>,
}

/// Something an operator should know of a slot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SlotNote {
    /// Which.
    pub slot: String,
    /// What it is, in one word.
    pub state: &'static str,
    /// In words: what, and what helps.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_ids_are_numbers_on_a_circle() {
        for (a, b, not_after) in
            [(999, 1000, true), (1000, 999, false), (5, 5, true), (u32::MAX - 5, 7, true), (7, u32::MAX - 5, false)]
        {
            assert_eq!(Xid(a).not_after(Xid(b)), not_after, "{a} {b}");
        }
    }

    #[test]
    fn a_matcher_needs_all_that_it_names() {
        let slot = SeenSlot {
            name: "x".into(),
            database: Some("db".into()),
            plugin: Some("test_decoding".into()),
            ..SeenSlot::default()
        };
        let by = |name: Option<&str>, physical, plugin: Option<&str>| {
            let (name, plugin) = (name.map(str::to_owned), plugin.map(str::to_owned));
            SlotMatcher { name, physical, plugin, database: None }.matches(&slot)
        };
        assert!(by(Some("x"), None, None) && by(None, Some(false), Some("test_decoding")));
        assert!(!by(Some("y"), None, None) && !by(Some("x"), Some(true), None) && !by(None, None, Some("pgoutput")));
    }
}
