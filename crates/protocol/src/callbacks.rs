//! Facts for the one who calls the user's scripts.

use actix::Message;
use pgherd_types::{NodeStatus, Role, Server, ServerPhase, Timeline};
use std::time::Duration;

/// What this node says of its server changed.
#[derive(Message, Clone, PartialEq, Eq, Debug)]
#[rtype(result = "()")]
pub struct StatusPublished(pub ServerReport);

/// The part of a published status that scripts are called for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerReport {
    /// The role shown.
    pub role: Role,
    /// The state shown.
    pub phase: ServerPhase,
    /// What the last look found.
    pub server: ServerSeen,
    /// The timeline it writes or replays, if it answers.
    pub timeline: Option<Timeline>,
}

/// A server as scripts are concerned with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerSeen {
    /// It was not looked at yet.
    Unknown,
    /// It accepts connections.
    Up {
        /// When its postmaster was started; another time is another server.
        started: String,
    },
    /// It starts, or does not answer.
    Between,
    /// It is going down in order.
    Stopping,
    /// The postmaster is gone, backends are alive.
    Orphaned,
    /// Nothing is alive.
    Down,
}

impl From<&NodeStatus> for ServerReport {
    fn from(status: &NodeStatus) -> Self {
        let server = match status.postgres.as_ref().map(|postgres| &postgres.server) {
            None => ServerSeen::Unknown,
            Some(Server::Running(running)) => ServerSeen::Up { started: running.postmaster_start_time.clone() },
            Some(Server::Starting | Server::Unresponsive(_)) => ServerSeen::Between,
            Some(Server::Stopping | Server::Archiving) => ServerSeen::Stopping,
            Some(Server::Orphaned) => ServerSeen::Orphaned,
            Some(Server::Stopped) => ServerSeen::Down,
        };
        Self { role: status.role, phase: status.phase, server, timeline: status.timeline }
    }
}

/// The server was told to read its configuration files again.
#[derive(Message, Clone, Copy, PartialEq, Eq, Debug)]
#[rtype(result = "()")]
pub struct Reloaded;

/// The agent is about to end: the answer comes when no script is running or waiting any more. What is not done at the
/// end of the patience is killed.
#[derive(Message, Clone, Copy, PartialEq, Eq, Debug)]
#[rtype(result = "()")]
pub struct FinishCallbacks {
    /// How long scripts may go on.
    pub patience: Duration,
}
