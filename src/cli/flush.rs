//! `flush`: takes back what was scheduled.

use super::console::{Outcome, Stop, Verdict};
use super::rest::{Request, SHORT};
use super::selection::{RoleFilter, confirm, select};
use super::session::{Session, deadline, leader_first};
use awc::http::Method;
use clap::{Args, ValueEnum};
use pgherd_types::{Cluster, DcsWrite, Member, Refused};

/// What to take back.
#[derive(Args)]
#[command(override_usage = "pgherd flush [OPTIONS] <CLUSTER> [MEMBER]... <restart|switchover>")]
pub struct FlushArguments {
    /// The cluster.
    #[arg(value_name = "CLUSTER")]
    cluster: String,
    /// The members (by default all), and last what to take back: `restart` or `switchover`.
    #[arg(value_name = "MEMBER|restart|switchover", required = true)]
    members_and_what: Vec<String>,
    /// Only members with this role.
    #[arg(short, long, value_enum, default_value = "any")]
    role: RoleFilter,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// What can be scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Scheduled {
    /// A restart of members.
    Restart,
    /// A switchover of the cluster.
    Switchover,
}

/// Runs the command.
pub async fn flush(session: &Session<'_>, arguments: &FlushArguments) -> Outcome {
    let (what, members) = arguments.members_and_what.split_last().ok_or_else(unnamed)?;
    let what = Scheduled::from_str(what, false).map_err(|_| unnamed())?;
    let cluster = session.cluster(&arguments.cluster).await?;
    match what {
        Scheduled::Restart => restarts(session, arguments, members, &cluster).await,
        Scheduled::Switchover => switchover(session, &arguments.cluster, &cluster).await,
    }
}

fn unnamed() -> Stop {
    Stop::Usage("the last argument says what to take back: restart or switchover".to_owned())
}

async fn restarts(session: &Session<'_>, arguments: &FlushArguments, names: &[String], cluster: &Cluster) -> Outcome {
    let role = arguments.role;
    let members = select(&arguments.cluster, cluster, names, role, &format!("'{role}'"))?;
    confirm(session, "flush", &members, None, arguments.force).await?;
    let mut verdict = Verdict::Done;
    for member in members {
        verdict = verdict.max(match member.doc.scheduled_restart {
            Some(_) => flush_restart(session, member).await?,
            None => {
                session.console.say(format!("No scheduled restart for member {}", member.name))?;
                Verdict::Done
            }
        });
    }
    Ok(verdict)
}

/// Takes back a member's scheduled restart.
pub async fn flush_restart(session: &Session<'_>, member: &Member) -> Outcome {
    let doing = format!("flush scheduled restart for member {}", member.name);
    let request = Request { method: Method::DELETE, path: "/restart", body: None, patience: SHORT };
    match session.rest.ask(member, request).await {
        Ok(answer) if answer.status == 200 => {
            session.console.say(format!("Success: {doing}"))?;
            Ok(Verdict::Done)
        }
        Ok(answer) => {
            session.console.say(format!("Failed: {doing}, {}", answer.shown()))?;
            Ok(Verdict::Refused)
        }
        Err(why) => session.note_no_answer(&doing, &why),
    }
}

async fn switchover(session: &Session<'_>, scope: &str, cluster: &Cluster) -> Outcome {
    let Some(scheduled) = cluster.failover.as_ref().filter(|key| key.asks() && key.schedule.is_some()) else {
        session.console.say("No pending scheduled switchover")?;
        return Ok(Verdict::Done);
    };
    for member in leader_first(cluster) {
        let request = Request { method: Method::DELETE, path: "/switchover", body: None, patience: SHORT };
        match session.rest.ask(member, request).await {
            Ok(answer) if answer.status == 200 => return deleted(session),
            // gone, or changed meanwhile: another member would say the same
            Ok(answer) if matches!(answer.status, 404 | 409) => {
                session.console.say(format!("Failed: delete scheduled switchover, {}", answer.shown()))?;
                return Ok(Verdict::Refused);
            }
            Ok(answer) => {
                let name = &member.name;
                session.console.complain(format!("Warning: delete scheduled switchover on {name}, {}", answer.shown()));
            }
            Err(why) => session.console.complain(format!("Warning: {}: {}", member.name, why.text())),
        }
    }
    session.console.say("Could not delete the scheduled switchover using Patroni api, falling back to DCS")?;
    let write = DcsWrite::ClearFailover { seen: scheduled.mod_revision };
    match session.dcs(scope)?.write(None, write, deadline()).await {
        Ok(()) => deleted(session),
        Err(Refused::Compare) => Err(Stop::error("the scheduled switchover was changed meanwhile")),
        Err(why) => Err(session.dcs_error("delete the scheduled switchover", why)),
    }
}

fn deleted(session: &Session) -> Outcome {
    session.console.say("Success: scheduled switchover deleted")?;
    Ok(Verdict::Done)
}
