//! A new data directory is made beside its place and put there by a rename: what is in the place is always whole.

use crate::control_data::is_empty;
use crate::error::{OperationError, Outcome, Tried};
use crate::exchange::{self, Detour};
use crate::in_place;
use crate::server::Postgres;
use crate::state_dir::staging_dir;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

impl Postgres {
    /// The data directory itself, behind a link if there is one.
    pub(crate) fn place(&self) -> PathBuf {
        let dir = &self.options.data_dir;
        let behind = |_| fs::read_link(dir).map(|to| dir.parent().map_or(to.clone(), |parent| parent.join(&to)));
        fs::canonicalize(dir).or_else(behind).unwrap_or_else(|_| dir.clone())
    }
    /// Where its successor is made.
    pub(crate) fn staging(&self) -> PathBuf {
        staging_dir(&self.place())
    }
}

/// Is there nothing that must not be lost?
pub(crate) fn is_vacant(server: &Postgres) -> Outcome<bool> {
    let dir = &server.options.data_dir;
    Ok(in_place::is_incomplete(dir) || is_empty(dir).tried(|| format!("read {}", dir.display()))?)
}

/// Fails early where a new data directory could not take its place after a long copy. Data that are there are an error,
/// unless they are to be replaced.
pub(crate) fn require_room(server: &Postgres, replace: bool) -> Outcome<()> {
    server.require_stopped()?;
    let (dir, place) = (&server.options.data_dir, server.place());
    if !replace && !is_vacant(server)? {
        return Err(OperationError::failed(format!(
            "{} is not empty; existing data is never overwritten",
            dir.display()
        )));
    }
    if is_mount_point(&place) {
        return Err(OperationError::failed(format!(
            "{} is a mount point, so no new data directory can take its place; use a directory below it as data_dir",
            place.display()
        )));
    }
    let hidden = fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_some());
    match hidden && is_empty(dir).unwrap_or(false) {
        true => Err(OperationError::failed(format!(
            "replace the empty directory {}: it holds hidden files; remove them, or use a directory below it",
            place.display()
        ))),
        false => Ok(()),
    }
}

fn is_mount_point(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // Blanks in names are written as \040.
    let wanted = path.display().to_string().replace(' ', "\\040");
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(wanted.as_str()))
}

/// The complete copy takes its place; what was there is removed.
pub(crate) fn install(server: &Postgres, detour: &Detour) -> Outcome<()> {
    server.require_stopped()?;
    let place = server.place();
    match fs::remove_dir(&place) {
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            return Err(e).tried(|| format!("replace the empty directory {}", place.display()));
        }
        _ => {}
    }
    exchange::carry_out(server, &detour.exchange(&place, &server.staging()))?;
    in_place::forget(server)
}
