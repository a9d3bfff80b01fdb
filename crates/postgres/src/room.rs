//! Is there room for a second copy beside the data? If not, and the data are to be replaced anyway, they go first; but
//! only once it is proven that the source can be reached with our credentials, and never if it would not be enough.

use crate::error::{OperationError, Outcome};
use crate::exchange;
use crate::replication;
use crate::server::Postgres;
use crate::sql::{Address, STATEMENT_PATIENCE, Session, SqlError};
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
const SIZE_PATIENCE: Duration = Duration::from_secs(60);
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
    let roles = [Some(&server.options.superuser), server.options.rewind.as_ref(), Some(&server.options.replication)];
    for who in roles.into_iter().flatten() {
        let mut options = server.options.clone();
        options.superuser = who.clone();
        let address = Address::Tcp(from.host.clone(), from.port);
        match asked(&options, &address).await {
            Ok(Some(bytes)) => return Some(bytes),
            Ok(None) => {}
            // Nobody is there: another role does not help.
            Err(SqlError::Timeout(_) | SqlError::Unreachable(_)) => return None,
            Err(SqlError::Server { .. }) => {}
        }
    }
    None
}

async fn asked(options: &crate::options::PostgresOptions, address: &Address) -> Result<Option<u64>, SqlError> {
    let session = Session::open(options, address, SIZE_PATIENCE).await?;
    let mut last = Ok(None);
    for (text, patience) in [(IN_DATA_DIRECTORY, SIZE_PATIENCE), (ALL_DATABASES, SIZE_PATIENCE + STATEMENT_PATIENCE)] {
        last = session
            .rows(text, patience)
            .await
            .map(|rows| rows.first().and_then(|r| r.get(0)).and_then(|t| t.parse().ok()));
        if matches!(last, Ok(Some(_))) {
            break;
        }
    }
    last
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
