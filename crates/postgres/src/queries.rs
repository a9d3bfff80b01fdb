//! Every SQL text the agent sends, except the making of roles (`roles.rs`) and what is about slots (`slots/sql.rs`).

use crate::access_files::AccessFile;
use crate::pending_restart;
use crate::server::Postgres;
use crate::sql::{STATEMENT_PATIENCE, Session, SqlError, literal, own_address};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio_postgres::SimpleQueryRow;

/// One look at a running server. `{written}` is the position the receiver wrote to, where the version knows it;
/// `{settings}` tells what waits for a restart, `{reply_time}` when a standby answered, by its own clock. Columns are
/// evaluated in their order: whom commits wait for, then the standbys, then the flushed position, so that this lies behind
/// all that was acknowledged before.
const LOOK: &str = "
SELECT pg_is_in_recovery() AS in_recovery,
  CASE WHEN NOT pg_is_in_recovery() THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int
    WHEN r.latest_end_lsn IS NOT NULL THEN r.received_tli END AS timeline,
  GREATEST((SELECT timeline_id FROM pg_control_checkpoint()), (SELECT min_recovery_end_timeline FROM pg_control_recovery()))
    AS control_timeline,
  CASE WHEN pg_is_in_recovery() THEN GREATEST(pg_last_wal_receive_lsn(), {written}) END AS received,
  CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END AS replayed,
  CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() END AS replayed_timestamp,
  CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END AS replay_paused,
  COALESCE(r.status = 'streaming', false) AS streaming,
  r.latest_end_lsn AS latest_end,
  r.pid AS receiver,
  current_setting('restore_command') <> '' AS restore_command,
  CASE WHEN pg_is_in_recovery() THEN current_setting('primary_conninfo') END AS conninfo,
  pg_postmaster_start_time() AS start_time,
  current_setting('server_version_num') AS version,
{settings},
  {slots} AS slots,
  current_setting('synchronous_standby_names') AS sync_names,
  current_setting('synchronous_commit') AS sync_commit,
  current_setting('wal_receiver_status_interval') AS status_interval,
  CASE WHEN current_setting('synchronous_standby_names') <> '' THEN
    (SELECT json_agg(json_build_object('pid', w.pid, 'since', w.query_start::text)) FROM
      (SELECT pid, query_start FROM pg_stat_activity WHERE wait_event = 'SyncRep' ORDER BY query_start LIMIT 100) AS w)
    END AS sync_waiting,
  (SELECT json_agg(json_build_object('usename', usename, 'application_name', application_name, 'client_addr', client_addr,
     'state', state, 'sync_state', sync_state, 'sync_priority', sync_priority, 'pid', pid, 'written', write_lsn,
     'flushed', flush_lsn, 'replayed', replay_lsn, 'replied', {reply_time})) FROM pg_stat_replication) AS walsenders,
  CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END AS flushed
FROM pg_stat_get_wal_receiver() AS r";

/// The column of the receiver's written position, by major version.
fn written_column(major_version: u32) -> &'static str {
    if major_version >= 13 { "r.written_lsn" } else { "r.received_lsn" }
}

/// The column of a standby's last answer, by major version.
fn reply_column(major_version: u32) -> &'static str {
    if major_version >= 12 { "reply_time::text" } else { "NULL" }
}

/// The row of a look.
pub(crate) async fn look(
    session: &Session,
    major_version: u32,
    controlled: &BTreeMap<String, String>,
) -> Result<SimpleQueryRow, SqlError> {
    let text = LOOK.replace("{written}", written_column(major_version));
    let text = text.replace("{reply_time}", reply_column(major_version));
    let text = text.replace("{slots}", &crate::slots::sql::column(major_version));
    let text = text.replace("{settings}", pending_restart::column(controlled).trim_end());
    let rows = session.rows(&text, STATEMENT_PATIENCE).await?;
    rows.into_iter().next().ok_or_else(|| SqlError::Unreachable("the monitoring query returned no row".to_owned()))
}

/// Opens a session for short statements on our own server.
pub(crate) async fn open(server: &Postgres) -> Result<Session, SqlError> {
    Session::open(&server.current(), &own_address(server), STATEMENT_PATIENCE).await
}

/// Writes a checkpoint.
pub(crate) async fn checkpoint(server: &Postgres, patience: Duration) -> Result<(), SqlError> {
    let session = Session::open(&server.current(), &own_address(server), patience).await?;
    session.rows("CHECKPOINT", patience).await.map(drop)
}

/// Is it in recovery?
pub(crate) async fn in_recovery(session: &Session) -> Result<bool, SqlError> {
    first_text(session, "SELECT pg_is_in_recovery()").await.map(|t| t.as_deref() == Some("t"))
}

/// Asks a standby to leave recovery, without waiting for it.
pub(crate) async fn promote(session: &Session) -> Result<(), SqlError> {
    session.rows("SELECT pg_promote(false)", STATEMENT_PATIENCE).await.map(drop)
}

/// The timeline a primary writes on.
pub(crate) async fn writing_timeline(session: &Session) -> Result<Option<u32>, SqlError> {
    let text = first_text(session, "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int")
        .await?;
    Ok(text.and_then(|t| t.parse().ok()))
}

/// `primary_conninfo` as the server uses it.
pub(crate) async fn conninfo(session: &Session) -> Result<String, SqlError> {
    Ok(first_text(session, "SELECT current_setting('primary_conninfo')").await?.unwrap_or_default())
}

/// `synchronous_standby_names` and the file it comes from.
pub(crate) async fn standby_names(session: &Session) -> Result<(String, String), SqlError> {
    let text = "SELECT setting, COALESCE(sourcefile, '') FROM pg_settings WHERE name = 'synchronous_standby_names'";
    let rows = session.rows(text, STATEMENT_PATIENCE).await?;
    let column = |n| rows.first().and_then(|r| r.get(n)).unwrap_or_default().to_owned();
    Ok((column(0), column(1)))
}

/// Takes `synchronous_standby_names` out of `postgresql.auto.conf`.
pub(crate) async fn reset_standby_names(session: &Session) -> Result<(), SqlError> {
    session.rows("ALTER SYSTEM RESET synchronous_standby_names", STATEMENT_PATIENCE).await.map(drop)
}

/// What the checkpointer waits for.
pub(crate) async fn checkpointer_waits_for(session: &Session) -> Result<Option<String>, SqlError> {
    first_text(session, "SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'checkpointer'").await
}

/// Does a commit wait for standbys?
pub(crate) async fn commits_wait(session: &Session) -> Result<bool, SqlError> {
    let text = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')";
    first_text(session, text).await.map(|t| t.as_deref() == Some("t"))
}

/// Writes and flushes a commit record that waits for no standby; the position behind it. A transaction that has written
/// nothing before its commit is flushed by the WAL writer only, `wal_writer_delay` later: a lock on a row is little, and
/// nobody else waits for it or sees it, nor do logical decoders.
pub(crate) async fn force_wal(session: &Session) -> Result<Option<String>, SqlError> {
    let text = "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; \
        SELECT FROM pg_catalog.pg_tablespace WHERE spcname = 'pg_default' FOR KEY SHARE; \
        COMMIT; SELECT pg_current_wal_insert_lsn()";
    let rows = session.rows(text, STATEMENT_PATIENCE).await?;
    Ok(rows.last().and_then(|r| r.get(0)).map(str::to_owned))
}

/// Has every standby that streams flushed up to here?
pub(crate) async fn standbys_have(session: &Session, position: &str) -> Result<bool, SqlError> {
    let position = literal(position);
    let text = format!(
        "SELECT pg_current_wal_flush_lsn() >= {position} AND NOT EXISTS
          (SELECT FROM pg_stat_replication WHERE state = 'streaming' AND flush_lsn < {position})"
    );
    first_text(session, &text).await.map(|t| t.as_deref() == Some("t"))
}

/// When this connection's process last read the configuration files.
pub(crate) async fn config_load_time(session: &Session) -> Result<String, SqlError> {
    first_text(session, "SELECT pg_conf_load_time()").await.map(Option::unwrap_or_default)
}

/// What is wrong with an access file that was just written: line and words. Nothing if the server uses another file, or
/// is too old to say.
pub(crate) async fn mistakes(
    session: &Session,
    file: AccessFile,
    path: &Path,
) -> Result<Vec<(String, String)>, SqlError> {
    let (view, since) = file.view();
    let known = first_text(session, "SELECT current_setting('server_version_num')").await?;
    if known.and_then(|v| v.parse::<u32>().ok()).is_none_or(|version| version < since) {
        return Ok(Vec::new());
    }
    let used = first_text(session, &format!("SELECT current_setting('{}')", file.parameter())).await?;
    if used.is_none_or(|used| Path::new(&used) != path) {
        return Ok(Vec::new());
    }
    pairs(session, &format!("SELECT line_number, error FROM {view} WHERE error IS NOT NULL ORDER BY 1")).await
}

/// Parameters in the files that the server does not take: name and its words. What waits for a restart is told elsewhere.
pub(crate) async fn refused_settings(session: &Session) -> Result<Vec<(String, String)>, SqlError> {
    let text = "SELECT DISTINCT f.name, f.error FROM pg_file_settings f WHERE f.error IS NOT NULL AND f.name IS NOT NULL
        AND NOT EXISTS (SELECT FROM pg_settings s WHERE lower(s.name) = lower(f.name) AND s.context IN ('postmaster', 'internal'))";
    pairs(session, text).await
}

async fn pairs(session: &Session, query: &str) -> Result<Vec<(String, String)>, SqlError> {
    let rows = session.rows(query, STATEMENT_PATIENCE).await?;
    let column = |r: &SimpleQueryRow, n| r.get(n).unwrap_or_default().to_owned();
    Ok(rows.iter().map(|r| (column(r, 0), column(r, 1))).collect())
}

async fn first_text(session: &Session, query: &str) -> Result<Option<String>, SqlError> {
    let rows = session.rows(query, STATEMENT_PATIENCE).await?;
    Ok(rows.first().and_then(|r| r.get(0)).map(str::to_owned))
}
