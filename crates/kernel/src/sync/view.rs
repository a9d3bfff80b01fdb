//! What the planner looks at.

use super::ready::ReadyMemory;
use pgherd_types::{Lsn, StandbyNames, SyncName, SyncNames, SyncSeen, SyncSettings};
use std::collections::BTreeMap;

/// How a standby connection counts at present, worst first: the order in which mode `on` prefers them.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum SyncState {
    /// Not synchronous.
    #[default]
    Async,
    /// Would be if another one went.
    Potential,
    /// One of several, any of which will do.
    Quorum,
    /// Synchronous.
    Sync,
}

impl SyncState {
    /// Reads `pg_stat_replication.sync_state`; what is unknown is not synchronous.
    pub fn parse(text: &str) -> Self {
        match text {
            "sync" => Self::Sync,
            "quorum" => Self::Quorum,
            "potential" => Self::Potential,
            _ => Self::Async,
        }
    }
}

/// A standby connection that streams (`pg_stat_replication.state` = `streaming`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StandbyRow {
    /// `application_name`.
    pub name: SyncName,
    /// The walsender's process.
    pub pid: u32,
    /// The position that counts with the `synchronous_commit` in force: `remote_apply` replay, `remote_write` write, else
    /// flush. `None` while unknown.
    pub lsn: Option<Lsn>,
    /// `sync_state`.
    pub sync_state: SyncState,
    /// The process is the `active_pid` of this member's own physical slot; true where slots are not used. Everybody can
    /// call himself like a member, but only one process holds the slot.
    pub slot_matches: bool,
    /// It has not answered for `wal_receiver_status_interval` and a grace, or commits have waited for it for over 1 s.
    pub silent: bool,
}

/// What is known of a member beside its connection.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Presence {
    /// Its key says `running`.
    #[default]
    Running,
    /// Its key has lapsed, but was seen within the grace period: after an outage of the DCS all keys lapse at once.
    SeenLately,
    /// Its key has been gone for longer: it stays synchronous while it streams, but is not newly chosen.
    Gone,
    /// Its key says that it is not running.
    NotRunning,
}

/// A member, with the tags last known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncMember {
    /// Is it there?
    pub presence: Presence,
    /// Tag `nosync`.
    pub nosync: bool,
    /// Tag `nofailover`.
    pub nofailover: bool,
    /// Tag `sync_priority`; 0 or less means never.
    pub sync_priority: i32,
    /// Tag `replicatefrom`.
    pub replicate_from: Option<SyncName>,
}

impl Default for SyncMember {
    fn default() -> Self {
        Self { presence: Presence::Running, nosync: false, nofailover: false, sync_priority: 1, replicate_from: None }
    }
}

/// Everything the planner depends on. Key, names and rows are as last observed, never as last asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncView {
    /// This node: it holds the leader key and its PostgreSQL is out of recovery.
    pub me: SyncName,
    /// The settings in force.
    pub settings: SyncSettings,
    /// The `sync` key.
    pub key: SyncSeen,
    /// A write or removal of the `sync` key whose end is not known, by what it compared with (`Some(None)`: that there
    /// is no key). Kept until one that was sent later has succeeded or the key has another revision.
    pub in_doubt: Option<Option<i64>>,
    /// PostgreSQL's `synchronous_standby_names`; `None` while it is not known.
    pub names: Option<StandbyNames>,
    /// What the user configured there, for mode off.
    pub user_names: StandbyNames,
    /// The standbys that stream, read together with `names`.
    pub rows: Vec<StandbyRow>,
    /// Every member but this one, by name, also those whose keys have lapsed.
    pub members: BTreeMap<SyncName, SyncMember>,
    /// This primary's flushed position, read together with `names`.
    pub position: Lsn,
    /// Who has proven to have everything; [`ReadyMemory::look`] was told of these very `names` and `rows`.
    pub ready: ReadyMemory,
    /// This PostgreSQL was promoted or started a short time ago (at most `loop_wait`): standbys are given time to connect,
    /// as long as none is here that could take their place.
    pub patient: bool,
    /// This primary cannot have acknowledged a commit yet. False unless proven.
    pub pristine: bool,
}

impl SyncView {
    /// The names of PostgreSQL and of the key: those that are synchronous or were meant to be.
    pub(super) fn chosen(&self) -> SyncNames {
        let names = self.names.iter().flat_map(|names| &names.names);
        let key = self.key.active().into_iter().flat_map(|key| &key.standbys);
        names.chain(key).cloned().collect()
    }
}
