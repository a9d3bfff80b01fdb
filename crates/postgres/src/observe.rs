//! One look at the data directory, the processes and the running server.

use crate::accept;
use crate::control_data::{look_at_data_directory, look_with, major_version};
use crate::known_wal_end::AGAIN_AFTER;
use crate::look_row::{objects, pid, running};
use crate::pending_restart;
use crate::process::{Alive, PidFileStatus, Postmaster, alive};
use crate::queries;
use crate::replication::{self, Replication};
use crate::server::Postgres;
use crate::sql::SqlError;
use crate::standby_names::Moment;
use crate::timeline_files;
use crate::wal_end;
use pgherd_clock::boottime;
use pgherd_types::postgres::ControlState;
use pgherd_types::{ControlData, DataDirectory, PostgresState, RunningServer, Server, Timeline};
use serde_json::Value;
use std::sync::{Arc, PoisonError};
use tokio::task::{JoinError, spawn_blocking};
use tokio_postgres::SimpleQueryRow;
use tokio_postgres::error::SqlState;

/// PostgreSQL's own log collector has no such limit; this log is for its start and its end.
const LOG_LIMIT_BYTES: u64 = 32 << 20;

/// A state and the postmaster it belongs to.
#[derive(Clone, Debug)]
pub struct Look {
    /// What was found.
    pub state: PostgresState,
    /// The living postmaster.
    pub postmaster: Option<Postmaster>,
}

/// Looks once. Never waits longer than the deadlines of `sql.rs`, and never on the calling thread.
pub async fn observe(server: &Arc<Postgres>) -> Look {
    let now = pgherd_clock::now();
    let (found, data, state) = match processes(server).await {
        Alive::Postmaster(postmaster) if postmaster.accepts_clients() => look_at_both(server, postmaster).await,
        found => look_at_files(server, found).await,
    };
    let postmaster = match found {
        Alive::Postmaster(postmaster) => Some(postmaster),
        _ => None,
    };
    let data = if state == Server::Stopped { with_known_wal_end(server, data) } else { data };
    let progress = server.progress();
    Look { state: PostgresState { looked_at: now.mono, wall: now.wall, data, server: state, progress }, postmaster }
}

/// A server that serves is asked while `pg_controldata` runs: a race waits for both.
async fn look_at_both(server: &Arc<Postgres>, postmaster: Postmaster) -> (Alive, DataDirectory, Server) {
    let ((found, state), data) = tokio::join!(look_at_server(server, postmaster), data_in_use(server));
    match found {
        Alive::Postmaster(postmaster) if postmaster.accepts_clients() => (found, data, state),
        // it has ended or begun to end since, and what the directory held before is out of date
        found => look_at_files(server, found).await,
    }
}

/// What the directory holds when no client can be served, read after `found` was.
async fn look_at_files(server: &Arc<Postgres>, found: Alive) -> (Alive, DataDirectory, Server) {
    let data = data_directory(server).await;
    let state = match &found {
        Alive::Postmaster(postmaster) if archives(server, *postmaster, &data).await => Server::Archiving,
        Alive::Postmaster(postmaster) if postmaster.status == PidFileStatus::Stopping => Server::Stopping,
        other => without_postmaster(other),
    };
    (found, data, state)
}

/// Must the end of the WAL still be found for this state?
pub fn needs_wal_end(server: &Postgres, state: &PostgresState) -> bool {
    let unknown = |c: &ControlData| {
        !c.standby_signal
            && !c.rewind_interrupted
            && server.wal_end.get(&ControlData { wal_end: None, ..c.clone() }, boottime()).is_none()
    };
    state.server == Server::Stopped && state.control().is_some_and(unknown)
}

/// Finds the end of the WAL of a stopped server; the next look has it. May take long, to be run on a blocking thread.
pub fn find_wal_end(server: &Postgres, control: &ControlData) {
    let control = ControlData { wal_end: None, ..control.clone() };
    let end = wal_end::wal_end(&server.options, &control);
    if let Err(why) = &end {
        let seconds = AGAIN_AFTER.as_secs();
        log::warn!(
            "where the WAL of this former primary ends cannot be found: {why}; it is looked for again in {seconds} s (pgherd \
             reinit replaces the data)"
        );
    }
    server.wal_end.set(control, end.ok(), boottime());
}

fn with_known_wal_end(server: &Postgres, data: DataDirectory) -> DataDirectory {
    match data {
        DataDirectory::Present(control) if !control.standby_signal => {
            let wal_end = server.wal_end.get(&control, boottime()).flatten();
            DataDirectory::Present(ControlData { wal_end, ..control })
        }
        other => other,
    }
}

/// The data directory of a running server.
async fn data_in_use(server: &Arc<Postgres>) -> DataDirectory {
    let server = server.clone();
    let look = move || look_with(&server.options, || server.known_control.read(&server.options));
    looked_at(spawn_blocking(look).await)
}

async fn data_directory(server: &Arc<Postgres>) -> DataDirectory {
    let server = server.clone();
    looked_at(spawn_blocking(move || look_at_data_directory(&server.options)).await)
}

fn looked_at(look: Result<DataDirectory, JoinError>) -> DataDirectory {
    look.unwrap_or_else(|e| DataDirectory::Unusable(format!("the look failed: {e}")))
}

/// Does a server that is being stopped do no more than archive?
async fn archives(server: &Arc<Postgres>, postmaster: Postmaster, data: &DataDirectory) -> bool {
    let shut_down = matches!(data, DataDirectory::Present(control) if control.state == ControlState::ShutDown);
    let server = server.clone();
    shut_down && spawn_blocking(move || server.archives(postmaster)).await.unwrap_or(false)
}

async fn processes(server: &Arc<Postgres>) -> Alive {
    let server = server.clone();
    let look = move || {
        server.state.trim_log(LOG_LIMIT_BYTES);
        alive(&server.options.data_dir)
    };
    spawn_blocking(look).await.unwrap_or(Alive::Nothing)
}

fn without_postmaster(found: &Alive) -> Server {
    match found {
        Alive::Nothing => Server::Stopped,
        Alive::Orphans(_) => Server::Orphaned,
        Alive::JustSpawned(_) | Alive::Postmaster(_) => Server::Starting,
    }
}

async fn look_at_server(server: &Arc<Postgres>, postmaster: Postmaster) -> (Alive, Server) {
    let error = match ask(server, postmaster).await {
        Ok(running) => return (Alive::Postmaster(postmaster), Server::Running(running)),
        Err(error) => error,
    };
    // It may have died or begun to stop meanwhile.
    let found = processes(server).await;
    let state = match &found {
        Alive::Postmaster(p) => refusal(*p, &error),
        other => without_postmaster(other),
    };
    (found, state)
}

fn refusal(postmaster: Postmaster, error: &SqlError) -> Server {
    let stopping = postmaster.status == PidFileStatus::Stopping;
    match error {
        e if stopping || (e.is_cannot_connect_now() && e.to_string().contains("shutting down")) => Server::Stopping,
        e if e.is_cannot_connect_now() => Server::Starting,
        _ if postmaster.status == PidFileStatus::Starting => Server::Starting,
        e if e.has_code(&SqlState::ADMIN_SHUTDOWN) || e.has_code(&SqlState::CRASH_SHUTDOWN) => Server::Stopping,
        e => Server::Unresponsive(e.to_string()),
    }
}

async fn ask(server: &Arc<Postgres>, postmaster: Postmaster) -> Result<RunningServer, SqlError> {
    let of = (postmaster.pid, postmaster.start_ticks);
    let session = match server.take_monitoring(of) {
        Some(session) => {
            accept::probe(server).await?;
            session
        }
        None => queries::open(server).await?,
    };
    let version = major_version(&server.options.data_dir).unwrap_or(0);
    let begun = server.standby_names.moment();
    let controlled = server.config().controlled;
    let look = async || match queries::look(&session, version, &controlled).await {
        // A promotion in the middle of the query makes it fail; the second attempt sees the other side.
        Err(SqlError::Server { .. }) => queries::look(&session, version, &controlled).await,
        other => other,
    };
    let (row, replication) = tokio::join!(look(), replication_if_needed(server));
    let row = row?;
    server.keep_monitoring(of, session);
    let unreadable = || SqlError::Unreachable("the monitoring query's answer could not be read".to_owned());
    let mut running = running(&row).ok_or_else(unreadable)?;
    running.slots.iter_mut().for_each(|slot| slot.managed = server.managed_slots.has(&slot.name));
    running.slots_gone = server.managed_slots.but(running.slots.iter().map(|slot| slot.name.as_str()));
    complete_sync(server, &mut running, &row, begun);
    running.pending_restart_reason = pending_restart::reasons(&objects(row.get("settings")), &controlled);
    running.pending_restart = !running.pending_restart_reason.is_empty();
    server.tell_of_paused_replay(&running);
    server.receiver.remember(running.in_recovery, row.get("receiver").and_then(|pid| pid.parse().ok()));
    if running.in_recovery && running.timeline.is_none() {
        running.timeline = standby_timeline(server, &row, replication).await;
    }
    let cut_off = running.in_recovery && !running.streaming && server.config().standby_cluster.is_some();
    if let Some(timeline) = running.timeline.filter(|_| cut_off) {
        let server = server.clone();
        let fork = spawn_blocking(move || timeline_files::fork(&server.options.data_dir, timeline));
        running.forked_at = fork.await.unwrap_or_default();
    }
    if let (false, Some(timeline)) = (running.in_recovery, running.timeline) {
        running.history = timeline_files::history(&server.options.data_dir, timeline);
    }
    Ok(running)
}

/// What the row alone does not tell.
fn complete_sync(server: &Postgres, running: &mut RunningServer, row: &SimpleQueryRow, begun: Moment) {
    let sync = &mut running.sync;
    sync.names = server.standby_names.in_force(begun, &sync.names);
    sync.managed = server.standby_names.set_by_agent().is_some();
    sync.user_names = server.users_standby_names(running.in_recovery);
    let senders = objects(row.get("walsenders"));
    let reply = |sender: &Value| Some((pid(&sender["pid"])?, sender["replied"].as_str().map(str::to_owned)));
    let mut replies = server.replies.lock().unwrap_or_else(PoisonError::into_inner);
    let ago = replies.look(senders.iter().filter_map(reply), pgherd_clock::boottime());
    running.walsenders.iter_mut().for_each(|sender| sender.replied_ms_ago = ago.get(&sender.pid).copied());
}

/// The connection for the question that a standby without a receiver has to be asked, if its receiver is known to have
/// ended: in a race it is made while the server answers the rest.
async fn replication_if_needed(server: &Postgres) -> Option<Result<Replication, SqlError>> {
    if server.receiver.is_lost() { Some(replication::open(server).await) } else { None }
}

/// A standby without a receiver: what it has replayed, or at least what the control file says. It is asked after the
/// position was read, which so never lies on a later timeline than the answer.
async fn standby_timeline(
    server: &Postgres,
    row: &SimpleQueryRow,
    connected: Option<Result<Replication, SqlError>>,
) -> Option<Timeline> {
    let replayed = async {
        let connection = match connected {
            Some(connection) => connection?,
            None => replication::open(server).await?,
        };
        connection.replayed_timeline().await
    };
    let replayed = replayed.await.unwrap_or_else(|e| {
        log::warn!("the replayed timeline could not be asked for, the control file's is used: {e}");
        None
    });
    replayed.or_else(|| row.get("control_timeline")?.parse().ok()).filter(|t| *t > 0).map(Timeline)
}
