//! One HTTP request on a connection of its own, for looking at REST APIs and at etcd's gateway from a test's thread.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// Whom to trust over https; none for plain HTTP.
pub type Tls = Option<Arc<ClientConfig>>;

/// A connection, encrypted or not.
pub trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The lines of the head, in lower case.
    pub head: String,
    /// The body, whole.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Sends one request to a port of this machine; `None` if there was no whole answer within `patience`.
pub fn request(port: u16, method: &str, path: &str, body: &str, patience: Duration) -> Option<Answer> {
    request_with(port, method, path, "", body, patience)
}

/// The same with these lines in the head; each ends with `\r\n`.
pub fn request_with(
    port: u16,
    method: &str,
    path: &str,
    lines: &str,
    body: &str,
    patience: Duration,
) -> Option<Answer> {
    request_over(open(port, &None, patience)?, method, path, lines, body)
}

/// The same on this connection, which ends with it.
pub fn request_over(mut stream: Box<dyn Stream>, method: &str, path: &str, lines: &str, body: &str) -> Option<Answer> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // a server that was told to close need not say goodbye in TLS
        Err(e) if e.kind() != ErrorKind::UnexpectedEof => return None,
        _ => {}
    }
    parse(&bytes)
}

/// A connection to a port of this machine; `None` if there is none, or no handshake.
pub fn open(port: u16, tls: &Tls, patience: Duration) -> Option<Box<dyn Stream>> {
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), CONNECT_PATIENCE).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.set_write_timeout(Some(patience)).ok()?;
    let Some(config) = tls else { return Some(Box::new(stream)) };
    let name = ServerName::try_from("127.0.0.1").ok()?;
    let mut connection = ClientConnection::new(config.clone(), name).ok()?;
    connection.complete_io(&mut stream).ok()?;
    Some(Box::new(StreamOwned::new(connection, stream)))
}

/// GET with a short patience.
pub fn get(port: u16, path: &str) -> Option<Answer> {
    request(port, "GET", path, "", CONNECT_PATIENCE)
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = &bytes[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body)? } else { body.to_vec() };
    Some(Answer { status, head, body })
}

fn unchunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = bytes.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(bytes.get(end + 2..end + 2 + size)?);
        bytes = bytes.get(end + 2 + size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_chunked_bodies_are_read() {
        let plain = parse(b"HTTP/1.1 503 Oh\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        assert_eq!((plain.status, plain.body.as_slice()), (503, b"{}".as_slice()));
        let chunked =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n").unwrap();
        assert_eq!(chunked.body, b"abcd");
        assert!(parse(b"HTTP/1.1 200").is_none());
    }
}
