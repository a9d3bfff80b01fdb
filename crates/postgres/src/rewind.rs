//! Taking diverged data back to the history of the leader with pg_rewind (spec/bootstrap-and-replicas.md 6). Whether and
//! when is decided elsewhere.

use crate::config_files::{self, Recovery};
use crate::control::OperationControl;
use crate::control_data::ControlFile;
use crate::error::{OperationError, Outcome, Tried};
use crate::pg_rewind::{PgRewind, Plan, segment_bytes};
use crate::process::server_processes;
use crate::ready_wal;
use crate::rewind_marker::{self, Found};
use crate::rewind_source::{Answer, Source};
use crate::saved_wal;
use crate::server::Postgres;
use crate::single_user;
use pgherd_types::postgres::ControlState;
use pgherd_types::{SystemId, Timeline, Upstream};
use std::fs;

/// Rewinds the data of a stopped server to the source's history and sets it up as its standby. May take hours, blocks.
pub fn rewind(server: &Postgres, from: &Upstream, control: &OperationControl) -> Outcome<()> {
    server.require_stopped()?;
    refuse_single_user(server)?;
    control.go_on()?;
    let source = Source::new(server, from)?;
    // Asked before anything is touched: data that cannot be rewound now stay as they are.
    let answer = source.ready(system_id(server)?, control)?;
    let found = rewind_marker::begin(server, &source.name)?;
    let ended = match found {
        Found::Whole => from_whole_data(server, &source, &answer, control),
        Found::Damaged { by_timeline } => from_damaged_data(server, &source, &answer, by_timeline, control),
        Found::DamagedByCrash => return Err(anew(server, "the machine went down while pg_rewind was changing")),
    };
    match ended.and_then(|()| become_standby(server, from)) {
        Ok(()) => rewind_marker::remove(server),
        Err(e) => Err(unfinished(server, e)),
    }
}

fn refuse_single_user(server: &Postgres) -> Outcome<()> {
    match server_processes(&server.options.data_dir).as_slice() {
        [] => Ok(()),
        pids => Err(OperationError::failed(format!(
            "a single-user server works on the data directory (pids {pids:?}); end it, then repeat"
        ))),
    }
}

fn control_file(server: &Postgres) -> Outcome<ControlFile> {
    ControlFile::read(&server.options).map_err(OperationError::Failed)
}

fn control_state(server: &Postgres) -> Outcome<ControlState> {
    control_file(server)?.state().map_err(OperationError::Failed)
}

fn system_id(server: &Postgres) -> Outcome<SystemId> {
    let file = control_file(server)?;
    let text = file.text("Database system identifier").map_err(OperationError::Failed)?;
    text.parse().map(SystemId).tried(|| format!("read the system identifier '{text}'"))
}

fn anew(server: &Postgres, why: &str) -> OperationError {
    OperationError::failed(format!(
        "{why} {}: what is there now cannot be rewound again; make the data anew",
        server.options.data_dir.display()
    ))
}

/// The marker stays unless it can be proven that nothing was changed.
fn unfinished(server: &Postgres, error: OperationError) -> OperationError {
    match (rewind_marker::settle(server), error) {
        (Ok(true), error) => error,
        (left, OperationError::Failed(why)) => {
            let more = left.err().map(|e| format!(" ({e})")).unwrap_or_default();
            OperationError::Failed(format!(
                "{why}; {} is now neither the old data nor the new: PostgreSQL is not started from it until a rewind \
                 was repeated with success or the data were made anew{more}",
                server.options.data_dir.display()
            ))
        }
        (_, error) => {
            log::error!("the rewind was given up after it had changed the data; it must be repeated");
            error
        }
    }
}

fn from_whole_data(server: &Postgres, source: &Source<'_>, answer: &Answer, control: &OperationControl) -> Outcome<()> {
    config_files::write(server, Recovery::Keep)?;
    ready_wal::archive(server, |timeline: Timeline| answer.has_timeline(timeline), control)?;
    if !single_user::in_order(control_state(server)?) {
        single_user::recover(server, control)?;
    }
    let program = PgRewind::new(server, source)?;
    let Plan::Rewind(checkpoint) = program.plan(control)? else {
        log::info!("pg_rewind finds the data on the history of {} already", source.name);
        return Ok(());
    };
    if let Some(checkpoint) = checkpoint {
        saved_wal::save(server, checkpoint, segment_bytes(server)?, control)?;
    }
    // All of that took a while: the leader may be another one by now.
    let answer = source.ready(system_id(server)?, control)?;
    rewind_marker::note_files(server, answer.timeline())?;
    program.run(control)
}

/// What another rewind left. Files that it has copied in full are not copied again, so they must be files of this very
/// history: not even a successor of that leader may take its place.
fn from_damaged_data(
    server: &Postgres,
    source: &Source<'_>,
    answer: &Answer,
    by_timeline: u32,
    control: &OperationControl,
) -> Outcome<()> {
    let state = control_state(server)?;
    if is_complete(server, state) {
        return flush(server, control);
    }
    if answer.timeline() != by_timeline {
        let why = format!("there is another leader (timeline {}) than when pg_rewind changed", answer.timeline());
        return Err(anew(server, &format!("{why} (timeline {by_timeline})")));
    }
    if !single_user::in_order(state) {
        return Err(anew(server, "pg_rewind was interrupted in"));
    }
    saved_wal::restore(server, control)?;
    config_files::write(server, Recovery::Keep)?;
    let program = PgRewind::new(server, source)?;
    match program.plan(control)? {
        Plan::Nothing => Err(anew(server, "pg_rewind finds nothing to do in")),
        Plan::Rewind(_) => program.run(control),
    }
}

/// pg_rewind writes the control file last.
fn is_complete(server: &Postgres, state: ControlState) -> bool {
    let label = fs::read_to_string(server.options.data_dir.join("backup_label")).unwrap_or_default();
    state == ControlState::InArchiveRecovery && label.contains("BACKUP METHOD: pg_rewind")
}

/// The one step that pg_rewind makes after the control file.
fn flush(server: &Postgres, control: &OperationControl) -> Outcome<()> {
    log::info!("the interrupted pg_rewind had written everything; its files are flushed to disk");
    let mut command = server.options.command("initdb");
    command.arg("--sync-only").arg("--pgdata").arg(&server.options.data_dir);
    let log = server.state.path().join("rewind.log");
    let said = server.options.run_long("initdb", command, &log, control, |pid| rewind_marker::note(server, pid))?;
    match said.success {
        true => Ok(()),
        false => Err(OperationError::failed(format!("initdb --sync-only failed: {}", said.quote()))),
    }
}

/// pg_rewind has brought the source's configuration files and removed the signal files.
fn become_standby(server: &Postgres, from: &Upstream) -> Outcome<()> {
    let dir = &server.options.data_dir;
    config_files::set_standby_signal(server, dir, true)?;
    config_files::clean_auto_conf(server, dir)?;
    config_files::write(server, Recovery::Standby(Some(from)))?;
    server.wal_end.forget();
    Ok(())
}
