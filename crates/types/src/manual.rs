//! What operators ask for: switchover, failover, restart, a new copy of the data.

use crate::{MemberName, Role, WallTime};
use std::time::Duration;

/// When a switchover is to happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Schedule {
    /// Then.
    At {
        /// The moment.
        at: WallTime,
        /// The text it was read from: ISO 8601 with a zone.
        text: String,
    },
    /// A text without a zone, or no time at all: the request is void.
    Garbage(String),
}

/// The `failover` key (spec/dcs-etcd3.md 2.5): with a leader it asks for a switchover, without for a failover.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FailoverKey {
    /// Revision of its last change.
    pub mod_revision: i64,
    /// Who should give up the lead.
    pub leader: Option<MemberName>,
    /// Who should take it.
    pub candidate: Option<MemberName>,
    /// When; at once without one.
    pub schedule: Option<Schedule>,
}

impl FailoverKey {
    /// Does it ask for anything? `{}` means that it does not.
    pub fn asks(&self) -> bool {
        self.leader.is_some() || self.candidate.is_some()
    }
    /// The action's name in messages (spec/ha.md 9.4).
    pub fn action(&self) -> &'static str {
        if self.leader.is_some() { "switchover" } else { "manual failover" }
    }
}

/// The number of an operator's request to this node, given by the coordinator; grows.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// When a restart is wanted at all; every condition that is given must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RestartFilter {
    /// The node has this role.
    pub role: Option<Role>,
    /// The server's version is lower than this, as in `server_version_num`.
    pub below_version: Option<u32>,
    /// A setting waits for a restart.
    pub pending_only: bool,
}

/// A restart of PostgreSQL.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RestartWish {
    /// On these conditions.
    pub filter: RestartFilter,
    /// How long the start may take, instead of `primary_start_timeout`.
    pub timeout: Option<Duration>,
}

/// A restart at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScheduledRestart {
    /// When.
    pub at: WallTime,
    /// The same as it was given, ISO 8601 with a zone.
    pub text: String,
    /// What.
    pub wish: RestartWish,
    /// The conditions as they were given, as `(name, JSON text)`, in order: what the member key and REST show.
    pub shown: Vec<(String, String)>,
    /// Of the server it was meant for: another one need not be restarted.
    pub postmaster_start_time: String,
}

/// What a node was asked to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Restart PostgreSQL now.
    Restart(RestartWish),
    /// Restart PostgreSQL later.
    ScheduleRestart(ScheduledRestart),
    /// Forget the scheduled restart.
    CancelRestart,
    /// Replace the data by a new copy.
    Reinitialize {
        /// Give up what is being done.
        force: bool,
        /// Copy from the leader, not from a replica.
        from_leader: bool,
    },
}

/// How a wish ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WishEnd {
    /// It was done; of a new copy: it was begun.
    Done,
    /// It was noted for later.
    Scheduled,
    /// A restart's conditions are not met.
    ConditionsNotMet,
    /// Another thing is being done; its name in status lines.
    Busy(String),
    /// There is one already.
    AlreadyScheduled,
    /// There is none.
    NothingScheduled,
    /// Not in maintenance mode.
    Paused,
    /// No new copy without a leader.
    NoLeader,
    /// The leader's data are not replaced.
    IsLeader,
    /// PostgreSQL was still starting at the end of the time.
    StillStarting,
    /// It was tried and did not work.
    Failed(String),
}
