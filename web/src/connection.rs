//! A connection before it speaks HTTP: the TLS handshake, which has a deadline, and what is known of the client by it.

use actix_http::error::DispatchError;
use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use arc_swap::ArcSwapOption;
use pgherd_tls::{ServerConfig, VerifyClient};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A client that takes longer for its part of the handshake is cut off.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// How connections are encrypted.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// Certificate, key and authorities.
    pub config: Arc<ServerConfig>,
    /// Are clients asked for a certificate?
    pub verify_client: VerifyClient,
}

/// As it is at the moment; none for plain HTTP.
pub type SharedTls = Arc<ArcSwapOption<ListenerTls>>;

/// What is known of a client by its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Client {
    /// Nobody can listen.
    pub encrypted: bool,
    /// It showed a certificate that was verified.
    pub verified: bool,
}

impl Client {
    /// The one that sent this request.
    pub fn of(request: &HttpRequest) -> Self {
        request.conn_data().copied().unwrap_or_default()
    }
}

/// A connection that HTTP can be spoken over.
pub enum Connection {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Makes one of what was accepted. While a client is silent it holds one of the places for connections, and nothing else.
pub async fn open(
    tcp: TcpStream,
    tls: Option<Arc<ListenerTls>>,
) -> Result<(Connection, Option<SocketAddr>), DispatchError> {
    let peer = tcp.peer_addr().ok();
    let Some(tls) = tls else { return Ok((Connection::Plain(tcp), peer)) };
    let handshake = TlsAcceptor::from(tls.config.clone()).accept(tcp);
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time");
    let done = tokio::time::timeout(HANDSHAKE_PATIENCE, handshake).await.unwrap_or_else(|_| Err(late()));
    match done {
        Ok(stream) => Ok((Connection::Tls(Box::new(stream)), peer)),
        Err(e) => {
            let whom =
                peer.map_or_else(|| "an unknown address".to_owned(), |peer| peer.ip().to_canonical().to_string());
            log::debug!("REST API: no TLS connection with {whom}: {e}");
            Err(DispatchError::Io(e))
        }
    }
}

/// Keeps what is known of the client beside its connection.
pub fn remember(connection: &Connection, beside: &mut Extensions) {
    let client = match connection {
        Connection::Plain(_) => Client::default(),
        // a certificate that was shown and could not be verified has ended the handshake
        Connection::Tls(stream) => {
            Client { encrypted: true, verified: stream.get_ref().1.peer_certificates().is_some_and(|c| !c.is_empty()) }
        }
    };
    beside.insert(client);
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }
    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
