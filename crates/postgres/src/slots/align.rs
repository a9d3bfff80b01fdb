//! Making the slots as ordered, one change after the other. A change that does not work is reported for its slot and does
//! not keep the others from being made.

use super::{leader, sql};
use crate::error::Outcome;
use crate::server::Postgres;
use crate::sql::{STATEMENT_PATIENCE, Session, SqlError, own_address};
use pgherd_types::{SlotChange, SlotFault, SlotReport, SlotTarget};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::task::spawn_blocking;
use tokio_postgres::error::SqlState;

/// Carries the order out. An error: nothing more was done, because the server cannot be reached or the time was up.
pub async fn align(
    server: &Arc<Postgres>,
    target: &SlotTarget,
    may_go_on: impl Fn() -> bool,
) -> Result<SlotReport, String> {
    let mut report = SlotReport::default();
    let claim = target.claim.clone();
    disk(server, move |server| server.managed_slots.add(&server.state, &claim)).await?;
    let mut sessions = Sessions { server, open: BTreeMap::new() };
    forget(server, &mut sessions, &target.forget).await?;
    for change in &target.changes {
        if !may_go_on() {
            return Err("the fence passed before the slots were aligned".to_owned());
        }
        match make(server, &mut sessions, change).await {
            Ok(()) => {}
            Err(Unmade::Disk(why)) => return Err(why),
            Err(Unmade::Sql(error)) if harmless(&error) => {}
            Err(Unmade::Sql(error)) => {
                log::warn!("replication slot {}: could not {}: {error}", change.slot(), verb(change));
                let wal_is_gone = error.has_code(&SqlState::UNDEFINED_FILE);
                report.faults.insert(change.slot().to_owned(), SlotFault { text: error.to_string(), wal_is_gone });
            }
        }
    }
    if let Some(comparison) = target.compare.clone() {
        let server = server.clone();
        let asked = spawn_blocking(move || leader::ask(&server, &comparison)).await;
        match asked.map_err(|e| e.to_string()).and_then(|answer| answer.map_err(|e| e.to_string())) {
            Ok(said) => report.leader = Some(said),
            Err(why) => log::info!("the leader was not asked about its slots: {why}"),
        }
    }
    Ok(report)
}

enum Unmade {
    Disk(String),
    Sql(SqlError),
}

impl From<SqlError> for Unmade {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

/// The session of each database that is needed.
struct Sessions<'a> {
    server: &'a Postgres,
    open: BTreeMap<String, Session>,
}

impl Sessions<'_> {
    async fn of(&mut self, database: Option<&str>) -> Result<&Session, SqlError> {
        let current = self.server.current();
        let name = database.unwrap_or(&current.database);
        if !self.open.contains_key(name) {
            let options = crate::options::PostgresOptions { database: name.to_owned(), ..(*current).clone() };
            let session = Session::open(&options, &own_address(self.server), sql::ADVANCE_PATIENCE).await?;
            self.open.insert(name.to_owned(), session);
        }
        self.open.get(name).ok_or_else(|| SqlError::Unreachable("the session is gone".to_owned()))
    }
}

async fn make(server: &Arc<Postgres>, sessions: &mut Sessions<'_>, change: &SlotChange) -> Result<(), Unmade> {
    match change {
        SlotChange::Drop { name, why } => {
            let session = sessions.of(None).await?;
            let Some(what) = sql::describe_unused(session, name).await? else { return Ok(()) };
            sql::drop_unused(session, name).await?;
            log::info!("dropped replication slot {name} ({what}): {why}");
            let name = name.clone();
            disk(server, move |server| server.managed_slots.remove(&server.state, [&name])).await.map_err(Unmade::Disk)
        }
        SlotChange::CreatePhysical { name } => {
            note(server, name).await?;
            sql::create_physical(sessions.of(None).await?, name).await?;
            log::info!("created replication slot {name}");
            Ok(())
        }
        SlotChange::CreateLogical { name, decoding, failover } => {
            note(server, name).await?;
            let session = sessions.of(Some(&decoding.database)).await?;
            sql::create_logical(session, name, decoding, *failover).await?;
            log::info!("created logical replication slot {name} ({}, database {})", decoding.plugin, decoding.database);
            Ok(())
        }
        SlotChange::Advance { name, to, database } => {
            sql::advance(sessions.of(database.as_deref()).await?, name, *to).await?;
            Ok(())
        }
    }
}

/// Those that are really gone: the look that showed it may be older than the making of one of them.
async fn forget(server: &Arc<Postgres>, sessions: &mut Sessions<'_>, names: &BTreeSet<String>) -> Result<(), String> {
    if names.is_empty() {
        return Ok(());
    }
    let there = async { sql::names(sessions.of(None).await?).await };
    let there = there.await.map_err(|e| e.to_string())?;
    let gone: Vec<String> = names.difference(&there).cloned().collect();
    disk(server, move |server| server.managed_slots.remove(&server.state, &gone)).await
}

/// Written down before the slot is made, so that it is known as ours whatever comes between.
async fn note(server: &Arc<Postgres>, name: &str) -> Result<(), Unmade> {
    let name = name.to_owned();
    disk(server, move |server| server.managed_slots.add(&server.state, [&name])).await.map_err(Unmade::Disk)
}

async fn disk(
    server: &Arc<Postgres>,
    work: impl FnOnce(&Postgres) -> Outcome<()> + Send + 'static,
) -> Result<(), String> {
    let server = server.clone();
    let done = spawn_blocking(move || work(&server)).await;
    done.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// Somebody else was first: the next look shows it.
fn harmless(error: &SqlError) -> bool {
    [SqlState::OBJECT_IN_USE, SqlState::UNDEFINED_OBJECT, SqlState::DUPLICATE_OBJECT]
        .iter()
        .any(|code| error.has_code(code))
}

const fn verb(change: &SlotChange) -> &'static str {
    match change {
        SlotChange::Drop { .. } => "drop it",
        SlotChange::CreatePhysical { .. } | SlotChange::CreateLogical { .. } => "make it",
        SlotChange::Advance { .. } => "move it forward",
    }
}

/// The patience with statements is given with each; a session's own limit is the longest of them.
const _: () = assert!(STATEMENT_PATIENCE.as_millis() < sql::ADVANCE_PATIENCE.as_millis());
