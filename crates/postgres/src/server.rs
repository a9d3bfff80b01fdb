//! The server of one data directory: its options, its configuration in force, its state directory. The long
//! operations are methods of it, each in the file that names it.

use crate::config_files;
use crate::control::OperationControl;
use crate::control_data;
use crate::error::{OperationError, Outcome, Tried};
use crate::interrupted;
use crate::kill::Killer;
use crate::methods::{self, Way};
use crate::options::PostgresOptions;
use crate::parameter_check;
use crate::process::{Alive, alive};
use crate::server_config::ServerConfig;
use crate::sql::Session;
use crate::state_dir::StateDir;
use pgherd_types::{ControlData, Lsn};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// Orphans and leftovers are killed within this time, or the operation fails.
pub(crate) const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// One PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    pub(crate) options: PostgresOptions,
    pub(crate) state: StateDir,
    config: RwLock<ServerConfig>,
    /// Held while configuration files are written, so that there is one writer at a time.
    files: Mutex<()>,
    /// The monitoring connection and the postmaster it leads to: making one costs more than all its queries.
    pub(crate) monitoring: Mutex<Option<((i32, u64), Session)>>,
    /// Where the WAL ends, for the control data it was found for.
    wal_end: Mutex<Option<(ControlData, Option<Lsn>)>>,
    /// The ways to make a replica, by the configuration in force.
    ways: RwLock<Vec<Way>>,
    /// The messages of the copy that is being made.
    pub(crate) copying: Mutex<Option<PathBuf>>,
    /// Parameters as they were wanted and as the server takes them.
    checked: Mutex<Option<(Parameters, Parameters)>>,
}

type Parameters = BTreeMap<String, String>;

impl Postgres {
    /// Takes the lock beside the data directory and clears up what an interrupted operation left behind. PostgreSQL is
    /// not touched. Waits for processes; call it before the actors start.
    pub fn open(mut options: PostgresOptions) -> Outcome<Self> {
        let absolute = std::path::absolute(&options.data_dir);
        options.data_dir = absolute.tried(|| format!("find the place of {}", options.data_dir.display()))?;
        let state = StateDir::open(&options)?;
        if !options.bootstrap_users.is_empty() {
            log::error!(
                "bootstrap.users is not supported any more; create these roles in a post_bootstrap script: {:?}",
                options.bootstrap_users
            );
        }
        let config = RwLock::new(ServerConfig::merge(&options, &options.bootstrap_dcs));
        let ways = RwLock::new(methods::ways(&options, &options.bootstrap_dcs));
        let server = Self {
            options,
            state,
            config,
            files: Mutex::new(()),
            monitoring: Mutex::new(None),
            wal_end: Mutex::new(None),
            ways,
            copying: Mutex::new(None),
            checked: Mutex::new(None),
        };
        server.warn_of_plain_connections();
        interrupted::clear_up(&server)?;
        Ok(server)
    }

    /// The options it was opened with.
    pub fn options(&self) -> &PostgresOptions {
        &self.options
    }

    /// The state directory.
    pub fn state_dir(&self) -> &StateDir {
        &self.state
    }

    /// What the fence needs to end this server.
    pub fn killer(&self) -> Killer {
        Killer::new(&self.options.data_dir)
    }

    /// The configuration in force.
    pub fn config(&self) -> ServerConfig {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn lock_files(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a dynamic configuration (the JSON text of the `config` key) in force: files are written if there is a data
    /// directory, and a running server reads them again if they changed. True if it was told to.
    pub fn apply_dynamic(&self, dynamic: &str) -> Outcome<bool> {
        let merged = ServerConfig::merge(&self.options, dynamic);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = merged;
        *self.ways.write().unwrap_or_else(PoisonError::into_inner) = methods::ways(&self.options, dynamic);
        self.rewrite_and_reload()
    }

    /// The ways to make a replica, in their order.
    pub(crate) fn ways(&self) -> Vec<Way> {
        self.ways.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes the configuration files as they should be, and reloads a running server if that changed anything. True if
    /// it was reloaded.
    pub fn rewrite_and_reload(&self) -> Outcome<bool> {
        if control_data::major_version(&self.options.data_dir).is_none() {
            return Ok(false);
        }
        let changed = config_files::write(self, config_files::Recovery::Keep)?;
        Ok(changed && self.reload())
    }

    /// Makes a running server read its configuration files again.
    pub fn reload(&self) -> bool {
        self.killer().signal_postmaster(rustix::process::Signal::HUP)
    }

    /// The parameters without those that would keep the server from starting; asked once for each change.
    pub(crate) fn checked_parameters(&self, wanted: &Parameters) -> Outcome<Parameters> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, usable)) = checked.as_ref().filter(|(of, _)| of == wanted) {
            return Ok(usable.clone());
        }
        let usable = parameter_check::usable(self, wanted)?;
        *checked = Some((wanted.clone(), usable.clone()));
        Ok(usable)
    }

    /// A warning for what the local configuration asks and the agent does not do.
    fn warn_of_plain_connections(&self) {
        let mode = self.options.superuser.extra.get("sslmode").map(String::as_str).unwrap_or_default();
        if matches!(mode, "require" | "verify-ca" | "verify-full") && !self.options.use_unix_socket {
            log::warn!(
                "the agent's own connections to PostgreSQL are not encrypted although sslmode is {mode}; set use_unix_socket"
            );
        }
    }

    /// The monitoring connection, if it leads to this postmaster. Whoever takes it puts it back if it still works.
    pub(crate) fn take_monitoring(&self, postmaster: (i32, u64)) -> Option<Session> {
        let kept = self.monitoring.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.filter(|(of, session)| *of == postmaster && !session.is_closed()).map(|(_, session)| session)
    }

    pub(crate) fn keep_monitoring(&self, postmaster: (i32, u64), session: Session) {
        *self.monitoring.lock().unwrap_or_else(PoisonError::into_inner) = Some((postmaster, session));
    }

    /// The end of the WAL, if it was found for just this control data; `None` when it was not looked for.
    pub(crate) fn known_wal_end(&self, control: &ControlData) -> Option<Option<Lsn>> {
        let known = self.wal_end.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(of, _)| of == control).map(|(_, end)| *end)
    }

    pub(crate) fn remember_wal_end(&self, found: Option<(ControlData, Option<Lsn>)>) {
        *self.wal_end.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// Makes sure that no server process of the data directory lives before something is done to it. A living
    /// postmaster is an error, orphans are killed.
    pub(crate) fn require_stopped(&self) -> Outcome<()> {
        match alive(&self.options.data_dir) {
            Alive::Nothing => Ok(()),
            Alive::Postmaster(p) => {
                Err(OperationError::failed(format!("PostgreSQL is running already (pid {})", p.pid)))
            }
            Alive::Orphans(pids) | Alive::JustSpawned(pids) => {
                log::warn!("killing server processes that were left without a postmaster: {pids:?}");
                self.kill_all()
            }
        }
    }

    /// Kills every process of the data directory.
    pub fn kill_all(&self) -> Outcome<()> {
        self.killer().kill_all(KILL_PATIENCE).tried(|| "end PostgreSQL".to_owned())
    }

    /// A clean end for something started that may not go on: SIGQUIT, two seconds, SIGKILL.
    pub(crate) fn end_now(&self) -> Outcome<()> {
        crate::stop::stop_immediately(self, &OperationControl::new(None))
    }
}
