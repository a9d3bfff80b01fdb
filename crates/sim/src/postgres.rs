//! A model of one PostgreSQL server: data directory, control file, process, timeline and WAL position. WAL is not kept:
//! timeline numbers are unique, so a position on a timeline, with the history of switches, says what a directory holds.

use crate::slots::Slots;
use crate::sync_rep::SyncRep;
use pgherd_types::postgres::{ControlState, SeenSlot};
use pgherd_types::{
    ControlData, DataDirectory, HistoryRow, Instant, Lsn, PostgresState, RunningServer, Server, StandbyNames, SystemId,
    Timeline, WallTime,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where a new cluster's WAL begins.
pub const FIRST_LSN: u64 = 0x0100_0000;
/// Size of a checkpoint record.
pub const CHECKPOINT_BYTES: u64 = 120;

/// What is on disk.
#[derive(Clone, Debug)]
pub struct Data {
    /// The cluster.
    pub system: SystemId,
    /// The timeline of its end.
    pub timeline: Timeline,
    /// Ancestors of that timeline.
    pub history: Arc<Vec<HistoryRow>>,
    /// Where its WAL ends.
    pub wal_end: u64,
    /// It will start in recovery.
    pub standby_signal: bool,
    /// State in the control file.
    pub state: ControlState,
    /// Latest checkpoint.
    pub checkpoint: (Timeline, u64),
    /// Minimum recovery point.
    pub min_recovery: (Timeline, u64),
    /// `primary_conninfo`.
    pub upstream: Option<(String, u16)>,
    /// Replication slots.
    pub slots: BTreeSet<String>,
    /// The logical slot, and what else is kept and removed of the catalog.
    pub logical: Slots,
    /// The end of the WAL was looked for since the server stopped.
    pub wal_end_found: bool,
    /// `synchronous_standby_names` as an agent wrote it; `None`: the user's, who waits for nobody.
    pub names: Option<StandbyNames>,
}

impl Data {
    /// A new cluster, shut down.
    pub fn initdb(system: SystemId) -> Self {
        Self {
            system,
            timeline: Timeline(1),
            history: Arc::default(),
            wal_end: FIRST_LSN,
            standby_signal: false,
            state: ControlState::ShutDown,
            checkpoint: (Timeline(1), FIRST_LSN),
            min_recovery: (Timeline(0), 0),
            upstream: None,
            slots: BTreeSet::new(),
            logical: Slots::default(),
            wal_end_found: false,
            names: None,
        }
    }
    /// Up to where this directory holds a timeline's WAL.
    pub fn end_on(&self, timeline: Timeline) -> u64 {
        if timeline == self.timeline {
            return self.wal_end;
        }
        self.history.iter().find(|row| row.timeline == timeline).map_or(0, |row| row.switch_lsn.0)
    }
    /// Is everything in here also on the history of the other?
    pub fn is_within(&self, other: &Self) -> bool {
        self.system == other.system && self.wal_end <= other.end_on(self.timeline)
    }
    /// Could the other, once it goes on, hold everything that is in here? (It may be behind on the very same timeline.)
    pub fn on_history_of(&self, other: &Self) -> bool {
        self.system == other.system && (self.timeline == other.timeline || self.is_within(other))
    }
    fn control(&self, stopped: bool, major_version: u32) -> ControlData {
        let found = stopped && !self.standby_signal && self.wal_end_found;
        ControlData {
            system_id: self.system,
            state: self.state,
            checkpoint_lsn: Lsn(self.checkpoint.1),
            checkpoint_timeline: self.checkpoint.0,
            min_recovery_lsn: Lsn(self.min_recovery.1),
            min_recovery_timeline: self.min_recovery.0,
            standby_signal: self.standby_signal,
            wal_end: found.then_some(Lsn(self.wal_end)),
            major_version,
            rewindable: true,
            rewind_interrupted: false,
        }
    }
}

/// The process.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Proc {
    /// None.
    #[default]
    Stopped,
    /// On its way up.
    Starting,
    /// Serves.
    Running,
    /// A fast stop: clients are ended, the shutdown checkpoint is written.
    Stopping,
    /// After that: standbys get it, and WAL is archived.
    Archiving,
    /// An immediate stop or a kill is on its way.
    Dying,
    /// Backends without a postmaster.
    Orphaned,
}

/// A walreceiver's connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Receiver {
    /// The node it streams from.
    pub upstream: usize,
    /// The process there.
    pub upstream_pid: u64,
    /// The connection.
    pub connection: u32,
}

/// One server.
#[derive(Clone, Debug, Default)]
pub struct Postgres {
    /// The directory; `None`: empty.
    pub data: Option<Data>,
    /// The process.
    pub proc: Proc,
    /// Counts processes; events of earlier ones are void.
    pub pid: u64,
    /// In recovery.
    pub in_recovery: bool,
    /// A commit of a client can be acknowledged.
    pub writable: bool,
    /// Something was received since the start.
    pub received: bool,
    /// The walreceiver's connection.
    pub receiver: Option<Receiver>,
    /// Counts attempts of the walreceiver; events of earlier ones are void.
    pub attempts: u64,
    /// When it last answered its upstream (true time).
    pub replied_at: u64,
    /// Synchronous replication, as a primary.
    pub sync: SyncRep,
    /// Nothing moves before this (true time).
    pub stalled_until: u64,
    /// A kill of this process is on its way.
    pub kill_queued: bool,
    /// Like version 17: it keeps copies of slots by itself, and consumers wait for standbys. Else like version 15.
    pub native: bool,
    /// For the standbys of these slots, by its configuration file.
    pub waited_file: BTreeSet<String>,
    /// The same as it is in force.
    pub waited_for: BTreeSet<String>,
    /// Its consumers wait.
    pub consumers_held: bool,
    /// A planted bug of the monitor: without a receiver it takes a standby's timeline from the control file, which lags
    /// behind the WAL until the next restartpoint.
    pub blind_to_wal: bool,
}

impl Postgres {
    /// Is any process of it alive?
    pub fn alive(&self) -> bool {
        self.proc != Proc::Stopped
    }
    /// May it be out of recovery, or get there without further orders?
    pub fn may_be_writable(&self) -> bool {
        self.alive() && self.data.as_ref().is_some_and(|d| !d.standby_signal)
    }
    /// One look.
    pub fn look(&mut self, at: Instant, wall: WallTime, stalled: bool) -> PostgresState {
        let (stopped, version) = (self.proc == Proc::Stopped, if self.native { 17 } else { 15 });
        let data = match &mut self.data {
            None => DataDirectory::Empty,
            Some(data) => {
                let seen = DataDirectory::Present(data.control(stopped, version));
                data.wal_end_found = stopped; // found out by the first look at a stopped server, told by the next
                seen
            }
        };
        let server = match self.proc {
            Proc::Stopped => Server::Stopped,
            Proc::Orphaned => Server::Orphaned,
            _ if stalled => Server::Unresponsive("no answer in time".to_owned()),
            Proc::Starting => Server::Starting,
            Proc::Stopping | Proc::Dying => Server::Stopping,
            Proc::Archiving => Server::Archiving,
            Proc::Running => self.data.as_ref().map_or(Server::Starting, |data| Server::Running(self.running(data))),
        };
        PostgresState { looked_at: at, wall, data, server, progress: None }
    }
    fn running(&self, data: &Data) -> RunningServer {
        let standby = self.in_recovery;
        let streaming = standby && self.receiver.is_some();
        let known = if standby && !streaming && self.blind_to_wal {
            data.checkpoint.0.max(data.min_recovery.0)
        } else {
            data.timeline
        };
        let end = Lsn(data.wal_end);
        RunningServer {
            in_recovery: standby,
            history: if standby { Vec::new() } else { data.history.to_vec() },
            timeline: Some(known),
            flushed: if standby { Lsn(0) } else { end },
            received: if standby && self.received { end } else { Lsn(0) },
            replayed: if standby { end } else { Lsn(0) },
            replayed_timestamp: None,
            replay_paused: false,
            streaming,
            latest_end: streaming.then_some(end),
            restore_command: false,
            upstream: data.upstream.clone(),
            forked_at: None,
            slots: data
                .slots
                .iter()
                .map(|name| seen_slot(name, end))
                .chain(data.logical.seen_logical(self.native, standby))
                .collect(),
            slots_gone: BTreeSet::new(),
            walsenders: Vec::new(),
            sync: Default::default(),
            postmaster_start_time: String::new(),
            server_version: if self.native { 170_002 } else { 150_018 },
            pending_restart: false,
            pending_restart_reason: Vec::new(),
        }
    }
}

/// Whose owner is never behind: the model keeps no WAL.
fn seen_slot(name: &str, end: Lsn) -> SeenSlot {
    SeenSlot { name: name.to_owned(), physical: true, managed: true, restart_lsn: Some(end), ..SeenSlot::default() }
}
