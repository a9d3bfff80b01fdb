//! Every SQL text about slots.

use crate::sql::{STATEMENT_PATIENCE, Session, SqlError, literal};
use pgherd_types::{Decoding, Lsn};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio_postgres::SimpleQueryRow;

/// To make a logical slot the server waits for the transactions that run.
pub(super) const CREATE_PATIENCE: Duration = Duration::from_secs(10);
/// To move one forward it decodes all WAL on the way.
pub(super) const ADVANCE_PATIENCE: Duration = Duration::from_secs(25);
/// The first versions with `wal_status`, `conflicting`, and slots that the server keeps on standbys.
const WAL_STATUS_SINCE: u32 = 13;
const CONFLICTING_SINCE: u32 = 16;
const FAILOVER_SINCE: u32 = 17;

/// The column of a look with all slots.
pub(crate) fn column(major_version: u32) -> String {
    let mut lost = Vec::new();
    lost.extend((major_version >= WAL_STATUS_SINCE).then_some("COALESCE(wal_status = 'lost', false)"));
    lost.extend((major_version >= CONFLICTING_SINCE).then_some("COALESCE(conflicting, false)"));
    lost.extend((major_version >= FAILOVER_SINCE).then_some("invalidation_reason IS NOT NULL"));
    let lost = if lost.is_empty() { "false".to_owned() } else { lost.join(" OR ") };
    // of a slot of a primary it only tells where that came from
    let failover = match major_version >= FAILOVER_SINCE {
        true => ", 'failover', failover, 'synced', synced AND pg_is_in_recovery()",
        false => "",
    };
    format!(
        "(SELECT json_agg(json_build_object('name', slot_name, 'physical', slot_type = 'physical', 'active', active,
     'active_pid', active_pid, 'restart_lsn', restart_lsn, 'database', database, 'plugin', plugin,
     'confirmed', confirmed_flush_lsn, 'xmin', xmin::text::bigint, 'catalog_xmin', catalog_xmin::text::bigint,
     'held', GREATEST(0, pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
       ELSE pg_current_wal_lsn() END, restart_lsn))::bigint, 'lost', {lost}{failover}))
     FROM pg_replication_slots WHERE NOT temporary)"
    )
}

fn text(row: &SimpleQueryRow, column: usize) -> String {
    row.get(column).unwrap_or_default().to_owned()
}

/// The names of all slots, whatever they are.
pub(super) async fn names(session: &Session) -> Result<BTreeSet<String>, SqlError> {
    let rows = session.rows("SELECT slot_name FROM pg_replication_slots", STATEMENT_PATIENCE).await?;
    Ok(rows.iter().map(|row| text(row, 0)).collect())
}

/// What a slot is, in words; `None` when there is none that is unused.
pub(super) async fn describe_unused(session: &Session, name: &str) -> Result<Option<String>, SqlError> {
    let query = format!(
        "SELECT concat_ws(' ', slot_type, plugin, 'of database ' || database, 'at ' || COALESCE(confirmed_flush_lsn, restart_lsn)::text)
         FROM pg_replication_slots WHERE slot_name = {} AND NOT active",
        literal(name)
    );
    Ok(session.rows(&query, STATEMENT_PATIENCE).await?.first().map(|row| text(row, 0)))
}

/// Drops a slot that nobody uses.
pub(super) async fn drop_unused(session: &Session, name: &str) -> Result<(), SqlError> {
    let query = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {} AND NOT active",
        literal(name)
    );
    session.rows(&query, STATEMENT_PATIENCE).await.map(drop)
}

/// Makes a physical slot that keeps WAL from now on; on a standby, from its last restart point on.
pub(super) async fn create_physical(session: &Session, name: &str) -> Result<(), SqlError> {
    let query = format!("SELECT pg_create_physical_replication_slot({}, true)", literal(name));
    session.rows(&query, STATEMENT_PATIENCE).await.map(drop)
}

/// Makes a logical slot; the session must be in its database.
pub(super) async fn create_logical(
    session: &Session,
    name: &str,
    decoding: &Decoding,
    failover: bool,
) -> Result<(), SqlError> {
    let more = if failover { ", false, false, true" } else { "" };
    let query = format!(
        "SELECT pg_create_logical_replication_slot({name}, {}{more})
         WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {name})",
        literal(&decoding.plugin),
        name = literal(name),
    );
    session.rows(&query, CREATE_PATIENCE).await.map(drop)
}

/// Moves an unused slot forward; never backwards. For a logical one the session must be in its database.
pub(super) async fn advance(session: &Session, name: &str, to: Lsn) -> Result<(), SqlError> {
    let to = literal(&to.to_string());
    let query = format!(
        "SELECT pg_replication_slot_advance(slot_name, {to}) FROM pg_replication_slots
         WHERE slot_name = {} AND NOT active AND COALESCE(confirmed_flush_lsn, restart_lsn) < {to}",
        literal(name)
    );
    session.rows(&query, ADVANCE_PATIENCE).await.map(drop)
}

/// The physical slots by which somebody streams.
pub(super) async fn connected(session: &Session) -> Result<BTreeSet<String>, SqlError> {
    let query = "SELECT slot_name FROM pg_replication_slots WHERE active AND slot_type = 'physical'";
    let rows = session.rows(query, STATEMENT_PATIENCE).await?;
    Ok(rows.iter().map(|row| text(row, 0)).collect())
}

/// For psql at the leader: a line for this physical slot and for each logical one, with what they keep.
pub(super) fn marks_question(physical: &str) -> String {
    format!(
        "SELECT 'slot', slot_name, slot_type, COALESCE(catalog_xmin::text, '') FROM pg_get_replication_slots()
         WHERE NOT pg_is_in_recovery() AND (slot_type = 'logical' OR slot_name = {})",
        literal(physical)
    )
}

/// The same: whether it is as wanted, and its state file. Only a primary's slots count.
pub(super) fn states_question(slots: &BTreeMap<String, Decoding>) -> String {
    let rows = slots.iter().map(|(name, decoding)| {
        format!("({}, {}, {})", literal(name), literal(&decoding.database), literal(&decoding.plugin))
    });
    format!(
        "SELECT 'slot', s.slot_name, s.slot_type = 'logical' AND d.datname::text = w.db AND s.plugin::text = w.plugin,
           encode(pg_read_binary_file('pg_replslot/' || s.slot_name || '/state'), 'hex')
         FROM (VALUES {}) AS w(name, db, plugin)
         JOIN pg_get_replication_slots() AS s ON s.slot_name::text = w.name
         LEFT JOIN pg_database AS d ON d.oid = s.datoid
         WHERE NOT pg_is_in_recovery() AND NOT s.temporary",
        rows.collect::<Vec<_>>().join(", ")
    )
}
