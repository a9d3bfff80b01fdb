//! Switchover and failover through the REST API: what is refused on a real cluster, and a schedule.

use crate::support::*;
use pgherd_testkit::http::{Answer, request};
use pgherd_testkit::node::Node;
use serde_json::{Value, json};
use std::time::Duration;

/// Longer than a switchover is awaited.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

fn send(node: &Node, method: &str, path: &str, body: &Value) -> Answer {
    request(node.rest_port, method, path, &body.to_string(), ANSWER_PATIENCE).expect("an answer")
}

fn assert_answer(node: &Node, path: &str, body: &Value, status: u16, text: &str) {
    let answer = send(node, "POST", path, body);
    assert_eq!((answer.status, String::from_utf8_lossy(&answer.body).as_ref()), (status, text), "{path} {body}");
}

#[test]
fn what_cannot_work_is_refused_and_a_schedule_can_be_cancelled() {
    let mut cluster = cluster(2);
    let primary = cluster.await_primary();
    let (leader, replica) = (cluster.nodes[primary].name.clone(), 1 - primary);
    let other = cluster.nodes[replica].name.clone();
    let from = |leader: &str| json!({"leader": leader});
    for node in &cluster.nodes {
        for (path, body, status, text) in [
            ("/switchover", from("nobody"), 412, "leader name does not match"),
            ("/switchover", from(&other), 412, "leader name does not match"),
            ("/switchover", json!({"leader": leader, "candidate": "nobody"}), 412, "candidate does not exists"),
            ("/failover", json!({"candidate": "nobody"}), 412, "candidate does not exists"),
            ("/failover", from(&leader), 400, "Failover could be performed only to a specific candidate"),
        ] {
            assert_answer(node, path, &body, status, text);
        }
    }
    let node = &cluster.nodes[replica];
    assert_eq!(cluster.keys().get("failover").map(|key| key.json()).unwrap_or(json!({})), json!({}));
    let at = "2093-01-01T12:00:00+01:00";
    let body = json!({"leader": leader, "candidate": other, "scheduled_at": at});
    assert_answer(node, "/switchover", &body, 202, "Switchover scheduled");
    let key = cluster.keys().get("failover").expect("a failover key").json();
    assert_eq!(key, json!({"leader": leader, "member": other, "scheduled_at": at}));
    for (status, text) in [(200, "scheduled switchover deleted"), (404, "no switchover is scheduled")] {
        let answer = eventually(PATIENCE, text, || {
            Some(send(node, "DELETE", "/switchover", &Value::Null)).filter(|answer| answer.status == status)
        });
        assert_eq!(answer.body, text.as_bytes());
    }
    assert_eq!(cluster.keys().get("failover").expect("a failover key").json(), json!({}));
    let revision = cluster.keys().get("failover").expect("a failover key").mod_revision;

    cluster.nodes[replica].kill_node();
    let text = "switchover is not possible: no good candidates have been found";
    assert_answer(&cluster.nodes[primary], "/switchover", &from(&leader), 412, text);
    let body = json!({"leader": leader, "candidate": other});
    let refused = send(&cluster.nodes[primary], "POST", "/switchover", &body);
    // its key lapses meanwhile
    let texts = [text, "candidate does not exists"];
    assert!(refused.status == 412 && texts.iter().any(|text| refused.body == text.as_bytes()), "{refused:?}");
    eventually(PATIENCE, "the dead member's key lapses", || {
        cluster.keys().get(&format!("members/{other}")).is_none().then_some(())
    });
    let text = "switchover is not possible: cluster does not have members except leader";
    eventually(PATIENCE, text, || {
        let answer = send(&cluster.nodes[primary], "POST", "/switchover", &from(&leader));
        assert_eq!(answer.status, 412);
        (answer.body == text.as_bytes()).then_some(())
    });
    let key = cluster.keys().get("failover").expect("a failover key");
    assert_eq!(key.mod_revision, revision, "nothing was asked of the cluster");
    assert_eq!(cluster.primary(), Some(primary));
}
