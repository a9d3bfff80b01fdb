//! `reload`: members read their settings again.

use super::console::{Outcome, Stop, Verdict};
use super::rest::{Request, SHORT};
use super::selection::{RoleFilter, confirm, select};
use super::session::{Session, loop_wait_s};
use awc::http::Method;
use clap::Args;
use pgherd_types::Member;

/// Which members.
#[derive(Args)]
pub struct ReloadArguments {
    /// The cluster.
    #[arg(value_name = "CLUSTER")]
    cluster: String,
    /// The members; by default all.
    #[arg(value_name = "MEMBER")]
    members: Vec<String>,
    /// Only members with this role.
    #[arg(short, long, value_enum, default_value = "any")]
    role: RoleFilter,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// Runs the command. A member that cannot be reached does not keep the others from it.
pub async fn reload(session: &Session<'_>, arguments: &ReloadArguments) -> Outcome {
    let ReloadArguments { cluster: scope, members, role, force } = arguments;
    let cluster = session.cluster(scope).await?;
    session.print_members(scope, &cluster)?;
    let members = select(scope, &cluster, members, *role, &format!("'{role}'"))?;
    confirm(session, "reload", &members, None, *force).await?;
    let mut verdict = Verdict::Done;
    for member in members {
        verdict = verdict.max(one(session, member, loop_wait_s(&cluster)).await?);
    }
    Ok(verdict)
}

async fn one(session: &Session<'_>, member: &Member, loop_wait_s: u64) -> Result<Verdict, Stop> {
    let name = &member.name;
    let request = Request { method: Method::POST, path: "/reload", body: None, patience: SHORT };
    let answer = match session.rest.ask(member, request).await {
        Ok(answer) => answer,
        Err(why) => return session.note_no_answer(&format!("reload for member {name}"), &why),
    };
    let (line, verdict) = match answer.status {
        200 => (format!("No changes to apply on member {name}"), Verdict::Done),
        202 => {
            let when = format!("will be processed within {loop_wait_s} seconds");
            (format!("Reload request received for member {name} and {when}"), Verdict::Done)
        }
        _ => (format!("Failed: reload for member {name}, {}", answer.shown()), Verdict::Refused),
    };
    session.console.say(line)?;
    Ok(verdict)
}
