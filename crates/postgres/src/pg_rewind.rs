//! Runs of pg_rewind: first without changing anything, until it has all it needs, then in earnest.

use crate::basebackup::argument;
use crate::config_place::ConfigPlace;
use crate::control::OperationControl;
use crate::control_data::{ControlFile, major_version};
use crate::error::{OperationError, Outcome, Tried};
use crate::programs::{Said, tail};
use crate::rewind_marker;
use crate::rewind_source::Source;
use crate::server::Postgres;
use crate::shell;
use pgherd_types::Lsn;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Options of pg_rewind that are ours to set, or that would make it do something else.
const FORBIDDEN: [&str; 10] = [
    "target-pgdata",
    "source-pgdata",
    "source-server",
    "write-recovery-conf",
    "dry-run",
    "restore-target-wal",
    "config-file",
    "no-ensure-shutdown",
    "version",
    "help",
];
/// The first version whose pg_rewind fetches WAL by `restore_command` itself and can be told not to recover the target.
const FETCHES_WAL: u32 = 13;
/// The first version whose pg_rewind can be told where the configuration is.
const KNOWS_CONFIG_FILE: u32 = 15;
/// A file from a slow archive may take this long.
const FETCH_PATIENCE: Duration = Duration::from_secs(600);
/// Each round fetches one WAL file that was missing.
const ROUNDS_MAX: usize = 1000;
/// What it says when it knows what to do and begins to do it.
const BEGINS: &str = "need to copy ";
const STEP: Duration = Duration::from_millis(10);

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The data are on the source's history already.
    Nothing,
    /// WAL is read from this checkpoint on; `None` if pg_rewind does not say so.
    Rewind(Option<Lsn>),
}

/// How often and with what it is run.
pub(crate) struct PgRewind<'a> {
    server: &'a Postgres,
    source: &'a Source<'a>,
    restore_command: String,
}

impl<'a> PgRewind<'a> {
    /// For a data directory whose configuration files are in place.
    pub fn new(server: &'a Postgres, source: &'a Source<'a>) -> Outcome<Self> {
        let restore_command = shell::setting(server, "restore_command")?.trim().to_owned();
        Ok(Self { server, source, restore_command })
    }

    /// Finds out what is to be done and fetches the WAL that is missing for it: an orderly shutdown may have recycled it.
    pub fn plan(&self, control: &OperationControl) -> Outcome<Plan> {
        let mut fetched: Vec<String> = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let (messages, ended_well) = self.rehearse(control)?;
            if ended_well {
                return Ok(plan(&messages));
            }
            let missing = missing_segment(&messages);
            let Some(name) = missing.filter(|n| !self.restore_command.is_empty() && !fetched.contains(n)) else {
                return Err(self.failed(&messages, ""));
            };
            match self.fetch(&name, control) {
                Ok(()) => fetched.push(name),
                Err(OperationError::Failed(why)) => {
                    return Err(self.failed(&messages, &format!("; restore_command was tried: {why}")));
                }
                Err(other) => return Err(other),
            }
        }
        Err(OperationError::failed(format!("pg_rewind misses WAL still after {ROUNDS_MAX} files were fetched")))
    }

    /// Changes the data.
    pub fn run(&self, control: &OperationControl) -> Outcome<()> {
        log::info!("pg_rewind from {}, log in {}", self.source.name, self.log().display());
        self.server.set_copying(Some(self.log()));
        let said = self.start(&[], control);
        self.server.set_copying(None);
        let said = said?;
        if said.success { Ok(()) } else { Err(self.failed(&said.stderr, "")) }
    }

    fn log(&self) -> std::path::PathBuf {
        self.server.state.path().join("rewind.log")
    }

    fn failed(&self, messages: &str, more: &str) -> OperationError {
        OperationError::failed(format!(
            "pg_rewind from {} failed, its messages are in rewind.log in the state directory: {}{more}",
            self.source.name,
            tail(messages)
        ))
    }

    /// A dry run, ended when it begins to fetch what it would not write. Its messages, and whether it came so far.
    fn rehearse(&self, control: &OperationControl) -> Outcome<(String, bool)> {
        let (own, over) = (OperationControl::new(None), AtomicBool::new(false));
        let log = self.log();
        let _ = fs::remove_file(&log);
        let said = std::thread::scope(|threads| {
            threads.spawn(|| {
                let mut seen = 0;
                while !over.load(Ordering::SeqCst) && control.go_on().is_ok() && !has_begun(&log, &mut seen) {
                    std::thread::sleep(STEP);
                }
                own.cancel();
            });
            let said = self.start(&["--dry-run"], &own);
            over.store(true, Ordering::SeqCst);
            said
        });
        control.go_on()?;
        match said {
            Ok(said) => Ok((said.stderr, said.success)),
            Err(OperationError::Cancelled) => Ok((read(&log), true)),
            Err(other) => Err(other),
        }
    }

    fn start(&self, more: &[&str], control: &OperationControl) -> Outcome<Said> {
        let options = self.server.current();
        let mut command = options.command("pg_rewind");
        command.args(["--progress", "--source-server", &self.source.connection()]);
        command.arg("--target-pgdata").arg(&options.data_dir);
        let (version, place) = (major_version(&options.data_dir).unwrap_or_default(), ConfigPlace::of(self.server));
        if version >= FETCHES_WAL {
            command.arg("--no-ensure-shutdown");
            // It reads restore_command itself, so it must find the file in which it is.
            if !self.restore_command.is_empty() && (place.is_usual() || version >= KNOWS_CONFIG_FILE) {
                command.arg("--restore-target-wal");
            }
        }
        if !place.is_usual() && version >= KNOWS_CONFIG_FILE {
            command.arg(place.main_argument());
        }
        command.args(user_options(&options.rewind_options)).args(more);
        self.source.dress(&mut command);
        options.run_long("pg_rewind", command, &self.log(), control, |pid| rewind_marker::note(self.server, pid))
    }

    /// Fetches one WAL file from the archive as PostgreSQL does: to another name first, and only a whole one counts.
    fn fetch(&self, name: &str, control: &OperationControl) -> Outcome<()> {
        const ARRIVING: &str = "pg_wal/RECOVERYXLOG";
        let data_dir = &self.server.options.data_dir;
        let wanted = segment_bytes(self.server)?;
        let arriving = data_dir.join(ARRIVING);
        let _ = fs::remove_file(&arriving);
        let said = shell::run(self.server, &self.restore_command, ARRIVING, name, FETCH_PATIENCE, control)?;
        if !said.success {
            return Err(OperationError::failed(format!("{name} could not be fetched: {}", said.quote())));
        }
        let found = fs::metadata(&arriving).tried(|| format!("find {name}, which restore_command said to be there"))?;
        if found.len() != wanted {
            return Err(OperationError::failed(format!(
                "{name} has {} bytes in the archive instead of {wanted}",
                found.len()
            )));
        }
        log::info!("WAL file {name} was fetched from the archive");
        let place = data_dir.join("pg_wal").join(name);
        fs::rename(&arriving, &place).tried(|| format!("rename {} to {}", arriving.display(), place.display()))
    }
}

/// The size of a WAL segment of these data.
pub(crate) fn segment_bytes(server: &Postgres) -> Outcome<u64> {
    let file = ControlFile::read(&server.options).map_err(OperationError::Failed)?;
    let text = file.text("Bytes per WAL segment").map_err(OperationError::Failed)?;
    text.parse().tried(|| format!("read the segment size '{text}'"))
}

fn read(log: &Path) -> String {
    fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Looks at what is new in the log, which may be large.
fn has_begun(log: &Path, seen: &mut u64) -> bool {
    let mut text = Vec::new();
    let from = seen.saturating_sub(BEGINS.len() as u64);
    let read =
        File::open(log).and_then(|mut file| file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_end(&mut text)));
    *seen = from + read.unwrap_or(0) as u64;
    String::from_utf8_lossy(&text).contains(BEGINS)
}

/// `rewinding from last common checkpoint at 0/2000060 on timeline 1`.
fn plan(messages: &str) -> Plan {
    if messages.contains("no rewind required") {
        return Plan::Nothing;
    }
    let position = messages.split_once("last common checkpoint at ").and_then(|(_, rest)| rest.split(' ').next());
    Plan::Rewind(position.and_then(|p| p.parse().ok()))
}

/// `could not open file "…/pg_wal/000000010000000000000003": No such file or directory`.
fn missing_segment(messages: &str) -> Option<String> {
    let names = messages.split("could not open file \"").skip(1).filter_map(|rest| {
        let name = rest.split('"').next()?.rsplit_once("/pg_wal/")?.1;
        (name.len() == 24 && name.bytes().all(|b| b.is_ascii_hexdigit())).then(|| name.to_owned())
    });
    names.last()
}

/// The user's options without the forbidden ones.
fn user_options(options: &[(String, Option<String>)]) -> Vec<String> {
    let allowed = |(name, _): &&(String, Option<String>)| {
        let allowed = !FORBIDDEN.contains(&name.as_str());
        if !allowed {
            log::warn!("option {name} of postgresql.rewind is not allowed and ignored");
        }
        allowed
    };
    options.iter().filter(allowed).map(argument).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_segment_is_named_by_its_message() {
        let name = "0000000100000000000000A3";
        let line =
            format!("pg_rewind: error: could not open file \"/data/pg_wal/{name}\": No such file or directory\n");
        assert_eq!(missing_segment(&line), Some(name.to_owned()));
        for other in [
            "pg_rewind: error: could not open file \"/data/pg_wal/00000002.history\": No such file",
            "pg_rewind: error: could not open file \"/data/base/0000000100000000000000A3\": No such file",
            "pg_rewind: fatal: could not find common ancestor",
        ] {
            assert_eq!(missing_segment(other), None, "{other}");
        }
    }

    #[test]
    fn its_words_say_what_is_to_be_done() {
        let text = "pg_rewind: servers diverged at WAL location 0/3000000 on timeline 1\n\
            pg_rewind: rewinding from last common checkpoint at 0/2000060 on timeline 1\nneed to copy 35 MB\n";
        assert_eq!(plan(text), Plan::Rewind(Some(Lsn(0x200_0060))));
        assert_eq!(plan("pg_rewind: no rewind required\n"), Plan::Nothing);
        assert_eq!(plan("something else"), Plan::Rewind(None));
    }

    #[test]
    fn the_begin_is_seen_even_if_it_is_written_in_pieces() {
        let log = std::env::temp_dir().join(format!("pgherd-rewind-log-{}", std::process::id()));
        let mut seen = 0;
        assert!(!has_begun(&log, &mut seen));
        for (text, begun) in
            [("reading\nneed to", false), ("reading\nneed to co", false), ("reading\nneed to copy 3 MB", true)]
        {
            fs::write(&log, text).unwrap();
            assert_eq!(has_begun(&log, &mut seen), begun, "{text}");
        }
        fs::remove_file(&log).unwrap();
    }

    #[test]
    fn forbidden_options_are_dropped() {
        let given = [("debug", None), ("dry-run", None), ("config-file", Some("/x")), ("sync-method", Some("'fsync'"))];
        let given: Vec<_> = given.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).to_vec();
        assert_eq!(user_options(&given), ["--debug", "--sync-method=fsync"]);
    }
}
