//! The slots a node should have.

use std::collections::BTreeSet;

/// What the slot manager makes true.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlotTarget {
    /// Physical slots of other members that must exist.
    pub members: BTreeSet<String>,
    /// Reserve WAL from the moment a slot is made (on a primary) or only from its first use (on a standby, where
    /// nobody moves an unused slot forward).
    pub reserve: bool,
    /// Physical slots that belonged to members which have been gone for longer than `member_slots_ttl`: dropped if
    /// they are inactive. Slots in neither set are not touched.
    pub expired: BTreeSet<String>,
}
