//! The one classification of views: what kind of moment is this?

use crate::view::Running;
use crate::wishes::{self, Pending};
use crate::{Lock, View};
use pgherd_types::{
    Cluster, ControlData, DataDirectory, Initialize, Now, Operation, PostgresState, RunningServer, ScheduledRestart,
    Server, StatusKey, SystemId,
};
use std::sync::Arc;

/// Kinds of moments, in the order in which they take precedence.
#[derive(Debug)]
pub enum Situation<'v> {
    /// PostgreSQL is or may become writable and the lock does not allow it.
    Unfenced,
    /// The process should end.
    Leaving,
    /// An operation is under way.
    Busy(&'v Running),
    /// The leader key is being given up, and nobody knows yet whether it is.
    Releasing(&'v Option<StatusKey>),
    /// PostgreSQL was not looked at yet.
    NothingKnown,
    /// The postmaster is gone, its backends are not.
    Orphaned,
    /// The data are to be replaced, because somebody asked for it.
    Reinitialize(&'v Cluster),
    /// The data directory cannot be used.
    Unusable(&'v str),
    /// The DCS was never read.
    NoCluster,
    /// Another living node has our name; its API is there.
    NameTaken(&'v str),
    /// Maintenance mode.
    Paused(&'v Cluster, &'v PostgresState),
    /// There is no data.
    Empty(&'v Cluster),
    /// The data belong to another cluster.
    Foreign {
        /// Our data's system id.
        ours: SystemId,
        /// The `initialize` key's.
        key: SystemId,
    },
    /// The data are not registered in the DCS, or a bootstrap is not finished.
    Unregistered(&'v Cluster, &'v ControlData),
    /// PostgreSQL is to be restarted, because somebody asked for it.
    Restart,
    /// The time of the scheduled restart has come.
    ScheduledRestart(&'v ScheduledRestart),
    /// PostgreSQL is down.
    Down(&'v Cluster, &'v ControlData),
    /// A postmaster is there but does not serve.
    NotServing(&'v Cluster, &'v Server),
    /// The leader key was removed by somebody, our lease lives.
    KeyVanished,
    /// Primary with the lock.
    Leading(&'v Cluster, &'v RunningServer),
    /// Standby with the lock.
    Elected(&'v Cluster, &'v RunningServer),
    /// Primary with the lock, where there should be none.
    Surplus,
    /// Standby with the lock, in a standby cluster.
    StandbyLeader(&'v Cluster, &'v RunningServer),
    /// Standby, and the DCS does not answer.
    Blind,
    /// Standby, and nobody leads.
    Race(&'v Cluster, &'v RunningServer),
    /// Standby, and somebody leads.
    Following(&'v Cluster, &'v RunningServer),
}

impl<'v> Situation<'v> {
    /// Which kind of moment is it?
    pub fn of(view: &'v View, now: Now) -> Self {
        let lock = view.lock(now.mono);
        // in maintenance mode a primary goes on without the lock, but none is made without it
        let must_be_fenced = !view.settings.pause || view.becomes_writable();
        if view.may_be_writable() && lock == Lock::No && must_be_fenced {
            return Self::Unfenced;
        }
        if view.shutdown.is_some() {
            return Self::Leaving;
        }
        if let Some(running) = &view.operation {
            return Self::Busy(running);
        }
        if let (Some(status), Lock::Held { .. }) = (&view.releasing, lock) {
            return Self::Releasing(status);
        }
        let Some(postgres) = view.postgres.get() else { return Self::NothingKnown };
        if postgres.server == Server::Orphaned {
            return Self::Orphaned;
        }
        // without somebody to copy from the data are still worth having
        let led_by_another = |c: &&Arc<Cluster>| c.leader.as_ref().is_some_and(|leader| leader.name != view.me.name);
        if let (Some(Pending::Reinitialize { .. }), Some(cluster)) =
            (&view.pending, view.cluster.get().filter(led_by_another))
        {
            return Self::Reinitialize(cluster);
        }
        if let (DataDirectory::Unusable(why), false) = (&postgres.data, view.settings.pause) {
            return Self::Unusable(why);
        }
        let Some(cluster) = view.cluster.get() else { return Self::NoCluster };
        if let (Some(api_url), false) = (view.namesake(), matches!(lock, Lock::Held { .. })) {
            return Self::NameTaken(api_url);
        }
        if view.must_stop_to_restart() {
            return Self::Restart;
        }
        if let Some(restart) = wishes::due(view, now).filter(|_| view.pending.is_none()) {
            return Self::ScheduledRestart(restart);
        }
        if view.settings.pause {
            return Self::Paused(cluster, postgres);
        }
        let Some(control) = postgres.control() else { return Self::Empty(cluster) };
        Self::with_data(view, cluster, control, &postgres.server, lock)
    }

    fn with_data(
        view: &'v View,
        cluster: &'v Cluster,
        control: &'v ControlData,
        server: &'v Server,
        lock: Lock,
    ) -> Self {
        let held = matches!(lock, Lock::Held { .. });
        match &cluster.initialize {
            // a leader does not step down because somebody wrote nonsense into a key
            Some(Initialize::Done(key)) if *key != control.system_id && !held => {
                return Self::Foreign { ours: control.system_id, key: *key };
            }
            None | Some(Initialize::InProgress { .. })
                if lock == Lock::No && cluster.leader.is_none() && view.dcs_lost_since.is_none() =>
            {
                return Self::Unregistered(cluster, control);
            }
            _ => {}
        }
        match server {
            Server::Stopped | Server::Orphaned => Self::Down(cluster, control),
            Server::Starting | Server::Stopping | Server::Archiving | Server::Unresponsive(_) => {
                Self::NotServing(cluster, server)
            }
            Server::Running(_) if matches!(lock, Lock::Vanished { .. }) => Self::KeyVanished,
            Server::Running(running) if held && view.settings.standby_cluster.is_some() => match running.in_recovery {
                true => Self::StandbyLeader(cluster, running),
                // the fence is what matters as long as the DCS is gone
                false if view.dcs_lost_since.is_some() => Self::Leading(cluster, running),
                false => Self::Surplus,
            },
            Server::Running(running) if held && !running.in_recovery => Self::Leading(cluster, running),
            Server::Running(running) if held => Self::Elected(cluster, running),
            Server::Running(_) if view.dcs_lost_since.is_some() => Self::Blind,
            Server::Running(running) if cluster.leader.is_none() => Self::Race(cluster, running),
            Server::Running(running) => Self::Following(cluster, running),
        }
    }

    /// Is this operation one that ends a writable PostgreSQL?
    pub fn ends_writability(operation: &Operation) -> bool {
        matches!(operation, Operation::Stop { .. })
    }
}
