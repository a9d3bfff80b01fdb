//! Is a server that is being stopped past its shutdown checkpoint? Its postmaster then only waits for the archiver and for
//! walsenders, which may take long; nothing can be committed any more. PostgreSQL begins that checkpoint only when every
//! client is ended, and from the moment it was told to stop it accepts none.

use crate::control_data::ControlFile;
use crate::options::PostgresOptions;
use crate::process::{PidFileStatus, Postmaster, find_postmaster, server_processes, title};
use pgherd_types::postgres::ControlState;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// What may still work beside the postmaster: none of these commits anything for a client.
const HELPERS: [&str; 6] = ["archiver", "walsender", "logger", "checkpointer", "stats collector", "io worker"];

/// The control file is looked at this often even if it does not seem to have changed.
const LOOK_ANYHOW: Duration = Duration::from_secs(1);
/// Between two looks while something else than helpers is alive.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Is this the case of this server now?
pub fn only_archives(options: &PostgresOptions) -> bool {
    let Some(postmaster) = find_postmaster(&options.data_dir) else { return false };
    let state = || ControlFile::read(options).and_then(|file| file.state());
    postmaster.status == PidFileStatus::Stopping
        && state() == Ok(ControlState::ShutDown)
        && no_client_is_left(options, postmaster)
}

/// To be asked after the postmaster was seen to stop, and after that the control file to say `shut down`: then it is the
/// same postmaster still, which cannot go back, and nobody but helpers works for it. The words in the control file are
/// thus not those of an earlier stop, read while a new server starts.
pub(crate) fn no_client_is_left(options: &PostgresOptions, postmaster: Postmaster) -> bool {
    let others = server_processes(&options.data_dir).into_iter().filter(|pid| *pid != postmaster.pid);
    // one that ended meanwhile has no title
    let strangers = others.filter(|pid| title(*pid).is_some_and(|title| !is_helper(&title))).count();
    strangers == 0
        && postmaster.status == PidFileStatus::Stopping
        && find_postmaster(&options.data_dir) == Some(postmaster)
}

/// `postgres: archiver`, or with `cluster_name` `postgres: demo: archiver archiving 00000001…`.
fn is_helper(title: &str) -> bool {
    let Some(rest) = title.strip_prefix("postgres: ") else { return false };
    let named = |text: &str| {
        HELPERS.iter().any(|name| text.strip_prefix(name).is_some_and(|more| more.is_empty() || more.starts_with(' ')))
    };
    named(rest) || rest.split_once(": ").is_some_and(|(_, after)| named(after))
}

/// Says when a stop has come so far, without reading the control file more often than it changes.
pub(crate) struct ShutdownWatch<'a> {
    options: &'a PostgresOptions,
    control_file: PathBuf,
    seen: Option<SystemTime>,
    look_at: Instant,
}

impl<'a> ShutdownWatch<'a> {
    pub fn new(options: &'a PostgresOptions) -> Self {
        let control_file = options.data_dir.join("global/pg_control");
        Self { options, control_file, seen: None, look_at: Instant::now() }
    }

    /// Is it the case now?
    pub fn reached(&mut self) -> bool {
        let changed = std::fs::metadata(&self.control_file).and_then(|m| m.modified()).ok();
        let now = Instant::now();
        if changed == self.seen && now < self.look_at {
            return false;
        }
        let state = ControlFile::read(self.options).and_then(|file| file.state());
        let shut_down = state == Ok(ControlState::ShutDown);
        (self.seen, self.look_at) = (changed, now + if shut_down { LOOK_AGAIN } else { LOOK_ANYHOW });
        shut_down && only_archives(self.options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_from_helpers() {
        for helper in [
            "postgres: archiver",
            "postgres: demo: archiver archiving 000000010000000000000001",
            "postgres: 15/main: walsender replicator 127.0.0.1(5000) streaming 0/3000060",
            "postgres: demo: stats collector ",
            "postgres: logger ",
        ] {
            assert!(is_helper(helper), "{helper}");
        }
        for other in [
            "postgres: demo: app app 127.0.0.1(5000) idle",
            "postgres: app app [local] COMMIT",
            "postgres: demo: archivers db [local] idle",
            "/usr/lib/postgresql/15/bin/postgres -D /data",
            "postgres: demo: startup recovering 000000010000000000000001",
        ] {
            assert!(!is_helper(other), "{other}");
        }
    }
}
