//! The marker of an operation that makes a data directory. It is written before and removed after; found at start it
//! says that the copy beside the data directory is worthless and which process may still be writing it.

use crate::aside::remove_tree;
use crate::error::{Outcome, Tried};
use crate::exchange;
use crate::exit_watch::PidFd;
use crate::in_place;
use crate::kill::Killer;
use crate::process::{descendants, start_ticks};
use crate::rewind_marker;
use crate::server::{KILL_PATIENCE, Postgres};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

fn marker(server: &Postgres) -> PathBuf {
    server.state.path().join("operation")
}

/// Writes the marker, before anything is created.
pub(crate) fn begin(server: &Postgres, operation: &str) -> Outcome<()> {
    note(server, operation, None)
}

/// Adds the process that works.
pub(crate) fn note(server: &Postgres, operation: &str, pid: Option<u32>) -> Outcome<()> {
    let pid = pid.and_then(|p| i32::try_from(p).ok());
    let ticks = pid.and_then(start_ticks);
    let text = serde_json::json!({ "operation": operation, "pid": pid, "start_ticks": ticks }).to_string();
    server.state.write(&marker(server), &text)
}

/// Removes the marker, after the copy took the data directory's place.
pub(crate) fn finish(server: &Postgres) -> Outcome<()> {
    let path = marker(server);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).tried(|| format!("remove {}", path.display())),
        _ => Ok(()),
    }
}

/// Ends what an interrupted operation left, brings a begun exchange of directories to its end, and removes an incomplete
/// copy. Data that were whole are whole after it.
pub(crate) fn clear_up(server: &Postgres) -> Outcome<()> {
    clear_up_copy(server)?;
    rewind_marker::clear_up(server)
}

fn clear_up_copy(server: &Postgres) -> Outcome<()> {
    let Ok(text) = fs::read_to_string(marker(server)) else {
        exchange::resume(server)?;
        return in_place::clear_up(server);
    };
    let noted: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    log::warn!(
        "an interrupted operation ({}) is cleared up and will be repeated",
        noted["operation"].as_str().unwrap_or("?")
    );
    let pid = noted["pid"].as_i64().and_then(|p| i32::try_from(p).ok());
    if let Some(pid) = pid.filter(|p| start_ticks(*p).is_some() && start_ticks(*p) == noted["start_ticks"].as_u64()) {
        end(pid);
    }
    exchange::resume(server)?;
    in_place::clear_up(server)?;
    discard_staging(server)?;
    finish(server)
}

/// Ends a program and everything it has started.
pub(crate) fn end(pid: i32) {
    let all = descendants(pid).into_iter().chain([pid]);
    let fds: Vec<PidFd> = all.filter_map(|p| PidFd::open(p).ok()).collect();
    for fd in &fds {
        let _ = fd.signal(Signal::KILL);
    }
    if let Some(group) = Pid::from_raw(pid) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    for fd in &fds {
        fd.wait(Duration::from_secs(10));
    }
}

/// Kills what runs in the copy and removes it.
pub(crate) fn discard_staging(server: &Postgres) -> Outcome<()> {
    let staging = server.staging();
    Killer::new(&staging).kill_all(KILL_PATIENCE).tried(|| "end an interrupted server".to_owned())?;
    remove_tree(&staging)
}
