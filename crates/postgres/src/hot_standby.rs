//! Parameters of which a standby needs at least as much as its primary had: PostgreSQL refuses to replay otherwise.
//! The control file says how much that is (spec/postgres-control.md 5.5).

use crate::control_data::ControlFile;
use crate::error::{OperationError, Outcome};
use crate::role_overlay::RoleClass;
use crate::server::Postgres;
use pgherd_types::RunningServer;
use std::collections::BTreeMap;
use std::sync::PoisonError;

/// With their labels in `pg_controldata`.
const AT_LEAST_AS_PRIMARY: [(&str, &str); 5] = [
    ("max_connections", "max_connections setting"),
    ("max_prepared_transactions", "max_prepared_xacts setting"),
    ("max_locks_per_transaction", "max_locks_per_xact setting"),
    ("max_worker_processes", "max_worker_processes setting"),
    ("max_wal_senders", "max_wal_senders setting"),
];

/// The controlled parameters as a server of a role must have them.
pub(crate) struct Raised {
    /// All of them.
    pub parameters: BTreeMap<String, String>,
    /// One sentence for each that is larger than configured.
    pub told: Vec<String>,
}

/// Raises what a server that starts in recovery needs more of than is configured.
pub(crate) fn raise(server: &Postgres, role: RoleClass, mut parameters: BTreeMap<String, String>) -> Outcome<Raised> {
    let mut told = Vec::new();
    if role == RoleClass::Primary {
        return Ok(Raised { parameters, told });
    }
    let file = ControlFile::read(&server.options).map_err(OperationError::Failed)?;
    for (name, label) in AT_LEAST_AS_PRIMARY {
        let needed = file.text(label).ok().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        let configured = parameters.get(name).and_then(|v| v.parse().ok()).unwrap_or(0);
        if needed > configured {
            told.push(format!(
                "{name} value in pg_controldata: {needed}, in the global configuration: {configured}. \
                 pg_controldata value will be used. Setting 'Pending restart' flag"
            ));
            parameters.insert(name.to_owned(), needed.to_string());
        }
    }
    Ok(Raised { parameters, told })
}

/// Why replay is paused, if one of these parameters is too low: PostgreSQL 14 and later pause it then. A pause for any
/// other reason is somebody's wish. It is never ended here: going on would end the server.
pub(crate) fn why_paused(running: &RunningServer) -> Option<String> {
    let number = |text: &str| text.parse::<u64>().ok();
    let too_low = |(name, now, wanted): &&(String, String, String)| {
        AT_LEAST_AS_PRIMARY.iter().any(|(known, _)| known == name) && number(now) < number(wanted)
    };
    let low: Vec<String> = running
        .pending_restart_reason
        .iter()
        .filter(too_low)
        .map(|(name, now, wanted)| format!("{name} is {now} and must be {wanted}"))
        .collect();
    (running.in_recovery && running.replay_paused && !low.is_empty()).then(|| {
        format!("replay is paused, probably because {}; restart PostgreSQL on this node to go on", low.join(", "))
    })
}

impl Postgres {
    /// Says it once each time it begins.
    pub(crate) fn tell_of_paused_replay(&self, running: &RunningServer) {
        let why = why_paused(running);
        let mut told = self.told_of_pause.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = why.as_ref().filter(|why| told.as_ref() != Some(why)) {
            log::warn!("{why}");
        }
        *told = why;
    }
}
