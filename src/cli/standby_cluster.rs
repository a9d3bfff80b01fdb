//! `demote-cluster` and `promote-cluster`: the cluster follows the primary of another one, or ceases to. Each changes the
//! dynamic configuration by a member's API and waits until the leader is what it should be.

use super::console::{Outcome, Stop, Verdict};
use super::session::{Session, dynamic};
use clap::Args;
use pgherd_types::{Cluster, MemberName, Role};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Whom to follow.
#[derive(Args)]
pub struct DemoteArguments {
    /// The cluster; by default the one of the settings.
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Host of the remote primary, or several separated by commas.
    #[arg(long)]
    host: Option<String>,
    /// Its port.
    #[arg(long)]
    port: Option<u16>,
    /// The command that fetches WAL of the remote primary from an archive.
    #[arg(long, value_name = "COMMAND")]
    restore_command: Option<String>,
    /// The slot there that the standby leader uses; it must exist.
    #[arg(long, value_name = "NAME")]
    primary_slot_name: Option<String>,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// Of which cluster.
#[derive(Args)]
pub struct PromoteArguments {
    /// The cluster; by default the one of the settings.
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// Between two looks at the cluster, each of which prints a line.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A large server takes minutes to stop; what was asked for goes on whoever waits for it.
const PATIENCE: Duration = Duration::from_secs(900);

/// Runs `demote-cluster`.
pub async fn demote(session: &Session<'_>, arguments: &DemoteArguments) -> Outcome {
    let DemoteArguments { host, port, restore_command, primary_slot_name, .. } = arguments;
    if host.is_none() && port.is_none() && restore_command.is_none() {
        return Err(Stop::Usage("At least --host, --port or --restore-command should be specified".to_owned()));
    }
    let mut section = Map::new();
    let mut put = |key: &str, value: Option<Value>| value.map(|value| section.insert(key.to_owned(), value));
    put("host", host.clone().map(Value::from));
    put("port", port.map(Value::from));
    put("restore_command", restore_command.clone().map(Value::from));
    put("primary_slot_name", primary_slot_name.clone().map(Value::from));
    let change = Change { action: "demote", section: Value::Object(section), role: Role::StandbyLeader };
    change.make(session, arguments.cluster.as_ref(), arguments.force).await
}

/// Runs `promote-cluster`.
pub async fn promote(session: &Session<'_>, arguments: &PromoteArguments) -> Outcome {
    let change = Change { action: "promote", section: Value::Null, role: Role::Primary };
    change.make(session, arguments.cluster.as_ref(), arguments.force).await
}

struct Change {
    action: &'static str,
    /// `standby_cluster` as it shall be.
    section: Value,
    /// What the leader is then.
    role: Role,
}

impl Change {
    async fn make(&self, session: &Session<'_>, cluster: Option<&String>, force: bool) -> Outcome {
        let scope = session.scope(cluster)?;
        let cluster = session.cluster(&scope).await?;
        let Some(leader) = cluster.leader.as_ref().map(|leader| leader.name.clone()) else {
            return Err(Stop::error("This cluster has no leader"));
        };
        if self.is_done(&cluster, &leader) && is_standby(&cluster) == self.section.is_object() {
            session.console.say("Cluster is already in the required state")?;
            return Ok(Verdict::Done);
        }
        let action = self.action;
        if !force && !session.console.confirm(&format!("Are you sure you want to {action} {scope} cluster?")).await? {
            return Err(Stop::Error(format!("Aborted {action}")));
        }
        let answer = session.patch_config(&cluster, &json!({"standby_cluster": self.section})).await?;
        if answer.status != 200 {
            session.console.say(format!("Failed: {action} {scope} cluster, {}", answer.shown()))?;
            return Ok(Verdict::Refused);
        }
        self.wait(session, &scope, &leader).await
    }

    /// The leader has the role and serves, and so does the one that led before.
    async fn wait(&self, session: &Session<'_>, scope: &str, old: &MemberName) -> Outcome {
        let until = pgherd_clock::boottime() + PATIENCE;
        loop {
            let cluster = session.cluster(scope).await?;
            if self.is_done(&cluster, old) {
                session.console.say(format!("{scope} cluster is successfully {}d", self.action))?;
                return Ok(Verdict::Done);
            }
            session.console.say(status(&cluster, old))?;
            if pgherd_clock::left_until(until).is_zero() {
                let seconds = PATIENCE.as_secs();
                session.console.say(format!("Failed: {} was not finished within {seconds} seconds", self.action))?;
                return Ok(Verdict::Refused);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn is_done(&self, cluster: &Cluster, old: &MemberName) -> bool {
        let serves = |name: &MemberName| cluster.members.get(name).is_some_and(|m| m.doc.state == "running");
        cluster.leader_member().is_some_and(|leader| leader.doc.role == Some(self.role) && serves(&leader.name))
            && serves(old)
    }
}

/// Does the dynamic configuration have the section?
fn is_standby(cluster: &Cluster) -> bool {
    dynamic(cluster).get("standby_cluster").and_then(Value::as_object).is_some_and(|section| !section.is_empty())
}

fn status(cluster: &Cluster, old: &MemberName) -> String {
    let member = |name: &MemberName| {
        let doc = cluster.members.get(name).map(|member| &member.doc);
        let role = doc.and_then(|doc| doc.role).map_or("unknown", Role::as_str);
        format!("{name} is {role}, {}", doc.map_or("unknown", |doc| doc.state.as_str()))
    };
    match cluster.leader.as_ref().map(|leader| &leader.name) {
        None => format!("no leader; {}", member(old)),
        Some(leader) if leader == old => format!("leader {}", member(leader)),
        Some(leader) => format!("leader {}; {}", member(leader), member(old)),
    }
}
