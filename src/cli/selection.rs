//! Which members a command is about, and the question whether they are.

use super::console::Stop;
use super::schedule::Moment;
use super::session::Session;
use clap::ValueEnum;
use pgherd_types::{Cluster, Member, Role};
use std::fmt;

/// Members by what they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum RoleFilter {
    /// The holder of the leader key.
    Leader,
    /// The holder of the leader key, if its server is out of recovery.
    #[value(alias = "master")]
    Primary,
    /// The holder of the leader key of a standby cluster.
    StandbyLeader,
    /// Everyone but the holder of the leader key.
    Replica,
    /// The same as replica.
    Standby,
    /// Everyone.
    Any,
}

impl fmt::Display for RoleFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "leader",
            Self::Primary => "primary",
            Self::StandbyLeader => "standby-leader",
            Self::Replica => "replica",
            Self::Standby => "standby",
            Self::Any => "any",
        })
    }
}

impl RoleFilter {
    /// Is it meant?
    pub fn takes(self, cluster: &Cluster, member: &Member) -> bool {
        let leads = cluster.leader.as_ref().is_some_and(|leader| leader.name == member.name);
        match self {
            Self::Leader => leads,
            Self::Primary => leads && member.doc.role == Some(Role::Primary),
            Self::StandbyLeader => leads && member.doc.role == Some(Role::StandbyLeader),
            Self::Replica | Self::Standby => !leads,
            Self::Any => true,
        }
    }
}

/// The members named (all, if none is) that have the role; replicas first, the leader last. `role_shown` is the role as
/// the error names it.
pub fn select<'c>(
    scope: &str,
    cluster: &'c Cluster,
    names: &[String],
    role: RoleFilter,
    role_shown: &str,
) -> Result<Vec<&'c Member>, Stop> {
    if cluster.members.is_empty() {
        return Err(Stop::Error(format!("{scope} cluster doesn't have any members")));
    }
    let known = |name: &String| cluster.members.keys().any(|member| member.as_str() == name);
    if let Some(stranger) = names.iter().find(|name| !known(name)) {
        return Err(Stop::Error(format!("{stranger} is not a member of cluster")));
    }
    let named = |member: &&Member| names.is_empty() || names.iter().any(|name| name == member.name.as_str());
    let all = cluster.members.values().filter(named).filter(|member| role.takes(cluster, member));
    let (leaders, mut chosen): (Vec<_>, Vec<_>) = all.partition(|member| RoleFilter::Leader.takes(cluster, member));
    chosen.extend(leaders);
    match chosen.is_empty() {
        true => Err(Stop::Error(format!("No {role_shown} among provided members"))),
        false => Ok(chosen),
    }
}

/// `a, b`.
pub fn names(members: &[&Member]) -> String {
    members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Asks whether these members are meant, unless forced.
pub async fn confirm(
    session: &Session<'_>,
    action: &str,
    members: &[&Member],
    at: Option<&Moment>,
    force: bool,
) -> Result<(), Stop> {
    let names = names(members);
    let (question, refusal) = match at {
        Some(at) => (
            format!("Are you sure you want to schedule {action} of members {names} at {}?", at.text),
            format!("Aborted scheduled {action}"),
        ),
        None => (format!("Are you sure you want to {action} members {names}?"), format!("Aborted {action}")),
    };
    match force || session.console.confirm(&question).await? {
        true => Ok(()),
        false => Err(Stop::Error(refusal)),
    }
}
