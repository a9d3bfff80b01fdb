//! `synchronous_standby_names`: emptied unless the user configured it.

use crate::config_place::ConfigPlace;
use crate::queries;
use crate::reload::refresh_config;
use crate::server::Postgres;
use pgherd_types::SyncApply;
use std::sync::Arc;

/// Carries out one step of synchronous replication, and returns when it is in force.
pub async fn apply(server: &Arc<Postgres>, apply: &SyncApply, may_go_on: impl Fn() -> bool) -> Result<(), String> {
    if !may_go_on() {
        return Err("the fence passed".to_owned());
    }
    match apply {
        SyncApply::UserNames => align(server).await,
        SyncApply::Names(_) | SyncApply::ForceWal => Err("not built yet".to_owned()),
    }
}

/// Makes PostgreSQL wait for no standby that the user did not name. A value set outside our file is left alone.
pub async fn align(server: &Arc<Postgres>) -> Result<(), String> {
    let session = queries::open(server).await.map_err(|e| format!("could not connect: {e}"))?;
    let (current, source) = queries::standby_names(&session).await.map_err(|e| format!("could not read it: {e}"))?;
    let wanted = server.config().parameters.get("synchronous_standby_names").cloned().unwrap_or_default();
    let ours = ConfigPlace::of(server).main();
    if current == wanted || std::path::Path::new(&source) != ours {
        return Ok(());
    }
    log::info!("synchronous_standby_names becomes '{wanted}'");
    refresh_config(server).await.map(drop).map_err(|e| e.to_string())
}
