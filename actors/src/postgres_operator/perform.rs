//! From the name of an operation to the code that does it.

use pgherd_postgres::{
    OperationControl, Outcome, Postgres, bootstrap, clone_by_basebackup, clone_from, copy_slots, follow, promote,
    restore, rewind, start_primary, start_replica, stop_fast, stop_immediately,
};
use pgherd_types::{Operation, OperationEnd, StopMode};
use std::sync::Arc;

/// Runs an operation to its end. May block the thread.
pub(super) async fn perform(server: &Arc<Postgres>, operation: &Operation, control: &OperationControl) -> OperationEnd {
    match run(server, operation, control).await {
        Ok(()) => OperationEnd::Done,
        Err(e) => e.end(),
    }
}

async fn run(server: &Arc<Postgres>, operation: &Operation, control: &OperationControl) -> Outcome<()> {
    match operation {
        Operation::Bootstrap => bootstrap(server, control).await,
        Operation::Clone { from, replace, basebackup_only: true } => {
            clone_by_basebackup(server, from, *replace, control).await
        }
        Operation::Clone { from, replace, basebackup_only: false } => clone_from(server, from, *replace, control).await,
        Operation::Restore => restore(server, control).await,
        Operation::Rewind { from } => rewind(server, from, control),
        Operation::StartPrimary => start_primary(server, control),
        Operation::StartReplica { upstream } => start_replica(server, upstream.as_ref(), control),
        Operation::Follow { upstream } => follow(server, upstream.as_ref(), control).await,
        Operation::CopySlots { from, slots } => copy_slots(server, from, slots, control).await,
        Operation::Promote { timeline } => promote(server, *timeline, control).await,
        Operation::Stop { mode: StopMode::Fast } => stop_fast(server, control).await,
        Operation::Stop { mode: StopMode::Immediate } => stop_immediately(server, control),
    }
}
