//! The record as a whole.

use super::*;
use pgherd_protocol::events::Events;
use pgherd_testkit::eventually::eventually_blocking;
use pgherd_testkit::postgres::TestDir;
use pgherd_types::{Role, Timeline};
use std::sync::Arc;
use std::time::Duration;

fn status(timeline: u32, role: Role) -> Told {
    let status = NodeStatus { timeline: Some(Timeline(timeline)), role, ..NodeStatus::default() };
    Told::Status(Arc::new(status))
}

fn await_events(feed: &EventFeed, count: usize) -> Vec<Arc<Event>> {
    eventually_blocking(Duration::from_secs(30), &format!("{count} events"), || {
        let Events { events, .. } = feed.after(0, 1000);
        (events.len() == count).then_some(events)
    })
}

#[test]
fn events_are_numbered_in_order_and_go_on_after_a_restart() {
    let directory = TestDir::new();
    let (sink, feed) = start(directory.path(), "demo", "pg1").unwrap();
    for told in [status(3, Role::Replica), status(4, Role::Primary), status(2, Role::Demoted)] {
        assert!(sink.tell(told));
    }
    assert!(sink.tell(Told::Happened("request", json!({"operation": "restart"}))));
    let events = await_events(&feed, 4);
    let ids: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();
    assert_eq!(ids, ["0.1", "4.2", "4.3", "4.4"], "the term never falls");
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["pgherd.agent.started", "pgherd.role.changed", "pgherd.role.changed", "pgherd.request"]);
    let document: Value = serde_json::from_str(&events[1].text).unwrap();
    assert_eq!((&document["specversion"], &document["id"]), (&json!("1.0"), &json!("4.2")));
    assert_eq!((&document["source"], &document["type"]), (&json!("/pgherd/demo/pg1"), &json!("pgherd.role.changed")));
    assert_eq!((&document["data"]["from"], &document["data"]["to"]), (&json!("replica"), &json!("primary")));
    assert!(document["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    drop(sink);

    let (_sink, again) = start(directory.path(), "demo", "pg1").unwrap();
    let all = await_events(&again, 5);
    assert_eq!(all[..4], events[..], "byte by byte");
    assert_eq!((all[4].id.to_string().as_str(), all[4].kind.as_str()), ("4.5", "pgherd.agent.started"));
}

#[test]
fn what_is_said_of_one_event_is_limited() {
    let recorder = Recorder::new(Store::open(TestDir::new().path()), EventFeed::default(), String::new());
    let large = json!({"text": "x".repeat(DATA_BYTES_MAX)});
    let event = recorder.event(Happening::new("request", large), WallTime(0));
    assert!(event.text.len() < 1000, "{}", event.text);
    assert!(event.text.contains("1970-01-01T00:00:00.000Z"), "{}", event.text);
}
