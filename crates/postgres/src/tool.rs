//! Programs of the user's that make data directories or prepare a new cluster: a command line that is split as a shell
//! splits it and run without one, in a process group of its own, until it ends or is given up.

use crate::control::OperationControl;
use crate::error::{OperationError, Outcome, Tried};
use crate::interrupted;
use crate::scripts::SERVICE_MANAGERS;
use crate::server::Postgres;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the agent was told and its programs are not.
const NOT_PASSED_ON: [&str; 2] = ["PATRONI_", "PGHERD_"];

/// One run of such a program.
pub(crate) struct Tool<'a> {
    /// What it is, for messages: `create_replica_methods: backrest`.
    pub what: String,
    /// Its command line.
    pub command: &'a str,
    /// Arguments behind it.
    pub arguments: Vec<String>,
    /// Environment.
    pub env: Vec<(&'static str, String)>,
    /// The operation that the marker names.
    pub operation: &'static str,
    /// The name of its log in the state directory.
    pub log: String,
}

impl Tool<'_> {
    /// Runs it; an error quotes the end of what it said.
    pub fn run(self, server: &Postgres, control: &OperationControl) -> Outcome<()> {
        let words = words(self.command).ok_or_else(|| {
            OperationError::failed(format!("{}: the command is empty or a quote in it has no end", self.what))
        })?;
        let Some((program, first)) = words.split_first() else { return Ok(()) };
        let mut command = Command::new(program);
        command.args(first).args(self.arguments).stdin(Stdio::null()).process_group(0);
        for (name, _) in std::env::vars_os() {
            if NOT_PASSED_ON.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        for name in SERVICE_MANAGERS {
            command.env_remove(name);
        }
        command.envs(self.env);
        if let Some((uid, gid)) = server.options.run_as {
            command.uid(uid).gid(gid);
        }
        let log = server.state.path().join(self.log);
        let note = |pid| interrupted::note(server, self.operation, Some(pid));
        let said = server.options.run_long(program, command, &log, control, note)?;
        if said.success {
            return Ok(());
        }
        let quoted = said.quote();
        let said = if quoted.is_empty() { "it said nothing".to_owned() } else { format!("it said: {quoted}") };
        Err(OperationError::failed(format!("{} failed ({program}, see {}); {said}", self.what, log.display())))
    }
}

/// The words of a command line; `None` if it has none, or a quote that does not end.
pub fn words(command: &str) -> Option<Vec<String>> {
    shlex::split(command).filter(|words| !words.is_empty())
}

/// A part of a file's name from any text.
pub(crate) fn file_name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' }).collect()
}

/// Random hexadecimal digits, for a password that is used once.
pub(crate) fn one_time_password() -> Outcome<String> {
    let mut bytes = [0; 24];
    let source = Path::new("/dev/urandom");
    std::fs::File::open(source)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .tried(|| format!("read {}", source.display()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
