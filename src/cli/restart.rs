//! `restart`: PostgreSQL of members, now or at a time, one after the other, the leader last.

use super::console::{Outcome, Stop, Verdict};
use super::flush::flush_restart;
use super::rest::Request;
use super::schedule::{self, Moment};
use super::selection::{RoleFilter, confirm, select};
use super::session::{Session, dynamic, paused};
use awc::http::Method;
use clap::Args;
use jiff::tz::TimeZone;
use pgherd_types::{Cluster, Member};
use serde_json::{Map, Value, json};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Which members, when, and on which conditions.
#[derive(Args)]
pub struct RestartArguments {
    /// The cluster.
    #[arg(value_name = "CLUSTER")]
    cluster: String,
    /// The members; by default all.
    #[arg(value_name = "MEMBER")]
    members: Vec<String>,
    /// Only members with this role.
    #[arg(short, long, value_enum, default_value = "any")]
    role: RoleFilter,
    /// Any one of them.
    #[arg(long)]
    any: bool,
    /// When: `now`, or a time such as 2026-11-22T04:00, local unless it names its zone.
    #[arg(long, value_name = "TIME")]
    scheduled: Option<String>,
    /// Only if PostgreSQL's version is less than this.
    #[arg(long, value_name = "VERSION")]
    pg_version: Option<String>,
    /// Only if a restart is pending.
    #[arg(long)]
    pending: bool,
    /// How long PostgreSQL's start may take: seconds, or a number with a unit.
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// A member's own limit for the stop, and for what comes beside stop and start.
const BESIDE_THE_START: Duration = Duration::from_secs(600);

/// Runs the command.
pub async fn restart(session: &Session<'_>, arguments: &RestartArguments) -> Outcome {
    let (scope, force) = (&arguments.cluster, arguments.force);
    let cluster = session.cluster(scope).await?;
    session.print_members(scope, &cluster)?;
    let shown = format!("'{}'", arguments.role);
    let mut members = select(scope, &cluster, &arguments.members, arguments.role, &shown)?;
    if arguments.any {
        members = vec![members[random_below(members.len())]];
    }
    let at = scheduled(session, arguments).await?;
    confirm(session, "restart", &members, at.as_ref(), force).await?;
    let version = below_version(session, arguments).await?;
    if at.is_none() && arguments.pending {
        members.retain(|member| member.doc.pending_restart);
        if members.is_empty() {
            session.console.say("No restart is pending on any of these members")?;
        }
    }
    if at.is_some() && paused(&cluster) {
        return Err(Stop::error("Can't schedule restart in the paused state"));
    }
    let body = body(arguments, at.as_ref(), &version);
    let mut verdict = Verdict::Done;
    for member in members {
        if force && at.is_some() && member.doc.scheduled_restart.is_some() {
            verdict = verdict.max(flush_restart(session, member).await?);
        }
        verdict = verdict.max(one(session, member, body.clone(), patience(&cluster, arguments)).await?);
    }
    Ok(verdict)
}

fn random_below(n: usize) -> usize {
    usize::try_from(RandomState::new().hash_one(0) % n.max(1) as u64).unwrap_or(0)
}

async fn scheduled(session: &Session<'_>, arguments: &RestartArguments) -> Result<Option<Moment>, Stop> {
    let text = match &arguments.scheduled {
        Some(text) => text.clone(),
        None if arguments.force => return Ok(None),
        None => {
            let text = format!("When should the restart take place (e.g. {})", schedule::example());
            session.console.prompt(&text, Some("now")).await?
        }
    };
    schedule::parse(&text, &TimeZone::system())
}

/// Empty for any version.
async fn below_version(session: &Session<'_>, arguments: &RestartArguments) -> Result<String, Stop> {
    let text = match &arguments.pg_version {
        Some(text) => text.trim().to_owned(),
        None if arguments.force => return Ok(String::new()),
        None => {
            let text = "Restart if the PostgreSQL version is less than provided (e.g. 9.5.2)";
            session.console.prompt(text, Some("")).await?
        }
    };
    let parts: Vec<_> = text.split('.').collect();
    let numbers = parts.iter().all(|part| part.parse::<u32>().is_ok());
    let usable = text.is_empty() || ((2..=3).contains(&parts.len()) && numbers);
    if !usable {
        let format = "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted";
        return Err(Stop::Error(format!("{format}: {text}")));
    }
    Ok(text)
}

fn body(arguments: &RestartArguments, at: Option<&Moment>, version: &str) -> Value {
    let mut body = Map::new();
    if !version.is_empty() {
        body.insert("postgres_version".to_owned(), version.into());
    }
    if let Some(at) = at {
        body.insert("schedule".to_owned(), at.text.as_str().into());
        if arguments.pending {
            body.insert("restart_pending".to_owned(), true.into());
        }
    }
    if let Some(timeout) = &arguments.timeout {
        let number = timeout.parse::<u64>().map(Value::from);
        body.insert("timeout".to_owned(), number.unwrap_or_else(|_| json!(timeout)));
    }
    body.into()
}

/// Longer than the member itself waits.
fn patience(cluster: &Cluster, arguments: &RestartArguments) -> Duration {
    let configured = dynamic(cluster).get("primary_start_timeout").and_then(Value::as_u64).unwrap_or(300);
    let start_s = match arguments.timeout.as_deref().map(seconds) {
        Some(Some(given)) => given.max(configured),
        Some(None) => configured.max(24 * 3600),
        None => configured,
    };
    BESIDE_THE_START + Duration::from_secs(start_s.min(24 * 3600))
}

fn seconds(text: &str) -> Option<u64> {
    text.parse().ok()
}

async fn one(session: &Session<'_>, member: &Member, body: Value, patience: Duration) -> Result<Verdict, Stop> {
    let name = &member.name;
    let request = Request { method: Method::POST, path: "/restart", body: Some(body), patience };
    let answer = match session.rest.ask(member, request).await {
        Ok(answer) => answer,
        Err(why) => return session.note_no_answer(&format!("restart for member {name}"), &why),
    };
    let (line, verdict) = match answer.status {
        200 => (format!("Success: restart on member {name}"), Verdict::Done),
        202 => (format!("Success: restart scheduled on member {name}"), Verdict::Done),
        409 => (format!("Failed: another restart is already scheduled on member {name}"), Verdict::Refused),
        _ => (format!("Failed: restart for member {name}, {}", answer.shown()), Verdict::Refused),
    };
    session.console.say(line)?;
    Ok(verdict)
}
