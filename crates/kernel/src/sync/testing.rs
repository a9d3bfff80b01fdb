//! Short forms for the unit tests of synchronous replication.

use super::ready::ReadyMemory;
use super::view::{StandbyRow, SyncState, SyncView};
use pgherd_types::{Lsn, StandbyNames, SyncKey, SyncMode, SyncSeen, SyncSettings};
use std::collections::BTreeMap;

/// A key of this leader.
pub fn key(mod_revision: i64, leader: &str, quorum: u32, standbys: &[&str]) -> SyncSeen {
    let standbys = standbys.iter().map(|name| (*name).into()).collect();
    SyncSeen::Valid(SyncKey { mod_revision, leader: Some(leader.into()), quorum, standbys })
}

/// A primary at 1000 without key, names, members and connections.
pub fn view(me: &str, mode: SyncMode) -> SyncView {
    SyncView {
        me: me.into(),
        settings: SyncSettings { mode, ..SyncSettings::default() },
        key: SyncSeen::Absent,
        in_doubt: None,
        names: Some(StandbyNames::none()),
        user_names: StandbyNames::none(),
        rows: Vec::new(),
        members: BTreeMap::new(),
        position: Lsn(1000),
        ready: ReadyMemory::default(),
        patient: false,
        pristine: false,
    }
}

/// A connection at this position, its process named after it.
pub fn row(name: &str, lsn: u64, sync_state: SyncState) -> StandbyRow {
    let pid = name.bytes().fold(0_u32, |pid, b| pid.wrapping_mul(31) + u32::from(b));
    StandbyRow { name: name.into(), pid, lsn: Some(Lsn(lsn)), sync_state, slot_matches: true, silent: false }
}

/// The view with these members streaming.
pub fn streaming(mut view: SyncView, rows: &[StandbyRow]) -> SyncView {
    for row in rows {
        view.members.entry(row.name.clone()).or_default();
    }
    view.rows = rows.to_vec();
    view
}
