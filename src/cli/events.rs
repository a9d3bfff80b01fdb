//! `events`: what happened on a member, the newest last. With `--follow` what happens from now on, too: server-sent events,
//! which go on where they were when the connection breaks.

use super::console::{Outcome, Stop, Verdict};
use super::rest::{NoAnswer, Request, SHORT, printable};
use super::session::{Session, named_or_leader_first};
use awc::http::Method;
use clap::{Args, ValueEnum};
use pgherd_types::Member;
use serde_json::Value;
use std::time::Duration;

/// Between two attempts to follow.
const PAUSE: Duration = Duration::from_secs(1);

/// Which events, and how.
#[derive(Args)]
pub struct EventsArguments {
    /// The cluster; by default the one of the settings.
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Whose events; by default the leader's, or those of whoever answers if there is none.
    #[arg(value_name = "MEMBER")]
    member: Option<String>,
    /// So many of the newest.
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Only those after the one with this id.
    #[arg(long, value_name = "ID")]
    since: Option<String>,
    /// Only these kinds, separated by commas: `leader`, `role.changed`.
    #[arg(long = "type", value_name = "KINDS")]
    kinds: Option<String>,
    /// Go on with what happens, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// The form of the output.
    #[arg(long, value_enum, default_value = "pretty")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// A line of text for each event.
    Pretty,
    /// The document of each event on a line.
    Json,
}

/// Runs the command.
pub async fn events(session: &Session<'_>, arguments: &EventsArguments) -> Outcome {
    let scope = session.scope(arguments.cluster.as_ref())?;
    let cluster = session.cluster(&scope).await?;
    let members = named_or_leader_first(&scope, &cluster, arguments.member.as_ref())?;
    let path = path(arguments, arguments.since.as_deref());
    let request = Request { method: Method::GET, path: &path, body: None, patience: SHORT };
    let (member, answer) = session.ask_by_turns(&members, &request, "no member tells its events").await?;
    let document: Option<Value> = serde_json::from_str(&answer.body).ok().filter(|_| answer.status == 200);
    let Some(document) = document else {
        session.console.say(format!("Failed: events of {}, {}", member.name, answer.shown()))?;
        return Ok(Verdict::Refused);
    };
    if let Some(missed) = document["missed"].as_u64().filter(|missed| *missed > 0) {
        session.console.complain(format!("{missed} events after that are not kept any more"));
    }
    let events = document["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    for event in events {
        session.console.say(shown(event, arguments.format))?;
    }
    match arguments.follow {
        false => Ok(Verdict::Done),
        true => {
            let last = events.last().map_or(&document["last"], |event| &event["id"]);
            follow(session, member, arguments, last.as_str().unwrap_or("0.0").to_owned()).await
        }
    }
}

fn path(arguments: &EventsArguments, since: Option<&str>) -> String {
    let given = [("since", since), ("type", arguments.kinds.as_deref())];
    let more: String = given.iter().filter_map(|(name, text)| Some(format!("&{name}={}", encoded((*text)?)))).collect();
    format!("/events?limit={}{more}", arguments.limit)
}

/// For a query string.
fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._,-".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Until Ctrl-C. When the connection breaks that is said, and it goes on where it was.
async fn follow(session: &Session<'_>, member: &Member, arguments: &EventsArguments, mut last: String) -> Outcome {
    loop {
        let path = path(arguments, Some(&last));
        let said = session
            .rest
            .follow(member, &path, |event| {
                if let Some(id) = event["id"].as_str().filter(|_| event["type"] != "pgherd.events.missed") {
                    last = id.to_owned();
                }
                session.console.say(shown(event, arguments.format))
            })
            .await;
        match said {
            Ok(()) => {}
            Err(Followed::Stop(stop)) => return Err(stop),
            Err(Followed::Lost(why)) => {
                session.console.complain(format!("{}: {}; trying again", member.name, why.text()))
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why following ended.
pub enum Followed {
    /// The command ends.
    Stop(Stop),
    /// The connection does not work.
    Lost(NoAnswer),
}

fn shown(event: &Value, format: Format) -> String {
    match format {
        Format::Json => event.to_string(),
        Format::Pretty => {
            let text = |key: &str| printable(event[key].as_str().unwrap_or_default());
            let kind = text("type");
            format!("{} {} {} {}", text("time"), text("id"), kind.trim_start_matches("pgherd."), said(&event["data"]))
        }
    }
}

/// What is null is left out.
fn said(data: &Value) -> String {
    let Some(map) = data.as_object() else { return data.to_string() };
    let pairs = map.iter().filter(|(_, value)| !value.is_null());
    let pair = |(key, value): (&String, &Value)| match value.as_str() {
        Some(text) => format!("{key}={}", printable(text)),
        None => format!("{key}={value}"),
    };
    pairs.map(pair).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_as_a_line() {
        let event = json!({
            "id": "2.7", "type": "pgherd.leader.elected", "time": "2026-11-25T10:00:00.000Z",
            "data": {"leader": "b", "former": "a", "leaderless_ms": 80, "x": null, "y": ["a\nb"]},
        });
        let line = shown(&event, Format::Pretty);
        let expected = r#"2026-11-25T10:00:00.000Z 2.7 leader.elected leader=b former=a leaderless_ms=80 y=["a\nb"]"#;
        assert_eq!(line, expected);
        assert_eq!(serde_json::from_str::<Value>(&shown(&event, Format::Json)).unwrap(), event);
        assert_eq!(encoded("a.b,c &d"), "a.b,c%20%26d");
    }
}
