//! What the service manager is told, where there is one (systemd's `Type=notify`): ready once the REST API answers and
//! PostgreSQL was looked at; alive as long as the coordinator turns; stopping when it was asked to stop.
//!
//! The protocol is one datagram to the socket in `NOTIFY_SOCKET`. It is written here rather than with a library because
//! it must never wait: a service manager that does not read must not hold up the agent.

use pgherd_types::NodeStatus;
use pgherd_web::PublishedStatus;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

const READY: &str = "READY=1";
const ALIVE: &str = "WATCHDOG=1";
const STOPPING: &str = "STOPPING=1";
/// How often it is looked whether the node is ready.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Between two attempts to say so.
const SAY_AGAIN: Duration = Duration::from_secs(1);
/// Messages that fit into the time after which the service manager ends a silent agent.
const MESSAGES_PER_LIMIT: u32 = 3;

/// Says that the node is ready as soon as it is, and from then on that it is alive, if that is wanted. The REST API must
/// be answering.
pub async fn keep_informed(status: PublishedStatus) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    while status.load().postgres.is_none() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    while let Err(e) = send(&socket, READY) {
        log::warn!("the service manager could not be told that the node is ready, trying again: {e}");
        tokio::time::sleep(SAY_AGAIN).await;
    }
    let variable = |name| std::env::var(name).ok();
    let Some(limit) = limit(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id()) else { return };
    loop {
        if turns(&status.load()) {
            tell(&socket, ALIVE);
        }
        tokio::time::sleep(limit / MESSAGES_PER_LIMIT).await;
    }
}

/// Says that the agent leaves.
pub fn stopping() {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        tell(&socket, STOPPING);
    }
}

/// After how long a silence the service manager ends this process, if it does.
fn limit(microseconds: Option<String>, of: Option<String>, me: u32) -> Option<Duration> {
    let ours = of.is_none_or(|pid| pid.parse() == Ok(me));
    let microseconds = microseconds?.parse().ok().filter(|us| ours && *us > 0)?;
    Some(Duration::from_micros(microseconds))
}

/// Has the coordinator turned within the last ttl? It does so at least every `loop_wait`.
fn turns(status: &NodeStatus) -> bool {
    pgherd_clock::boottime().since(status.turned_at) <= status.settings.ttl
}

fn tell(socket: &OsString, message: &str) {
    if let Err(e) = send(socket, message) {
        log::warn!("the service manager could not be told {message}: {e}");
    }
}

/// Never waits: an error when the receiver's queue is full.
fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let datagrams = UnixDatagram::unbound()?;
    datagrams.set_nonblocking(true)?;
    datagrams.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_whose_coordinator_stands_still_is_not_alive() {
        let now = pgherd_clock::boottime();
        let mut status = NodeStatus { turned_at: now, ..NodeStatus::default() };
        assert!(turns(&status));
        status.settings.ttl = Duration::ZERO;
        status.turned_at = now.minus(Duration::from_secs(5));
        assert!(!turns(&status));
    }

    #[test]
    fn the_limit_counts_only_for_the_process_that_it_names() {
        let limit = |us: Option<&str>, pid: Option<&str>| limit(us.map(str::to_owned), pid.map(str::to_owned), 7);
        let half = Some(Duration::from_millis(500));
        assert_eq!(limit(Some("500000"), None), half);
        assert_eq!(limit(Some("500000"), Some("7")), half);
        for (us, pid) in [(Some("500000"), Some("8")), (Some("0"), None), (Some("x"), None), (None, Some("7"))] {
            assert_eq!(limit(us, pid), None, "{us:?} {pid:?}");
        }
    }

    #[test]
    fn a_receiver_that_does_not_read_holds_up_nobody() {
        let path = std::env::temp_dir().join(format!("pgherd-notify-{}", std::process::id()));
        let abstract_name = format!("pgherd-notify-{}", std::process::id());
        let named = UnixDatagram::bind(&path).unwrap();
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let unnamed = UnixDatagram::bind_addr(&address).unwrap();
        for (receiver, socket) in
            [(named, path.clone().into_os_string()), (unnamed, format!("@{abstract_name}").into())]
        {
            send(&socket, READY).unwrap();
            let full = std::iter::repeat_with(|| send(&socket, ALIVE)).take(100_000).find_map(Result::err).unwrap();
            assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
            let mut bytes = [0; 100];
            let len = receiver.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..len], b"READY=1");
        }
        std::fs::remove_file(path).unwrap();
    }
}
