//! Crash recovery in single-user mode (spec/postgres-control.md 4.7): pg_rewind works only on data that were shut down in
//! order. No client can reach such a server, it archives nothing, and it removes no WAL, which pg_rewind needs.

use crate::config_place::ConfigPlace;
use crate::control::OperationControl;
use crate::control_data::{ControlFile, major_version};
use crate::error::{OperationError, Outcome, Tried};
use crate::rewind_marker;
use crate::server::Postgres;
use crate::start::stale_pid_of_another_program;
use pgherd_types::postgres::ControlState;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A server with one of these starts in recovery, which single-user mode refuses.
const SIGNALS: [&str; 2] = ["standby.signal", "recovery.signal"];
/// The first version that has `wal_keep_size`.
const HAS_WAL_KEEP_SIZE: u32 = 13;
/// From this version on `backup_label` only ever belongs to a copy, not to a crashed server.
const BACKUP_LABEL_IS_A_COPY: u32 = 15;

/// Was the server shut down in order?
pub(crate) fn in_order(state: ControlState) -> bool {
    matches!(state, ControlState::ShutDown | ControlState::ShutDownInRecovery)
}

/// Brings a data directory whose server did not end in order to `shut down`.
pub(crate) fn recover(server: &Postgres, control: &OperationControl) -> Outcome<()> {
    let dir = &server.options.data_dir;
    let version = major_version(dir).unwrap_or_default();
    if version >= BACKUP_LABEL_IS_A_COPY && dir.join("backup_label").exists() {
        return Err(OperationError::failed(format!(
            "{} holds a backup_label: it is a copy that was never brought to a consistent state, which pg_rewind cannot \
             work on; start it as a standby, or make the data anew",
            dir.display()
        )));
    }
    let removed = remove_signals(dir)?;
    let ended = run(server, version, control);
    for name in removed {
        server.state.write(&dir.join(name), "")?;
    }
    ended?;
    match ControlFile::read(&server.options).and_then(|file| file.state()).map_err(OperationError::Failed)? {
        ControlState::ShutDown => Ok(()),
        other => {
            Err(OperationError::failed(format!("after recovery in single-user mode the data are still {other:?}")))
        }
    }
}

fn remove_signals(dir: &Path) -> Outcome<Vec<&'static str>> {
    let there: Vec<&str> = SIGNALS.into_iter().filter(|name| dir.join(name).exists()).collect();
    for name in &there {
        fs::remove_file(dir.join(name)).tried(|| format!("remove {name}"))?;
    }
    Ok(there)
}

fn run(server: &Postgres, version: u32, control: &OperationControl) -> Outcome<()> {
    let dir = &server.options.data_dir;
    let mut command = server.options.command("postgres");
    command.arg("--single").arg("-D").arg(dir).arg(ConfigPlace::of(server).main_argument());
    for (name, value) in parameters(dir, version) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command.arg("template1");
    if let Some(stranger) = stale_pid_of_another_program(dir) {
        command.env("PG_GRANDPARENT_PID", stranger.to_string());
    }
    let log: PathBuf = server.state.path().join("single_user.log");
    log::info!("PostgreSQL did not end in order: crash recovery in single-user mode, log in {}", log.display());
    let said = server.options.run_long("postgres", command, &log, control, |pid| rewind_marker::note(server, pid))?;
    match said.success {
        true => Ok(()),
        false => Err(OperationError::failed(format!("crash recovery in single-user mode failed: {}", said.quote()))),
    }
}

/// What the server last ran with, and nothing that archives or removes WAL.
fn parameters(dir: &Path, version: u32) -> BTreeMap<String, String> {
    let mut all = parse(&fs::read_to_string(dir.join("postmaster.opts")).unwrap_or_default());
    let keep = if version >= HAS_WAL_KEEP_SIZE { "wal_keep_size" } else { "wal_keep_segments" };
    for (name, value) in [("archive_command", "false"), (keep, "2147483647")] {
        all.insert(name.to_owned(), value.to_owned());
    }
    all
}

/// The `--name=value` items of `postmaster.opts`, in which every argument stands in double quotes.
fn parse(text: &str) -> BTreeMap<String, String> {
    let Some((_, items)) = text.trim_end().split_once(" \"") else { return BTreeMap::new() };
    let pair = |item: &str| {
        let (name, value) = item.strip_prefix("--")?.split_once('=')?;
        Some((name.replace('-', "_"), value.to_owned()))
    };
    items.trim_end_matches('"').split("\" \"").filter_map(pair).filter(|(name, _)| name != "config_file").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_servers_options_are_understood() {
        let text = "/usr/bin/postgres \"-D\" \"/a b/data\" \"--cluster_name=my demo\" \"--port=5432\" \"-c\" \"x=1\" \"--listen-addresses=*\"\n";
        let wanted = [("cluster_name", "my demo"), ("listen_addresses", "*"), ("port", "5432")];
        let found = parse(text);
        assert_eq!(found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), wanted);
        assert!(parse("").is_empty() && parse("/usr/bin/postgres\n").is_empty());
    }

    #[test]
    fn nothing_is_archived_and_no_wal_removed() {
        let found = parameters(Path::new("/nowhere"), 15);
        assert_eq!((found["archive_command"].as_str(), found["wal_keep_size"].as_str()), ("false", "2147483647"));
        assert!(parameters(Path::new("/nowhere"), 12).contains_key("wal_keep_segments"));
    }
}
