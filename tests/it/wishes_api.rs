//! Restart and new copy of one node through the REST API.

use crate::support::*;
use pgherd_testkit::http::{Answer, request};
use pgherd_testkit::node::Node;
use serde_json::{Value, json};
use std::time::Duration;

/// Longer than a restart may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(120);

fn send(node: &Node, method: &str, path: &str, body: &str) -> Answer {
    request(node.rest_port, method, path, body, ANSWER_PATIENCE).expect("an answer")
}

fn assert_answer(node: &Node, method: &str, path: &str, body: &Value, status: u16, text: &str) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let said = eventually(PATIENCE, "the node is done with what it was doing", || {
        let answer = send(node, method, path, &body);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        (!text.ends_with(" already in progress")).then_some((answer.status, text))
    });
    assert_eq!(said, (status, text.to_owned()), "{method} {path} {body} of {}", node.name);
}

#[test]
fn postgresql_is_restarted_if_the_conditions_hold() {
    let cluster = cluster(2);
    let primary = cluster.await_primary();
    let before = leader_key(&cluster).create_revision;
    for n in [1 - primary, primary] {
        let node = &cluster.nodes[n];
        let postmaster = node.postmaster().expect("a postmaster");
        let unmet = "restart conditions are not satisfied";
        let other_role = if n == primary { "replica" } else { "primary" };
        for filter in
            [json!({"role": other_role}), json!({"restart_pending": true}), json!({"postgres_version": "9.6.1"})]
        {
            assert_answer(node, "POST", "/restart", &filter, 503, unmet);
        }
        assert_eq!(send(node, "POST", "/restart", "{").status, 400);
        assert_eq!(node.postmaster(), Some(postmaster), "nothing was restarted");
        let role = if n == primary { "primary" } else { "replica" };
        let all_hold = json!({"role": role, "restart_pending": false, "postgres_version": "99.1", "timeout": "1min"});
        for body in [Value::Null, all_hold] {
            let before = node.postmaster();
            assert_answer(node, "POST", "/restart", &body, 200, "restarted successfully");
            assert!(node.postmaster().is_some() && node.postmaster() != before, "another postmaster runs");
            cluster.await_streaming(1 - primary);
        }
    }
    assert_eq!(leader_key(&cluster).create_revision, before, "the leader went on leading");
}

#[test]
fn a_restart_can_be_scheduled_shown_and_forgotten() {
    let cluster = cluster(1);
    let node = &cluster.nodes[0];
    let at = "2093-01-01T12:00:00+01:00";
    let wish = json!({"schedule": at, "restart_pending": true});
    assert_answer(node, "DELETE", "/restart", &Value::Null, 404, "no restarts are scheduled");
    assert_answer(node, "POST", "/restart", &wish, 202, "Restart scheduled");
    assert_answer(node, "POST", "/restart", &wish, 409, "Another restart is already scheduled");
    eventually(PATIENCE, "the schedule is shown", || {
        let shown = node.status()["scheduled_restart"] == wish;
        let members = node.get("/cluster")?.json();
        let member = &members["members"][0]["scheduled_restart"];
        (shown && member["schedule"] == at && member["postmaster_start_time"].is_string()).then_some(())
    });
    assert_answer(node, "DELETE", "/restart", &Value::Null, 200, "scheduled restart deleted");
    eventually(PATIENCE, "it is shown no more", || node.status().get("scheduled_restart").is_none().then_some(()));
    assert_answer(node, "DELETE", "/restart", &Value::Null, 404, "no restarts are scheduled");
}

#[test]
fn a_replica_gets_a_new_copy_and_the_leader_does_not() {
    let cluster = cluster(2);
    let primary = cluster.await_primary();
    let (leader, replica) = (&cluster.nodes[primary], &cluster.nodes[1 - primary]);
    assert_answer(leader, "POST", "/reinitialize", &Value::Null, 503, "I am the leader, can not reinitialize");
    leader.sql("CREATE TABLE kept (id int)");
    let marker = replica.data_dir().join("left_behind");
    std::fs::write(&marker, "").expect("write into the data directory");
    assert_eq!(send(replica, "POST", "/reinitialize", "{force: true}").status, 400);
    assert!(marker.exists(), "what cannot be read does nothing");
    let mark = replica.log_mark();
    assert_answer(replica, "POST", "/reinitialize", &json!({"from_leader": true}), 200, "reinitialize started");
    replica.await_log(mark, "bootstrap from leader");
    eventually(PATIENCE, "the data are new", || (!marker.exists()).then_some(()));
    cluster.await_streaming(1 - primary);
    cluster.await_caught_up(primary, 1 - primary);
    replica.sql("SELECT * FROM kept");
}
