//! Who sets `synchronous_standby_names`: the user, or the agent over the user. What the agent set is kept in the state
//! directory, so that a restart of either program changes nothing: a primary that may not acknowledge alone does not do
//! so for a moment after it was started. The state file is written before the configuration file.

use crate::error::{OperationError, Outcome, Tried};
use crate::state_dir::StateDir;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The parameter.
pub(crate) const PARAMETER: &str = "synchronous_standby_names";

/// See the module.
#[derive(Debug)]
pub(crate) struct StandbyNamesOwner {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What the agent set; `None`: the user's value counts.
    set: Option<String>,
    /// Counts the changes that began or came into force.
    changes: u64,
    /// A change began, and it is not known to be in force in every process of the server.
    unsettled: bool,
    /// What was in force before the last change.
    former: String,
}

/// The moment at which a look began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moment {
    changes: u64,
    unsettled: bool,
}

impl StandbyNamesOwner {
    /// As it was left. A file that cannot be read is an error: it may say that commits must wait.
    pub fn open(state: &StateDir) -> Outcome<Self> {
        let path = state.path().join(PARAMETER);
        let set = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => {
                return Err(OperationError::failed(format!(
                    "could not read {}, which says for which standbys commits must wait: {e}; make it readable, or \
                     remove it if no synchronous mode is used",
                    path.display()
                )));
            }
        };
        Ok(Self { path, inner: Mutex::new(Inner { set, ..Inner::default() }) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the agent set; `None`: the user's value counts.
    pub fn set_by_agent(&self) -> Option<String> {
        self.inner().set.clone()
    }

    /// From now on this counts, also after a restart of the agent. Waits for the disk. No configuration file is written.
    pub fn set(&self, state: &StateDir, names: Option<&str>) -> Outcome<()> {
        let mut inner = self.inner();
        match names {
            Some(text) if inner.set.as_deref() != names => state.write(&self.path, text)?,
            None if inner.set.is_some() => self.forget()?,
            Some(_) | None => {}
        }
        inner.set = names.map(str::to_owned);
        Ok(())
    }

    fn forget(&self) -> Outcome<()> {
        let removed = match fs::remove_file(&self.path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all()),
        };
        removed.tried(|| format!("remove {}", self.path.display()))
    }

    /// A change begins, from this value. The answer is the value that all processes had last.
    pub fn change_begins(&self, from: &str) -> String {
        let mut inner = self.inner();
        if !inner.unsettled {
            (inner.unsettled, inner.former) = (true, from.to_owned());
            inner.changes += 1;
        }
        inner.former.clone()
    }

    /// Every process of the server has what its files say.
    pub fn settled(&self) {
        let mut inner = self.inner();
        if std::mem::take(&mut inner.unsettled) {
            inner.changes += 1;
        }
    }

    /// To be asked before a look begins.
    pub fn moment(&self) -> Moment {
        let inner = self.inner();
        Moment { changes: inner.changes, unsettled: inner.unsettled }
    }

    /// What was in force while a look went on that saw this value. During a change the new value is not yet in force,
    /// although connections show it: another process may still go by the former one, and acknowledge a commit by it.
    pub fn in_force(&self, begun: Moment, seen: &str) -> String {
        let inner = self.inner();
        let undisturbed = !begun.unsettled && begun.changes == inner.changes;
        if undisturbed { seen.to_owned() } else { inner.former.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::PostgresOptions;

    fn state(name: &str) -> StateDir {
        let dir = std::env::temp_dir().join(format!("pgherd-{name}-{}", std::process::id()));
        StateDir::open(&PostgresOptions::new("a".into(), "s", &dir)).unwrap()
    }

    #[test]
    fn what_the_agent_set_is_found_again() {
        let state = state("names");
        let found = || StandbyNamesOwner::open(&state).map(|owner| owner.set_by_agent());
        assert_eq!(found(), Ok(None));
        for text in ["", "ANY 1 (\"a b\",c)"] {
            StandbyNamesOwner::open(&state).unwrap().set(&state, Some(text)).unwrap();
            assert_eq!(found(), Ok(Some(text.to_owned())));
        }
        StandbyNamesOwner::open(&state).unwrap().set(&state, None).unwrap();
        assert_eq!(found(), Ok(None));
        fs::write(state.path().join(PARAMETER), [0xff, 0xfe]).unwrap();
        assert!(found().unwrap_err().to_string().contains("for which standbys commits must wait"));
        fs::remove_dir_all(state.path()).unwrap();
    }

    #[test]
    fn a_look_during_a_change_shows_what_was_in_force_before() {
        let state = state("names-change");
        let owner = StandbyNamesOwner::open(&state).unwrap();
        let before = owner.moment();
        assert_eq!(owner.in_force(before, "a"), "a");
        assert_eq!(owner.change_begins("a"), "a");
        let during = owner.moment();
        assert_eq!((owner.in_force(before, "b"), owner.in_force(during, "b")), ("a".to_owned(), "a".to_owned()));
        // it failed and is tried again: still nobody can rely upon it
        assert_eq!(owner.change_begins("b"), "a");
        owner.settled();
        let after = owner.moment();
        assert_eq!((owner.in_force(before, "b"), owner.in_force(during, "b")), ("a".to_owned(), "a".to_owned()));
        assert_eq!(owner.in_force(after, "b"), "b");
        fs::remove_dir_all(state.path()).unwrap();
    }
}
