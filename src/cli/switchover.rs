//! `switchover` and `failover`: another member leads. Asked of a member; written into the DCS if none can be asked.

use super::console::{Outcome, Stop, Verdict};
use super::rest::{Answer, NoAnswer, Request, printable};
use super::schedule::{self, Moment};
use super::session::{Session, deadline, loop_wait_s, paused, sync_mode};
use awc::http::Method;
use clap::Args;
use jiff::tz::TimeZone;
use pgherd_types::{Cluster, DcsWrite, FailoverKey, Member, MemberName, Refused, Role, SyncName};
use serde_json::{Map, Value};
use std::time::Duration;

/// From whom, to whom, when.
#[derive(Args)]
pub struct SwitchoverArguments {
    /// The cluster; by default the one of the settings.
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
    /// The member that leads now.
    #[arg(long, visible_alias = "primary", alias = "master", value_name = "NAME")]
    leader: Option<String>,
    /// The member that shall lead.
    #[arg(long, value_name = "NAME")]
    candidate: Option<String>,
    /// When: `now`, or a time such as 2026-11-22T04:00, local unless it names its zone.
    #[arg(long, value_name = "TIME")]
    scheduled: Option<String>,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// To whom.
#[derive(Args)]
pub struct FailoverArguments {
    /// The cluster; by default the one of the settings.
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
    /// The member that shall lead.
    #[arg(long, value_name = "NAME")]
    candidate: Option<String>,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// What shall happen.
struct Plan<'a> {
    action: &'static str,
    scope: String,
    cluster: Cluster,
    leader: Option<MemberName>,
    candidate: Option<MemberName>,
    at: Option<Moment>,
    session: &'a Session<'a>,
}

/// Beside the time that a member waits for the end.
const BESIDE_THE_WAIT: Duration = Duration::from_secs(30);

/// Runs `switchover`.
pub async fn switchover(session: &Session<'_>, arguments: &SwitchoverArguments) -> Outcome {
    let mut plan = begin(session, arguments.cluster.as_ref(), "switchover").await?;
    plan.choose_leader(arguments.leader.as_ref(), arguments.force).await?;
    plan.choose_candidate(arguments.candidate.as_ref(), arguments.force).await?;
    let text = match &arguments.scheduled {
        Some(text) => text.clone(),
        None if arguments.force => "now".to_owned(),
        None => {
            let text = format!("When should the switchover take place (e.g. {} )", schedule::example());
            session.console.prompt(&text, Some("now")).await?
        }
    };
    plan.at = schedule::parse(&text, &TimeZone::system())?;
    if plan.at.is_some() && paused(&plan.cluster) {
        return Err(Stop::error("Can't schedule switchover in the paused state"));
    }
    plan.confirm_and_do(arguments.force).await
}

/// Runs `failover`.
pub async fn failover(session: &Session<'_>, arguments: &FailoverArguments) -> Outcome {
    let mut plan = begin(session, arguments.cluster.as_ref(), "failover").await?;
    plan.choose_candidate(arguments.candidate.as_ref(), arguments.force).await?;
    if plan.candidate.is_none() {
        return Err(Stop::error("Failover could be performed only to a specific candidate"));
    }
    plan.confirm_loss(arguments.force).await?;
    plan.confirm_and_do(arguments.force).await
}

async fn begin<'a>(session: &'a Session<'a>, named: Option<&String>, action: &'static str) -> Result<Plan<'a>, Stop> {
    let scope = session.scope(named)?;
    let cluster = session.cluster(&scope).await?;
    session.console.say("Current cluster topology")?;
    session.print_members(&scope, &cluster)?;
    Ok(Plan { action, scope, cluster, leader: None, candidate: None, at: None, session })
}

impl Plan<'_> {
    fn holder(&self) -> Option<&MemberName> {
        self.cluster.leader.as_ref().map(|leader| &leader.name)
    }

    async fn choose_leader(&mut self, given: Option<&String>, force: bool) -> Result<(), Stop> {
        let Some(holder) = self.holder().cloned() else { return Err(Stop::error("This cluster has no leader")) };
        let standby = self.cluster.leader_member().is_some_and(|m| m.doc.role == Some(Role::StandbyLeader));
        let named = match given {
            Some(name) => name.clone(),
            None if force => holder.0.clone(),
            None => {
                let question = if standby { "Standby Leader" } else { "Primary" };
                self.session.console.prompt(question, Some(holder.as_str())).await?
            }
        };
        if named != holder.as_str() {
            return Err(Stop::Error(format!("Member {named} is not the leader of cluster {}", self.scope)));
        }
        self.leader = Some(holder);
        Ok(())
    }

    async fn choose_candidate(&mut self, given: Option<&String>, force: bool) -> Result<(), Stop> {
        let others = self.cluster.members.values().filter(|member| Some(&member.name) != self.holder());
        let able: Vec<_> = others.filter(|member| !member.doc.tags.nofailover).map(|m| m.name.to_string()).collect();
        if able.is_empty() {
            return Err(Stop::Error(format!("No candidates found to {} to", self.action)));
        }
        let named = match given {
            Some(name) => name.clone(),
            None if force => String::new(),
            None => {
                let list = able.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
                self.session.console.prompt(&format!("Candidate [{list}]"), Some("")).await?
            }
        };
        if named.is_empty() {
            return Ok(());
        }
        let scope = &self.scope;
        if self.holder().is_some_and(|holder| holder.as_str() == named) {
            return Err(Stop::Error(format!("Member {named} is already the leader of cluster {scope}")));
        }
        if !able.contains(&named) {
            let text = format!("Member {named} does not exist in cluster {scope} or is tagged as nofailover");
            return Err(Stop::Error(text));
        }
        self.candidate = Some(MemberName(named));
        Ok(())
    }

    /// A candidate that is not synchronous may lack commits that clients were promised.
    async fn confirm_loss(&self, force: bool) -> Result<(), Stop> {
        let key = self.cluster.sync.active_in(sync_mode(&self.cluster));
        let (Some(candidate), Some(key)) = (&self.candidate, key) else { return Ok(()) };
        let question = format!("Are you sure you want to failover to the asynchronous node {candidate}?");
        match force || key.has_member(&SyncName::from(candidate)) || self.session.console.confirm(&question).await? {
            true => Ok(()),
            false => Err(Stop::error("Aborting failover")),
        }
    }

    async fn confirm_and_do(&self, force: bool) -> Outcome {
        let (action, scope) = (self.action, &self.scope);
        let demoting = self.holder().map(|holder| format!(", demoting current leader {holder}")).unwrap_or_default();
        let (question, refusal) = match &self.at {
            Some(at) => (
                format!("Are you sure you want to schedule {action} of cluster {scope} at {}{demoting}?", at.text),
                format!("Aborting scheduled {action}"),
            ),
            None => {
                (format!("Are you sure you want to {action} cluster {scope}{demoting}?"), format!("Aborting {action}"))
            }
        };
        if !force && !self.session.console.confirm(&question).await? {
            return Err(Stop::Error(refusal));
        }
        match self.ask().await {
            Ok(answer) => self.report(&answer).await,
            Err(NoAnswer::Unknown(why)) => {
                self.session.console.say(format!("{} result unknown, details: {why}", self.title()))?;
                Ok(Verdict::Refused)
            }
            Err(NoAnswer::Unsent(why)) => self.write_to_the_dcs(&why, force).await,
        }
    }

    fn title(&self) -> &'static str {
        if self.action == "failover" { "Failover" } else { "Switchover" }
    }

    /// The leader; of a failover also the candidate, if there is no leader or it cannot be reached.
    async fn ask(&self) -> Result<Answer, NoAnswer> {
        let member = |name: Option<&MemberName>| name.and_then(|name| self.cluster.members.get(name));
        let candidate = if self.leader.is_none() { member(self.candidate.as_ref()) } else { None };
        let mut why = Vec::new();
        for member in [member(self.holder()), candidate].into_iter().flatten() {
            match self.ask_one(member).await {
                Err(NoAnswer::Unsent(one)) => why.push(one),
                other => return other,
            }
        }
        Err(NoAnswer::Unsent(if why.is_empty() {
            "the leader's member key is gone".to_owned()
        } else {
            why.join("; ")
        }))
    }

    async fn ask_one(&self, member: &Member) -> Result<Answer, NoAnswer> {
        let mut body = Map::new();
        let named = [("leader", &self.leader), ("candidate", &self.candidate)];
        for (key, name) in named.into_iter().filter_map(|(key, name)| Some((key, name.as_ref()?))) {
            body.insert(key.to_owned(), name.as_str().into());
        }
        if let Some(at) = &self.at {
            body.insert("scheduled_at".to_owned(), at.text.as_str().into());
        }
        let polls = Duration::from_secs(2 * loop_wait_s(&self.cluster).clamp(10, 3600));
        let path = format!("/{}", self.action);
        let (body, patience) = (Some(Value::Object(body)), polls + BESIDE_THE_WAIT);
        self.session.rest.ask(member, Request { method: Method::POST, path: &path, body, patience }).await
    }

    async fn report(&self, answer: &Answer) -> Outcome {
        let (console, body) = (self.session.console, printable(&answer.body));
        if matches!(answer.status, 200 | 202) {
            console.say(format!("{} {body}", schedule::stamp()))?;
            self.print_now().await?;
            return Ok(Verdict::Done);
        }
        let unknown = body.to_ascii_lowercase().contains("status unknown");
        let what = if unknown { "result unknown" } else { "failed" };
        console.say(format!("{} {what}, details: {}, {body}", self.title(), answer.status))?;
        Ok(Verdict::Refused)
    }

    async fn print_now(&self) -> Result<(), Stop> {
        let cluster = self.session.cluster(&self.scope).await?;
        self.session.print_members(&self.scope, &cluster)
    }

    /// Without the checks that a member makes. `patronictl` does not ask first, so a link by that name does not either.
    async fn write_to_the_dcs(&self, why: &str, force: bool) -> Outcome {
        let (session, action) = (self.session, self.action);
        let told = format!("Could not {action} using Patroni api, falling back to DCS");
        session.console.say(format!("{} {told}", schedule::stamp()))?;
        session.console.complain(format!("Warning: {why}"));
        let question =
            format!("Write the request into the DCS? No member has checked whether the {action} is possible");
        if session.is_pgherd() && !force && !session.console.confirm(&question).await? {
            return Err(Stop::Error(format!("Aborting {action}")));
        }
        let request = FailoverKey {
            mod_revision: 0,
            leader: self.leader.clone(),
            candidate: self.candidate.clone(),
            schedule: self.at.as_ref().map(Moment::schedule),
        };
        let seen = Some(self.cluster.failover.as_ref().map_or(0, |key| key.mod_revision));
        let written = String::from_utf8_lossy(&pgherd_dcs::codec::encode_failover(&request)).into_owned();
        match session.dcs(&self.scope)?.write(None, DcsWrite::AskFailover { request, seen }, deadline()).await {
            Ok(()) => session.console.say(format!("{} Wrote {written} to the failover key", schedule::stamp()))?,
            Err(Refused::Compare) => {
                return Err(Stop::error(
                    "another switchover or failover was asked for meanwhile; look at the cluster again",
                ));
            }
            Err(why) => return Err(session.dcs_error("write the failover key", why)),
        }
        self.print_now().await?;
        Ok(Verdict::Done)
    }
}
