//! The nouns of pgherd: what one node can know about a cluster. Nothing here decides, waits, reads a clock or talks to
//! anything; every other package builds on these.
//!
//! Reading order: `instant`, `lsn`, `timeline`, then `cluster` (what etcd says), `postgres` (what this node's server
//! says), `sync` (whom commits wait for), `operation` (what may be done to it) and `node_status` (what the node
//! tells others).

pub mod callback;
pub mod cluster;
pub mod counts;
pub mod dcs_survey;
pub mod instant;
pub mod lease;
pub mod lsn;
pub mod manual;
pub mod member;
pub mod node_status;
pub mod operation;
pub mod peer;
pub mod postgres;
pub mod settings;
pub mod slot;
pub mod standby_cluster;
pub mod sync;
pub mod sync_names;
pub mod tags;
pub mod timeline;
pub mod writes;

pub use callback::CallbackAction;
pub use cluster::{Cluster, ConfigKey, Initialize, LeaderKey, StatusKey};
pub use counts::{Counts, Times};
pub use dcs_survey::DcsSurvey;
pub use instant::{Instant, Now, WallTime, millis};
pub use lease::{FenceDue, FenceOrder, LeaseGrant, LeaseId};
pub use lsn::Lsn;
pub use manual::{FailoverKey, RequestId, RestartFilter, RestartWish, Schedule, ScheduledRestart, Wish, WishEnd};
pub use member::{Member, MemberDoc, MemberName, Role};
pub use node_status::NodeStatus;
pub use operation::{Operation, OperationEnd, OperationId, PRE_PROMOTE, Progress, StopMode, Upstream};
pub use peer::{PeerAnswer, PeerReport, PeerSaid, PeerToAsk};
pub use postgres::{
    ControlData, DataDirectory, PostgresState, RunningServer, Server, ServerPhase, SyncReport, SystemId, WalSender,
};
pub use settings::{RewindPolicy, Settings};
pub use slot::{
    Decoding, LeaderSlots, PermanentSlot, SeenSlot, SlotChange, SlotComparison, SlotFault, SlotKind, SlotMatcher,
    SlotNote, SlotReport, SlotSettings, SlotTarget, Xid,
};
pub use standby_cluster::StandbyCluster;
pub use sync::{StandbyNames, SyncApply, SyncKey, SyncKind, SyncMode, SyncName, SyncNames, SyncSeen, SyncSettings};
pub use tags::Tags;
pub use timeline::{HistoryRow, Timeline};
pub use writes::{DcsWrite, Refused, SyncGuard, SyncWrite};

/// The Patroni version whose wire behaviour this agent keeps; written to the member key and to REST answers, because
/// tools compare it (spec/rest-api.md 5).
pub const COMPATIBLE_VERSION: &str = "4.1.4";
/// The product's own version.
pub const PRODUCT_VERSION: &str = env!("CARGO_PKG_VERSION");
