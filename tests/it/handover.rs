//! The lead is handed over because somebody asks for it.

use crate::support::*;
use pgherd_testkit::cluster::ClusterOptions;
use serde_json::{Value, json};

/// Times so long that only an event can be the cause of what happens in a test.
fn unhurried() -> ClusterOptions {
    options_with(60, 20, 5)
}

fn ask(cluster: &Cluster, node: usize, path: &str, body: &Value) -> (u16, String) {
    send(&cluster.nodes[node], "POST", path, body)
}

fn name(cluster: &Cluster, node: usize) -> String {
    cluster.nodes[node].name.clone()
}

#[test]
fn a_switchover_loses_nothing_and_the_old_leader_follows_without_a_copy() {
    let mut cluster = Cluster::start(3, unhurried());
    let old = cluster.await_primary();
    let writer = cluster.write();
    let mark = cluster.nodes[old].log_mark();
    let asked_of = cluster.others(old)[0];
    let (code, text) = ask(&cluster, asked_of, "/switchover", &json!({"leader": name(&cluster, old)}));
    let new = cluster.await_primary();
    assert_ne!(new, old);
    assert_eq!((code, text), (200, format!("Successfully switched over to \"{}\"", name(&cluster, new))));
    cluster.await_acks(&writer, 50);
    assert_eq!(cluster.await_complete(), new);
    let acks = writer.stop();
    assert_nothing_lost(&cluster, new, &acks);
    assert!(acks.iter().any(|ack| ack.node == old) && acks.last().expect("rows").node == new);
    assert!(!was_cloned_since(&cluster.nodes[old], mark), "its data are used as they are");
    assert_eq!(timeline(&cluster.nodes[new]), 2);
    assert_eq!(cluster.keys().get("failover").expect("the request").text(), "{}");
}

#[test]
fn the_named_candidate_leads_and_back_again_by_the_key_alone() {
    let mut cluster = Cluster::start(3, unhurried());
    let old = cluster.await_primary();
    let candidate = cluster.others(old)[1];
    let body = json!({"leader": name(&cluster, old), "candidate": name(&cluster, candidate)});
    let (code, text) = ask(&cluster, candidate, "/switchover", &body);
    assert_eq!((code, text), (200, format!("Successfully switched over to \"{}\"", name(&cluster, candidate))));
    assert_eq!(cluster.await_complete(), candidate);

    let request = json!({"leader": name(&cluster, candidate), "member": name(&cluster, old)}).to_string();
    cluster.keys().put("failover", request.as_bytes(), 0);
    eventually(PATIENCE, "the old leader leads again", || (cluster.primary()? == old).then_some(()));
    assert_eq!(cluster.await_complete(), old);
    eventually(PATIENCE, "the request is removed", || (cluster.keys().get("failover")?.text() == "{}").then_some(()));
}

#[test]
fn a_failover_goes_to_its_candidate_with_and_without_a_leader() {
    let mut cluster = Cluster::start(3, options());
    let old = cluster.await_primary();
    let candidate = cluster.others(old)[0];
    let (code, text) = ask(&cluster, old, "/failover", &json!({"candidate": name(&cluster, candidate)}));
    assert_eq!((code, text), (200, format!("Successfully failed over to \"{}\"", name(&cluster, candidate))));
    cluster.await_complete();
    assert_eq!(cluster.primary(), Some(candidate));
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let mut cluster = Cluster::start(2, options());
    let (leader, replica) = (cluster.await_primary(), 1 - cluster.await_primary());
    let (leads, follows) = (name(&cluster, leader), name(&cluster, replica));
    let writer = cluster.write();
    for (body, code, part) in [
        (json!({"leader": follows}), 412, "leader name does not match"),
        (json!({"leader": leads, "candidate": "nobody"}), 412, "candidate does not exists"),
        (json!({"leader": leads, "candidate": leads}), 400, "Switchover target and source are the same"),
        (json!({"candidate": follows}), 400, "Switchover could be performed only from a specific leader"),
        (json!({"leader": leads, "scheduled_at": "2030-01-01T00:00:00"}), 400, "Timezone information is mandatory"),
        (
            json!({"leader": leads, "scheduled_at": "2020-01-01T00:00:00Z"}),
            422,
            "Cannot schedule switchover in the past",
        ),
    ] {
        let (answered, text) = ask(&cluster, replica, "/switchover", &body);
        assert!(answered == code && text.contains(part), "{body}: {answered} {text}");
    }
    cluster.nodes[replica].rest_link.cut();
    let (code, text) = ask(&cluster, leader, "/switchover", &json!({"leader": leads}));
    assert!(code == 412 && text.contains("no good candidates have been found"), "{code} {text}");

    // The same by the key: the leader looks for itself, finds nobody, says so and goes on.
    let mark = cluster.nodes[leader].log_mark();
    cluster.keys().put("failover", json!({"leader": leads}).to_string().as_bytes(), 0);
    let (_, line) = cluster.nodes[leader].await_log(mark, "Cleaning up failover key");
    assert!(line.contains("is not reachable"), "{line}");
    eventually(PATIENCE, "the request is removed", || (cluster.keys().get("failover")?.text() == "{}").then_some(()));
    cluster.nodes[replica].rest_link.heal();
    cluster.await_acks(&writer, 20);
    assert_undisturbed(&writer.stop());
    assert_eq!(cluster.primary(), Some(leader));
    cluster.await_complete();
}

#[test]
fn a_scheduled_switchover_is_done_in_its_time_or_cancelled() {
    let mut cluster = Cluster::start(2, unhurried());
    let old = cluster.await_primary();
    let leads = name(&cluster, old);
    let at = |seconds: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).to_string();
    let body = |seconds| json!({"leader": leads, "scheduled_at": at(seconds)});
    assert_eq!(ask(&cluster, old, "/switchover", &body(3600)), (202, "Switchover scheduled".to_owned()));
    let deleted = || send(&cluster.nodes[1 - old], "DELETE", "/switchover", &Value::Null);
    eventually(PATIENCE, "the schedule is seen and deleted", || {
        (deleted() == (200, "scheduled switchover deleted".to_owned())).then_some(())
    });
    eventually(PATIENCE, "nothing is scheduled", || {
        (deleted() == (404, "no switchover is scheduled".to_owned())).then_some(())
    });
    assert_eq!(cluster.primary(), Some(old));

    assert_eq!(ask(&cluster, old, "/switchover", &body(3)).0, 202);
    eventually(PATIENCE, "the other leads", || (cluster.primary()? == 1 - old).then_some(()));
    cluster.await_complete();
}
