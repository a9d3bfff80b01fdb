//! Is there room for a second copy beside the data? If not, and the data are to be replaced anyway, they go first; but
//! only once it is proven that the source can be reached with our credentials, and never if it would not be enough.

use crate::error::{OperationError, Outcome};
use crate::exchange;
use crate::options::PostgresOptions;
use crate::replication;
use crate::server::Postgres;
use crate::sql::{Address, Session, SqlError};
use crate::staging::is_vacant;
use pgherd_types::Upstream;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// A few segments of WAL come with every copy.
const WAL_BYTES: u64 = 32 << 20;
/// The size of many relations is summed up from the files.
const SOURCE_PATIENCE: Duration = Duration::from_secs(60);
/// What is in the two tablespaces inside the data directory; needs the rights of pg_read_all_stats.
const IN_DATA_DIRECTORY: &str = "SELECT pg_tablespace_size('pg_default') + pg_tablespace_size('pg_global')";
/// What every role may ask.
const ALL_DATABASES: &str = "SELECT sum(pg_database_size(oid))::bigint FROM pg_database WHERE datallowconn";

/// Bytes that are free where this path is.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let it = rustix::fs::statvfs(path)?;
    Ok(it.f_bavail.saturating_mul(it.f_frsize))
}

/// Sees to it that a copy of the source has room, as far as that is known.
pub(crate) async fn make(server: &Postgres, from: &Upstream) -> Outcome<()> {
    let place = server.place();
    let Some(parent) = place.parent() else { return Ok(()) };
    let free = (server.options.free_bytes)(parent);
    let (Ok(free), Some(size)) = (free, source_bytes(server, from).await) else {
        log::warn!("it is not known whether a copy of {} has room in {}", from.member, parent.display());
        return Ok(());
    };
    let needed = size + size / 20 + WAL_BYTES;
    if free >= needed {
        return Ok(());
    }
    if is_vacant(server)? {
        log::warn!("a copy of {} needs about {needed} bytes, {free} are free in {}", from.member, parent.display());
        return Ok(());
    }
    let present = used_bytes(&place);
    if free + present < needed {
        return Err(OperationError::failed(format!(
            "a copy of {} needs about {needed} bytes, and even without the present data only {} would be free in {}; \
             nothing was removed",
            from.member,
            free + present,
            parent.display()
        )));
    }
    prove(server, from).await?;
    log::warn!(
        "{free} bytes are free in {}, too few for a second copy of about {needed}: the data in {} are removed before \
         they are made anew from {}, as was asked for",
        parent.display(),
        place.display(),
        from.member
    );
    exchange::carry_out(server, &exchange::removal(&place))
}

/// The source answers us as it will answer pg_basebackup.
async fn prove(server: &Postgres, from: &Upstream) -> Outcome<()> {
    replication::reach(server, &from.host, from.port).await.map_err(|e| {
        OperationError::failed(format!(
            "there is no room for a second copy, and the present data were not removed for one because {} \
             ({}:{}) cannot be reached for replication: {e}",
            from.member, from.host, from.port
        ))
    })
}

/// The size of the source's data directory without other tablespaces, if one of our roles may ask.
async fn source_bytes(server: &Postgres, from: &Upstream) -> Option<u64> {
    ask_source(server, from, &[IN_DATA_DIRECTORY, ALL_DATABASES]).await?.parse().ok()
}

/// The first value that one of these queries yields to one of our roles at the source.
pub(crate) async fn ask_source(server: &Postgres, from: &Upstream, texts: &[&str]) -> Option<String> {
    let current = server.current();
    let roles = [Some(&current.superuser), current.rewind.as_ref(), Some(&current.replication)];
    for who in roles.into_iter().flatten() {
        let mut options = PostgresOptions::clone(&current);
        options.superuser = who.clone();
        let address = Address::Tcp(from.host.clone(), from.port);
        let session = match Session::open(&options, &address, SOURCE_PATIENCE).await {
            Ok(session) => session,
            // Another role may be let in; when nobody is there, none helps.
            Err(SqlError::Server { .. }) => continue,
            Err(SqlError::Timeout(_) | SqlError::Unreachable(_)) => return None,
        };
        for text in texts {
            let rows = session.rows(text, SOURCE_PATIENCE).await.unwrap_or_default();
            if let Some(value) = rows.first().and_then(|row| row.get(0)) {
                return Some(value.to_owned());
            }
        }
    }
    None
}

/// What the files of a directory take; links are not followed.
fn used_bytes(dir: &Path) -> u64 {
    let mut sum = 0;
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(m) if m.is_dir() => open.push(entry.path()),
                Ok(m) => sum += m.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    sum
}
