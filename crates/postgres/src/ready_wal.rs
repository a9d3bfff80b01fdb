//! WAL that PostgreSQL had not archived yet when it ended. A rewind removes it, and the new leader need not have it, so
//! it is archived by hand first; the archive would keep a hole for ever.

use crate::control::OperationControl;
use crate::control_data::{ControlFile, major_version};
use crate::error::{OperationError, Outcome, Tried};
use crate::server::Postgres;
use crate::shell;
use pgherd_types::Timeline;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// One file may take this long, all together that long.
const FILE_PATIENCE: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(1800);
/// After so many failures in a row the archive itself is taken to be out of order.
const FAILURES_MAX: u32 = 3;
/// The first version that can archive by a library.
const HAS_ARCHIVE_LIBRARY: u32 = 15;

/// What became of the files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub archived: u32,
    /// File and reason.
    pub failed: Vec<(String, String)>,
    /// Not tried any more.
    pub left: u32,
}

/// Archives what is ready, if archiving is on. Only a cancellation is an error: a rewind does not wait for an archive that
/// is out of order. `known` says which timelines the leader's history has.
pub(crate) fn archive(
    server: &Postgres,
    known: impl Fn(Timeline) -> bool,
    control: &OperationControl,
) -> Outcome<Report> {
    let files = ready(&server.options.data_dir);
    if files.is_empty() || !matches!(shell::setting(server, "archive_mode")?.as_str(), "on" | "always") {
        return Ok(Report::default());
    }
    let (files, foreign): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| history_timeline(file).is_none_or(&known));
    if !foreign.is_empty() {
        // In the archive it would lead standbys away from the leader.
        log::warn!("history files of timelines that the leader does not know are not archived: {foreign:?}");
    }
    let Some(command) = command(server)? else {
        log::error!("{} WAL files were not archived and cannot be: archive_command is not set", files.len());
        return Ok(Report { left: count(&files), ..Report::default() });
    };
    let report = archive_all(server, &command, &files, control)?;
    tell(&report);
    Ok(report)
}

/// Archives the file with the shutdown checkpoint, though it is not full: another cluster that restores from this archive
/// only gets the very end of this server's WAL by it (spec/bootstrap-and-replicas.md 5).
pub(crate) fn archive_last(server: &Postgres, control: &OperationControl) -> Outcome<()> {
    if !matches!(shell::setting(server, "archive_mode")?.as_str(), "on" | "always") {
        return Ok(());
    }
    let Some(command) = command(server)? else { return Ok(()) };
    let last = ControlFile::read(&server.options)
        .and_then(|file| file.text("Latest checkpoint's REDO WAL file").map(str::to_owned))
        .map_err(OperationError::Failed)?;
    match archive_one(server, &command, &last, FILE_PATIENCE, control) {
        Err(OperationError::Failed(why)) => {
            log::error!("WAL file {last} with the shutdown checkpoint could not be archived: {why}");
            Ok(())
        }
        other => other,
    }
}

fn count(files: &[String]) -> u32 {
    u32::try_from(files.len()).unwrap_or(u32::MAX)
}

fn command(server: &Postgres) -> Outcome<Option<String>> {
    let has_library = major_version(&server.options.data_dir).is_some_and(|v| v >= HAS_ARCHIVE_LIBRARY);
    if has_library && !shell::setting(server, "archive_library")?.is_empty() {
        log::error!("archive_library is set: only a running server can archive by it");
        return Ok(None);
    }
    Ok(Some(shell::setting(server, "archive_command")?).filter(|command| !command.trim().is_empty()))
}

fn archive_all(server: &Postgres, command: &str, files: &[String], control: &OperationControl) -> Outcome<Report> {
    let begun = Instant::now();
    let (mut report, mut in_a_row) = (Report::default(), 0);
    for (n, file) in files.iter().enumerate() {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        if in_a_row >= FAILURES_MAX || left.is_zero() {
            report.left = count(&files[n..]);
            break;
        }
        match archive_one(server, command, file, left.min(FILE_PATIENCE), control) {
            Ok(()) => (report.archived, in_a_row) = (report.archived + 1, 0),
            Err(OperationError::Failed(why)) => {
                report.failed.push((file.clone(), why));
                in_a_row += 1;
            }
            Err(other) => return Err(other),
        }
    }
    Ok(report)
}

fn archive_one(
    server: &Postgres,
    command: &str,
    file: &str,
    patience: Duration,
    control: &OperationControl,
) -> Outcome<()> {
    let said = shell::run(server, command, &format!("pg_wal/{file}"), file, patience, control)?;
    if !said.success {
        return Err(OperationError::failed(format!("archive_command failed: {}", said.quote())));
    }
    let status = server.options.data_dir.join("pg_wal/archive_status");
    let (ready, done) = (status.join(format!("{file}.ready")), status.join(format!("{file}.done")));
    fs::rename(&ready, &done).tried(|| format!("rename {}", ready.display()))
}

fn tell(report: &Report) {
    if report.archived > 0 {
        log::info!("{} WAL files were archived by hand", report.archived);
    }
    for (file, why) in &report.failed {
        log::error!("WAL file {file} could not be archived and will be in the archive of no timeline: {why}");
    }
    if report.left > 0 {
        log::error!("{} further WAL files were not archived, because the archive does not work", report.left);
    }
}

/// Names of the files with a `.ready` status that are there, in order.
fn ready(data_dir: &Path) -> Vec<String> {
    let wal = data_dir.join("pg_wal");
    let entries = fs::read_dir(wal.join("archive_status")).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".ready")?.to_owned());
    let mut names: Vec<String> = entries.filter_map(name).filter(|name| wal.join(name).is_file()).collect();
    names.sort();
    names
}

/// The timeline of a history file; `None` for any other file.
fn history_timeline(file: &str) -> Option<Timeline> {
    u32::from_str_radix(file.strip_suffix(".history")?, 16).ok().map(Timeline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_are_there_are_ready_and_histories_are_known() {
        let dir = std::env::temp_dir().join(format!("pgherd-ready-{}", std::process::id()));
        let status = dir.join("pg_wal/archive_status");
        fs::create_dir_all(&status).unwrap();
        for name in ["0000000A.history", "000000010000000000000003", "000000010000000000000002.partial"] {
            fs::write(dir.join("pg_wal").join(name), "").unwrap();
            fs::write(status.join(format!("{name}.ready")), "").unwrap();
        }
        fs::write(status.join("000000010000000000000001.ready"), "").unwrap();
        fs::write(status.join("000000010000000000000003.done"), "").unwrap();
        let wanted = ["000000010000000000000002.partial", "000000010000000000000003", "0000000A.history"];
        assert_eq!(ready(&dir), wanted);
        assert_eq!(wanted.map(history_timeline), [None, None, Some(Timeline(10))]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
