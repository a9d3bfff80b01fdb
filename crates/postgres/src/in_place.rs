//! A program of the user's makes the data directory where it shall be, because such programs know no other place. While
//! it works, and after it failed with `keep_data`, a record says that what is there is no data directory yet: it counts
//! as empty, PostgreSQL is not started from it. Data that were there are moved aside and come back if it fails.

use crate::aside::{externals, free_name, keep_failed, remove_plainly, remove_tree, rename_to_new};
use crate::error::{OperationError, Outcome, Tried};
use crate::rewind_marker;
use crate::server::Postgres;
use crate::state_dir::state_dir;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What is going on in the data directory.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct InPlace {
    /// A failed attempt leaves its files for the next one.
    pub keep_data: bool,
    /// It is the bootstrap of a new cluster: a failed attempt is kept for people.
    pub bootstrap: bool,
    /// What was there: its place, and where it is now.
    pub aside: Vec<(PathBuf, PathBuf)>,
}

fn record(data_dir: &Path) -> PathBuf {
    state_dir(data_dir).join("in_place")
}

/// Is what the data directory holds the work of such a program that has not come to its end?
pub(crate) fn is_incomplete(data_dir: &Path) -> bool {
    record(data_dir).exists()
}

/// Before the program is started. What an earlier attempt left goes, unless this one builds on it; data are moved aside,
/// unless the program works on them.
pub(crate) fn begin(server: &Postgres, keep_data: bool, bootstrap: bool) -> Outcome<InPlace> {
    let place = server.place();
    let mut work = InPlace { keep_data, bootstrap, aside: Vec::new() };
    let incomplete = is_incomplete(&server.options.data_dir);
    if incomplete && !keep_data {
        remove_tree(&place)?;
    } else if !keep_data && !crate::control_data::is_empty(&place).unwrap_or(false) {
        let outside = externals(&place).into_iter().filter(|e| e.target.is_dir()).map(|e| e.target);
        work.aside = outside.chain([place]).map(|p| (p.clone(), free_name(&p, "old"))).collect();
    }
    let text = serde_json::to_string(&work).tried(|| "write down what is begun".to_owned())?;
    server.state.write(&record(&server.options.data_dir), &text)?;
    for (place, aside) in &work.aside {
        if let Err(e) = rename_to_new(place, aside) {
            bring_back(&work);
            forget(server)?;
            return Err(e);
        }
    }
    Ok(work)
}

impl InPlace {
    /// The program did what it should: what was there before is removed.
    pub fn succeeded(&self, server: &Postgres) -> Outcome<()> {
        rewind_marker::remove(server)?;
        forget(server)?;
        for (_, aside) in &self.aside {
            if let Err(e) = remove_plainly(aside) {
                log::warn!("the replaced directory {} was left: {e}", aside.display());
            }
        }
        Ok(())
    }

    /// It did not.
    pub fn failed(&self, server: &Postgres) -> Outcome<()> {
        let place = server.place();
        if self.bootstrap {
            keep_failed(server, &place)?;
        } else if self.keep_data {
            return Ok(());
        } else {
            // Unless it was interrupted before the data were moved: then they are still there.
            let theirs = self.aside.last().is_none_or(|(_, aside)| aside.exists());
            if theirs {
                remove_tree(&place)?;
            }
        }
        bring_back(self);
        forget(server)
    }
}

/// What was moved aside takes its place again.
fn bring_back(work: &InPlace) {
    for (place, aside) in work.aside.iter().filter(|(_, aside)| aside.exists()) {
        // An empty directory may have been left in the place.
        let _ = fs::remove_dir(place);
        if let Err(e) = rename_to_new(aside, place) {
            log::error!("{} holds what belongs to {}: {e}", aside.display(), place.display());
        }
    }
}

/// At start: an interrupted program has failed.
pub(crate) fn clear_up(server: &Postgres) -> Outcome<()> {
    let path = record(&server.options.data_dir);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let work: InPlace = serde_json::from_str(&text).tried(|| format!("read {}", path.display()))?;
    if !work.keep_data {
        log::warn!("a program that was making the data directory was interrupted; what it left does not count");
    }
    server.kill_all()?;
    work.failed(server)
}

/// What is in the place now is whole, or gone.
pub(crate) fn forget(server: &Postgres) -> Outcome<()> {
    let path = record(&server.options.data_dir);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).tried(|| format!("remove {}", path.display())),
        _ => Ok(()),
    }
}

/// An error unless there is something PostgreSQL could be started from.
pub(crate) fn require_data(dir: &Path, who: &str) -> Outcome<()> {
    let missing = ["PG_VERSION", "global/pg_control"].into_iter().find(|file| !dir.join(file).is_file());
    match missing {
        None => Ok(()),
        Some(file) => Err(OperationError::failed(format!(
            "{who} ended well, but {} is no PostgreSQL data directory: {file} is missing",
            dir.display()
        ))),
    }
}
