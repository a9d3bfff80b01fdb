//! Ports for servers that are stopped and started again on the same port: outside the range from which the system takes
//! the local ports of outgoing connections, so that nobody sits on one meanwhile.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const RANGE: std::ops::Range<u16> = 20_000..30_000;

/// A port that no one listens on and that this process has not given out before.
pub fn lasting_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let size = RANGE.end - RANGE.start;
    // Several test programs may run side by side.
    let offset = u16::try_from(std::process::id() % u32::from(size)).unwrap_or(0);
    let candidate = || RANGE.start + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % size;
    (0..size)
        .map(|_| candidate())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port between 20000 and 30000")
}
