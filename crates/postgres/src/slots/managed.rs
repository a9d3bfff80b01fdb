//! Which slots the agent manages: those that it made, and those that it found where it wanted one. Only these are dropped
//! when they are not wanted any more; the name of one that is gone by other hands is forgotten. The list is kept in the state
//! directory, so that it outlives the agent; a name is written down before its slot is made.

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
    /// Slot manager and operator both change the list: one of them at a time.
    changing: Mutex<()>,
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
        Self { path, names: Mutex::new(names), changing: Mutex::default() }
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn has(&self, name: &str) -> bool {
        self.names().contains(name)
    }

    /// All but these.
    pub fn but<'a>(&self, there: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        let mut names = self.names().clone();
        there.for_each(|name| _ = names.remove(name));
        names
    }

    /// These are managed from now on. Waits for the disk.
    pub fn add<'a>(&self, state: &StateDir, names: impl IntoIterator<Item = &'a String>) -> Outcome<()> {
        self.change(state, |all| all.extend(names.into_iter().cloned()))
    }

    /// These are gone.
    pub fn remove<'a>(&self, state: &StateDir, names: impl IntoIterator<Item = &'a String>) -> Outcome<()> {
        self.change(state, |all| names.into_iter().for_each(|name| _ = all.remove(name)))
    }

    fn change(&self, state: &StateDir, change: impl FnOnce(&mut BTreeSet<String>)) -> Outcome<()> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.names().clone();
        let before = all.len();
        change(&mut all);
        if all.len() == before { Ok(()) } else { self.replace(state, all) }
    }

    fn replace(&self, state: &StateDir, all: BTreeSet<String>) -> Outcome<()> {
        let text: String = all.iter().map(|name| format!("{name}\n")).collect();
        state.write(&self.path, &text)?;
        *self.names() = all;
        Ok(())
    }
}
