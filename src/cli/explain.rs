//! `explain`: why a member does what it does, and who could lead. Asked of the leader, else of whoever answers.

use super::console::{Outcome, Verdict};
use super::python_json;
use super::rest::{Request, SHORT};
use super::session::{Session, named_or_leader_first};
use super::table::{Align, Column, Table};
use awc::http::Method;
use clap::{Args, ValueEnum};
use serde_json::Value;

/// What is to be explained.
#[derive(Args)]
pub struct ExplainArguments {
    /// The cluster; by default the one of the settings.
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Whom to ask; by default the leader, or whoever answers if there is none.
    #[arg(value_name = "MEMBER")]
    member: Option<String>,
    /// What would be decided otherwise.
    #[arg(long = "if", value_enum, value_name = "CONDITION")]
    condition: Option<Condition>,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value = "pretty")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Condition {
    /// The leader dies now.
    LeaderLost,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// Text and a table.
    Pretty,
    /// The document that the member answered.
    Json,
}

/// Runs the command.
pub async fn explain(session: &Session<'_>, arguments: &ExplainArguments) -> Outcome {
    let scope = session.scope(arguments.cluster.as_ref())?;
    let cluster = session.cluster(&scope).await?;
    let path = match arguments.condition {
        None => "/explain",
        Some(Condition::LeaderLost) => "/explain?if=leader-lost",
    };
    let members = named_or_leader_first(&scope, &cluster, arguments.member.as_ref())?;
    let request = Request { method: Method::GET, path, body: None, patience: SHORT };
    let (_, answer) = session.ask_by_turns(&members, &request, "no member explains anything").await?;
    let document: Option<Value> = serde_json::from_str(&answer.body).ok().filter(|_| answer.status == 200);
    let Some(document) = document else {
        session.console.say(format!("Failed: explain, {}", answer.shown()))?;
        return Ok(Verdict::Refused);
    };
    session.console.say(match arguments.format {
        Format::Pretty => text(&document),
        Format::Json => python_json::line(&document),
    })?;
    Ok(Verdict::Done)
}

fn text(document: &Value) -> String {
    let name = document["name"].as_str().unwrap_or("?");
    let mut lines = Vec::new();
    if let Some(condition) = document["if"].as_str() {
        lines.push(format!("If it were so ({condition}), as far as {name} knows:"));
        lines.push(next_leader(&document["next_leader"]));
    }
    match &document["decision"] {
        Value::Null => {}
        decision => lines.push(format!(
            "{name} does: {}. {} ({})",
            plain(&decision["action"]),
            plain(&decision["reason"]["text"]),
            plain(&decision["reason"]["id"])
        )),
    }
    lines.push(members(&document["members"]).to_string());
    lines.push("It knows:".to_owned());
    lines.extend(document["facts"].as_array().into_iter().flatten().map(fact));
    lines.join("\n")
}

fn next_leader(names: &Value) -> String {
    let names: Vec<_> = names.as_array().into_iter().flatten().map(plain).collect();
    match names.as_slice() {
        [] => "nobody would lead".to_owned(),
        [one] => format!("{one} would lead"),
        several => format!("whoever is first would lead: {}", several.join(", ")),
    }
}

fn members(members: &Value) -> Table {
    let column = |header| Column { header, align: Align::Left };
    let row = |member: &Value| {
        let could = match (member["leads"].as_bool(), member["could_lead"].as_bool()) {
            (Some(true), _) => "leads",
            (_, Some(true)) => "yes",
            _ => "no",
        };
        vec![plain(&member["name"]), could.to_owned(), plain(&member["reason"]["id"]), plain(&member["reason"]["text"])]
    };
    Table {
        title: String::new(),
        columns: ["Member", "Could lead", "Rule", "Why"].map(column).into(),
        rows: members.as_array().into_iter().flatten().map(row).collect(),
    }
}

fn fact(fact: &Value) -> String {
    let age = fact["age_ms"].as_u64().map(|ms| format!(" ({} ms old)", ms)).unwrap_or_default();
    let value = match &fact["value"] {
        Value::Object(map) => {
            map.iter().map(|(key, value)| format!("{key} {}", inner(value))).collect::<Vec<_>>().join(", ")
        }
        other => plain(other),
    };
    format!("  {}: {value}{age}", plain(&fact["name"]))
}

fn inner(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Array(items) => format!("[{}]", items.iter().map(inner).collect::<Vec<_>>().join(" ")),
        Value::Object(_) => python_json::line(value),
        other => plain(other),
    }
}

/// On one line, whatever a member says.
fn plain(value: &Value) -> String {
    super::rest::printable(value.as_str().unwrap_or(&value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_explanation_as_text() {
        let reason = |id: &str, text: &str| json!({"id": id, "text": text});
        let document = json!({
            "name": "b", "scope": "test", "if": "leader-lost",
            "decision": {"action": "take the leader key", "reason": reason("Acquiring", "acquiring"), "again_in_ms": 5},
            "facts": [
                {"name": "cluster", "value": {"leader": "a", "members": ["a", "b"], "switchover": null}, "age_ms": 12},
                {"name": "dcs", "value": "answers", "age_ms": null},
            ],
            "members": [
                {"name": "b", "leads": false, "could_lead": true, "reason": reason("Acquiring", "acquiring")},
                {"name": "c", "leads": false, "could_lead": false, "reason": reason("LagTooLarge", "too far\nbehind")},
            ],
            "next_leader": ["b"],
        });
        let expected = "\
If it were so (leader-lost), as far as b knows:
b would lead
b does: take the leader key. acquiring (Acquiring)
+--------+------------+-------------+----------------+
| Member | Could lead | Rule        | Why            |
+--------+------------+-------------+----------------+
| b      | yes        | Acquiring   | acquiring      |
| c      | no         | LagTooLarge | too far behind |
+--------+------------+-------------+----------------+
It knows:
  cluster: leader a, members [a b], switchover none (12 ms old)
  dcs: answers";
        assert_eq!(text(&document), expected);
        assert_eq!(next_leader(&json!([])), "nobody would lead");
        assert_eq!(next_leader(&json!(["a", "b"])), "whoever is first would lead: a, b");
    }
}
