//! What one look at this node's PostgreSQL found.

pub use crate::slot::SeenSlot;
use crate::{HistoryRow, Instant, Lsn, Progress, Timeline, WallTime};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// PostgreSQL's database system identifier.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct SystemId(pub u64);

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `Database cluster state` of pg_control.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum ControlState {
    /// `starting up`.
    StartingUp,
    /// `shut down`: a primary, stopped in order.
    ShutDown,
    /// `shut down in recovery`: a standby, stopped in order.
    ShutDownInRecovery,
    /// `shutting down`.
    ShuttingDown,
    /// `in crash recovery`.
    InCrashRecovery,
    /// `in archive recovery`.
    InArchiveRecovery,
    /// `in production`.
    InProduction,
}

/// What the control file and the data directory say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControlData {
    /// The cluster the data belongs to.
    pub system_id: SystemId,
    /// Its state.
    pub state: ControlState,
    /// `Latest checkpoint location`.
    pub checkpoint_lsn: Lsn,
    /// `Latest checkpoint's TimeLineID`.
    pub checkpoint_timeline: Timeline,
    /// `Minimum recovery ending location`; zero when none.
    pub min_recovery_lsn: Lsn,
    /// `Min recovery ending loc's timeline`; zero when none.
    pub min_recovery_timeline: Timeline,
    /// `standby.signal` or `recovery.signal` exists: the server will start in recovery.
    pub standby_signal: bool,
    /// Where the WAL on disk ends (first position without a valid record) on `wal_timeline()`: only for a stopped server without a standby
    /// signal, and only once it was found out.
    pub wal_end: Option<Lsn>,
    /// PostgreSQL's major version, `15`.
    pub major_version: u32,
    /// pg_rewind can work on these data: data checksums, or `wal_log_hints`.
    pub rewindable: bool,
    /// pg_rewind was interrupted after it had begun to change the files: PostgreSQL must not be started from them until a
    /// rewind was repeated with success or the data were replaced.
    pub rewind_interrupted: bool,
}

impl ControlData {
    /// The timeline that the WAL of a primary ends on: the control file tells of a promotion at once, and of a
    /// checkpoint on the new timeline only later.
    pub fn wal_timeline(&self) -> Timeline {
        self.checkpoint_timeline.max(self.min_recovery_timeline)
    }
}

/// The data directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DataDirectory {
    /// Missing, or nothing of PostgreSQL in it: may be created.
    Empty,
    /// Something is there that cannot be read or used; the text says what and what helps.
    Unusable(String),
    /// A PostgreSQL data directory.
    Present(ControlData),
}

/// State of one standby connection as its primary sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct WalSender {
    /// Login role.
    pub usename: String,
    /// The standby's name.
    pub application_name: String,
    /// Its address.
    pub client_addr: Option<String>,
    /// `streaming`, `catchup`, …
    pub state: String,
    /// `async`, `sync`, `quorum`, `potential`.
    pub sync_state: String,
    /// Its priority among synchronous standbys.
    pub sync_priority: i32,
    /// Its process.
    #[serde(skip)]
    pub pid: u32,
    /// Up to where the standby has written, flushed and replayed.
    #[serde(skip)]
    pub written: Option<Lsn>,
    /// See `written`.
    #[serde(skip)]
    pub flushed: Option<Lsn>,
    /// See `written`.
    #[serde(skip)]
    pub replayed: Option<Lsn>,
    /// How long ago it was seen that it had answered again, in milliseconds; `None` when it never did, or the server is too
    /// old to say (before 12).
    #[serde(skip)]
    pub replied_ms_ago: Option<u64>,
}

/// How a server waits for standbys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SyncReport {
    /// `synchronous_standby_names` in force: what every process of the server goes by. During a change by the agent this is
    /// the former value.
    pub names: String,
    /// The agent has set them ([`crate::SyncApply::Names`]), and not the user.
    pub managed: bool,
    /// What the user configured there.
    pub user_names: String,
    /// `synchronous_commit`.
    pub commit: String,
    /// `wal_receiver_status_interval` in milliseconds: so often a standby answers. 0: only when it must.
    pub status_interval_ms: u64,
    /// Backends whose commit waits for standbys: process and begin of the statement, a few of them.
    pub waiting: Vec<(u32, String)>,
}

/// A server that answers SQL.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RunningServer {
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// Primary: the rows of its timeline's history file (ancestors, oldest first; `at` and `new_leader` unset); empty on
    /// timeline 1 and on a standby.
    pub history: Vec<HistoryRow>,
    /// Its timeline: of the current WAL on a primary, of the receiver (else the control file) on a standby.
    pub timeline: Option<Timeline>,
    /// Primary: flushed WAL position. Standby: zero.
    pub flushed: Lsn,
    /// Standby: end of what was received (and written); zero when nothing was.
    pub received: Lsn,
    /// Standby: end of what was replayed.
    pub replayed: Lsn,
    /// Commit time of the last replayed transaction, in PostgreSQL's text form.
    pub replayed_timestamp: Option<String>,
    /// Replay is paused.
    pub replay_paused: bool,
    /// The WAL receiver is streaming.
    pub streaming: bool,
    /// The last position the WAL receiver heard of from its sender.
    pub latest_end: Option<Lsn>,
    /// A restore command is set.
    pub restore_command: bool,
    /// `host` and `port` of `primary_conninfo`; `None` when it names nobody.
    pub upstream: Option<(String, u16)>,
    /// Standby of a standby cluster that does not stream: by a history file that came from its source, its timeline ended
    /// at this position and went on as that timeline.
    pub forked_at: Option<(Timeline, Lsn)>,
    /// Replication slots (not temporary ones).
    pub slots: Vec<SeenSlot>,
    /// Names that the agent noted as its own ([`SeenSlot::managed`]) and that no slot has now.
    pub slots_gone: BTreeSet<String>,
    /// Standby connections.
    pub walsenders: Vec<WalSender>,
    /// Whom commits wait for.
    pub sync: SyncReport,
    /// In PostgreSQL's text form.
    pub postmaster_start_time: String,
    /// e.g. `150018`.
    pub server_version: u32,
    /// A setting waits for a restart.
    pub pending_restart: bool,
    /// Which: name, value in force, value wanted.
    pub pending_restart_reason: Vec<(String, String, String)>,
}

impl RunningServer {
    /// The position that counts in a race: flushed on a primary, else the larger of received and replayed.
    pub fn position(&self) -> Lsn {
        if self.in_recovery { self.received.max(self.replayed) } else { self.flushed }
    }
    /// `streaming`, `in archive recovery` or nothing (spec/postgres-control.md 3).
    pub fn replication_state(&self) -> Option<&'static str> {
        match (self.in_recovery, self.streaming, self.restore_command) {
            (true, true, _) => Some("streaming"),
            (true, false, true) => Some("in archive recovery"),
            _ => None,
        }
    }
}

/// The server process.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant)] // there is one, and it is nearly always the large variant
pub enum Server {
    /// No postmaster and no backend of this data directory is alive.
    Stopped,
    /// The postmaster is gone but backends of this data directory are alive: they may still acknowledge commits.
    Orphaned,
    /// A postmaster is alive but does not accept connections yet.
    Starting,
    /// A postmaster is alive and refuses connections because it is going down.
    Stopping,
    /// The same, and its shutdown checkpoint is in the control file: every client was ended before that was written, none is
    /// accepted any more, and nothing can be committed. What is left is to archive WAL and to send it to standbys.
    Archiving,
    /// A postmaster is alive but gave no answer in time; the text says what was tried.
    Unresponsive(String),
    /// It answers.
    Running(RunningServer),
}

/// One look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PostgresState {
    /// Read before the look began, so it is never younger than the facts.
    pub looked_at: Instant,
    /// The same on the wall clock.
    pub wall: WallTime,
    /// The directory.
    pub data: DataDirectory,
    /// The process.
    pub server: Server,
    /// A copy is being made: how far it has come.
    pub progress: Option<Progress>,
}

impl PostgresState {
    /// The server, if it answers.
    pub fn running(&self) -> Option<&RunningServer> {
        match &self.server {
            Server::Running(r) => Some(r),
            _ => None,
        }
    }
    /// The control data, if there are any.
    pub fn control(&self) -> Option<&ControlData> {
        match &self.data {
            DataDirectory::Present(c) => Some(c),
            _ => None,
        }
    }
    /// Could a client's commit succeed here now or in a moment? (A server that did not answer may well be primary.)
    pub fn may_be_writable(&self) -> bool {
        match &self.server {
            Server::Stopped => false,
            Server::Archiving => self.control().is_none_or(|c| c.state != ControlState::ShutDown),
            Server::Running(r) => !r.in_recovery,
            Server::Orphaned | Server::Starting | Server::Stopping | Server::Unresponsive(_) => {
                !self.control().is_some_and(|c| c.standby_signal)
            }
        }
    }
}

/// The state text shown to users, with its frozen metric index (spec/postgres-control.md 1).
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum ServerPhase {
    /// initdb runs.
    InitializingNewCluster,
    /// initdb failed.
    InitdbFailed,
    /// A clone is made.
    CreatingReplica,
    /// Accepts connections.
    Running,
    /// Starts.
    Starting,
    /// Gone before it was ready.
    StartFailed,
    /// Stops.
    Stopping,
    /// Stops, to be started again.
    Restarting,
    /// A restart did not work.
    RestartFailed,
    /// The user's bootstrap script runs.
    RunningCustomBootstrap,
    /// The user's bootstrap script failed.
    CustomBootstrapFailed,
    /// Not running.
    #[default]
    Stopped,
    /// Could not be stopped.
    StopFailed,
    /// Gone without being asked.
    Crashed,
}

impl ServerPhase {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InitializingNewCluster => "initializing new cluster",
            Self::InitdbFailed => "initdb failed",
            Self::CreatingReplica => "creating replica",
            Self::Running => "running",
            Self::Starting => "starting",
            Self::StartFailed => "start failed",
            Self::Stopping => "stopping",
            Self::Restarting => "restarting",
            Self::RestartFailed => "restart failed",
            Self::RunningCustomBootstrap => "running custom bootstrap script",
            Self::CustomBootstrapFailed => "custom bootstrap failed",
            Self::Stopped => "stopped",
            Self::StopFailed => "stop failed",
            Self::Crashed => "crashed",
        }
    }
}
