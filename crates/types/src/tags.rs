//! A member's tags.

use serde::Serialize;

/// The tags this program acts on; all others are kept as text for display.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Tags {
    /// Never becomes leader.
    pub nofailover: bool,
    /// Tie-breaker among equal positions; 0 or less means never. `None` counts as 1.
    pub failover_priority: Option<i32>,
    /// Replica health checks answer 503.
    pub noloadbalance: bool,
    /// Preferred source of clones.
    pub clonefrom: bool,
    /// Streams from nobody.
    pub nostream: bool,
    /// Streams from this member instead of the leader.
    pub replicatefrom: Option<String>,
    /// Is never a synchronous standby.
    pub nosync: bool,
    /// The higher, the sooner it is chosen as a synchronous standby; 0 or less means never. `None` counts as 1.
    pub sync_priority: Option<i32>,
    /// Every tag as configured, as `(name, JSON text)`, in order: what the member key and REST show.
    pub shown: Vec<(String, String)>,
}

impl Tags {
    /// The priority in a race: the tag, 0 with `nofailover`, 1 by default (spec/configuration.md 6).
    pub fn priority(&self) -> i32 {
        if self.nofailover { 0 } else { self.failover_priority.unwrap_or(1) }
    }
    /// The priority among synchronous standbys: the tag, 0 with `nosync`, 1 by default.
    pub fn sync_rank(&self) -> i32 {
        if self.nosync { 0 } else { self.sync_priority.unwrap_or(1) }
    }
    /// May this member ever lead?
    pub fn may_lead(&self) -> bool {
        self.priority() > 0
    }
}
