//! The REST API of a cluster at work.

use crate::support::*;
use pgherd_testkit::http::request;
use pgherd_testkit::node::Node;
use std::time::Duration;

/// Path, status on the primary, status on a replica, is there a body.
const TABLE: &[(&str, u16, u16, bool)] = &[
    ("/", 200, 503, true),
    ("/primary", 200, 503, true),
    ("/master", 200, 503, true),
    ("/read-write", 200, 503, true),
    ("/leader", 200, 503, true),
    ("/replica", 503, 200, true),
    ("/replica?replication_state=streaming", 503, 200, true),
    ("/replica?lag=1MB", 503, 200, true),
    ("/read-only", 200, 200, true),
    ("/health", 200, 200, true),
    ("/liveness", 200, 200, false),
    ("/readiness", 200, 200, false),
    ("/patroni", 200, 200, true),
    ("/cluster", 200, 200, true),
    ("/history", 200, 200, true),
    ("/no-such-check", 503, 503, true),
];

fn ask(node: &Node, method: &str, path: &str) -> pgherd_testkit::http::Answer {
    request(node.rest_port, method, path, "", Duration::from_secs(30)).expect("an answer")
}

#[test]
fn health_checks_and_documents_of_leader_and_replica() {
    let cluster = cluster(2);
    let primary = cluster.await_primary();
    let replica = 1 - primary;
    eventually(PATIENCE, "the replica says that it streams", || {
        (cluster.nodes[replica].check("/replica?replication_state=streaming") == Some(200)).then_some(())
    });
    for (path, on_primary, on_replica, has_body) in TABLE {
        for (n, code) in [(primary, on_primary), (replica, on_replica)] {
            let node = &cluster.nodes[n];
            let answer = ask(node, "GET", path);
            assert_eq!((answer.status, answer.body.is_empty()), (*code, !has_body), "GET {path} of {}", node.name);
            assert!(!has_body || !answer.json().is_null(), "{path} is JSON");
            for method in ["HEAD", "OPTIONS"] {
                let answer = ask(node, method, path);
                assert_eq!((answer.status, answer.body.len()), (*code, 0), "{method} {path} of {}", node.name);
            }
        }
    }
    assert_eq!(ask(&cluster.nodes[primary], "POST", "/switchover").status, 400);
    assert_eq!(ask(&cluster.nodes[primary], "POST", "/primary").status, 501);
    documents_say_what_is(&cluster, primary, replica);
}

fn documents_say_what_is(cluster: &Cluster, primary: usize, replica: usize) {
    // its last look may be from the time of the copy, and show that
    let standby_name = cluster.nodes[replica].name.as_str();
    let leader = eventually(PATIENCE, "the primary has seen its standby", || {
        let shown = |doc: &serde_json::Value| {
            let standby = &doc["replication"][0];
            standby["application_name"] == standby_name && standby["state"] == "streaming"
        };
        Some(cluster.nodes[primary].status()).filter(shown)
    });
    let standby = cluster.nodes[replica].status();
    let system_id = cluster.keys().get("initialize").expect("an initialize key").text();
    for (doc, node, role) in [(&leader, primary, "primary"), (&standby, replica, "replica")] {
        assert_eq!((&doc["state"], &doc["role"]), (&"running".into(), &role.into()), "{doc}");
        assert_eq!(doc["patroni"]["name"], cluster.nodes[node].name.as_str());
        assert_eq!((&doc["patroni"]["scope"], &doc["timeline"]), (&"test".into(), &1.into()));
        assert_eq!(doc["database_system_identifier"], system_id.as_str());
        assert!(
            doc["server_version"].as_i64().is_some_and(|v| v >= 100_000) && doc["dcs_last_seen"].as_i64() > Some(0)
        );
    }
    assert!(leader["xlog"]["location"].is_u64(), "{leader}");
    assert!(standby["xlog"]["received_location"].is_u64() && standby["replication_state"] == "streaming", "{standby}");
    let members = cluster.nodes[replica].get("/cluster").expect("an answer").json();
    let shown: Vec<_> =
        members["members"].as_array().expect("members").iter().map(|m| (&m["name"], &m["role"])).collect();
    for (n, role) in [(primary, "leader"), (replica, "replica")] {
        assert!(shown.contains(&(&cluster.nodes[n].name.as_str().into(), &role.into())), "{members}");
    }
    assert_eq!(cluster.nodes[primary].get("/history").expect("an answer").json(), serde_json::json!([]));
}

#[test]
fn claims_of_a_stuck_agent_lapse() {
    // the shortest ttl there is
    let cluster = Cluster::start(1, options_with(3, 1, 1));
    let node = &cluster.nodes[0];
    // A frozen agent cannot answer at all; one whose etcd is silent answers, and must stop saying that it leads.
    node.stall_etcd();
    let before = leader_key(&cluster);
    eventually(PATIENCE, "it does not claim to lead", || (node.check("/primary") == Some(503)).then_some(()));
    assert_eq!(cluster.keys().get("leader").map(|key| key.lease), Some(before.lease), "before the lease lapses");
    node.heal_etcd();
    eventually(PATIENCE, "it leads again", || (node.check("/primary") == Some(200)).then_some(()));
}

#[test]
fn operations_nobody_waits_for_are_told_of_until_they_end() {
    let mut cluster = cluster(2);
    let primary = cluster.await_complete();
    let replica = 1 - primary;
    let names: Vec<_> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    let ask = |node: &Node, path: &str, body: serde_json::Value| {
        let lines = "Prefer: respond-async\r\n";
        let body = body.to_string();
        pgherd_testkit::http::request_with(node.rest_port, "POST", path, lines, &body, Duration::from_secs(30))
            .expect("an answer")
    };
    let begin = |node: &Node, path: &str, body: serde_json::Value| {
        let answer = ask(node, path, body);
        assert_eq!(answer.status, 202, "{answer:?}");
        assert!(answer.head.contains("preference-applied: respond-async"), "{}", answer.head);
        answer.json()["href"].as_str().expect("a path").to_owned()
    };
    let end = |node: &Node, path: &str| {
        eventually(PATIENCE, &format!("{path} ends"), || {
            let document = node.get(path)?.json();
            (document["state"] != "running" && !document.is_null()).then_some(document)
        })
    };
    let types = |document: &serde_json::Value| -> Vec<String> {
        let phases = document["phases"].as_array().expect("phases");
        phases.iter().filter_map(|phase| phase["type"].as_str().map(str::to_owned)).collect()
    };

    let node = &cluster.nodes[replica];
    eventually(PATIENCE, "the replica is at rest", || {
        let document = node.status();
        (document["replication_state"] == "streaming" && document["pgherd"]["operation"].is_null()).then_some(())
    });
    let copied = end(node, &begin(node, "/reinitialize", serde_json::json!({})));
    assert_eq!((&copied["state"], &copied["operation"]), (&"done".into(), &"reinitialize".into()), "{copied}");
    assert!(types(&copied).contains(&"pgherd.operation.started".to_owned()), "{copied}");
    cluster.await_streaming(replica);

    let node = &cluster.nodes[primary];
    let wanted = serde_json::json!({"leader": names[primary], "candidate": names[replica]});
    let switched = end(node, &begin(node, "/switchover", wanted.clone()));
    let text = format!("Successfully switched over to \"{}\"", names[replica]);
    assert_eq!((&switched["status"], &switched["text"]), (&200.into(), &text.as_str().into()), "{switched}");
    assert!(types(&switched).contains(&"pgherd.leader.lost".to_owned()), "{switched}");
    // by now somebody else leads
    let failed = end(node, &begin(node, "/switchover", wanted));
    assert_eq!((&failed["state"], &failed["status"]), (&"failed".into(), &412.into()), "{failed}");
    assert_eq!(ask(node, "/switchover", serde_json::json!({})).status, 400, "what is wrong is said at once");
    assert_eq!(node.get("/operations").expect("an answer").json()["operations"].as_array().map(Vec::len), Some(2));
    assert_eq!(node.check("/operations/1-1"), Some(404));

    // the next life of the agent knows them by the record of what happened
    let href = format!("/operations/{}", switched["id"].as_str().expect("an id"));
    cluster.nodes[primary].kill_agent();
    cluster.nodes[primary].start();
    let remembered = end(&cluster.nodes[primary], &href);
    assert_eq!((&remembered["state"], &remembered["text"]), (&switched["state"], &switched["text"]), "{remembered}");
}
