//! What is said of synchronous replication: the words that operators and their tools know (spec/sync-and-quorum.md).

use pgherd_kernel::View;
use pgherd_types::{DcsWrite, Instant, SyncMode, SyncName, SyncNames, SyncWrite};
use std::collections::BTreeMap;
use std::time::Duration;

/// What was said already.
#[derive(Default)]
pub(super) struct Told {
    commits_wait: bool,
    /// Since when a member's name is a stranger's, too, and whether that was said.
    borrowed: BTreeMap<SyncName, (Instant, bool)>,
}

/// While a standby connects anew, its old and its new connection may both be seen.
const TWICE_BY_CHANCE: Duration = Duration::from_secs(5);

impl Told {
    /// Once each time that commits begin to wait.
    pub fn commits_wait(&mut self, wait: bool, view: &View) {
        if wait && !std::mem::replace(&mut self.commits_wait, wait) {
            let running = view.postgres.get().and_then(|postgres| postgres.running());
            let names = running.map(|running| running.sync.names.as_str()).unwrap_or_default();
            log::warn!(
                "No active replication connections from Patroni members and synchronous_mode_strict is requested. Continue \
                 using old value of synchronous_standby_names=\"{names}\". Commits will be delayed."
            );
        }
        self.commits_wait = wait;
    }

    /// Once for each member whose name somebody else streams by for longer than a moment; true if something was said.
    pub fn borrowed(&mut self, names: SyncNames, now: Instant) -> bool {
        self.borrowed.retain(|name, _| names.contains(name));
        let mut said = false;
        for name in names {
            let (since, told) = self.borrowed.entry(name.clone()).or_insert((now, false));
            if !*told && now >= *since + TWICE_BY_CHANCE {
                (*told, said) = (true, true);
                log::warn!(
                    "another client streams with the application_name of the member {name}: what PostgreSQL takes for its \
                     answers may be the other's, so it is no synchronous standby until that client has gone or has its own name"
                );
            }
        }
        said
    }
}

/// The `sync` key was written.
pub(super) fn written(write: &DcsWrite, view: &View) {
    match write {
        DcsWrite::Sync(SyncWrite { seen: None, .. }) => log::info!("Enabled synchronous replication"),
        DcsWrite::Sync(SyncWrite { leader, quorum, standbys, .. }) if view.settings.sync_mode() == SyncMode::Quorum => {
            log::info!("Setting leader to {leader}, quorum to {quorum} of ({})", list(standbys, ""));
        }
        DcsWrite::Sync(SyncWrite { standbys, .. }) => {
            log::info!("Synchronous standby status assigned to [{}]", list(standbys, "'"));
        }
        DcsWrite::DropSync { .. } => log::info!("Disabled synchronous replication"),
        _ => {}
    }
}

fn list(names: &SyncNames, quote: &str) -> String {
    let quoted: Vec<String> = names.iter().map(SyncName::as_str).map(|name| format!("{quote}{name}{quote}")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_told_of_once_and_only_when_it_stays() {
        let (mut told, at) = (Told::default(), Instant::from_millis);
        let names = || SyncNames::from(["b".into()]);
        assert!(!told.borrowed(names(), at(1_000)));
        assert!(!told.borrowed(SyncNames::new(), at(3_000)), "it connected anew");
        assert!(!told.borrowed(names(), at(4_000)));
        assert!(!told.borrowed(names(), at(8_999)));
        assert!(told.borrowed(names(), at(9_000)));
        assert!(!told.borrowed(names(), at(20_000)));
    }
}
