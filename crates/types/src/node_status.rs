//! What a node tells the world of itself, published after every turn of the coordinator. Claims expire: a reader must
//! compare them with its own reading of the boot-time clock.

use crate::{
    Cluster, Counts, DcsSurvey, Instant, MemberName, PostgresState, Role, ScheduledRestart, ServerPhase, Settings,
    SlotNote, SystemId, Tags, Timeline, WallTime,
};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The reason of the present decision.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ReasonText {
    /// Stable name, `LeaderWithLock`.
    pub id: String,
    /// The sentence that is logged.
    pub text: String,
}

/// A node's published state.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct NodeStatus {
    /// This node.
    pub name: MemberName,
    /// Its cluster.
    pub scope: String,
    /// Its tags.
    pub tags: Tags,
    /// The role to show.
    pub role: Role,
    /// The state to show.
    pub phase: ServerPhase,
    /// Until when "I am the leader" may be said; `None` when it may not.
    pub leader_until: Option<Instant>,
    /// When the coordinator last turned.
    pub turned_at: Instant,
    /// The last look at PostgreSQL.
    pub postgres: Option<Arc<PostgresState>>,
    /// The cluster as last read, and when.
    pub cluster: Option<(Arc<Cluster>, Instant)>,
    /// Wall time of the last successful DCS read; epoch when never.
    pub dcs_last_seen: WallTime,
    /// The DCS has not answered since.
    pub dcs_lost_since: Option<Instant>,
    /// The DCS itself as last looked at.
    pub dcs_survey: DcsSurvey,
    /// Settings in force.
    pub settings: Settings,
    /// This node's data.
    pub system_id: Option<SystemId>,
    /// Its timeline.
    pub timeline: Option<Timeline>,
    /// The operation under way, by its name in status lines.
    pub operation: Option<&'static str>,
    /// A restart is scheduled.
    pub scheduled_restart: Option<ScheduledRestart>,
    /// The primary goes on without the DCS because all members agreed.
    pub failsafe_active: bool,
    /// The watchdog is required and cannot be used.
    pub watchdog_failed: bool,
    /// What an operator should know of slots.
    pub slot_notes: Vec<SlotNote>,
    /// Logical slots that are safe to be used once this node leads.
    pub safe_slots: BTreeSet<String>,
    /// Why it does what it does.
    pub reason: ReasonText,
    /// What it has counted.
    pub counts: Counts,
}
