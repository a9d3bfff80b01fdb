//! The server of one data directory: its options, its configuration in force, its state directory. The long
//! operations are methods of it, each in the file that names it.

use crate::archiving::no_client_is_left;
use crate::control::OperationControl;
use crate::error::{OperationError, Outcome, Tried};
use crate::interrupted;
use crate::kill::Killer;
use crate::known_control::KnownControl;
use crate::known_wal_end::KnownWalEnd;
use crate::local_options;
use crate::methods::{self, Way};
use crate::options::PostgresOptions;
use crate::parameter_check;
use crate::process::{Alive, Postmaster, alive, find_postmaster};
use crate::receiver::KnownReceiver;
use crate::replies::Replies;
use crate::role_overlay::RoleClass;
use crate::script_settings::Scripts;
use crate::server_config::{ServerConfig, UnusableConfig};
use crate::slots::managed::ManagedSlots;
use crate::slots::waited::WaitedSlots;
use crate::sql::Session;
use crate::standby_names::{PARAMETER, StandbyNamesOwner};
use crate::state_dir::StateDir;
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// Orphans and leftovers are killed within this time, or the operation fails.
pub(crate) const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// One PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    /// As it was opened: for what never changes, such as the data directory.
    pub(crate) options: PostgresOptions,
    /// As the settings file says now: for what may change while the agent runs.
    local: ArcSwap<PostgresOptions>,
    pub(crate) state: StateDir,
    config: RwLock<InForce>,
    pub(crate) standby_names: StandbyNamesOwner,
    leads_standby_cluster: AtomicBool,
    /// Must its upstream keep rows for it (`hot_standby_feedback`), and may it copy slots? As the coordinator said last.
    keeps_rows: Mutex<Option<(bool, bool)>>,
    pub(crate) managed_slots: ManagedSlots,
    pub(crate) waited_slots: WaitedSlots,
    /// Held while configuration files are written, so that there is one writer at a time.
    files: Mutex<()>,
    /// The monitoring connection and the postmaster it leads to: making one costs more than all its queries.
    pub(crate) monitoring: Mutex<Option<((i32, u64), Session)>>,
    /// When standbys answered last.
    pub(crate) replies: Mutex<Replies>,
    /// What receives a standby's WAL, by the last look.
    pub(crate) receiver: KnownReceiver,
    /// The control file as it was read last.
    pub(crate) known_control: KnownControl,
    /// What was last said of a pause of replay.
    pub(crate) told_of_pause: Mutex<Option<String>>,
    /// Where the WAL ends, for the control data it was found for.
    pub(crate) wal_end: KnownWalEnd,
    /// The messages of the copy that is being made.
    pub(crate) copying: Mutex<Option<PathBuf>>,
    /// No server has been started on the copy that was made and flushed last.
    pub(crate) copy_is_flushed: AtomicBool,
    /// The postmaster that is known to be past its shutdown checkpoint.
    archives: Mutex<Option<Postmaster>>,
    /// Parameters as they were wanted and as the server takes them.
    checked: Mutex<Option<(Parameters, Parameters)>>,
}

type Parameters = BTreeMap<String, String>;

/// The dynamic configuration and what it makes of the local one.
#[derive(Debug, Default)]
struct InForce {
    dynamic: String,
    merged: ServerConfig,
    /// The ways to make a replica.
    ways: Vec<Way>,
}

impl InForce {
    fn of(local: &PostgresOptions, dynamic: &str) -> Result<Self, UnusableConfig> {
        let merged = ServerConfig::merge(local, dynamic)?;
        Ok(Self { dynamic: dynamic.to_owned(), merged, ways: methods::ways(local, dynamic) })
    }
}

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
        let dynamic = options.bootstrap_dcs.clone();
        let config = InForce::of(&options, &dynamic)
            .map_err(|e| OperationError::failed(format!("the dynamic configuration to begin with is unusable: {e}")))?;
        let standby_names = StandbyNamesOwner::open(&state)?;
        let managed_slots = ManagedSlots::open(&state);
        let server = Self {
            local: ArcSwap::from_pointee(options.clone()),
            options,
            state,
            config: RwLock::new(config),
            standby_names,
            leads_standby_cluster: AtomicBool::new(false),
            keeps_rows: Mutex::new(None),
            managed_slots,
            waited_slots: WaitedSlots::default(),
            files: Mutex::new(()),
            monitoring: Mutex::new(None),
            replies: Mutex::default(),
            receiver: KnownReceiver::default(),
            known_control: KnownControl::default(),
            told_of_pause: Mutex::new(None),
            wal_end: KnownWalEnd::default(),
            copying: Mutex::new(None),
            copy_is_flushed: AtomicBool::new(false),
            archives: Mutex::new(None),
            checked: Mutex::new(None),
        };
        server.warn_of_plain_connections();
        interrupted::clear_up(&server)?;
        Ok(server)
    }

    /// The options it was opened with: for what never changes.
    pub fn options(&self) -> &PostgresOptions {
        &self.options
    }

    /// The options as the settings file says now.
    pub fn current(&self) -> Arc<PostgresOptions> {
        self.local.load_full()
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
        self.config.read().unwrap_or_else(PoisonError::into_inner).merged.clone()
    }

    /// The user's scripts in force.
    pub fn scripts(&self) -> Scripts {
        self.config.read().unwrap_or_else(PoisonError::into_inner).merged.scripts.clone()
    }

    /// The dynamic configuration it comes from, a JSON text.
    pub fn dynamic(&self) -> String {
        self.config.read().unwrap_or_else(PoisonError::into_inner).dynamic.clone()
    }

    /// Takes a dynamic configuration (the JSON text of the `config` key), or refuses it as a whole. No file is written.
    pub(crate) fn take_dynamic(&self, dynamic: &str) -> Result<(), UnusableConfig> {
        let new = InForce::of(&self.current(), dynamic)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Takes the local configuration as it is now. No file is written. The answer names what changed and needs a
    /// restart of the agent; that stays as it was.
    pub fn take_local(&self, new: PostgresOptions) -> Result<Vec<&'static str>, UnusableConfig> {
        let (new, waiting) = local_options::changeable(&self.options, new);
        let mut config = self.config.write().unwrap_or_else(PoisonError::into_inner);
        *config = InForce::of(&new, &config.dynamic)?;
        self.local.store(Arc::new(new));
        Ok(waiting)
    }

    /// Says whether this server, in recovery, leads a standby cluster; its files are written for that from now on.
    pub fn set_leads_standby_cluster(&self, leads: bool) {
        self.leads_standby_cluster.store(leads, Ordering::Relaxed);
    }

    /// Says whether logical slots here, or below this node, need rows that its upstream would remove; its files are written
    /// for that from now on. And whether the server may begin to copy slots: it would end with an error, and rest for 10 s,
    /// as long as one of its own is in the way.
    pub fn set_keeps_rows(&self, rows: bool, copies: bool) {
        *self.keeps_rows.lock().unwrap_or_else(PoisonError::into_inner) = Some((rows, copies));
    }

    /// Says by which slots those stream for whom consumers of logical slots wait; its files are written for that from now
    /// on, where the configuration asks for it.
    pub fn set_waited_slots(&self, slots: BTreeSet<String>) {
        self.waited_slots.set(slots);
    }

    /// Until that is known, the configuration tells: to switch it off for a moment would let go of the rows.
    pub(crate) fn keeps_rows(&self, config: &ServerConfig) -> bool {
        let said = *self.keeps_rows.lock().unwrap_or_else(PoisonError::into_inner);
        let (rows, _) = said.unzip();
        rows.unwrap_or(config.use_slots && config.logical_slots && config.standby_cluster.is_none())
    }

    /// May the server copy logical slots? Not before that is known.
    pub(crate) fn copies_slots(&self) -> bool {
        self.keeps_rows.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|(rows, copies)| rows && copies)
    }

    pub(crate) fn leads_standby_cluster(&self) -> bool {
        self.leads_standby_cluster.load(Ordering::Relaxed)
    }

    /// What the user configured as `synchronous_standby_names` for a server in recovery or out of it.
    pub(crate) fn users_standby_names(&self, in_recovery: bool) -> String {
        let role = match (in_recovery, self.leads_standby_cluster()) {
            (false, _) => RoleClass::Primary,
            (true, true) => RoleClass::StandbyLeader,
            (true, false) => RoleClass::Replica,
        };
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        config.merged.parameter(role, PARAMETER).unwrap_or_default().to_owned()
    }

    pub(crate) fn lock_files(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ways to make a replica, in their order.
    pub(crate) fn ways(&self) -> Vec<Way> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).ways.clone()
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
        let options = self.current();
        let mode = options.superuser.extra.get("sslmode").map(String::as_str).unwrap_or_default();
        if matches!(mode, "require" | "verify-ca" | "verify-full") && !options.use_unix_socket {
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

    /// The next look makes a new connection.
    pub(crate) fn forget_monitoring(&self) {
        drop(self.monitoring.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Is this postmaster, whose control file says `shut down`, past its shutdown checkpoint? Once it is it stays so, whoever
    /// knocks at its door meanwhile.
    pub(crate) fn archives(&self, postmaster: Postmaster) -> bool {
        let mut known = self.archives.lock().unwrap_or_else(PoisonError::into_inner);
        let archives = *known == Some(postmaster) || no_client_is_left(&self.options, postmaster);
        if archives {
            *known = Some(postmaster);
        }
        archives && find_postmaster(&self.options.data_dir) == Some(postmaster)
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
