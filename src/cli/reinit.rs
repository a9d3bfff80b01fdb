//! `reinit`: replaces the data of replicas by a new copy.

use super::console::{Outcome, Stop, Verdict};
use super::rest::{Answer, Request, SHORT};
use super::selection::{RoleFilter, confirm, names, select};
use super::session::Session;
use awc::http::Method;
use clap::Args;
use pgherd_types::{Cluster, Member};
use serde_json::{Value, json};
use std::time::Duration;

/// Which members, and how.
#[derive(Args)]
pub struct ReinitArguments {
    /// The cluster.
    #[arg(value_name = "CLUSTER")]
    cluster: String,
    /// The members: replicas.
    #[arg(value_name = "MEMBER")]
    members: Vec<String>,
    /// Do not ask, and cancel what a member is doing.
    #[arg(long)]
    force: bool,
    /// Copy from the leader, not from a replica.
    #[arg(long)]
    from_leader: bool,
    /// Wait until the copies are complete.
    #[arg(long)]
    wait: bool,
    /// Stop waiting after so many seconds; the copies go on.
    #[arg(long, value_name = "SECONDS", default_value_t = 24 * 3600)]
    timeout: u64,
}

/// Between two looks at a member.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Runs the command.
pub async fn reinit(session: &Session<'_>, arguments: &ReinitArguments) -> Outcome {
    let (scope, force) = (&arguments.cluster, arguments.force);
    let cluster = session.cluster(scope).await?;
    session.print_members(scope, &cluster)?;
    let members = chosen(session, arguments, &cluster).await?;
    if members.is_empty() {
        return Ok(Verdict::Done);
    }
    confirm(session, "reinitialize", &members, None, force).await?;
    let (mut verdict, mut begun) = (Verdict::Done, Vec::new());
    for member in members {
        let one = one(session, member, arguments).await?;
        begun.extend((one == Verdict::Done).then_some(member));
        verdict = verdict.max(one);
    }
    if arguments.wait && !begun.is_empty() {
        verdict = verdict.max(wait(session, begun, arguments.timeout).await?);
    }
    Ok(verdict)
}

/// Nobody is meant unless named: not by default, and not with force.
async fn chosen<'c>(
    session: &Session<'_>,
    arguments: &ReinitArguments,
    cluster: &'c Cluster,
) -> Result<Vec<&'c Member>, Stop> {
    let select = |names: &[String]| select(&arguments.cluster, cluster, names, RoleFilter::Replica, "replica");
    match (arguments.members.is_empty(), arguments.force) {
        (false, _) => select(&arguments.members),
        (true, true) => Ok(Vec::new()),
        (true, false) => {
            let question = format!("Which member do you want to reinitialize [{}]?", names(&select(&[])?));
            select(&[session.console.prompt(&question, None).await?])
        }
    }
}

async fn one(session: &Session<'_>, member: &Member, arguments: &ReinitArguments) -> Result<Verdict, Stop> {
    let doing = format!("reinitialize for member {}", member.name);
    let mut force = arguments.force;
    loop {
        let body = json!({"force": force, "from_leader": arguments.from_leader});
        let request = Request { method: Method::POST, path: "/reinitialize", body: Some(body), patience: SHORT };
        let answer = match session.rest.ask(member, request).await {
            Ok(answer) => answer,
            Err(why) => return session.note_no_answer(&doing, &why),
        };
        if answer.status == 200 {
            session.console.say(format!("Success: {doing}"))?;
            return Ok(Verdict::Done);
        }
        session.console.say(format!("Failed: {doing}, {}", answer.shown()))?;
        let cancel = "Do you want to cancel it and reinitialize anyway?";
        if force || !busy(&answer) || !session.console.confirm(cancel).await? {
            return Ok(Verdict::Refused);
        }
        force = true;
    }
}

fn busy(answer: &Answer) -> bool {
    answer.body.trim_end().ends_with(" already in progress")
}

/// Until none of them makes a copy. Who does not answer is asked again: it may be on its way up.
async fn wait(session: &Session<'_>, mut members: Vec<&Member>, timeout_s: u64) -> Result<Verdict, Stop> {
    session.console.say(format!("Waiting for reinitialize to complete on: {}", names(&members)))?;
    let until = pgherd_clock::boottime() + Duration::from_secs(timeout_s);
    while !members.is_empty() {
        if pgherd_clock::left_until(until).is_zero() {
            session.console.say(format!("Failed: reinitialize goes on after {timeout_s} s on: {}", names(&members)))?;
            return Ok(Verdict::Refused);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let mut still = Vec::new();
        for member in members {
            match copying(session, member).await {
                false => session.console.say(format!("Reinitialize is completed on: {}", member.name))?,
                true => still.push(member),
            }
        }
        members = still;
    }
    Ok(Verdict::Done)
}

async fn copying(session: &Session<'_>, member: &Member) -> bool {
    let request = Request { method: Method::GET, path: "/patroni", body: None, patience: SHORT };
    let answer = session.rest.ask(member, request).await.ok();
    let document = answer.and_then(|answer| serde_json::from_str::<Value>(&answer.body).ok());
    document.is_none_or(|document| document["state"] == "creating replica")
}
