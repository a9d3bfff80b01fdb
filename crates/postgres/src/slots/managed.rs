//! Which slots the agent manages: those that it made, and those that it found where it wanted one. Only these are dropped
//! when they are not wanted any more. The list is kept in the state directory, so that it outlives the agent; a name is
//! written down before its slot is made.

use crate::error::Outcome;
use crate::state_dir::StateDir;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug)]
pub(crate) struct ManagedSlots {
    path: PathBuf,
    names: Mutex<BTreeSet<String>>,
}

impl ManagedSlots {
    /// As it was left. Without it every slot counts as somebody else's, and is kept.
    pub fn open(state: &StateDir) -> Self {
        let path = state.path().join("managed_slots");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| {
            if e.kind() != ErrorKind::NotFound {
                log::warn!(
                    "could not read {}: {e}; slots that were made earlier are not dropped by the agent",
                    path.display()
                );
            }
            String::new()
        });
        let names = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        Self { path, names: Mutex::new(names) }
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn has(&self, name: &str) -> bool {
        self.names().contains(name)
    }

    /// These are managed from now on. Waits for the disk.
    pub fn add<'a>(&self, state: &StateDir, names: impl IntoIterator<Item = &'a String>) -> Outcome<()> {
        let mut all = self.names().clone();
        let before = all.len();
        all.extend(names.into_iter().cloned());
        if all.len() == before { Ok(()) } else { self.replace(state, all) }
    }

    /// This one is gone.
    pub fn remove(&self, state: &StateDir, name: &str) -> Outcome<()> {
        let mut all = self.names().clone();
        if all.remove(name) { self.replace(state, all) } else { Ok(()) }
    }

    fn replace(&self, state: &StateDir, all: BTreeSet<String>) -> Outcome<()> {
        let text: String = all.iter().map(|name| format!("{name}\n")).collect();
        state.write(&self.path, &text)?;
        *self.names() = all;
        Ok(())
    }
}
