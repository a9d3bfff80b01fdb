//! Taking diverged data back to the history of the leader with pg_rewind (spec/bootstrap-and-replicas.md 6). Whether and
//! when is decided elsewhere.

use crate::basebackup::argument;
use crate::config_files::{self, Recovery};
use crate::config_place::ConfigPlace;
use crate::control::OperationControl;
use crate::control_data::{ControlFile, major_version};
use crate::error::{OperationError, Outcome, Tried};
use crate::process::server_processes;
use crate::ready_wal;
use crate::rewind_marker::{self, Found};
use crate::rewind_source::{Answer, Source};
use crate::server::Postgres;
use crate::shell;
use crate::single_user;
use pgherd_types::postgres::ControlState;
use pgherd_types::{SystemId, Timeline, Upstream};
use std::fs;
use std::time::Duration;

/// Options of pg_rewind that are ours to set, or that would make it do something else.
const FORBIDDEN: [&str; 10] = [
    "target-pgdata",
    "source-pgdata",
    "source-server",
    "write-recovery-conf",
    "dry-run",
    "restore-target-wal",
    "config-file",
    "no-ensure-shutdown",
    "version",
    "help",
];
/// The first version whose pg_rewind fetches WAL by `restore_command` itself and can be told not to recover the target.
const FETCHES_WAL: u32 = 13;
/// The first version whose pg_rewind can be told where the configuration is.
const KNOWS_CONFIG_FILE: u32 = 14;
/// A file from a slow archive may take this long.
const FETCH_PATIENCE: Duration = Duration::from_secs(600);
/// Each round fetches one WAL file that was missing.
const ROUNDS_MAX: usize = 1000;

/// Rewinds the data of a stopped server to the source's history and sets it up as its standby. May take hours, blocks.
pub fn rewind(server: &Postgres, from: &Upstream, control: &OperationControl) -> Outcome<()> {
    server.require_stopped()?;
    refuse_single_user(server)?;
    control.go_on()?;
    let source = Source::new(server, from)?;
    let own = system_id(server)?;
    // Asked before anything is touched: data that cannot be rewound now stay as they are.
    let answer = source.ready(own, control)?;
    let found = rewind_marker::begin(server, &source.name)?;
    if found == Found::DamagedByCrash {
        return Err(OperationError::failed(format!(
            "the machine went down while pg_rewind was changing {}: what reached the disk is not known, and it cannot be \
             repeated; make the data anew",
            server.options.data_dir.display()
        )));
    }
    let ended = work(server, &source, &answer, found, control).and_then(|()| become_standby(server, from));
    match ended {
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

fn system_id(server: &Postgres) -> Outcome<SystemId> {
    let file = control_file(server)?;
    let text = file.text("Database system identifier").map_err(OperationError::Failed)?;
    text.parse().map(SystemId).tried(|| format!("read the system identifier '{text}'"))
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

/// From stopped data to data of the source.
fn work(
    server: &Postgres,
    source: &Source<'_>,
    answer: &Answer,
    found: Found,
    control: &OperationControl,
) -> Outcome<()> {
    config_files::write(server, Recovery::Keep)?;
    let state = control_file(server)?.state().map_err(OperationError::Failed)?;
    if found == Found::Damaged && is_complete(server, state) {
        return flush(server, control);
    }
    if found == Found::Whole {
        ready_wal::archive(server, |timeline: Timeline| answer.has_timeline(timeline), control)?;
        if !single_user::in_order(state) {
            single_user::recover(server, control)?;
        }
        // It took a while: the leader may be another one by now.
        source.ready(system_id(server)?, control)?;
    } else if !single_user::in_order(state) {
        return Err(OperationError::failed(
            "what the interrupted pg_rewind left cannot be rewound again; make the data anew",
        ));
    }
    rewind_marker::note_files(server)?;
    run_until_no_wal_is_missing(server, source, control)
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

/// pg_rewind needs the WAL since the divergence, and an orderly shutdown may have recycled a part of it.
fn run_until_no_wal_is_missing(server: &Postgres, source: &Source<'_>, control: &OperationControl) -> Outcome<()> {
    let restore = shell::setting(server, "restore_command")?;
    let has_restore = !restore.trim().is_empty();
    let mut fetched: Vec<String> = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let Err(messages) = run_once(server, source, has_restore, control)? else { return Ok(()) };
        let failed = |more: String| {
            Err(OperationError::failed(format!(
                "pg_rewind from {} failed, its messages are in rewind.log in the state directory: {}{more}",
                source.name,
                crate::programs::tail(&messages)
            )))
        };
        match missing_segment(&messages).filter(|name| has_restore && !fetched.contains(name)) {
            None => return failed(String::new()),
            Some(name) => match fetch(server, &restore, &name, control) {
                Ok(()) => fetched.push(name),
                Err(OperationError::Failed(why)) => return failed(format!("; restore_command was tried: {why}")),
                Err(other) => return Err(other),
            },
        }
    }
    Err(OperationError::failed(format!("pg_rewind misses WAL still after {ROUNDS_MAX} files were fetched")))
}

/// Its messages, if it failed.
fn run_once(
    server: &Postgres,
    source: &Source<'_>,
    has_restore: bool,
    control: &OperationControl,
) -> Outcome<Result<(), String>> {
    let options = server.current();
    let mut command = options.command("pg_rewind");
    command.args(["--progress", "--source-server", &source.connection(), "--target-pgdata"]).arg(&options.data_dir);
    if major_version(&options.data_dir).is_some_and(|v| v >= FETCHES_WAL) {
        command.arg("--no-ensure-shutdown");
        if has_restore {
            command.arg("--restore-target-wal");
        }
    }
    let place = ConfigPlace::of(server);
    if !place.is_usual() && major_version(&options.data_dir).is_some_and(|v| v >= KNOWS_CONFIG_FILE) {
        command.arg(place.main_argument());
    }
    command.args(user_options(&options.rewind_options));
    source.dress(&mut command);
    let log = server.state.path().join("rewind.log");
    log::info!("pg_rewind from {}, log in {}", source.name, log.display());
    let said = options.run_long("pg_rewind", command, &log, control, |pid| rewind_marker::note(server, pid))?;
    Ok(if said.success { Ok(()) } else { Err(said.stderr) })
}

/// The user's options without the forbidden ones.
fn user_options(options: &[(String, Option<String>)]) -> Vec<String> {
    let allowed = |(name, _): &&(String, Option<String>)| {
        let allowed = !FORBIDDEN.contains(&name.as_str());
        if !allowed {
            log::warn!("option {name} of postgresql.rewind is not allowed and ignored");
        }
        allowed
    };
    options.iter().filter(allowed).map(argument).collect()
}

/// `could not open file "…/pg_wal/000000010000000000000003": No such file or directory`.
fn missing_segment(messages: &str) -> Option<String> {
    let names = messages.split("could not open file \"").skip(1).filter_map(|rest| {
        let name = rest.split('"').next()?.rsplit_once("/pg_wal/")?.1;
        (name.len() == 24 && name.bytes().all(|b| b.is_ascii_hexdigit())).then(|| name.to_owned())
    });
    names.last()
}

/// Fetches one WAL file from the archive as PostgreSQL does: to another name first, and only a whole one counts.
fn fetch(server: &Postgres, restore: &str, name: &str, control: &OperationControl) -> Outcome<()> {
    const ARRIVING: &str = "pg_wal/RECOVERYXLOG";
    let wanted =
        control_file(server)?.text("Bytes per WAL segment").map(str::to_owned).map_err(OperationError::Failed)?;
    let arriving = server.options.data_dir.join(ARRIVING);
    let _ = fs::remove_file(&arriving);
    let said = shell::run(server, restore, ARRIVING, name, FETCH_PATIENCE, control)?;
    if !said.success {
        return Err(OperationError::failed(format!("{name} could not be fetched: {}", said.quote())));
    }
    let bytes = fs::metadata(&arriving).tried(|| format!("find {name}, which restore_command said to be there"))?.len();
    if bytes.to_string() != wanted {
        return Err(OperationError::failed(format!("{name} has {bytes} bytes in the archive instead of {wanted}")));
    }
    log::info!("WAL file {name} was fetched from the archive");
    let place = server.options.data_dir.join("pg_wal").join(name);
    fs::rename(&arriving, &place).tried(|| format!("rename {} to {}", arriving.display(), place.display()))
}

/// pg_rewind has brought the source's configuration files and removed the signal files.
fn become_standby(server: &Postgres, from: &Upstream) -> Outcome<()> {
    let dir = &server.options.data_dir;
    config_files::set_standby_signal(server, dir, true)?;
    config_files::clean_auto_conf(server, dir)?;
    config_files::write(server, Recovery::Standby(Some(from)))?;
    server.remember_wal_end(None);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_segment_is_named_by_its_message() {
        let name = "0000000100000000000000A3";
        let line =
            format!("pg_rewind: error: could not open file \"/data/pg_wal/{name}\": No such file or directory\n");
        assert_eq!(missing_segment(&line), Some(name.to_owned()));
        for other in [
            "pg_rewind: error: could not open file \"/data/pg_wal/00000002.history\": No such file",
            "pg_rewind: error: could not open file \"/data/base/0000000100000000000000A3\": No such file",
            "pg_rewind: fatal: could not find common ancestor",
        ] {
            assert_eq!(missing_segment(other), None, "{other}");
        }
    }

    #[test]
    fn forbidden_options_are_dropped() {
        let given = [("debug", None), ("dry-run", None), ("config-file", Some("/x")), ("sync-method", Some("'fsync'"))];
        let given: Vec<_> = given.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).to_vec();
        assert_eq!(user_options(&given), ["--debug", "--sync-method=fsync"]);
    }
}
