//! A copy of the WAL that pg_rewind reads here. It overwrites and removes this WAL long before its end, so without the copy
//! an interrupted rewind could not be repeated. Kept beside the data directory until the rewind has ended well.

use crate::control::OperationControl;
use crate::error::{Outcome, Tried};
use crate::server::Postgres;
use crate::state_dir::give_to;
use pgherd_types::Lsn;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The copy may take this part of the free space.
const SHARE_OF_FREE_SPACE: u64 = 2;

fn place(server: &Postgres) -> PathBuf {
    server.state.path().join("rewind_wal")
}

/// Removes the copy.
pub(crate) fn remove(server: &Postgres) -> Outcome<()> {
    let place = place(server);
    match fs::remove_dir_all(&place) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).tried(|| format!("remove {}", place.display())),
        _ => Ok(()),
    }
}

/// Copies the segments from this position on, and the history files. Does nothing but warn when there is no room.
pub(crate) fn save(server: &Postgres, from: Lsn, segment_bytes: u64, control: &OperationControl) -> Outcome<()> {
    remove(server)?;
    let (place, wal) = (place(server), server.options.data_dir.join("pg_wal"));
    let files = wanted(&wal, from.0 / segment_bytes.max(1), segment_bytes);
    let bytes: u64 = files.iter().filter_map(|name| fs::metadata(wal.join(name)).ok()).map(|m| m.len()).sum();
    let free = rustix::fs::statvfs(server.state.path()).map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize));
    if bytes > free / SHARE_OF_FREE_SPACE {
        log::warn!(
            "no room for a copy of {} MB of WAL: should pg_rewind be interrupted, it cannot be repeated",
            bytes >> 20
        );
        return Ok(());
    }
    DirBuilder::new().mode(0o700).create(&place).tried(|| format!("create {}", place.display()))?;
    copy(server, &files, &wal, &place, control)
}

/// Puts the copy back.
pub(crate) fn restore(server: &Postgres, control: &OperationControl) -> Outcome<()> {
    let place = place(server);
    let files = names(&place);
    copy(server, &files, &place, &server.options.data_dir.join("pg_wal"), control)
}

fn copy(server: &Postgres, files: &[String], from: &Path, to: &Path, control: &OperationControl) -> Outcome<()> {
    for name in files {
        control.go_on()?;
        let target = to.join(name);
        fs::copy(from.join(name), &target).tried(|| format!("copy {name} to {}", to.display()))?;
        give_to(&target, server.options.run_as)?;
    }
    Ok(())
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn wanted(wal: &Path, first: u64, segment_bytes: u64) -> Vec<String> {
    let is_wanted = |name: &String| {
        name.ends_with(".history") || segment_number(name, segment_bytes).is_some_and(|number| number >= first)
    };
    names(wal).into_iter().filter(is_wanted).collect()
}

/// The position of a WAL segment, counted in segments.
fn segment_number(name: &str, segment_bytes: u64) -> Option<u64> {
    if name.len() != 24 || !name.is_ascii() {
        return None;
    }
    let number = |part: &str| u64::from_str_radix(part, 16).ok();
    Some(number(&name[8..16])? * (1 << 32) / segment_bytes.max(1) + number(&name[16..])?)
}

#[cfg(test)]
mod tests {
    use super::segment_number;

    #[test]
    fn segments_are_counted_over_the_whole_of_wal() {
        for (name, wanted) in [
            ("000000010000000000000003", Some(3)),
            ("0000000A00000002000000FF", Some(2 * 256 + 255)),
            ("00000002.history", None),
            ("000000010000000000000003.partial", None),
            ("archive_status", None),
        ] {
            assert_eq!(segment_number(name, 16 << 20), wanted, "{name}");
        }
    }
}
