//! Flushing new data to disk. initdb and pg_basebackup do it file by file, which takes most of their time where there are
//! many small files; one `syncfs` for each file system does the same at once, as PostgreSQL's own `--sync-method=syncfs`
//! (17 and later). Only from Linux 5.8 on: before, it does not report what could not be written (PostgreSQL manual,
//! `recovery_init_sync_method`).

use crate::error::{Outcome, Tried};
use crate::server::Postgres;
use rustix::fs::{fstat, syncfs};
use rustix::system::uname;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// What keeps initdb and pg_basebackup from doing it themselves.
pub(crate) const NO_SYNC: &str = "--no-sync";
/// The options by which a user says something about it.
const USERS: [&str; 3] = ["no-sync", "nosync", "sync-method"];

/// Shall it be done here, and not by the program that gets these options?
pub(crate) fn is_ours(options: &[(String, Option<String>)]) -> bool {
    let users = options.iter().any(|(name, _)| USERS.contains(&name.as_str()));
    !users && uname().release().to_str().is_ok_and(reports_errors)
}

/// `6.1.0-13-amd64`
fn reports_errors(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (5, 8))
}

/// How a server that has something to recover flushes its data before, and the first version that knows it.
const INIT_SYNC: &str = "recovery_init_sync_method";
const INIT_SYNC_SINCE: u32 = 14;

/// Flushes a copy of another member's data; its first start need not do it file by file.
pub(crate) fn copy(server: &Postgres, directory: &Path) -> Outcome<()> {
    data(directory)?;
    server.copy_is_flushed.store(true, Ordering::Relaxed);
    Ok(())
}

/// What the first server on a copy that was flushed is started with: a copy is data of a running server to it, and it
/// flushes all of it first. Once; nothing if the user says how.
pub(crate) fn first_start(server: &Postgres, major_version: Option<u32>) -> &'static [(&'static str, &'static str)] {
    let flushed = server.copy_is_flushed.swap(false, Ordering::Relaxed);
    let knows = major_version.is_some_and(|version| version >= INIT_SYNC_SINCE);
    let users = server.config().parameters.contains_key(INIT_SYNC);
    if flushed && knows && !users { &[(INIT_SYNC, "syncfs")] } else { &[] }
}

/// Flushes every file system that data in this directory are on: its own, that of its WAL and those of its tablespaces.
pub(crate) fn data(directory: &Path) -> Outcome<()> {
    let mut flushed = BTreeSet::new();
    for place in places(directory).tried(|| format!("list the tablespaces of {}", directory.display()))? {
        flush(&place, &mut flushed).tried(|| format!("flush the file system of {}", place.display()))?;
    }
    Ok(())
}

fn places(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut places = vec![directory.to_owned(), directory.join("pg_wal")];
    for tablespace in fs::read_dir(directory.join("pg_tblspc"))? {
        places.push(tablespace?.path());
    }
    Ok(places)
}

fn flush(place: &Path, flushed: &mut BTreeSet<u64>) -> io::Result<()> {
    let place = File::open(place)?;
    if flushed.insert(fstat(&place)?.st_dev) {
        syncfs(&place)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_keep_errors_to_themselves_are_not_trusted() {
        for (release, trusted) in [
            ("6.1.0-13-amd64", true),
            ("5.8", true),
            ("5.10.0", true),
            ("5.7.19", false),
            ("4.18.0-553.el8", false),
            ("x", false),
        ] {
            assert_eq!(reports_errors(release), trusted, "{release}");
        }
        assert!(!is_ours(&[("sync-method".to_owned(), Some("fsync".to_owned()))]), "the user has said how");
    }

    #[test]
    fn every_file_system_is_flushed_once_and_a_missing_place_is_an_error() {
        let directory = std::env::temp_dir().join(format!("pgherd-flush-{}", std::process::id()));
        fs::create_dir_all(directory.join("pg_wal")).unwrap();
        let why = data(&directory).unwrap_err().to_string();
        assert!(why.contains("list the tablespaces of"), "{why}");
        fs::create_dir_all(directory.join("pg_tblspc")).unwrap();
        std::os::unix::fs::symlink("/no/such/tablespace", directory.join("pg_tblspc/1")).unwrap();
        let why = data(&directory).unwrap_err().to_string();
        assert!(why.contains("pg_tblspc/1"), "{why}");
        fs::remove_file(directory.join("pg_tblspc/1")).unwrap();
        std::os::unix::fs::symlink("/proc", directory.join("pg_tblspc/2")).unwrap();
        data(&directory).unwrap();
        let mut flushed = BTreeSet::new();
        for place in places(&directory).unwrap() {
            flush(&place, &mut flushed).unwrap();
        }
        assert_eq!(flushed.len(), 2, "the tablespace is on another one");
        fs::remove_dir_all(&directory).unwrap();
    }
}
