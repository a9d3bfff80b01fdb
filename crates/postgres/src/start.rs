//! Starting the server: as a process in a session of its own, which outlives the agent.

use crate::access_files;
use crate::config_backup;
use crate::config_files::{self, Recovery};
use crate::config_place::ConfigPlace;
use crate::control::OperationControl;
use crate::control_data::{self, ControlFile};
use crate::error::{OperationError, Outcome, Tried};
use crate::exit_watch::PidFd;
use crate::flush;
use crate::hot_standby;
use crate::process::{PidFileStatus, find_postmaster, start_ticks};
use crate::programs::tail;
use crate::ready_wal;
use crate::rewind_marker;
use crate::role_overlay::RoleClass;
use crate::server::Postgres;
use crate::slots;
use crate::state_dir::give_to;
use crate::timeline_files;
use pgherd_types::Upstream;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How often readiness is looked for.
pub(crate) const STEP: Duration = Duration::from_millis(15);
/// How much of the server's log an error quotes.
const LOG_QUOTED_BYTES: u64 = 1500;

/// A server program that was spawned, and where its log began.
pub(crate) struct Spawned {
    pid: i32,
    exit: PidFd,
    log_from: u64,
}

/// Starts as primary on the present timeline and waits until it accepts connections. It may take as long as crash
/// recovery takes; when the operation is cancelled or its fence passes, the server is ended.
pub fn start_primary(server: &Postgres, control: &OperationControl) -> Outcome<()> {
    server.require_stopped()?;
    rewind_marker::require_whole(server)?;
    let dir = &server.options.data_dir;
    timeline_files::forget_unused(dir)?;
    config_files::clean_auto_conf(server, dir)?;
    config_files::write(server, Recovery::Primary)?;
    control.may_become_writable()?;
    config_files::set_standby_signal(server, dir, false)?;
    let parameters = server.config().controlled;
    control.may_become_writable()?;
    let spawned = spawn(server, dir, &parameters, &[])?;
    let ready = wait_until_ready(server, dir, &spawned, None, || control.may_be_writable());
    after_start(server, &ready);
    if matches!(ready, Err(OperationError::Cancelled | OperationError::TooLate)) {
        server.end_now()?;
    }
    ready
}

/// Starts as a standby of the upstream or of nobody and waits until it accepts connections, but not longer than the
/// configured time: a standby that has much to replay goes on starting.
pub fn start_replica(server: &Postgres, upstream: Option<&Upstream>, control: &OperationControl) -> Outcome<()> {
    server.require_stopped()?;
    rewind_marker::require_whole(server)?;
    control.go_on()?;
    let dir = &server.options.data_dir;
    timeline_files::forget_unused(dir)?;
    config_files::clean_auto_conf(server, dir)?;
    if leads_standby_cluster_from_now_on(server, upstream) {
        ready_wal::archive_last(server, control)?;
    }
    config_files::set_standby_signal(server, dir, true)?;
    config_files::write(server, Recovery::Standby(upstream))?;
    let parameters = standby_parameters(server)?;
    let more = flush::first_start(server, control_data::major_version(dir));
    let spawned = spawn(server, dir, &parameters, more)?;
    let ready = wait_until_ready(server, dir, &spawned, Some(server.current().ctl_timeout), || control.go_on());
    after_start(server, &ready);
    if ready == Err(OperationError::Cancelled) {
        server.end_now()?;
    }
    ready
}

/// A primary that was shut down in order begins to follow the primary of another cluster.
fn leads_standby_cluster_from_now_on(server: &Postgres, upstream: Option<&Upstream>) -> bool {
    let config = server.config();
    let follows_remote = config.standby_cluster.as_ref().is_some_and(|section| match upstream {
        Some(upstream) => section.is_remote(&upstream.host, upstream.port),
        None => section.remote.host.is_none(),
    });
    let was_primary = !control_data::has_signal_file(&server.options.data_dir);
    follows_remote && was_primary && ControlFile::read(&server.options).is_ok_and(|file| file.was_shut_down())
}

/// The controlled parameters, raised to what the primary had where PostgreSQL demands it.
fn standby_parameters(server: &Postgres) -> Outcome<BTreeMap<String, String>> {
    let raised = hot_standby::raise(server, RoleClass::Replica, server.config().controlled)?;
    raised.told.iter().for_each(|told| log::warn!("{told}"));
    Ok(raised.parameters)
}

/// Spawns the server program: no pipe to us, working directory already the data directory, session of its own.
pub(crate) fn spawn(
    server: &Postgres,
    dir: &Path,
    parameters: &BTreeMap<String, String>,
    more: &[(&str, &str)],
) -> Outcome<Spawned> {
    server.wal_end.forget();
    server.standby_names.settled(); // its processes read the files when they begin
    make_socket_directories(server, dir)?;
    let log = server.state.open_log()?;
    let log_from = log.metadata().map(|m| m.len()).unwrap_or(0);
    let copy = log.try_clone().tried(|| "duplicate the log file".to_owned())?;
    let mut command = server.options.dressed(Command::new("setsid"));
    command.arg(server.options.program("postgres")).arg("-D").arg(dir);
    command.arg(ConfigPlace::within(server, dir).main_argument());
    let old = control_data::major_version(dir).is_some_and(|v| v < 13);
    let more = more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let mut all: BTreeMap<String, String> = parameters.clone().into_iter().chain(more).collect();
    slots::demand::raise(dir, &mut all).iter().for_each(|told| log::warn!("{told}"));
    for (name, value) in all.iter().filter(|(name, _)| !(old && name.as_str() == "wal_keep_size")) {
        command.arg(format!("--{name}={value}"));
    }
    if let Some(stranger) = stale_pid_of_another_program(dir) {
        command.env("PG_GRANDPARENT_PID", stranger.to_string());
    }
    let mut child = command
        .stdout(log)
        .stderr(copy)
        .current_dir(dir)
        .spawn()
        .tried(|| "spawn postgres through setsid (util-linux)".to_owned())?;
    let pid = i32::try_from(child.id()).unwrap_or(-1);
    let exit = PidFd::open(pid).tried(|| "watch postgres".to_owned());
    // Reaped by a thread, so that it never stays a zombie while we live.
    let reaper = std::thread::Builder::new().name("reaper".to_owned()).stack_size(256 << 10);
    reaper.spawn(move || drop(child.wait())).tried(|| "start a thread".to_owned())?;
    Ok(Spawned { pid, exit: exit?, log_from })
}

/// PostgreSQL does not make them.
fn make_socket_directories(server: &Postgres, dir: &Path) -> Outcome<()> {
    let config = server.config();
    let wanted = config.parameters.get("unix_socket_directories").map(String::as_str).unwrap_or_default();
    for path in wanted.split(',').map(str::trim).filter(|d| !d.is_empty() && !d.starts_with('@')) {
        let path = dir.join(path);
        if !path.exists() {
            fs::create_dir_all(&path).tried(|| format!("create the socket directory {}", path.display()))?;
            give_to(&path, server.options.run_as)?;
        }
    }
    Ok(())
}

/// `postmaster.pid` left by a dead server may name a number that another program has now; PostgreSQL then refuses to
/// start unless it is told that this is no server.
pub(crate) fn stale_pid_of_another_program(dir: &Path) -> Option<i32> {
    let text = fs::read_to_string(dir.join("postmaster.pid")).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    start_ticks(pid.abs()).map(|_| pid.abs())
}

/// Files that a server ran well with are kept, those that it did not start with are put back.
fn after_start(server: &Postgres, ready: &Outcome<()>) {
    match ready {
        Ok(()) => config_backup::keep(server),
        Err(OperationError::Failed(why)) => access_files::put_back_after_failed_start(server, why),
        Err(OperationError::Cancelled | OperationError::TooLate) => {}
    }
}

/// Waits for `ready` or `standby` in `postmaster.pid`, or for the exit. Without `patience` as long as `go_on` agrees;
/// at its end a living server counts as started.
pub(crate) fn wait_until_ready(
    server: &Postgres,
    dir: &Path,
    spawned: &Spawned,
    patience: Option<Duration>,
    go_on: impl Fn() -> Outcome<()>,
) -> Outcome<()> {
    wait_for(server, dir, spawned, &[PidFileStatus::Ready, PidFileStatus::Standby], patience, go_on)
}

/// The same for other states.
pub(crate) fn wait_for(
    server: &Postgres,
    dir: &Path,
    spawned: &Spawned,
    wanted: &[PidFileStatus],
    patience: Option<Duration>,
    go_on: impl Fn() -> Outcome<()>,
) -> Outcome<()> {
    let begun = Instant::now();
    loop {
        let ready = find_postmaster(dir).filter(|p| p.pid == spawned.pid);
        if ready.is_some_and(|p| wanted.contains(&p.status)) {
            return Ok(());
        }
        go_on()?;
        if spawned.exit.wait(STEP) {
            return Err(OperationError::failed(format!(
                "PostgreSQL ended while it started; its log says: {}",
                log_since(server, spawned.log_from)
            )));
        }
        if patience.is_some_and(|p| begun.elapsed() >= p) {
            return Ok(());
        }
    }
}

fn log_since(server: &Postgres, from: u64) -> String {
    let read = || -> std::io::Result<String> {
        let file = fs::File::open(server.state.log_path())?;
        let end = file.metadata()?.len();
        let from = from.max(end.saturating_sub(LOG_QUOTED_BYTES));
        let mut text = vec![0; usize::try_from(end.saturating_sub(from)).unwrap_or(0)];
        file.read_exact_at(&mut text, from)?;
        Ok(tail(&String::from_utf8_lossy(&text)))
    };
    read().unwrap_or_default()
}
