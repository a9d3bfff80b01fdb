//! What is said of synchronous replication: the words that operators and their tools know (spec/sync-and-quorum.md).

use pgherd_kernel::View;
use pgherd_types::{DcsWrite, SyncMode, SyncName, SyncNames, SyncWrite};

/// What was said already.
#[derive(Default)]
pub(super) struct Told {
    commits_wait: bool,
}

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
