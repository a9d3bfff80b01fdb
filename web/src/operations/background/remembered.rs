//! Operations of an earlier life of the agent. The record of what happened holds when each began and how it ended; one that
//! only began was lost with the agent, and what became of it is told by the other events alone.

use pgherd_protocol::events::EventFeed;
use serde_json::{Value, json};

/// The kinds of events that tell of operations nobody waits for.
pub const ACCEPTED: &str = "request.accepted";
/// See there.
pub const ENDED: &str = "request.ended";

/// What is recorded of this one.
pub fn document(id: &str, feed: &EventFeed) -> Option<Value> {
    let events = feed.after(0, usize::MAX).events;
    let found = |kind: &str| {
        let of_kind = events.iter().filter(|event| event.kind.strip_prefix("pgherd.") == Some(kind));
        let mut documents = of_kind.filter_map(|event| serde_json::from_str::<Value>(&event.text).ok());
        documents.find(|document| document["data"]["id"] == id)
    };
    let began = found(ACCEPTED)?;
    let ended = found(ENDED);
    let end = |key: &str| ended.as_ref().map_or(Value::Null, |ended| ended["data"][key].clone());
    let (state, text) = match &ended {
        Some(ended) => (ended["data"]["state"].clone(), end("text")),
        None => {
            ("lost".into(), "the agent ended while this went on; GET /events tells what happened then and since".into())
        }
    };
    Some(json!({
        "id": id,
        "operation": began["data"]["operation"],
        "from": began["data"]["from"],
        "state": state,
        "begun": began["time"],
        "ended": ended.as_ref().map(|ended| ended["time"].clone()),
        "took_ms": end("took_ms"),
        "status": end("status"),
        "text": text,
        "phases": [],
        "progress": null,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_protocol::events::{Event, EventId};

    #[test]
    fn what_ended_is_known_and_what_only_began_is_lost() {
        let feed = EventFeed::default();
        let push = |seq, kind: &str, data: Value| {
            let text = json!({"time": "2026-01-01T00:00:00Z", "data": data}).to_string();
            feed.push(Event { id: EventId { term: 1, seq }, kind: format!("pgherd.{kind}"), text });
        };
        push(1, ACCEPTED, json!({"id": "1-1", "operation": "restart", "from": "10.0.0.9"}));
        push(2, ACCEPTED, json!({"id": "1-2", "operation": "switchover", "from": "10.0.0.9"}));
        push(3, ENDED, json!({"id": "1-2", "state": "failed", "status": 503, "text": "no", "took_ms": 7}));
        let lost = document("1-1", &feed).unwrap();
        assert_eq!((&lost["state"], &lost["operation"]), (&json!("lost"), &json!("restart")), "{lost}");
        let ended = document("1-2", &feed).unwrap();
        assert_eq!((&ended["state"], &ended["status"], &ended["took_ms"]), (&json!("failed"), &json!(503), &json!(7)));
        assert_eq!(document("1-3", &feed), None);
    }
}
