//! Running PostgreSQL's programs: with a clean environment, as the right user, with a deadline.

use crate::control::OperationControl;
use crate::error::{OperationError, Outcome, Tried};
use crate::exit_watch::PidFd;
use crate::options::PostgresOptions;
use crate::scripts;
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How much of a program's messages an error quotes.
const QUOTED_BYTES: usize = 1000;
/// How often a waiting operation looks whether it was cancelled.
const STEP: Duration = Duration::from_millis(20);

/// What a program that has ended said.
pub(crate) struct Said {
    /// Exit code 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// The end of the messages, for an error text.
    pub fn quote(&self) -> String {
        tail(if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr })
    }
}

/// The last part of a text, from the beginning of a line if there is one.
pub(crate) fn tail(text: &str) -> String {
    let text = text.trim();
    let mut from = text.len().saturating_sub(QUOTED_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let part = &text[from..];
    let whole = part.split_once('\n').filter(|_| from > 0).map_or(part, |(_, lines)| lines);
    whole.to_owned()
}

impl PostgresOptions {
    /// The path of one of PostgreSQL's programs.
    pub fn program(&self, tool: &str) -> PathBuf {
        let name = self.bin_name.get(tool).map_or(tool, String::as_str);
        self.bin_dir.as_ref().map_or_else(|| PathBuf::from(name), |dir| dir.join(name))
    }

    /// A command for one of PostgreSQL's programs.
    pub(crate) fn command(&self, tool: &str) -> Command {
        self.dressed(Command::new(self.program(tool)))
    }

    /// Standard input closed, messages in English, nothing of ours in the environment, the server's user.
    pub(crate) fn dressed(&self, mut command: Command) -> Command {
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy().into_owned();
            let ours = ["PATRONI_", "PGHERD_", "KUBERNETES_"].iter().any(|p| name.starts_with(p));
            // libpq and the server would take these for options.
            let theirs = name.starts_with("PG") && !name.starts_with("PG_OOM_ADJUST_") && name != "PG_MALLOC_ARENA_MAX";
            if ours || theirs || scripts::SERVICE_MANAGERS.contains(&name.as_str()) {
                command.env_remove(&key);
            }
        }
        if let Some(value) = std::env::var_os("PG_MALLOC_ARENA_MAX") {
            command.env_remove("PG_MALLOC_ARENA_MAX").env("MALLOC_ARENA_MAX", value);
        }
        if let Some(service) = &self.krbsrvname {
            command.env("PGKRBSRVNAME", service);
        }
        command.stdin(Stdio::null()).current_dir("/");
        if let Some((uid, gid)) = self.run_as {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Runs a short program whose output is wanted.
    pub(crate) fn run_short(
        &self,
        tool: &str,
        arrange: impl FnOnce(&mut Command),
        patience: Duration,
    ) -> Outcome<Said> {
        let mut command = self.command(tool);
        command.env("LANG", "C").env("LC_ALL", "C").stdout(Stdio::piped()).stderr(Stdio::piped());
        arrange(&mut command);
        let mut child = command.spawn().tried(|| format!("run {tool} (is postgresql.bin_dir right?)"))?;
        let read_out = reader(child.stdout.take());
        let read_err = reader(child.stderr.take());
        let ended = wait_or_kill(&mut child, patience, None);
        let (stdout, stderr) = (joined(read_out), joined(read_err));
        Ok(Said { success: ended?.success(), stdout, stderr })
    }

    /// Runs a long program whose messages go to a file, until it ends or the operation is cancelled.
    pub(crate) fn run_long(
        &self,
        tool: &str,
        command: Command,
        log: &Path,
        control: &OperationControl,
        started: impl FnOnce(u32) -> Outcome<()>,
    ) -> Outcome<Said> {
        self.run_within(Duration::MAX, tool, command, log, control, started)
    }

    /// The same, but not longer than this.
    pub(crate) fn run_within(
        &self,
        patience: Duration,
        tool: &str,
        mut command: Command,
        log: &Path,
        control: &OperationControl,
        started: impl FnOnce(u32) -> Outcome<()>,
    ) -> Outcome<Said> {
        let file = File::create(log).tried(|| format!("create {}", log.display()))?;
        let copy = file.try_clone().tried(|| "duplicate a file".to_owned())?;
        command.env("LANG", "C").env("LC_ALL", "C").stdout(file).stderr(copy);
        let mut child = command.spawn().tried(|| format!("run {tool} (is postgresql.bin_dir right?)"))?;
        let noted = started(child.id());
        if noted.is_err() {
            control.cancel();
        }
        let ended = wait_or_kill(&mut child, patience, Some(control));
        noted?;
        let stderr = fs::read(log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        Ok(Said { success: ended?.success(), stdout: String::new(), stderr })
    }
}

/// Reads all that a program says and keeps the end of it.
fn reader(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    const KEPT_BYTES: usize = 1 << 20;
    std::thread::spawn(move || {
        let (mut kept, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
        let Some(mut pipe) = pipe else { return String::new() };
        while let Ok(n @ 1..) = pipe.read(&mut chunk) {
            kept.extend_from_slice(&chunk[..n]);
            if kept.len() > 2 * KEPT_BYTES {
                kept.drain(..kept.len() - KEPT_BYTES);
            }
        }
        String::from_utf8_lossy(&kept).into_owned()
    })
}

fn joined(thread: std::thread::JoinHandle<String>) -> String {
    thread.join().unwrap_or_default()
}

fn wait_or_kill(
    child: &mut Child,
    patience: Duration,
    control: Option<&OperationControl>,
) -> Outcome<std::process::ExitStatus> {
    let fd = PidFd::open(i32::try_from(child.id()).unwrap_or(-1)).tried(|| "watch a program".to_owned())?;
    let begun = Instant::now();
    loop {
        let step = if control.is_some() { STEP } else { patience };
        if fd.wait(step) {
            return child.wait().tried(|| "wait for a program".to_owned());
        }
        let cancelled = control.is_some_and(|c| c.go_on().is_err());
        if cancelled || begun.elapsed() >= patience {
            kill_with_children(child, &fd);
            return Err(if cancelled {
                OperationError::Cancelled
            } else {
                OperationError::failed(format!("a program did not end within {} s and was killed", patience.as_secs()))
            });
        }
    }
}

/// Programs such as pg_basebackup have helpers, which would go on without them.
fn kill_with_children(child: &mut Child, fd: &PidFd) {
    let helpers = crate::process::descendants(i32::try_from(child.id()).unwrap_or(-1));
    let helpers: Vec<PidFd> = helpers.into_iter().filter_map(|pid| PidFd::open(pid).ok()).collect();
    let _ = fd.signal(Signal::KILL);
    // If it has a group of its own, whoever lost its parent is still in that.
    if let Some(group) = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    for helper in &helpers {
        let _ = helper.signal(Signal::KILL);
    }
    let _ = child.wait();
}
