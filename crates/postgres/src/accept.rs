//! Does the postmaster accept connections? A session that was made before goes on working when it does not, so the
//! monitoring connection alone proves nothing. Asked by the first step of the protocol, which needs no password and
//! leaves nothing in the server's log: a request for TLS, answered with one byte by a new backend.

use crate::server::Postgres;
use crate::sql::{Address, CONNECT_PATIENCE, SqlError, own_address, socket_path};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Length 8 and the code of an SSLRequest.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// An error if a new connection gets no answer in time.
pub(crate) async fn probe(server: &Postgres) -> Result<(), SqlError> {
    let asked = tokio::time::timeout(CONNECT_PATIENCE, connect_and_ask(server)).await;
    let asked = asked.map_err(|_| {
        SqlError::Timeout(format!("a new connection got no answer within {} s", CONNECT_PATIENCE.as_secs()))
    })?;
    asked.map_err(|e| SqlError::Unreachable(format!("a new connection failed: {e}")))
}

async fn connect_and_ask(server: &Postgres) -> io::Result<()> {
    match own_address(server) {
        Address::Tcp(host, port) => ask(TcpStream::connect((host.as_str(), port)).await?).await,
        Address::Socket(directory, port) => ask(UnixStream::connect(socket_path(directory, port)).await?).await,
    }
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    stream.write_all(&SSL_REQUEST).await?;
    stream.read_u8().await.map(drop)
}
