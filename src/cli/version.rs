//! `version`: of this program, and of what members run.

use super::console::{Outcome, Stop, Verdict};
use super::rest::{Request, SHORT};
use super::selection::{RoleFilter, select};
use super::session::Session;
use awc::http::Method;
use clap::Args;
use pgherd_types::{COMPATIBLE_VERSION, Member, PRODUCT_VERSION};
use serde_json::Value;

/// Of what.
#[derive(Args)]
pub struct VersionArguments {
    /// Ask the members of this cluster, too.
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Only these members.
    #[arg(value_name = "MEMBER")]
    members: Vec<String>,
}

/// Runs the command.
pub async fn version(session: &Session<'_>, arguments: &VersionArguments) -> Outcome {
    match session.is_pgherd() {
        true => session.console.say(format!("pgherd version {PRODUCT_VERSION}"))?,
        false => session.console.say(format!("patronictl version {COMPATIBLE_VERSION}"))?,
    }
    let Some(scope) = &arguments.cluster else { return Ok(Verdict::Done) };
    let cluster = session.cluster(scope).await?;
    session.console.say("")?;
    let mut verdict = Verdict::Done;
    let mut members = select(scope, &cluster, &arguments.members, RoleFilter::Any, "any")?;
    members.sort_by_key(|member| &member.name);
    for member in members {
        verdict = verdict.max(of_member(session, member).await?);
    }
    Ok(verdict)
}

async fn of_member(session: &Session<'_>, member: &Member) -> Result<Verdict, Stop> {
    let request = Request { method: Method::GET, path: "/patroni", body: None, patience: SHORT };
    let answer = session.rest.ask(member, request).await;
    let document = match &answer {
        Ok(answer) => serde_json::from_str::<Value>(&answer.body).map_err(|_| answer.shown()),
        Err(why) => Err(why.text().to_owned()),
    };
    match document.and_then(|document| shown(&document).ok_or_else(|| "the answer names no version".to_owned())) {
        Ok(text) => session.console.say(format!("{}: {text}", member.name))?,
        Err(why) => {
            session.console.say(format!("{}: failed to get version: {why}", member.name))?;
            return Ok(Verdict::Refused);
        }
    }
    Ok(Verdict::Done)
}

/// PostgreSQL's version is absent while it does not run.
fn shown(document: &Value) -> Option<String> {
    let patroni = document["patroni"]["version"].as_str()?;
    let server = document["server_version"].as_u64().map(|number| format!(" PostgreSQL {}", dotted(number)));
    Some(format!("Patroni {patroni}{}", server.unwrap_or_default()))
}

/// 150004 is 15.4, 90603 is 9.6.3.
fn dotted(number: u64) -> String {
    match number {
        100_000.. => format!("{}.{}", number / 10_000, number % 10_000),
        _ => format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_are_dotted() {
        let of = |document: Value| shown(&document);
        let patroni = json!({"version": "4.1.4"});
        assert_eq!(
            of(json!({"patroni": patroni, "server_version": 150_004})).unwrap(),
            "Patroni 4.1.4 PostgreSQL 15.4"
        );
        assert_eq!(
            of(json!({"patroni": patroni, "server_version": 90_603})).unwrap(),
            "Patroni 4.1.4 PostgreSQL 9.6.3"
        );
        assert_eq!(of(json!({"patroni": patroni})).unwrap(), "Patroni 4.1.4");
        assert_eq!(of(json!({})), None);
    }
}
