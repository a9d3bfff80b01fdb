//! Taking diverged data back to the history of the leader.

use crate::control::OperationControl;
use crate::error::{OperationError, Outcome};
use crate::server::Postgres;
use pgherd_types::Upstream;

/// Rewinds the data of a stopped server to the source's history and sets it up as its standby.
pub async fn rewind(server: &Postgres, from: &Upstream, control: &OperationControl) -> Outcome<()> {
    server.require_stopped()?;
    control.go_on()?;
    Err(OperationError::failed(format!("pg_rewind from {} cannot be run", from.member)))
}
