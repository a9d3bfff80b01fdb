//! Documents, and what followers are told.

use super::follower::Next;
use super::*;
use pgherd_protocol::events::{EVENTS_KEPT, EventId};
use serde_json::{Value, json};

fn push(feed: &EventFeed, seq: u64, kind: &str) {
    let text = json!({"id": format!("2.{seq}"), "type": kind}).to_string();
    feed.push(Event { id: EventId { term: 2, seq }, kind: kind.into(), text });
}

fn feed(count: u64) -> EventFeed {
    let feed = EventFeed::default();
    (1..=count)
        .for_each(|seq| push(&feed, seq, if seq % 2 == 0 { "pgherd.leader.lost" } else { "pgherd.role.changed" }));
    feed
}

fn asked(feed: &EventFeed, query: &str) -> (Vec<String>, Value) {
    let document: Value = serde_json::from_str(&document(feed, &Query::read(query, None).unwrap())).unwrap();
    let ids = document["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned());
    (ids.collect(), document)
}

#[test]
fn documents_hold_the_newest_or_those_after_one() {
    let feed = feed(9);
    assert_eq!(asked(&feed, "limit=2").0, ["2.8", "2.9"]);
    assert_eq!(asked(&feed, "limit=2&type=leader").0, ["2.6", "2.8"]);
    assert_eq!(asked(&feed, "since=2.3&limit=2").0, ["2.4", "2.5"]);
    assert_eq!(asked(&feed, "since=2.3&limit=2&type=leader").0, ["2.4", "2.6"]);
    assert_eq!(asked(&feed, "since=2.9").0, Vec::<String>::new());
    let (_, document) = asked(&feed, "limit=1");
    assert_eq!((&document["first"], &document["last"], &document["missed"]), (&json!("2.1"), &json!("2.9"), &json!(0)));
    assert_eq!(asked(&EventFeed::default(), "").1, json!({"events": [], "first": null, "last": null, "missed": 0}));
}

fn follow(feed: &EventFeed, query: &str) -> Follower {
    Follower::begin(feed.clone(), Query::read(query, None).unwrap()).unwrap()
}

fn ids(next: Next) -> Vec<u64> {
    match next {
        Next::Events(events) => events.iter().map(|event| event.id.seq).collect(),
        other => panic!("{other:?}"),
    }
}

#[actix_rt::test]
async fn who_follows_gets_what_comes_and_all_of_it() {
    let feed = feed(3);
    let (mut new, mut old) = (follow(&feed, ""), follow(&feed, "since=2.1&type=leader"));
    assert_eq!(ids(old.next().await), [2]);
    let (waiting, ()) = tokio::join!(new.next(), async { push(&feed, 4, "pgherd.leader.lost") });
    assert_eq!(ids(waiting), [4]);
    assert_eq!(ids(old.next().await), [4]);
    (5..=200).for_each(|seq| push(&feed, seq, "pgherd.role.changed"));
    let mut seen = Vec::new();
    while seen.last() != Some(&200) {
        seen.extend(ids(new.next().await));
    }
    assert_eq!(seen, (5..=200).collect::<Vec<_>>());
    feed.close();
    assert_eq!((new.next().await, old.next().await), (Next::End, Next::End));
}

#[actix_rt::test]
async fn who_is_too_slow_is_told_how_much_it_missed() {
    let feed = feed(1);
    let mut slow = follow(&feed, "since=2.1");
    (2..=EVENTS_KEPT as u64 + 11).for_each(|seq| push(&feed, seq, "pgherd.role.changed"));
    assert_eq!(slow.next().await, Next::Missed { count: 10, reset: false });
    assert_eq!(ids(slow.next().await)[0], 12, "and goes on behind the gap");
    let mut of_another_log = follow(&feed, "since=9.99999");
    assert_eq!(of_another_log.next().await, Next::Missed { count: 0, reset: true });
    assert_eq!(ids(of_another_log.next().await)[0], 12);
    let told: Value = serde_json::from_str(&super::follower::missed_text(10, false)).unwrap();
    assert_eq!(told["data"], json!({"missed": 10, "reset": false}));
}
