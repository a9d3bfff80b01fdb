//! Which callback a change of the published status calls for: pure, so that every case is a test.
//!
//! | what happened | callback | role argument |
//! | --- | --- | --- |
//! | the first server that accepts connections, started or found running | `on_start` | its role |
//! | it accepts connections again with the same role (after a crash, or a stop) | `on_start` | its role |
//! | the same after a restart | `on_restart` | its role |
//! | it accepts connections with another role than scripts were last told (demotion, failover) | `on_role_change` | the new one |
//! | it runs on and its role changes (promotion: once it is writable) | `on_role_change` | the new one |
//! | it went down in order, not for a restart | `on_stop` | the one it had |
//! | a primary went down otherwise and the lock is not held (any more) | `on_role_change` | `demoted` |
//!
//! Nothing is called for while data are made (initdb, a bootstrap script, a clone).

use pgherd_protocol::callbacks::{ServerReport, ServerSeen};
use pgherd_types::{CallbackAction, Role, ServerPhase, Timeline};

/// One call of a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// The first argument.
    pub action: CallbackAction,
    /// The second one.
    pub role: Role,
    /// What scripts were told before.
    pub previous: Option<Role>,
    /// The server's timeline, if it is known.
    pub timeline: Option<Timeline>,
}

/// What must be remembered of all that was published so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// The role that scripts know of.
    told: Option<Role>,
    standing: Standing,
    /// On its way down, and why.
    leaving: Option<Leaving>,
    timeline: Option<Timeline>,
}

/// The server as scripts know it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
enum Standing {
    /// Nothing was said yet.
    #[default]
    Never,
    /// Up, or expected to be up again: the start time of the last one that accepted connections.
    Up(String),
    /// Down in order.
    Stopped,
    /// Down, and not primary any more.
    Demoted,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Leaving {
    Stop,
    Restart,
}

impl Seen {
    /// The same after one more report.
    pub fn then(&self, report: &ServerReport) -> Self {
        let mut seen = self.clone();
        if makes_data(report.phase) || report.server == ServerSeen::Unknown {
            return seen;
        }
        seen.timeline = report.timeline.or(self.timeline);
        match &report.server {
            ServerSeen::Up { started } => {
                seen.standing = Standing::Up(started.clone());
                seen.told = Some(told(report.role, self.told));
                seen.leaving = match report.phase {
                    ServerPhase::Restarting => Some(Leaving::Restart),
                    ServerPhase::Stopping => Some(self.leaving.unwrap_or(Leaving::Stop)),
                    _ => None,
                };
            }
            ServerSeen::Down => seen.went_down(report),
            ServerSeen::Between | ServerSeen::Stopping | ServerSeen::Orphaned | ServerSeen::Unknown => {
                seen.leaving = self.leaving.or(leaving(report));
            }
        }
        seen
    }

    fn went_down(&mut self, report: &ServerReport) {
        let Standing::Up(_) = self.standing else { return };
        let coming_back = matches!(report.phase, ServerPhase::Restarting | ServerPhase::Starting);
        let lost_role = matches!(report.role, Role::Demoted | Role::Replica | Role::Uninitialized);
        match self.leaving {
            Some(Leaving::Restart) if coming_back => {}
            None if report.phase == ServerPhase::Restarting => self.leaving = Some(Leaving::Restart),
            Some(_) => (self.standing, self.leaving) = (Standing::Stopped, None),
            None if self.told == Some(Role::Primary) && lost_role => {
                (self.standing, self.told) = (Standing::Demoted, Some(Role::Demoted));
            }
            None => {}
        }
    }
}

const fn makes_data(phase: ServerPhase) -> bool {
    matches!(
        phase,
        ServerPhase::InitializingNewCluster
            | ServerPhase::InitdbFailed
            | ServerPhase::RunningCustomBootstrap
            | ServerPhase::CustomBootstrapFailed
            | ServerPhase::CreatingReplica
    )
}

/// A promotion is told when the server is writable, not when it was ordered.
fn told(role: Role, before: Option<Role>) -> Role {
    if role == Role::Promoted { before.unwrap_or(Role::Replica) } else { role }
}

/// A server that is not up any more: was it asked to go? One whose backends outlived it was not.
fn leaving(report: &ServerReport) -> Option<Leaving> {
    match (&report.server, report.phase) {
        (_, ServerPhase::Restarting) => Some(Leaving::Restart),
        (ServerSeen::Stopping, _) | (ServerSeen::Between, ServerPhase::Stopping) => Some(Leaving::Stop),
        _ => None,
    }
}

/// What to call between two moments that follow each other.
pub fn transitions(before: &Seen, after: &Seen) -> Vec<Event> {
    let event = |action, role: Option<Role>| {
        let (previous, timeline) = (before.told, after.timeline);
        role.map(|role| Event { action, role, previous, timeline })
    };
    let changed = before.told != after.told;
    let event = match (&before.standing, &after.standing) {
        (Standing::Up(was), Standing::Up(is)) if was == is && !changed => None,
        (Standing::Up(_) | Standing::Stopped | Standing::Demoted, Standing::Up(_)) if changed => {
            event(CallbackAction::OnRoleChange, after.told)
        }
        (Standing::Up(_), Standing::Up(_)) if before.leaving == Some(Leaving::Restart) => {
            event(CallbackAction::OnRestart, after.told)
        }
        (_, Standing::Up(_)) => event(CallbackAction::OnStart, after.told),
        (Standing::Up(_), Standing::Stopped) => event(CallbackAction::OnStop, before.told),
        (Standing::Up(_), Standing::Demoted) => event(CallbackAction::OnRoleChange, after.told),
        (_, Standing::Never | Standing::Stopped | Standing::Demoted) => None,
    };
    event.into_iter().collect()
}

#[cfg(test)]
#[path = "transitions_tests.rs"]
mod tests;
