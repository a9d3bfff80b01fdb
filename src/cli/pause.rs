//! `pause` and `resume`: maintenance mode on and off.

use super::console::{Outcome, Stop, Verdict};
use super::session::{Session, loop_wait_s, paused};
use clap::Args;
use pgherd_types::Cluster;
use serde_json::{Value, json};
use std::time::Duration;

/// Of which cluster.
#[derive(Args)]
pub struct PauseArguments {
    /// The cluster; by default the one of the settings.
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Wait until every member has seen it.
    #[arg(long)]
    wait: bool,
}

/// Between two looks at the members.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Runs `pause`.
pub async fn pause(session: &Session<'_>, arguments: &PauseArguments) -> Outcome {
    toggle(session, arguments, true).await
}

/// Runs `resume`.
pub async fn resume(session: &Session<'_>, arguments: &PauseArguments) -> Outcome {
    toggle(session, arguments, false).await
}

async fn toggle(session: &Session<'_>, arguments: &PauseArguments, pause: bool) -> Outcome {
    let scope = session.scope(arguments.cluster.as_ref())?;
    let cluster = session.cluster(&scope).await?;
    match (paused(&cluster), pause) {
        (true, true) => return Err(Stop::error("Cluster is already paused")),
        (false, false) => return Err(Stop::error("Cluster is not paused")),
        _ => {}
    }
    let (action, done) = if pause { ("pause", "paused") } else { ("resume", "resumed") };
    let value = if pause { json!(true) } else { Value::Null };
    let answer = session.patch_config(&cluster, &json!({"pause": value})).await?;
    if answer.status != 200 {
        session.console.say(format!("Failed: {action} cluster management, {}", answer.shown()))?;
        return Ok(Verdict::Refused);
    }
    if arguments.wait {
        session.console.say(format!("'{action}' request sent, waiting until it is recognized by all nodes"))?;
        let late = late_members(session, &scope, &cluster, pause).await?;
        if !late.is_empty() {
            let time = loop_wait_s(&cluster) + 1;
            session.console.say(format!("Failed: not recognized within {time} seconds by {}", late.join(", ")))?;
            return Ok(Verdict::Refused);
        }
    }
    session.console.say(format!("Success: cluster management is {done}"))?;
    Ok(Verdict::Done)
}

/// Who has not seen it after a round of the slowest.
async fn late_members(session: &Session<'_>, scope: &str, cluster: &Cluster, pause: bool) -> Result<Vec<String>, Stop> {
    let until = pgherd_clock::boottime() + Duration::from_secs(loop_wait_s(cluster) + 1);
    loop {
        let cluster = session.cluster(scope).await?;
        let late = cluster.members.values().filter(|member| member.doc.pause != pause);
        let late: Vec<_> = late.map(|member| member.name.to_string()).collect();
        if late.is_empty() || pgherd_clock::left_until(until).is_zero() {
            return Ok(late);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
