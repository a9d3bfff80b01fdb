//! The typed part of the dynamic configuration that decisions depend on.

use crate::{SlotSettings, StandbyCluster, SyncMode, SyncSettings};
use std::time::Duration;

/// Cluster-wide settings, already checked and corrected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Lease time to live.
    pub ttl: Duration,
    /// How long the coordinator waits at most between two looks at the world.
    pub loop_wait: Duration,
    /// How long one DCS step may take.
    pub retry_timeout: Duration,
    /// A replica that lags more than this behind the last known leader position does not lead, in bytes.
    pub maximum_lag_on_failover: u64,
    /// How long a starting primary may take before it gives up the lock.
    pub primary_start_timeout: Duration,
    /// How long the slot of an absent member is kept.
    pub member_slots_ttl: Duration,
    /// `postgresql.use_slots`.
    pub use_slots: bool,
    /// Permanent slots, and what is done with unknown ones.
    pub slots: SlotSettings,
    /// Rows kept in `history`; 0 keeps all.
    pub max_timelines_history: usize,
    /// Maintenance mode.
    pub pause: bool,
    /// How long an orderly stop of a primary may take before it becomes immediate; zero: as long as `pg_ctl_timeout`.
    pub primary_stop_timeout: Duration,
    /// How long a standby that still receives WAL waits before it joins a leader race.
    pub primary_race_backoff: Duration,
    /// Only a standby on the cluster's latest timeline may lead.
    pub check_timeline: bool,
    /// Keep the primary while the DCS is lost and every member agrees.
    pub failsafe_mode: bool,
    /// The leader follows the primary of another cluster, and nobody is promoted.
    pub standby_cluster: Option<StandbyCluster>,
    /// Synchronous replication.
    pub sync: SyncSettings,
    /// What to do with diverged data.
    pub rewind: RewindPolicy,
    /// Demote after `retry_timeout` without the DCS (as Patroni does) instead of at the fence deadline.
    pub dcs_outage_demote_early: bool,
}

impl Settings {
    /// The synchronous mode asked for; a standby cluster has none.
    pub fn sync_mode(&self) -> SyncMode {
        if self.standby_cluster.is_some() { SyncMode::Off } else { self.sync.mode }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            loop_wait: Duration::from_secs(10),
            retry_timeout: Duration::from_secs(10),
            maximum_lag_on_failover: 1_048_576,
            primary_start_timeout: Duration::from_secs(300),
            member_slots_ttl: Duration::from_secs(1800),
            use_slots: true,
            slots: SlotSettings::default(),
            max_timelines_history: 0,
            pause: false,
            primary_stop_timeout: Duration::ZERO,
            primary_race_backoff: Duration::ZERO,
            check_timeline: false,
            failsafe_mode: false,
            standby_cluster: None,
            sync: SyncSettings::default(),
            rewind: RewindPolicy::default(),
            dcs_outage_demote_early: false,
        }
    }
}

/// What may be done with data that are not on the leader's history (section `postgresql`).
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct RewindPolicy {
    /// `use_pg_rewind`.
    pub use_pg_rewind: bool,
    /// `remove_data_directory_on_rewind_failure`: replace the data by a new copy.
    pub replace_on_failure: bool,
    /// `remove_data_directory_on_diverged_timelines`: the same where pg_rewind cannot be used.
    pub replace_on_divergence: bool,
}
