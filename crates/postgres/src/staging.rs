//! A new data directory is made beside its place and put there by one rename: what is in the place is always whole.

use crate::control_data::is_empty;
use crate::error::{OperationError, Outcome, Tried};
use crate::interrupted;
use crate::rewind_marker;
use crate::server::Postgres;
use crate::state_dir::staging_dir;
use std::fs::{self, File};
use std::future::Future;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Runs `make` with the path of the copy to be made, and installs it. Data that is there already is never removed:
/// that is an error.
pub(crate) async fn make_data_directory<F>(
    server: &Postgres,
    operation: &str,
    make: impl FnOnce(PathBuf) -> F,
) -> Outcome<()>
where
    F: Future<Output = Outcome<()>>,
{
    require_empty(server)?;
    interrupted::discard_staging(server)?;
    interrupted::begin(server, operation)?;
    let staging = staging_dir(&server.options.data_dir);
    let made = match make(staging.clone()).await {
        Ok(()) => install(server, &staging),
        Err(e) => Err(e),
    };
    if made.is_err() {
        interrupted::discard_staging(server)?;
    }
    interrupted::finish(server)?;
    made
}

fn require_empty(server: &Postgres) -> Outcome<()> {
    let dir = &server.options.data_dir;
    server.require_stopped()?;
    match is_empty(dir).tried(|| format!("read {}", dir.display()))? {
        true => Ok(()),
        false => {
            Err(OperationError::failed(format!("{} is not empty; existing data is never overwritten", dir.display())))
        }
    }
}

fn install(server: &Postgres, staging: &Path) -> Outcome<()> {
    require_empty(server)?;
    // A link in the place of the data directory stays a link.
    let place = fs::canonicalize(&server.options.data_dir).unwrap_or_else(|_| server.options.data_dir.clone());
    match fs::remove_dir(&place) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            return Err(e).tried(|| {
                format!(
                    "replace the empty directory {} (a mount point or hidden files? use a directory below it)",
                    place.display()
                )
            });
        }
        _ => {}
    }
    interrupted::installing(server)?;
    fs::rename(staging, &place).tried(|| format!("rename {} to {}", staging.display(), place.display()))?;
    if let Some(parent) = place.parent() {
        File::open(parent).and_then(|dir| dir.sync_all()).tried(|| format!("flush {}", parent.display()))?;
    }
    rewind_marker::remove(server)
}
