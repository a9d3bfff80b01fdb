//! Changing whom a running standby follows.

use crate::config_files::{self, Recovery};
use crate::conninfo::host_and_port;
use crate::control::OperationControl;
use crate::control_data::{has_signal_file, major_version};
use crate::error::{OperationError, Outcome};
use crate::process::find_postmaster;
use crate::queries;
use crate::reload::{self, Reload};
use crate::server::Postgres;
use crate::start::{STEP, start_replica};
use crate::stop::stop_fast;
use pgherd_types::Upstream;
use std::time::{Duration, Instant};

/// The first version in which a reload is enough.
const RELOADS_CONNINFO: u32 = 13;
/// A reload is taken up within milliseconds; waited for only so that the next look shows it.
const RELOAD_PATIENCE: Duration = Duration::from_secs(5);

/// Makes the running standby follow the upstream, or nobody.
pub async fn follow(server: &Postgres, upstream: Option<&Upstream>, control: &OperationControl) -> Outcome<()> {
    let dir = &server.options.data_dir;
    if find_postmaster(dir).is_none() || !has_signal_file(dir) {
        return Err(OperationError::failed("no standby is running here, so it cannot follow another member"));
    }
    control.go_on()?;
    if major_version(dir).is_some_and(|v| v < RELOADS_CONNINFO) {
        stop_fast(server, control).await?;
        return start_replica(server, upstream, control);
    }
    config_files::clean_auto_conf(server, dir)?;
    reload::rewrite(server, Recovery::Standby(upstream), Reload::Always).await?;
    let wanted = upstream.map(|u| (u.host.clone(), u.port));
    let begun = Instant::now();
    while begun.elapsed() < RELOAD_PATIENCE && !follows(server, &wanted).await {
        control.go_on()?;
        tokio::time::sleep(STEP).await;
    }
    Ok(())
}

/// True also while the server cannot be asked: it reads the file when it can.
async fn follows(server: &Postgres, wanted: &Option<(String, u16)>) -> bool {
    let Ok(session) = queries::open(server).await else { return true };
    queries::conninfo(&session).await.map_or(true, |conninfo| host_and_port(&conninfo) == *wanted)
}
