//! The server that data are rewound to: how it is reached, and what it says of itself immediately before.
//!
//! It is asked by `psql` through the very settings that pg_rewind gets, because they include everything libpq knows
//! (TLS, certificates, several hosts): an answer proves that pg_rewind will be let in, too. The settings are in a file,
//! because some of them are secret.

use crate::basebackup::service_file;
use crate::control::OperationControl;
use crate::error::{OperationError, Outcome};
use crate::passfile;
use crate::server::Postgres;
use crate::state_dir::write_private;
use crate::timeline_files;
use pgherd_types::{SystemId, Timeline, Upstream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
/// A checkpoint of a large busy server takes minutes.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(900);
/// A new leader makes its checkpoint by itself; that is soon done if it is not large.
const OWN_CHECKPOINT_PATIENCE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(250);
/// How a service file's section is called.
const SERVICE: &str = "rewind";
/// Breaks a connection whose other end is gone; `read-write` picks the primary among several hosts.
const CONNECTION: [(&str, &str); 6] = [
    ("target_session_attrs", "read-write"),
    ("connect_timeout", "5"),
    ("keepalives_idle", "20"),
    ("keepalives_interval", "10"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "60000"),
];

/// One line: it begins with a word that nothing else in the output has. The history file comes last, it has lines.
const QUESTION: &str = "SELECT 'source', pg_is_in_recovery(), s.system_identifier, c.timeline_id,
  CASE WHEN pg_is_in_recovery() THEN 0 ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END,
  EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND rolsuper)
    OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_checkpoint' AND pg_has_role(oid, 'USAGE')),
  CASE WHEN pg_is_in_recovery() THEN '' ELSE encode(COALESCE(pg_read_binary_file(
    'pg_wal/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || '.history', 0, 1000000, true), ''), 'escape') END
FROM pg_control_system() s, pg_control_checkpoint() c";

/// What the source says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    in_recovery: bool,
    system_id: u64,
    control_timeline: u32,
    writing_timeline: u32,
    may_checkpoint: bool,
    ancestors: Vec<Timeline>,
}

impl Answer {
    fn parse(output: &str) -> Option<Self> {
        let begin = output.find("source|")?;
        let mut parts = output[begin..].splitn(7, '|').skip(1);
        Some(Self {
            in_recovery: parts.next()? == "t",
            system_id: parts.next()?.parse().ok()?,
            control_timeline: parts.next()?.parse().ok()?,
            writing_timeline: parts.next()?.parse().ok()?,
            may_checkpoint: parts.next()? == "t",
            ancestors: timeline_files::parse(parts.next()?).iter().map(|row| row.timeline).collect(),
        })
    }
    /// The timeline it writes.
    pub fn timeline(&self) -> u32 {
        self.writing_timeline
    }
    /// Is it the leader's timeline or one that it came from?
    pub fn has_timeline(&self, timeline: Timeline) -> bool {
        timeline.0 == self.writing_timeline || self.ancestors.contains(&timeline)
    }
    /// pg_rewind compares control files: after a promotion that of the source is old until its next checkpoint.
    fn awaits_checkpoint(&self) -> bool {
        self.control_timeline != self.writing_timeline
    }
}

/// The source and the files that say how to reach it; they are removed with this value.
pub(crate) struct Source<'a> {
    server: &'a Postgres,
    purpose: &'static str,
    /// Member, host and port, for messages.
    pub name: String,
    user: String,
    service: PathBuf,
    pgpass: PathBuf,
}

impl Drop for Source<'_> {
    fn drop(&mut self) {
        for file in [&self.service, &self.pgpass] {
            let _ = std::fs::remove_file(file);
        }
    }
}

impl<'a> Source<'a> {
    /// Writes the files.
    pub fn new(server: &'a Postgres, from: &Upstream) -> Outcome<Self> {
        Self::for_purpose(server, from, "rewind")
    }

    /// The same for another purpose, with files of its own: it may be at the same time.
    pub fn for_purpose(server: &'a Postgres, from: &Upstream, purpose: &'static str) -> Outcome<Self> {
        let options = server.current();
        let who = options.rewind.as_ref().unwrap_or(&options.superuser);
        let user = options.user_of(who);
        let file = |kind: &str| server.state.path().join(format!("{kind}.{purpose}"));
        let name = format!("{} ({}:{})", from.member, from.host, from.port);
        let source = Self { server, purpose, name, user, service: file("service"), pgpass: file("pgpass") };
        let text = service_file(SERVICE, from, &source.user, &options.database, who, &CONNECTION);
        write_private(&source.service, &text, options.run_as)?;
        passfile::write(&source.pgpass, &from.host, from.port, &source.user, who, options.run_as)?;
        Ok(source)
    }

    /// What `--source-server` and `--dbname` are to say.
    pub fn connection(&self) -> String {
        format!("service={SERVICE}")
    }

    /// Tells a libpq program where the files are.
    pub fn dress(&self, command: &mut Command) {
        command.env("PGSERVICEFILE", &self.service).env("PGPASSFILE", &self.pgpass);
        command.env("PGOPTIONS", "-c statement_timeout=0 -c search_path=pg_catalog");
    }

    /// Makes sure that it is the primary of our cluster and that pg_rewind will not be deceived by it.
    pub fn ready(&self, own: SystemId, control: &OperationControl) -> Outcome<Answer> {
        let begun = Instant::now();
        let mut ordered = false;
        loop {
            let answer = self.ask(control)?;
            self.check(&answer, own)?;
            if !answer.awaits_checkpoint() {
                return Ok(answer);
            }
            if answer.may_checkpoint && !ordered {
                log::info!("a checkpoint is made on {} before the rewind", self.name);
                self.psql("CHECKPOINT", CHECKPOINT_PATIENCE, control)?;
                ordered = true;
            } else if begun.elapsed() >= OWN_CHECKPOINT_PATIENCE {
                return Err(self.no_checkpoint_yet(&answer));
            } else {
                std::thread::sleep(STEP);
            }
        }
    }

    fn check(&self, answer: &Answer, own: SystemId) -> Outcome<()> {
        if answer.system_id != own.0 {
            return Err(OperationError::failed(format!(
                "{} is another cluster (system identifier {}, here {own}): data cannot be rewound to it",
                self.name, answer.system_id
            )));
        }
        match answer.in_recovery {
            true => Err(OperationError::failed(format!("{} is not a primary, nothing is rewound to it", self.name))),
            false => Ok(()),
        }
    }

    fn no_checkpoint_yet(&self, answer: &Answer) -> OperationError {
        OperationError::failed(format!(
            "waiting for checkpoint on {} before rewind: it writes timeline {}, but its control file still says {}, by \
             which pg_rewind would find nothing to do. The role {} may not run CHECKPOINT there (superuser, or member of \
             pg_checkpoint from version 15 on), so its own next checkpoint is awaited",
            self.name, answer.writing_timeline, answer.control_timeline, self.user
        ))
    }

    fn ask(&self, control: &OperationControl) -> Outcome<Answer> {
        let output = self.psql(QUESTION, PATIENCE, control)?;
        Answer::parse(&output)
            .ok_or_else(|| OperationError::failed(format!("the answer of {} could not be read: {output}", self.name)))
    }

    /// The output of a query, fields separated by `|`.
    pub fn psql(&self, text: &str, patience: Duration, control: &OperationControl) -> Outcome<String> {
        let options = &self.server.options;
        let mut command = options.command("psql");
        command.args(["--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align"]);
        command.args(["--set", "ON_ERROR_STOP=1", "--dbname", &self.connection(), "--command", text]);
        self.dress(&mut command);
        let log = self.server.state.path().join(format!("{}-source.log", self.purpose));
        let said = options.run_within(patience, "psql", command, &log, control, |_| Ok(()));
        let said = match said {
            Err(OperationError::Failed(why)) => {
                Err(OperationError::Failed(format!("could not ask {}: {why}", self.name)))
            }
            other => other,
        }?;
        if said.success {
            return Ok(said.stderr);
        }
        Err(OperationError::failed(format!(
            "could not ask {} as role {} ({}): {}",
            self.name,
            self.user,
            self.purpose,
            said.quote()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_read_with_its_history() {
        let output =
            "WARNING:  x\nsource|f|7300000000000000001|2|5|t|1\t0/3000148\tno recovery\\011target\n2\t0/5000000\tx\n\n";
        let answer = Answer::parse(output).unwrap();
        assert_eq!((answer.control_timeline, answer.writing_timeline, answer.may_checkpoint), (2, 5, true));
        assert!(answer.awaits_checkpoint());
        assert_eq!(
            [1, 2, 3, 4, 5, 6].map(|n| answer.has_timeline(Timeline(n))),
            [true, true, false, false, true, false]
        );
        let first = Answer::parse("source|f|7|1|1|f|\n").unwrap();
        assert!(!first.awaits_checkpoint() && first.has_timeline(Timeline(1)) && !first.has_timeline(Timeline(2)));
        assert_eq!(Answer::parse("source|f|x|1|1|f|\n"), None);
        assert_eq!(Answer::parse(""), None);
    }
}
