//! Ports for servers that are stopped and started again on the same port: outside the range from which the system takes
//! the local ports of outgoing connections, so that nobody sits on one meanwhile, and never given to two test programs
//! at a time.

use std::net::{TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

const RANGE: std::ops::Range<u16> = 20_000..30_000;

/// A port that no one listens on and that no test program has been given. It stays this program's until it ends: the
/// UDP port of the same number, which nothing here uses, is the token.
pub fn lasting_port() -> u16 {
    static TOKENS: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let mut tokens = TOKENS.lock().unwrap_or_else(PoisonError::into_inner);
    let (port, token) = RANGE
        .filter_map(|port| Some((port, UdpSocket::bind(("127.0.0.1", port)).ok()?)))
        .find(|(port, _)| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port between 20000 and 30000");
    tokens.push(token);
    port
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let (one, other) = (lasting_port(), lasting_port());
        assert_ne!(one, other);
        assert!(UdpSocket::bind(("127.0.0.1", one)).is_err(), "other programs see that it is taken");
    }
}
