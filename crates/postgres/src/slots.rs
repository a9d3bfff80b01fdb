//! Making the replication slots as ordered.

use crate::queries;
use crate::server::Postgres;
use crate::sql::SqlError;
use pgherd_types::SlotTarget;
use tokio_postgres::error::SqlState;

/// Creates the member slots that are missing and drops the expired ones that nobody uses. Every slot is tried; the
/// error names those that failed. No other slot is touched.
pub async fn align(server: &Postgres, target: &SlotTarget, may_go_on: impl Fn() -> bool) -> Result<(), String> {
    let session = queries::open(server).await.map_err(|e| format!("could not connect to align slots: {e}"))?;
    let existing = queries::physical_slots(&session).await.map_err(|e| format!("could not read the slots: {e}"))?;
    let mut problems = Vec::new();
    for name in target.members.iter().filter(|name| existing.iter().all(|(known, ..)| known != *name)) {
        if !may_go_on() {
            return Err("the fence passed before the slots were aligned".to_owned());
        }
        match queries::create_slot(&session, name, target.reserve).await {
            Ok(()) => log::info!("created replication slot {name}"),
            Err(e) => problems.push(format!("create {name}: {e}")),
        }
    }
    for (name, active, _) in
        existing.iter().filter(|(name, ..)| target.expired.contains(name) && !target.members.contains(name))
    {
        if *active || !may_go_on() {
            continue;
        }
        match queries::drop_slot(&session, name).await {
            Ok(()) => log::info!("dropped replication slot {name} of a member that is gone"),
            Err(e) if gone_or_in_use(&e) => {}
            Err(e) => problems.push(format!("drop {name}: {e}")),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

fn gone_or_in_use(error: &SqlError) -> bool {
    error.has_code(&SqlState::OBJECT_IN_USE) || error.has_code(&SqlState::UNDEFINED_OBJECT)
}
