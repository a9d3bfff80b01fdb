//! The one question that only the replication protocol answers: which timeline a standby without a WAL receiver has
//! replayed to. The control file lags behind it until the next restartpoint, and in a leader race that would put a
//! standby with newer data behind one with older data.
//!
//! tokio-postgres has no setting for replication connections, so the startup message is completed on its way out.

use crate::server::Postgres;
use crate::sql::{Address, CONNECT_PATIENCE, STATEMENT_PATIENCE, SqlError, own_replication_address, socket_path};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Protocol 3.0, behind the length of a startup message.
const PROTOCOL: [u8; 4] = [0, 3, 0, 0];
/// The parameter that makes a connection a physical replication connection, and the end of the message.
const REPLICATION: &[u8] = b"replication\0true\0\0";

/// A replication connection to a standby of our own, or to another server; it ends when dropped.
pub(crate) struct Replication {
    client: Client,
    driver: Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send>>,
}

/// Connects to our own server.
pub(crate) async fn open(server: &Postgres) -> Result<Replication, SqlError> {
    let unreachable = |e: io::Error| SqlError::Unreachable(format!("could not connect for replication: {e}"));
    let connected = async {
        match own_replication_address(server) {
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), port)).await.map_err(unreachable)?;
                authenticate(server, stream).await
            }
            Address::Socket(directory, port) => {
                let stream = UnixStream::connect(socket_path(directory, port)).await.map_err(unreachable)?;
                authenticate(server, stream).await
            }
        }
    };
    within(CONNECT_PATIENCE, "replication connection", connected).await
}

impl Replication {
    /// The timeline of the last replayed record, as `IDENTIFY_SYSTEM` reports it on a standby.
    pub async fn replayed_timeline(self) -> Result<Option<u32>, SqlError> {
        within(STATEMENT_PATIENCE, "answer to IDENTIFY_SYSTEM", self.identify()).await
    }

    async fn identify(self) -> Result<Option<u32>, SqlError> {
        let asking = async { self.client.simple_query("IDENTIFY_SYSTEM").await.map_err(failed) };
        let messages = tokio::select! {
            answer = asking => answer?,
            ended = self.driver => {
                return Err(SqlError::Unreachable(format!("replication connection ended: {ended:?}")));
            }
        };
        let timeline = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get("timeline")?.parse().ok(),
            _ => None,
        };
        Ok(messages.iter().find_map(timeline))
    }
}

/// Can a replication connection to this server be made with our credentials?
pub(crate) async fn reach(server: &Postgres, host: &str, port: u16) -> Result<(), SqlError> {
    let connected = async {
        let stream = connect_any(host, port).await;
        authenticate(server, stream.map_err(|e| SqlError::Unreachable(format!("could not connect: {e}")))?).await
    };
    let connected = within(CONNECT_PATIENCE, "replication connection", connected).await?;
    connected.replayed_timeline().await.map(drop)
}

async fn within<T>(
    patience: Duration,
    what: &str,
    done: impl Future<Output = Result<T, SqlError>>,
) -> Result<T, SqlError> {
    let late = |_| SqlError::Timeout(format!("no {what} within {} s", patience.as_secs()));
    tokio::time::timeout(patience, done).await.map_err(late)?
}

fn failed(error: tokio_postgres::Error) -> SqlError {
    SqlError::new("replication connection", &error)
}

/// The first of several hosts (`a,b`) that is there.
async fn connect_any(hosts: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for host in hosts.split(',') {
        match TcpStream::connect((host.trim(), port)).await {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

async fn authenticate<S>(server: &Postgres, stream: S) -> Result<Replication, SqlError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let options = server.current();
    let who = &options.replication;
    let mut config = tokio_postgres::Config::new();
    config.user(options.user_of(who)).application_name("pgherd heartbeat");
    if let Some(password) = &who.password {
        config.password(password);
    }
    let (client, connection) = config.connect_raw(AsReplication::new(stream), NoTls).await.map_err(failed)?;
    Ok(Replication { client, driver: Box::pin(connection) })
}

/// A stream that adds the replication parameter to the first message.
struct AsReplication<S> {
    inner: S,
    startup: Startup,
}

enum Startup {
    Awaited,
    /// The completed message and how much of it is written.
    Sending(Vec<u8>, usize),
    Sent,
}

impl<S: AsyncWrite + Unpin> AsReplication<S> {
    fn new(inner: S) -> Self {
        Self { inner, startup: Startup::Awaited }
    }

    fn send_startup(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Startup::Sending(message, sent) = &mut self.startup {
            let n = ready!(Pin::new(&mut self.inner).poll_write(cx, &message[*sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += n;
            if *sent == message.len() {
                self.startup = Startup::Sent;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// A whole startup message with the parameter added; `None` if it is something else.
fn completed(message: &[u8]) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(message.get(..4)?.try_into().ok()?);
    if usize::try_from(length).ok()? != message.len() || message.get(4..8)? != PROTOCOL.as_slice() {
        return None;
    }
    let mut longer = message[..message.len() - 1].to_vec();
    longer.extend_from_slice(REPLICATION);
    let length = u32::try_from(longer.len()).ok()?;
    longer[..4].copy_from_slice(&length.to_be_bytes());
    Some(longer)
}

impl<S: AsyncRead + Unpin> AsyncRead for AsReplication<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AsReplication<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if matches!(self.startup, Startup::Awaited) {
            let message = completed(buf).ok_or_else(|| io::Error::other("the first write was no startup message"))?;
            self.startup = Startup::Sending(message, 0);
            // what could not be written yet is written before anything else
            let _ = self.send_startup(cx)?;
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(self.send_startup(cx))?;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send_startup(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_startup_message_is_completed() {
        let message = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";
        let longer = completed(message).unwrap();
        assert_eq!(&longer[4..], b"\0\x03\0\0user\0a\0replication\0true\0\0");
        assert_eq!(u32::from_be_bytes(longer[..4].try_into().unwrap()) as usize, longer.len());
        for other in [&message[..10], b"Q\0\0\0\x05x", b""] {
            assert_eq!(completed(other), None);
        }
    }
}
