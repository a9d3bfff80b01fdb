//! The marker of a rewind, beside the data directory. It is written before anything is touched and removed after the
//! directory has become a standby. Unlike a clone, a rewind works on the only copy there is: once pg_rewind has begun to
//! change files, the directory is neither the old data nor the new, and only a rewind that ends well (or new data) makes
//! it usable again. Whether it has begun is not taken from its words but from the files: their times and sizes.

use crate::error::{OperationError, Outcome, Tried};
use crate::exit_watch::PidFd;
use crate::interrupted::end;
use crate::options::PostgresOptions;
use crate::process::{programs_on, start_ticks};
use crate::saved_wal;
use crate::server::Postgres;
use crate::state_dir::state_dir;
use serde::{Deserialize, Serialize};
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the files in the data directory are called that the agent itself may write at any time.
const OURS: [&str; 4] = [".conf", ".backup", ".new", ".signal"];
/// No data directory is deeper; a link that leads back into it would have no end.
const DEPTH_MAX: u32 = 20;
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How far a rewind has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// Whom it rewinds to; for people.
    source: String,
    /// The program at work.
    pid: Option<i32>,
    start_ticks: Option<u64>,
    boot_id: String,
    /// The directory as it was when pg_rewind was started; `None` before that.
    before: Option<String>,
    /// The timeline that the source wrote then.
    timeline: u32,
    /// pg_rewind has changed files and did not come to its end.
    damaged: bool,
}

fn path(options: &PostgresOptions) -> PathBuf {
    state_dir(&options.data_dir).join("rewind")
}

/// Is there a marker? A marker that cannot be read counts.
pub(crate) fn exists(options: &PostgresOptions) -> bool {
    path(options).symlink_metadata().is_ok()
}

/// Must the directory not be started? Not while a rewind that has not come to pg_rewind is at work: the data are whole.
pub(crate) fn forbids_start(options: &PostgresOptions) -> bool {
    exists(options) && read(options).is_none_or(|marker| marker.damaged || marker.before.is_some())
}

/// An error if PostgreSQL must not be started from the data directory.
pub(crate) fn require_whole(server: &Postgres) -> Outcome<()> {
    match forbids_start(&server.options) {
        false => Ok(()),
        true => Err(OperationError::failed(format!(
            "pg_rewind was interrupted in {}: its files are neither the old data nor the new, and PostgreSQL is not \
             started from them until a rewind was repeated with success or the data were made anew",
            server.options.data_dir.display()
        ))),
    }
}

fn read(options: &PostgresOptions) -> Option<Marker> {
    serde_json::from_str(&fs::read_to_string(path(options)).ok()?).ok()
}

fn write(server: &Postgres, marker: &Marker) -> Outcome<()> {
    let text = serde_json::to_string(marker).tried(|| "write the rewind's marker".to_owned())?;
    server.state.write(&path(&server.options), &text)
}

/// Removes the marker, and the WAL that was kept for a repetition: the data directory is whole.
pub(crate) fn remove(server: &Postgres) -> Outcome<()> {
    let path = path(&server.options);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).tried(|| format!("remove {}", path.display())),
        _ => saved_wal::remove(server),
    }
}

/// What a rewind finds of one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing: the data are whole.
    Whole,
    /// pg_rewind was interrupted; it may be repeated.
    Damaged {
        /// From a source that still writes this timeline.
        by_timeline: u32,
    },
    /// The same, and the machine went down since: what reached the disk is not known, and pg_rewind, which compares
    /// sizes, would take lost contents for good ones.
    DamagedByCrash,
}

/// Writes the marker before anything is touched; says what was found.
pub(crate) fn begin(server: &Postgres, source: &str) -> Outcome<Found> {
    if !exists(&server.options) {
        let boot_id = pgherd_clock::boot_id().to_owned();
        write(server, &Marker { source: source.to_owned(), boot_id, ..Marker::default() })?;
        return Ok(Found::Whole);
    }
    match read(&server.options) {
        Some(marker) if marker.boot_id == pgherd_clock::boot_id() => {
            let by_timeline = marker.timeline;
            write(server, &Marker { source: source.to_owned(), damaged: true, ..marker })?;
            Ok(Found::Damaged { by_timeline })
        }
        _ => Ok(Found::DamagedByCrash),
    }
}

/// Adds the process that works.
pub(crate) fn note(server: &Postgres, pid: u32) -> Outcome<()> {
    let marker = read(&server.options).unwrap_or_default();
    let pid = i32::try_from(pid).ok();
    write(server, &Marker { pid, start_ticks: pid.and_then(start_ticks), ..marker })
}

/// Notes the state of the files, immediately before pg_rewind is started.
pub(crate) fn note_files(server: &Postgres, timeline: u32) -> Outcome<()> {
    let dir = &server.options.data_dir;
    let before = fingerprint(dir).tried(|| format!("read {}", dir.display()))?;
    let marker = read(&server.options).unwrap_or_default();
    write(server, &Marker { before: Some(before), timeline, ..marker })
}

/// After a rewind that did not come to its end, with its process gone: removes the marker if the data are as they were;
/// else it stays. True if they are.
pub(crate) fn settle(server: &Postgres) -> Outcome<bool> {
    let Some(marker) = read(&server.options) else { return Ok(!exists(&server.options)) };
    let same = |before: &String| {
        // After a crash of the machine the times on disk prove nothing.
        marker.boot_id == pgherd_clock::boot_id()
            && fingerprint(&server.options.data_dir).is_ok_and(|now| now == *before)
    };
    if !marker.damaged && marker.before.as_ref().is_none_or(same) {
        return remove(server).map(|()| true);
    }
    write(server, &Marker { damaged: true, before: None, pid: None, start_ticks: None, ..marker })?;
    Ok(false)
}

/// At start: ends what an interrupted rewind left at work.
pub(crate) fn clear_up(server: &Postgres) -> Outcome<()> {
    if !exists(&server.options) {
        return Ok(());
    }
    if let Some((pid, ticks)) = read(&server.options).and_then(|m| Some((m.pid?, m.start_ticks?)))
        && start_ticks(pid) == Some(ticks)
    {
        end(pid);
    }
    // Started, and the agent died before it could note the number.
    for pid in programs_on(&server.options.data_dir, &["pg_rewind"]) {
        end(pid);
        let gone = PidFd::open(pid).map_or(true, |fd| fd.wait(KILL_PATIENCE));
        if !gone {
            return Err(OperationError::failed(format!(
                "pg_rewind (pid {pid}) of an interrupted rewind cannot be ended"
            )));
        }
    }
    if settle(server)? {
        log::warn!("an interrupted rewind had not changed the data yet");
    } else {
        log::error!(
            "pg_rewind was interrupted in {}: PostgreSQL is not started from it until a rewind was repeated with success",
            server.options.data_dir.display()
        );
    }
    Ok(())
}

/// Changes when any file but those in `pg_wal` is made, removed, truncated or written to. pg_rewind writes to `pg_wal`
/// after it has written elsewhere, except for segments that it fetches from the archive, which do no harm.
fn fingerprint(data_dir: &Path) -> io::Result<String> {
    let mut sum = 0;
    for entry in fs::read_dir(data_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == "pg_wal" || OURS.iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        add(&entry.path(), 0, &mut sum)?;
    }
    Ok(format!("{sum:016x}"))
}

fn add(path: &Path, depth: u32, sum: &mut u64) -> io::Result<()> {
    let metadata = match fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    *sum = sum.wrapping_add(hash(path, &metadata));
    if !metadata.is_dir() {
        return Ok(());
    }
    if depth >= DEPTH_MAX {
        return Err(io::Error::other(format!("{} is too deep; does a link lead back?", path.display())));
    }
    fs::read_dir(path)?.try_for_each(|entry| add(&entry?.path(), depth + 1, sum))
}

fn hash(path: &Path, metadata: &Metadata) -> u64 {
    let mut hasher = DefaultHasher::new();
    let times = (metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec());
    (path, metadata.ino(), metadata.size(), times).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_of_the_data_is_seen_and_ours_are_not() {
        let dir = std::env::temp_dir().join(format!("pgherd-fingerprint-{}", std::process::id()));
        for part in ["base/1", "pg_wal", "global"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        fs::write(dir.join("base/1/1259"), "page").unwrap();
        let first = fingerprint(&dir).unwrap();
        for own in ["postgresql.conf", "pg_hba.conf.new", "standby.signal", "pg_wal/000000010000000000000001"] {
            fs::write(dir.join(own), "x").unwrap();
            assert_eq!(fingerprint(&dir).unwrap(), first, "{own}");
        }
        let mut seen = vec![first];
        let changes: [&dyn Fn() -> io::Result<()>; 4] = [
            &|| fs::write(dir.join("base/1/1259"), "PAGE!"),
            &|| fs::write(dir.join("global/new"), ""),
            &|| fs::remove_file(dir.join("global/new")),
            &|| fs::write(dir.join("current_logfiles"), ""),
        ];
        for change in changes {
            change().unwrap();
            let now = fingerprint(&dir).unwrap();
            assert!(!seen.contains(&now));
            seen.push(now);
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
