//! Leaving recovery on exactly the timeline that was reserved.

use crate::config_files::Recovery;
use crate::control::OperationControl;
use crate::error::{OperationError, Outcome, Tried};
use crate::process::find_postmaster;
use crate::queries;
use crate::reload::{self, Reload};
use crate::scripts;
use crate::server::Postgres;
use crate::server_config::ServerConfig;
use crate::sql::Session;
use crate::start::STEP;
use crate::timeline_files;
use pgherd_types::Timeline;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The checkpoint after a promotion is in nobody's way, however long it takes.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(3600);

/// Promotes to this timeline. When the fence passes or the operation is cancelled after the order was given, the
/// server is ended: the order cannot be taken back.
pub async fn promote(server: &Arc<Postgres>, timeline: Timeline, control: &OperationControl) -> Outcome<()> {
    let options = &server.options;
    let session = queries::open(server).await.tried(|| "connect before the promotion".to_owned())?;
    if !queries::in_recovery(&session).await.tried(|| "look before the promotion".to_owned())? {
        return Err(OperationError::failed("PostgreSQL is not in recovery, nothing to promote"));
    }
    timeline_files::reserve(&options.data_dir, timeline, options.run_as)?;
    let ServerConfig { primary_start_timeout: patience, scripts, .. } = server.config();
    let allowed = scripts::pre_promote(&server.current(), &scripts.pre_promote, patience, control);
    let allowed = allowed.and_then(|()| control.may_become_writable());
    if let Err(refused) = allowed {
        timeline_files::forget_unused(&options.data_dir)?;
        return Err(refused);
    }
    // Whoever takes over after this process must know that the server may become writable by itself.
    let marker = marker(server);
    std::fs::write(&marker, "").tried(|| format!("write {}", marker.display()))?;
    // From here on the answer does not matter: it may be lost after the order has reached the server.
    let ordered = queries::promote(&session).await;
    let reached = wait_until_writable(server, control, session, ordered.err().map(|e| e.to_string())).await;
    if matches!(reached, Err(OperationError::Cancelled | OperationError::TooLate)) {
        server.end_now()?;
    }
    forget_promotion(server);
    verify(timeline, reached?)?;
    // the recovery targets stay in the file: taking them out of a running server counts as a pending restart
    reload::rewrite(server, Recovery::Standby(None), Reload::Always).await?;
    checkpoint_in_background(server);
    Ok(())
}

fn marker(server: &Postgres) -> PathBuf {
    server.state.path().join("promoting")
}

/// Was a promotion ordered by a process that did not live to see its end? The order cannot be taken back, and no fence of
/// that process holds any more.
pub fn promotion_is_unfinished(server: &Postgres) -> bool {
    marker(server).exists()
}

/// The promotion has come to its end, or its server has.
pub fn forget_promotion(server: &Postgres) {
    let marker = marker(server);
    match std::fs::remove_file(&marker) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            log::error!("cannot remove {}: {e}; a restarted agent would stop PostgreSQL", marker.display());
        }
        _ => {}
    }
}

/// Waits for the end of recovery; the timeline that is written on then.
async fn wait_until_writable(
    server: &Postgres,
    control: &OperationControl,
    session: Session,
    problem: Option<String>,
) -> Outcome<Option<u32>> {
    let mut session = Some(session);
    loop {
        if find_postmaster(&server.options.data_dir).is_none() {
            return Err(OperationError::failed("PostgreSQL ended during its promotion; see its log"));
        }
        if session.is_none() {
            session = queries::open(server).await.ok();
        }
        if let Some(open) = &session {
            match queries::in_recovery(open).await {
                Ok(false) => return queries::writing_timeline(open).await.tried(|| "read the new timeline".to_owned()),
                // The order never arrived.
                Ok(true) if problem.is_some() && !promotion_is_ordered(server) => {
                    return Err(OperationError::failed(format!(
                        "could not order the promotion: {}",
                        problem.unwrap_or_default()
                    )));
                }
                Ok(true) => {}
                Err(_) => session = None,
            }
        }
        control.may_be_writable()?;
        tokio::time::sleep(STEP).await;
    }
}

/// `pg_promote` leaves a file that the server removes when it acts on it.
fn promotion_is_ordered(server: &Postgres) -> bool {
    server.options.data_dir.join("promote").exists()
}

fn verify(wanted: Timeline, reached: Option<u32>) -> Outcome<()> {
    match reached {
        Some(reached) if reached == wanted.0 => Ok(()),
        other => Err(OperationError::failed(format!(
            "PostgreSQL was promoted, but to timeline {} instead of {wanted}: the archive holds history files of timelines that the cluster does not know",
            other.map_or_else(|| "?".to_owned(), |t| t.to_string())
        ))),
    }
}

/// Until there was a checkpoint, `pg_control` names the old timeline, which deceives pg_rewind and a restart.
fn checkpoint_in_background(server: &Arc<Postgres>) {
    let server = server.clone();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = runtime.map(|r| r.block_on(queries::checkpoint(&server, CHECKPOINT_PATIENCE)));
        if let Ok(Err(e)) = result {
            log::warn!("checkpoint after the promotion failed: {e}");
        }
    };
    if let Err(e) = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(work) {
        log::warn!("checkpoint after the promotion was not made: {e}");
    }
}
