//! What the data directory is: `pg_controldata`, `PG_VERSION` and the signal files.

use crate::in_place;
use crate::options::PostgresOptions;
use crate::programs::Said;
use crate::rewind_marker;
use pgherd_types::postgres::ControlState;
use pgherd_types::{ControlData, DataDirectory, Lsn, SystemId, Timeline};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// `pg_controldata` reads one small file.
const PATIENCE: Duration = Duration::from_secs(10);
/// Older servers have `recovery.conf`, which is not supported.
const OLDEST_MAJOR_VERSION: u32 = 12;

/// Everything `pg_controldata` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ControlFile(BTreeMap<String, String>);

impl ControlFile {
    /// Runs `pg_controldata`.
    pub fn read(options: &PostgresOptions) -> Result<Self, String> {
        Self::read_at(options, &options.data_dir)
    }
    pub fn read_at(options: &PostgresOptions, data_dir: &Path) -> Result<Self, String> {
        let said = options.run_short("pg_controldata", |c| _ = c.arg(data_dir), PATIENCE).map_err(|e| e.to_string())?;
        if !said.success {
            return Err(format!("pg_controldata failed: {}", said.quote()));
        }
        Ok(Self::parse(&said))
    }
    fn parse(said: &Said) -> Self {
        let pair = |line: &str| {
            let (key, value) = line.split_once(':')?;
            let key = key.trim();
            Some((key.strip_prefix("Current ").unwrap_or(key).to_owned(), value.trim().to_owned()))
        };
        Self(said.stdout.lines().filter_map(pair).collect())
    }
    /// A value by its label.
    pub fn text(&self, key: &str) -> Result<&str, String> {
        self.0.get(key).map(String::as_str).ok_or_else(|| format!("pg_controldata does not say '{key}'"))
    }
    /// A primary that ended in order.
    pub fn was_shut_down(&self) -> bool {
        self.state() == Ok(ControlState::ShutDown)
    }
    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T, String> {
        let text = self.text(key)?;
        text.parse().map_err(|_| format!("pg_controldata says '{key}: {text}', which is not a number"))
    }
    fn lsn(&self, key: &str) -> Result<Lsn, String> {
        let text = self.text(key)?;
        text.parse().map_err(|_| format!("pg_controldata says '{key}: {text}', which is not a WAL position"))
    }
    /// `Database cluster state`.
    pub fn state(&self) -> Result<ControlState, String> {
        Ok(match self.text("Database cluster state")? {
            "starting up" => ControlState::StartingUp,
            "shut down" => ControlState::ShutDown,
            "shut down in recovery" => ControlState::ShutDownInRecovery,
            "shutting down" => ControlState::ShuttingDown,
            "in crash recovery" => ControlState::InCrashRecovery,
            "in archive recovery" => ControlState::InArchiveRecovery,
            "in production" => ControlState::InProduction,
            other => return Err(format!("pg_controldata says 'Database cluster state: {other}', which is not known")),
        })
    }
    fn control_data(&self, data_dir: &Path, major_version: u32) -> Result<ControlData, String> {
        Ok(ControlData {
            system_id: SystemId(self.number("Database system identifier")?),
            state: self.state()?,
            checkpoint_lsn: self.lsn("Latest checkpoint location")?,
            checkpoint_timeline: Timeline(self.number("Latest checkpoint's TimeLineID")?),
            min_recovery_lsn: self.lsn("Minimum recovery ending location")?,
            min_recovery_timeline: Timeline(self.number("Min recovery ending loc's timeline")?),
            standby_signal: has_signal_file(data_dir),
            wal_end: None,
            major_version,
            rewindable: self.text("wal_log_hints setting")? == "on"
                || self.number::<u32>("Data page checksum version")? != 0,
            rewind_interrupted: false,
        })
    }
}

/// `standby.signal` or `recovery.signal` exists.
pub(crate) fn has_signal_file(data_dir: &Path) -> bool {
    ["standby.signal", "recovery.signal"].iter().any(|name| data_dir.join(name).exists())
}

/// `PG_VERSION`.
pub(crate) fn major_version(data_dir: &Path) -> Option<u32> {
    fs::read_to_string(data_dir.join("PG_VERSION")).ok()?.trim().parse().ok()
}

/// Looks at the data directory.
pub fn look_at_data_directory(options: &PostgresOptions) -> DataDirectory {
    look_with(options, || ControlFile::read(options))
}

/// The same, with another way to read the control file.
pub(crate) fn look_with(
    options: &PostgresOptions,
    read: impl FnOnce() -> Result<ControlFile, String>,
) -> DataDirectory {
    let data_dir = &options.data_dir;
    if in_place::is_incomplete(data_dir) {
        return DataDirectory::Empty;
    }
    match is_empty(data_dir) {
        Ok(true) => return DataDirectory::Empty,
        Ok(false) => {}
        Err(e) => {
            return DataDirectory::Unusable(format!("data directory is not accessible: {}: {e}", data_dir.display()));
        }
    }
    match present(options, read) {
        Ok(control) => DataDirectory::Present(control),
        Err(why) => DataDirectory::Unusable(format!("{}: {why}", data_dir.display())),
    }
}

fn present(
    options: &PostgresOptions,
    read: impl FnOnce() -> Result<ControlFile, String>,
) -> Result<ControlData, String> {
    let Some(version) = major_version(&options.data_dir) else {
        return Err("holds files but no PG_VERSION; it is not a PostgreSQL data directory, move it away".to_owned());
    };
    if version < OLDEST_MAJOR_VERSION {
        return Err(format!("PostgreSQL {version} is not supported, at least {OLDEST_MAJOR_VERSION} is needed"));
    }
    let control = read()?.control_data(&options.data_dir, version)?;
    Ok(ControlData { rewind_interrupted: rewind_marker::forbids_start(options), ..control })
}

/// Missing, or holding only hidden entries and `lost+found` (spec/bootstrap-and-replicas.md 1).
pub(crate) fn is_empty(data_dir: &Path) -> std::io::Result<bool> {
    let entries = match fs::read_dir(data_dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && name != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Database system identifier:           7300000000000000001\nDatabase cluster state:               in production\n\
        Latest checkpoint location:           0/15D6F28\nLatest checkpoint's TimeLineID:       3\n\
        Minimum recovery ending location:     0/0\nMin recovery ending loc's timeline:   0\nCurrent wal_level setting: replica\n\
        Current wal_log_hints setting:        off\nData page checksum version:           0\n";

    fn file(text: &str) -> ControlFile {
        ControlFile::parse(&Said { success: true, stdout: text.to_owned(), stderr: String::new() })
    }

    #[test]
    fn labels_become_fields() {
        let data = file(SAID).control_data(Path::new("/nonexistent"), 15).unwrap();
        assert_eq!(data.system_id, SystemId(7_300_000_000_000_000_001));
        assert_eq!((data.state, data.checkpoint_timeline), (ControlState::InProduction, Timeline(3)));
        assert_eq!(data.checkpoint_lsn.to_string(), "0/15D6F28");
        assert_eq!(file(SAID).text("wal_level setting"), Ok("replica"));
        assert!(!data.rewindable && !data.rewind_interrupted);
        for (off, on) in [("hints setting:        off", "hints setting: on"), ("version:           0", "version: 1")] {
            assert!(file(&SAID.replace(off, on)).control_data(Path::new("/nonexistent"), 15).unwrap().rewindable);
        }
    }

    #[test]
    fn unknown_states_and_missing_labels_are_errors() {
        let odd = SAID.replace("in production", "dreaming");
        assert!(file(&odd).control_data(Path::new("/x"), 15).unwrap_err().contains("dreaming"));
        assert!(file("").control_data(Path::new("/x"), 15).is_err());
    }
}
