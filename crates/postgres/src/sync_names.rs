//! `synchronous_standby_names`: emptied unless the user configured it.

use crate::config_place::ConfigPlace;
use crate::queries;
use crate::reload::refresh_config;
use crate::server::Postgres;
use std::sync::Arc;

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
