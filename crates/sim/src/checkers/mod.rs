//! The checkers: they see the world as no node can, and know nothing of the rules.

pub mod durability;
pub mod liveness;
pub mod safety;
pub mod slots;
pub mod sync;

use crate::postgres::Data;
use pgherd_types::Timeline;
use std::collections::BTreeMap;

/// What the checkers remember.
#[derive(Debug)]
pub struct Checks {
    /// Who made which timeline, from which.
    pub made: BTreeMap<Timeline, (usize, Timeline)>,
    /// What every node held when the leader key last went, and when that was.
    pub at_lapse: Option<(u64, Vec<Option<Data>>)>,
    /// An operator named the leader: until then nobody asks whether that was wise (true time).
    pub forgiven_until: u64,
    /// The highest timeline each node's directory was on, with its system.
    pub timelines: Vec<Option<(u64, Timeline)>>,
    /// Somebody has served since then without a break (true time).
    pub serving_since: Option<u64>,
    /// Everybody has been in place since then (true time).
    pub settled_since: Option<u64>,
    /// What the consumer of the logical slot has seen.
    pub consumer: slots::Consumer,
    /// When the leader first told of each logical slot (true time).
    pub slots_told: BTreeMap<&'static str, u64>,
    /// S3 and S5.
    pub promise: sync::Promise,
    /// The longest that the cluster was without a primary after the heal, in milliseconds.
    pub healed_after: Option<u64>,
}

impl Checks {
    /// Nothing seen yet.
    pub fn new(nodes: usize) -> Self {
        Self {
            made: BTreeMap::new(),
            at_lapse: None,
            forgiven_until: 0,
            timelines: vec![None; nodes],
            serving_since: None,
            settled_since: None,
            consumer: slots::Consumer::default(),
            slots_told: BTreeMap::new(),
            promise: sync::Promise::default(),
            healed_after: None,
        }
    }
}
