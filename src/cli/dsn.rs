//! `dsn`: where a member's PostgreSQL is.

use super::console::{Outcome, Stop, Verdict};
use super::selection::RoleFilter;
use super::session::Session;
use clap::Args;

/// Of which member.
#[derive(Args)]
pub struct DsnArguments {
    /// The cluster; by default the one of the settings.
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Of any member with this role; by default of the leader.
    #[arg(short, long, value_enum)]
    role: Option<RoleFilter>,
    /// Of this member.
    #[arg(short, long, value_name = "NAME")]
    member: Option<String>,
}

/// Runs the command.
pub async fn dsn(session: &Session<'_>, arguments: &DsnArguments) -> Outcome {
    if arguments.role.is_some() && arguments.member.is_some() {
        return Err(Stop::error("--role and --member are mutually exclusive options"));
    }
    let cluster = session.cluster(&session.scope(arguments.cluster.as_ref())?).await?;
    let role = arguments.role.unwrap_or(RoleFilter::Leader);
    let wanted = |name: &str, by_role: bool| match &arguments.member {
        Some(member) => member == name,
        None => by_role,
    };
    let mut found = cluster.members.values().filter(|m| wanted(m.name.as_str(), role.takes(&cluster, m)));
    let endpoint = found.find_map(|member| member.doc.endpoint());
    let (host, port) = endpoint.ok_or_else(|| Stop::error("Can not find a suitable member"))?;
    session.console.say(format!("host={host} port={port}"))?;
    Ok(Verdict::Done)
}
