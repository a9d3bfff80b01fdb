//! Running the user's scripts: with the agent's environment, what they print on the agent's standard error, and an end
//! for certain: a script that takes too long, or that nobody wants any more, is killed with all that it started.

use crate::control::OperationControl;
use crate::error::{OperationError, Outcome};
use crate::exit_watch::PidFd;
use crate::options::PostgresOptions;
use crate::process::descendants;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How often a running script is compared with what is wanted.
const STEP: Duration = Duration::from_millis(50);
/// Descendants are listed again until no new ones are found, but not for ever.
const LISTS_MAX: usize = 20;
/// How long `before_stop` may hold up a stop.
const BEFORE_STOP_PATIENCE: Duration = Duration::from_secs(30);
/// What the service manager tells the agent and nobody else.
pub(crate) const SERVICE_MANAGERS: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// How a script ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ScriptEnd {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal, which did not come from here.
    Signalled(i32),
    /// It could not be started, or not be watched; the text says why.
    NotStarted(String),
    /// It was killed after this time.
    TimedOut(Duration),
    /// It was killed because it was not to go on.
    GivenUp,
}

impl fmt::Display for ScriptEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "ended with exit code {code}"),
            Self::Signalled(signal) => write!(f, "was ended by signal {signal}"),
            Self::NotStarted(why) => write!(f, "could not be run: {why}"),
            Self::TimedOut(limit) => write!(f, "did not end within {} s and was killed", limit.as_secs()),
            Self::GivenUp => f.write_str("was killed because it is not wanted any more"),
        }
    }
}

/// Runs a script to its end, but not longer than `patience`, and only as long as `go_on` agrees. Blocks.
pub fn run_script(
    options: &PostgresOptions,
    command: &[String],
    arrange: impl FnOnce(&mut Command),
    patience: Duration,
    go_on: impl Fn() -> bool,
) -> ScriptEnd {
    let Some((program, arguments)) = command.split_first() else {
        return ScriptEnd::NotStarted("its command is empty".to_owned());
    };
    let mut script = Command::new(program);
    script.args(arguments).stdin(Stdio::null()).stdout(log_stream()).stderr(log_stream()).process_group(0);
    for name in SERVICE_MANAGERS {
        script.env_remove(name);
    }
    if let Some((uid, gid)) = options.run_as {
        script.uid(uid).gid(gid);
    }
    arrange(&mut script);
    let not_started = |what: &str, e: &dyn fmt::Display| ScriptEnd::NotStarted(format!("{what} {program}: {e}"));
    let mut child = match script.spawn() {
        Ok(child) => child,
        Err(e) => return not_started("cannot start", &e),
    };
    let exit = match PidFd::open(pid_of(&child)) {
        Ok(exit) => exit,
        Err(e) => {
            let _ = child.kill().and_then(|()| child.wait());
            return not_started("cannot watch", &e);
        }
    };
    let given_up = wait(&exit, patience, go_on);
    if given_up.is_some() {
        kill_with_descendants(&child, &exit);
    }
    match (child.wait(), given_up) {
        (_, Some(end)) => end,
        (Ok(status), None) => {
            status.code().map_or_else(|| ScriptEnd::Signalled(status.signal().unwrap_or(0)), ScriptEnd::Exited)
        }
        (Err(e), None) => not_started("cannot wait for", &e),
    }
}

/// `None` once it has ended by itself.
fn wait(exit: &PidFd, patience: Duration, go_on: impl Fn() -> bool) -> Option<ScriptEnd> {
    let begun = Instant::now();
    loop {
        if exit.wait(STEP.min(patience.saturating_sub(begun.elapsed()))) {
            return None;
        }
        if !go_on() {
            return Some(ScriptEnd::GivenUp);
        }
        if begun.elapsed() >= patience {
            return Some(ScriptEnd::TimedOut(patience));
        }
    }
}

/// The agent's standard error is where its log goes. No pipe: a script may leave something behind that outlives us.
fn log_stream() -> Stdio {
    std::io::stderr().as_fd().try_clone_to_owned().map_or_else(|_| Stdio::null(), Stdio::from)
}

fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap_or(-1)
}

/// All are stopped before any is killed, so that none can start another while the list is read. A process that dies
/// under a stopped parent keeps its number.
fn kill_with_descendants(child: &Child, exit: &PidFd) {
    let root = pid_of(child);
    let mut found: BTreeMap<i32, PidFd> = BTreeMap::new();
    let _ = exit.signal(Signal::STOP);
    for _ in 0..LISTS_MAX {
        let new = descendants(root).into_iter().filter(|pid| !found.contains_key(pid));
        let new: Vec<(i32, PidFd)> = new.filter_map(|pid| Some((pid, PidFd::open(pid).ok()?))).collect();
        if new.is_empty() {
            break;
        }
        for (_, fd) in &new {
            let _ = fd.signal(Signal::STOP);
        }
        found.extend(new);
    }
    for fd in found.values().chain([exit]) {
        let _ = fd.signal(Signal::KILL);
    }
    // whoever lost its parent is not in the list, but perhaps still in the group
    if let Some(group) = Pid::from_raw(root) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// `pre_promote`: PostgreSQL is promoted only if it ends well and in time.
pub(crate) fn pre_promote(
    options: &PostgresOptions,
    command: &[String],
    patience: Duration,
    control: &OperationControl,
) -> Outcome<()> {
    let Some(program) = command.first() else { return Ok(()) };
    log::info!("running the pre_promote script {program}");
    match run_script(options, command, |_| {}, patience, || control.may_be_writable().is_ok()) {
        ScriptEnd::Exited(0) => Ok(()),
        ScriptEnd::GivenUp => control.may_be_writable(),
        end => Err(OperationError::failed(format!(
            "{} script {program} {end}: this node is not promoted",
            pgherd_types::PRE_PROMOTE
        ))),
    }
}

/// `before_stop`: whatever comes of it, PostgreSQL is stopped.
pub(crate) fn before_stop(options: &PostgresOptions, command: &[String], control: &OperationControl) {
    let Some(program) = command.first() else { return };
    log::info!("running the before_stop script {program}");
    match run_script(options, command, |_| {}, BEFORE_STOP_PATIENCE, || control.hurries() == 0) {
        ScriptEnd::Exited(0) => {}
        end => log::warn!("before_stop script {program} {end}; PostgreSQL is stopped all the same"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn options() -> PostgresOptions {
        PostgresOptions::new("a".into(), "s", Path::new("/nowhere"))
    }

    fn run(text: &str, patience_ms: u64, go_on: bool) -> ScriptEnd {
        let command: Vec<String> = ["sh", "-c", text].map(str::to_owned).to_vec();
        run_script(&options(), &command, |_| {}, Duration::from_millis(patience_ms), || go_on)
    }

    #[test]
    fn its_end_is_told() {
        assert_eq!(run("exit 0", 30_000, true), ScriptEnd::Exited(0));
        assert_eq!(run("exit 3", 30_000, true), ScriptEnd::Exited(3));
        assert_eq!(run("kill -TERM $$", 30_000, true), ScriptEnd::Signalled(15));
        let missing = run_script(&options(), &["/no/such/script".to_owned()], |_| {}, Duration::from_secs(30), || true);
        assert!(matches!(&missing, ScriptEnd::NotStarted(why) if why.contains("/no/such/script")), "{missing}");
        assert!(matches!(run_script(&options(), &[], |_| {}, Duration::ZERO, || true), ScriptEnd::NotStarted(_)));
    }

    #[test]
    fn one_that_hangs_or_is_not_wanted_is_killed_with_its_descendants() {
        let file = std::env::temp_dir().join(format!("pgherd-script-{}", std::process::id()));
        for (patience_ms, go_on) in [(5_000, true), (60_000, false)] {
            // a grandchild whose parent is gone, and a child
            let text = format!(
                "(sleep 1000 & echo $! > {0}.new; mv {0}.new {0}) & wait; while :; do sleep 1000; done",
                file.display()
            );
            let command: Vec<String> = ["sh", "-c", &text].map(str::to_owned).to_vec();
            let end = run_script(
                &options(),
                &command,
                |_| {},
                Duration::from_millis(patience_ms),
                || go_on || !file.exists(),
            );
            let expected = if go_on { ScriptEnd::TimedOut(Duration::from_secs(5)) } else { ScriptEnd::GivenUp };
            assert_eq!(end, expected);
            let grandchild: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
            let gone = Instant::now() + Duration::from_secs(30);
            while crate::process::start_ticks(grandchild).is_some() {
                assert!(Instant::now() < gone, "the grandchild lives on");
                std::thread::yield_now();
            }
            std::fs::remove_file(&file).unwrap();
        }
    }

    #[test]
    fn pre_promote_refuses_with_its_reason_and_before_stop_never_does() {
        let later = pgherd_clock::boottime() + Duration::from_secs(3600);
        let control = || OperationControl::new(Some(later));
        let script = |text: &str| ["sh", "-c", text].map(str::to_owned).to_vec();
        let pre_promote = |text: &str, patience: Duration, control: &OperationControl| {
            pre_promote(&options(), &script(text), patience, control)
        };
        let minute = Duration::from_secs(60);
        assert_eq!(super::pre_promote(&options(), &[], minute, &control()), Ok(()));
        assert_eq!(pre_promote("exit 0", minute, &control()), Ok(()));
        let refused = pre_promote("exit 7", minute, &control()).unwrap_err().to_string();
        assert_eq!(refused, "pre_promote script sh ended with exit code 7: this node is not promoted");
        let hung = pre_promote("sleep 1000", Duration::ZERO, &control()).unwrap_err().to_string();
        assert!(hung.starts_with("pre_promote script sh did not end within 0 s"), "{hung}");
        let cancelled = control();
        cancelled.cancel();
        assert_eq!(pre_promote("sleep 1000", minute, &cancelled), Err(OperationError::Cancelled));
        let late = OperationControl::new(Some(pgherd_clock::boottime()));
        assert_eq!(pre_promote("sleep 1000", minute, &late), Err(OperationError::TooLate));

        before_stop(&options(), &script("exit 7"), &control());
        let hurried = control();
        hurried.hurry();
        before_stop(&options(), &script("sleep 1000"), &hurried);
    }
}
