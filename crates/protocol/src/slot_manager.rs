//! Commands for the slot manager.

use actix::Message;
use pgherd_types::{Instant, SlotTarget};

/// Make the slots so; the answer is `SlotsAligned`.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct AlignSlots {
    /// Comes back with the answer.
    pub round: u64,
    /// How they should be.
    pub target: SlotTarget,
    /// On a leader: dropped if it arrives after this.
    pub fence: Option<Instant>,
}
