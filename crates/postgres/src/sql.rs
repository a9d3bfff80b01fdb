//! Short-lived connections to our own server. Every step has a deadline of its own: a postmaster that is stopped by a
//! signal lets connects hang for ever, whatever the connection's own timeout says.

use crate::options::PostgresOptions;
use crate::server::Postgres;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};

/// How long a connection may take.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// How long a statement may take, unless it is known to be long.
pub const STATEMENT_PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// No answer in time.
    #[error("{0}")]
    Timeout(String),
    /// Nobody listens, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// The server said no.
    #[error("{message} ({code})")]
    Server {
        /// SQLSTATE.
        code: String,
        /// Its words.
        message: String,
    },
}

impl SqlError {
    pub(crate) fn new(what: &str, error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => Self::Server { code: db.code().code().to_owned(), message: db.message().to_owned() },
            None => {
                let cause = std::error::Error::source(error).map(|s| format!(": {s}")).unwrap_or_default();
                Self::Unreachable(format!("{what}: {error}{cause}"))
            }
        }
    }
    /// The server starts or stops and takes no connection.
    pub fn is_cannot_connect_now(&self) -> bool {
        matches!(self, Self::Server { code, .. } if code == SqlState::CANNOT_CONNECT_NOW.code())
    }
    /// It has this SQLSTATE.
    pub fn has_code(&self, state: &SqlState) -> bool {
        matches!(self, Self::Server { code, .. } if code == state.code())
    }
}

/// Where and as whom to connect.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Tcp(String, u16),
    Socket(Option<PathBuf>, u16),
}

/// Where our own server is reached (spec/postgres-control.md 2).
pub(crate) fn own_address(server: &Postgres) -> Address {
    address(server, server.current().use_unix_socket)
}

/// The same for replication connections.
pub(crate) fn own_replication_address(server: &Postgres) -> Address {
    address(server, server.current().use_unix_socket_repl)
}

fn address(server: &Postgres, use_socket: bool) -> Address {
    let options = &server.options;
    if !use_socket {
        return Address::Tcp(options.local_tcp_host(), options.listen_port);
    }
    let config = server.config();
    let Some(directories) = config.parameters.get("unix_socket_directories") else {
        return Address::Socket(None, options.listen_port);
    };
    match directories.split(',').map(str::trim).find(|d| d.starts_with('/')) {
        Some(directory) => Address::Socket(Some(directory.into()), options.listen_port),
        None => Address::Tcp(options.local_tcp_host(), options.listen_port),
    }
}

/// A connection; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Connects as superuser.
    pub async fn open(
        options: &PostgresOptions,
        address: &Address,
        statement_patience: Duration,
    ) -> Result<Self, SqlError> {
        let who = &options.superuser;
        let mut config = tokio_postgres::Config::new();
        config.user(options.user_of(who)).dbname(&options.database).application_name("pgherd heartbeat");
        config.connect_timeout(CONNECT_PATIENCE);
        config.options(format!("-c statement_timeout={} -c search_path=pg_catalog", statement_patience.as_millis()));
        if let Some(password) = &who.password {
            config.password(password);
        }
        let place = match address {
            Address::Tcp(host, port) => {
                config.host(host).port(*port);
                format!("{host}:{port}")
            }
            Address::Socket(directory, port) => {
                let directory = directory.clone().unwrap_or_else(default_socket_directory);
                config.host_path(&directory).port(*port);
                format!("{}/.s.PGSQL.{port}", directory.display())
            }
        };
        let connected = timeout(CONNECT_PATIENCE, config.connect(NoTls)).await;
        let connected = connected.map_err(|_| {
            SqlError::Timeout(format!("no connection to {place} within {} s", CONNECT_PATIENCE.as_secs()))
        })?;
        let (client, connection) =
            connected.map_err(|e| SqlError::new(&format!("could not connect to {place}"), &e))?;
        let driver = tokio::spawn(async move {
            if let Err(e) = connection.await {
                log::debug!("connection ended: {e}");
            }
        });
        Ok(Self { client, driver })
    }

    /// Has the server closed it?
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs a text that may hold several statements; the rows of all of them.
    pub async fn rows(&self, text: &str, patience: Duration) -> Result<Vec<SimpleQueryRow>, SqlError> {
        // The server's own limit ends the statement; ours ends the wait when the server does not answer at all.
        let answer = timeout(patience + Duration::from_secs(1), self.client.simple_query(text)).await;
        let answer = answer
            .map_err(|_| SqlError::Timeout(format!("no answer to a query within {} s", patience.as_secs() + 1)))?;
        let messages = answer.map_err(|e| SqlError::new("query failed", &e))?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }
}

/// The socket of a server in this directory (or libpq's default one).
pub(crate) fn socket_path(directory: Option<PathBuf>, port: u16) -> PathBuf {
    directory.unwrap_or_else(default_socket_directory).join(format!(".s.PGSQL.{port}"))
}

/// Where libpq looks when it is told no host.
fn default_socket_directory() -> PathBuf {
    let debian = PathBuf::from("/var/run/postgresql");
    if debian.is_dir() { debian } else { PathBuf::from("/tmp") }
}

/// Quotes a name for SQL.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text for SQL, whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("a'b\\c"), " E'a''b\\\\c'");
    }
}
