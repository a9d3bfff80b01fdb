//! `remove`: takes a cluster out of the DCS. Data directories stay.

use super::console::{Outcome, Stop, Verdict};
use super::list::{Format, members_text};
use super::session::{Session, deadline};
use clap::Args;

/// Which cluster.
#[derive(Args)]
pub struct RemoveArguments {
    /// The cluster.
    #[arg(value_name = "CLUSTER")]
    cluster: String,
    /// The form of the members list.
    #[arg(short, long, value_enum, default_value = "pretty")]
    format: Format,
}

const AWARE: &str = "Yes I am aware";

/// Runs the command. Every confirmation is typed in full.
pub async fn remove(session: &Session<'_>, arguments: &RemoveArguments) -> Outcome {
    let (scope, console) = (&arguments.cluster, session.console);
    let cluster = session.cluster(scope).await?;
    console.say(members_text(session, scope, &cluster, arguments.format, false))?;
    if console.prompt("Please confirm the cluster name to remove", None).await? != *scope {
        return Err(Stop::error("Cluster names specified do not match"));
    }
    let question = format!("You are about to remove all information in DCS for {scope}, please type: \"{AWARE}\"");
    if console.prompt(&question, None).await? != AWARE {
        return Err(Stop::Error(format!("You did not exactly type \"{AWARE}\"")));
    }
    if let Some(leader) = &cluster.leader {
        let question = "This cluster currently is healthy. Please specify the leader name to continue";
        if console.prompt(question, None).await? != leader.name.as_str() {
            return Err(Stop::error("You did not specify the current leader of the cluster"));
        }
    }
    let removed = session.dcs(scope)?.remove_all(deadline()).await;
    removed.map_err(|why| session.dcs_error(&format!("remove the cluster {scope}"), why))?;
    Ok(Verdict::Done)
}
