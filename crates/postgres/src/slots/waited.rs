//! The standbys for which consumers of logical slots wait: `synchronized_standby_slots`, where the agent sets it.

use super::sql;
use crate::config_files::Recovery;
use crate::queries;
use crate::recovery_section::value_in;
use crate::reload::{Reload, rewrite};
use crate::server::Postgres;
use crate::server_config::ServerConfig;
use crate::sql::SqlError;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The parameter.
pub(crate) const PARAMETER: &str = "synchronized_standby_slots";
/// The first version that has it.
const SINCE: u32 = 17;

/// Their slots, as the coordinator said last.
#[derive(Debug, Default)]
pub(crate) struct WaitedSlots(Mutex<Option<BTreeSet<String>>>);

impl WaitedSlots {
    /// These count from now on. No file is written.
    pub fn set(&self, slots: BTreeSet<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(slots);
    }

    fn get(&self) -> Option<BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The value to write, in the place of the user's. Until the slots are known, as after a start of the agent, that of
    /// the file as it is.
    pub fn value(&self, config: &ServerConfig, major_version: u32, old: &str) -> Option<String> {
        if !config.consumers_wait || major_version < SINCE {
            return None;
        }
        let in_file = || old.lines().find_map(|line| value_in(line, PARAMETER));
        self.get().map(|slots| slots.into_iter().collect::<Vec<_>>().join(", ")).or_else(in_file)
    }
}

/// Before a primary is stopped: its senders wait for the standbys also when they are to end, and by then no configuration
/// is read any more. So the list is left with those that are connected; a dead one would hold up the stop.
pub(crate) async fn leave_connected(server: &Postgres) {
    let Some(slots) = server.waited_slots.get().filter(|slots| server.config().consumers_wait && !slots.is_empty())
    else {
        return;
    };
    let connected = async {
        let session = queries::open(server).await?;
        sql::connected(&session).await
    };
    let connected: Result<BTreeSet<String>, SqlError> = connected.await;
    let changed = match connected {
        Ok(connected) if slots.is_subset(&connected) => return,
        Ok(connected) => {
            server.waited_slots.set(slots.intersection(&connected).cloned().collect());
            rewrite(server, Recovery::Keep, Reload::IfChanged).await.map(drop).map_err(|e| e.to_string())
        }
        Err(e) => Err(e.to_string()),
    };
    if let Err(why) = changed {
        log::warn!("consumers of logical slots may hold up the stop if a standby in {PARAMETER} is gone: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_file_stays_until_more_is_known() {
        let slots = WaitedSlots::default();
        let asked = ServerConfig { consumers_wait: true, ..ServerConfig::default() };
        let old = "port = '5432'\nsynchronized_standby_slots = 'b, c'\n";
        assert_eq!(slots.value(&asked, 17, old).as_deref(), Some("b, c"));
        assert_eq!(slots.value(&asked, 17, ""), None);
        slots.set(["c".to_owned(), "d".to_owned()].into());
        assert_eq!(slots.value(&asked, 18, old).as_deref(), Some("c, d"));
        slots.set(BTreeSet::new());
        assert_eq!(slots.value(&asked, 17, old).as_deref(), Some(""), "also over the user's");
        assert_eq!((slots.value(&asked, 16, old), slots.value(&ServerConfig::default(), 17, old)), (None, None));
    }
}
