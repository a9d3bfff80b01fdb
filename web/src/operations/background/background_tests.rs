//! Work that goes on, ends, and is told of.

use super::*;
use crate::status::tests::{primary, replica};
use arc_swap::ArcSwap;
use pgherd_protocol::events::{Event, EventId};
use pgherd_types::{DataDirectory, PostgresState, Progress, Server, WallTime};
use serde_json::Value;
use tokio::sync::oneshot;

fn push(feed: &EventFeed, seq: u64, kind: &str) {
    let at = jiff::Timestamp::from_millisecond(pgherd_clock::wall().0).unwrap();
    let text = json!({"id": format!("2.{seq}"), "time": at.to_string(), "data": {"n": seq}}).to_string();
    feed.push(Event { id: EventId { term: 2, seq }, kind: kind.into(), text });
}

fn document(all: &Background, path: &str, status: &NodeStatus, feed: &EventFeed) -> (u16, Value) {
    let answer = all.answer(path, status, feed);
    let body = answer.body.unwrap_or_default();
    (answer.code.as_u16(), serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

fn published(status: NodeStatus) -> PublishedStatus {
    Arc::new(ArcSwap::from_pointee(status))
}

/// Begins it; the path where it is told of.
async fn begun(
    all: &Background,
    operation: Operation,
    work: impl Future<Output = Answer> + 'static,
    status: &PublishedStatus,
    feed: &EventFeed,
) -> String {
    let answer = all.begin((operation, "10.0.0.9"), work, status.clone(), (feed, None)).await;
    assert_eq!(answer.code, 202, "{answer:?}");
    let document: Value = serde_json::from_str(&answer.body.unwrap()).unwrap();
    document["href"].as_str().unwrap().to_owned()
}

async fn await_state(all: &Background, path: &str, state: &str, status: &PublishedStatus, feed: &EventFeed) -> Value {
    let reached = async {
        loop {
            let (_, document) = document(all, path, &status.load(), feed);
            if document["state"] == state {
                return document;
            }
            actix_web::rt::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reached).await.expect("in time")
}

#[actix_rt::test]
async fn a_switchover_is_told_of_with_what_happened_meanwhile() {
    let (all, feed, status) = (Background::default(), EventFeed::default(), published(primary()));
    push(&feed, 1, "pgherd.leader.elected");
    let (end, ended) = oneshot::channel::<()>();
    let work =
        async { ended.await.map_or(Answer::bare(StatusCode::OK), |()| Answer::text(StatusCode::OK, "switched over")) };
    let path = begun(&all, Operation::Switchover, work, &status, &feed).await;
    let (code, running) = document(&all, &path, &status.load(), &feed);
    assert_eq!((code, &running["state"], &running["status"]), (200, &json!("running"), &Value::Null));
    assert_eq!((&running["from"], &running["operation"]), (&json!("10.0.0.9"), &json!("switchover")));
    push(&feed, 2, "pgherd.leader.lost");
    push(&feed, 3, "pgherd.config.changed");
    end.send(()).unwrap();
    let done = await_state(&all, &path, "done", &status, &feed).await;
    push(&feed, 4, "pgherd.leader.elected");
    assert_eq!((&done["status"], &done["text"]), (&json!(200), &json!("switched over")));
    let (_, later) = document(&all, &path, &status.load(), &feed);
    let phases: Vec<_> = later["phases"].as_array().unwrap().iter().map(|phase| &phase["id"]).collect();
    assert_eq!(phases, ["2.2"], "neither before nor after, and nothing else");
    assert_eq!(document(&all, "/operations", &status.load(), &feed).1["operations"].as_array().unwrap().len(), 1);
    assert_eq!(document(&all, "/operations/nonsense", &status.load(), &feed).0, 404);
}

#[actix_rt::test]
async fn what_is_refused_at_once_is_answered_at_once_and_what_fails_later_is_told() {
    let (all, feed, status) = (Background::default(), EventFeed::default(), published(primary()));
    let refused = std::future::ready(Answer::refused("Switchover target and source are the same"));
    let answer = all.begin((Operation::Switchover, "x"), refused, status.clone(), (&feed, None)).await;
    assert_eq!(answer.code, 400);
    let done = std::future::ready(Answer::text(StatusCode::OK, "restarted successfully"));
    let path = begun(&all, Operation::Restart, done, &status, &feed).await;
    await_state(&all, &path, "done", &status, &feed).await;
    let later = async {
        tokio::task::yield_now().await;
        Answer::text(StatusCode::PRECONDITION_FAILED, "leader name does not match")
    };
    let path = begun(&all, Operation::Failover, later, &status, &feed).await;
    let failed = await_state(&all, &path, "failed", &status, &feed).await;
    assert_eq!((&failed["status"], &failed["text"]), (&json!(412), &json!("leader name does not match")));
    let never = || begun(&all, Operation::Restart, std::future::pending(), &status, &feed);
    for _ in 0..RUNNING_MAX {
        never().await;
    }
    let answer = all.begin((Operation::Restart, "x"), std::future::pending(), status.clone(), (&feed, None)).await;
    assert_eq!(answer.code, 503, "too many");
}

#[actix_rt::test]
async fn a_new_copy_is_done_when_postgresql_runs_from_it() {
    let (all, feed, status) = (Background::default(), EventFeed::default(), published(replica()));
    let work = async {
        tokio::task::yield_now().await;
        Answer::text(StatusCode::OK, "reinitialize started")
    };
    let path = begun(&all, Operation::Reinitialize, work, &status, &feed).await;
    let copying = PostgresState {
        looked_at: pgherd_clock::boottime(),
        wall: WallTime(0),
        data: DataDirectory::Empty,
        server: Server::Stopped,
        progress: Some(Progress { done_bytes: 25, total_bytes: Some(100) }),
    };
    assert_eq!(document(&all, &path, &status.load(), &feed).1["state"], "running", "the old server is not the new one");
    let phase = ServerPhase::CreatingReplica;
    let busy = NodeStatus { operation: Some("bootstrap from"), phase, postgres: Some(Arc::new(copying)), ..replica() };
    status.store(Arc::new(busy));
    push(&feed, 1, "pgherd.operation.started");
    let (_, running) = document(&all, &path, &status.load(), &feed);
    let progress = &running["progress"];
    assert_eq!(
        (&running["state"], &progress["done_bytes"], &progress["total_bytes"]),
        (&json!("running"), &json!(25), &json!(100))
    );
    assert!(progress["eta_s"].is_u64(), "{progress}");
    status.store(Arc::new(replica()));
    let done = await_state(&all, &path, "done", &status, &feed).await;
    assert_eq!(done["progress"], Value::Null);
}
