//! Where guard and agent meet: a socket and a lock in the state directory. The socket is reached through an open
//! directory, because a socket's path may have no more than 107 bytes and a data directory's often has.

use crate::message::{Request, VERSION, request};
use pgherd_postgres::{PidFd, state_dir};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, send, socket_with,
};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A predecessor that is about to end holds the lock no longer than this.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(5);
/// Agents that may wait to be let in.
const BACKLOG: i32 = 16;
const END_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn lock_path(data_dir: &Path) -> PathBuf {
    state_dir(data_dir).join(format!("guard.v{VERSION}.lock"))
}

pub(crate) fn socket_path(data_dir: &Path) -> PathBuf {
    state_dir(data_dir).join(socket_name(VERSION))
}

pub(crate) fn log_path(data_dir: &Path) -> PathBuf {
    state_dir(data_dir).join("guard.log")
}

fn socket_name(version: u8) -> String {
    format!("guard.v{version}.sock")
}

/// Takes the lock that makes this the only guard of the data directory, and leaves the process number in the file.
pub(crate) fn lock(data_dir: &Path) -> Result<File, String> {
    let path = lock_path(data_dir);
    let failed = |e: std::io::Error| format!("cannot lock {}: {e}", path.display());
    let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let mut file = open.map_err(failed)?;
    let deadline = pgherd_clock::boottime() + LOCK_PATIENCE;
    while let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if pgherd_clock::boottime() >= deadline {
            return Err(format!("cannot lock {}: {e}; another guard is at work", path.display()));
        }
        std::thread::sleep(STEP);
    }
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

/// A listening socket in the place of one that a predecessor may have left. Only for the holder of the lock.
pub(crate) fn listening(data_dir: &Path) -> Result<OwnedFd, String> {
    let path = socket_path(data_dir);
    let failed = |e: std::io::Error| format!("cannot listen at {}: {e}", path.display());
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let bound = at(data_dir, VERSION, |socket, address| bind(socket, address).and_then(|()| listen(socket, BACKLOG)));
    bound.map_err(|e| failed(e.into()))
}

/// A connection to the guard, which never blocks.
pub(crate) fn connected(data_dir: &Path) -> Result<OwnedFd, Errno> {
    at(data_dir, VERSION, |socket, address| connect(socket, address))
}

/// Sends guards of other versions away: the one of this version has taken the order.
pub(crate) fn replace_others(data_dir: &Path) {
    let there = |version: &u8| *version != VERSION && state_dir(data_dir).join(socket_name(*version)).exists();
    for version in (0..=u8::MAX).filter(there) {
        if let Ok(other) = at(data_dir, version, |socket, address| connect(socket, address)) {
            let _ = send(&other, &request(0, Request::Replaced), SendFlags::NOSIGNAL);
        }
    }
}

fn at(
    data_dir: &Path,
    version: u8,
    act: impl FnOnce(&OwnedFd, &SocketAddrUnix) -> Result<(), Errno>,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(state_dir(data_dir), flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), socket_name(version));
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    act(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// The guard of this data directory: its process number.
pub fn holder(data_dir: &Path) -> Option<i32> {
    let mut file = File::open(lock_path(data_dir)).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None; // nobody holds it
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.parse().ok()
}

/// Kills the guard of this data directory, for who ends a whole node. An agent that lives would start another.
pub fn end(data_dir: &Path) {
    let deadline = pgherd_clock::boottime() + END_PATIENCE;
    while let Some(guard) = holder(data_dir).and_then(|pid| PidFd::open(pid).ok()) {
        let _ = guard.signal(rustix::process::Signal::KILL);
        guard.wait(pgherd_clock::left_until(deadline));
        if pgherd_clock::boottime() >= deadline {
            return;
        }
    }
}
