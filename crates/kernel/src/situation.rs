//! The one classification of views: what kind of moment is this?

use crate::view::Running;
use crate::{Lock, View};
use pgherd_types::{
    Cluster, ControlData, DataDirectory, Initialize, Instant, Operation, RunningServer, Server, SystemId,
};

/// Kinds of moments, in the order in which they take precedence.
#[derive(Debug)]
pub enum Situation<'v> {
    /// PostgreSQL is or may become writable and the lock does not allow it.
    Unfenced,
    /// The process should end.
    Leaving,
    /// An operation is under way.
    Busy(&'v Running),
    /// PostgreSQL was not looked at yet.
    NothingKnown,
    /// The postmaster is gone, its backends are not.
    Orphaned,
    /// The data directory cannot be used.
    Unusable(&'v str),
    /// The DCS was never read.
    NoCluster,
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
    /// PostgreSQL is down.
    Down(&'v Cluster, &'v ControlData),
    /// A postmaster is there but does not serve.
    NotServing(&'v Server),
    /// The leader key was removed by somebody, our lease lives.
    KeyVanished,
    /// Primary with the lock.
    Leading(&'v Cluster, &'v RunningServer),
    /// Standby with the lock.
    Elected(&'v Cluster, &'v RunningServer),
    /// Standby, and the DCS does not answer.
    Blind,
    /// Standby, and nobody leads.
    Race(&'v Cluster, &'v RunningServer),
    /// Standby, and somebody leads.
    Following(&'v Cluster, &'v RunningServer),
}

impl<'v> Situation<'v> {
    /// Which kind of moment is it?
    pub fn of(view: &'v View, now: Instant) -> Self {
        let lock = view.lock(now);
        if view.may_be_writable() && lock == Lock::No {
            return Self::Unfenced;
        }
        if view.shutdown.is_some() {
            return Self::Leaving;
        }
        if let Some(running) = &view.operation {
            return Self::Busy(running);
        }
        let Some(postgres) = view.postgres.get() else { return Self::NothingKnown };
        if postgres.server == Server::Orphaned {
            return Self::Orphaned;
        }
        if let DataDirectory::Unusable(why) = &postgres.data {
            return Self::Unusable(why);
        }
        let Some(cluster) = view.cluster.get() else { return Self::NoCluster };
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
            Server::Starting | Server::Stopping | Server::Unresponsive(_) => Self::NotServing(server),
            Server::Running(_) if matches!(lock, Lock::Vanished { .. }) => Self::KeyVanished,
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
