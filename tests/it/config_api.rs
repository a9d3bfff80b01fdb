//! Changing things through the REST API: the dynamic configuration, and who may.

use crate::support::*;
use pgherd_testkit::http::{Answer, request, request_with};
use pgherd_testkit::node::Node;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

fn send(node: &Node, method: &str, path: &str, body: &Value) -> Answer {
    request(node.rest_port, method, path, &body.to_string(), ANSWER_PATIENCE).expect("an answer")
}

fn in_force_everywhere(cluster: &Cluster, document: &Value, work_mem: &str) {
    for node in &cluster.nodes {
        eventually(PATIENCE, &format!("{} shows {document} and has {work_mem}", node.name), || {
            let shown = node.get("/config")?.json() == *document;
            let used = node.try_sql("SELECT current_setting('work_mem')").ok()?;
            (shown && used == [work_mem]).then_some(())
        });
    }
}

#[test]
fn a_changed_configuration_is_in_force_on_all_nodes() {
    let cluster = cluster(2);
    let (primary, replica) = (cluster.await_primary(), 1 - cluster.await_primary());
    let before = cluster.nodes[replica].get("/config").expect("an answer").json();
    assert_eq!(before["ttl"], 5, "{before}");

    let patch = json!({"postgresql": {"parameters": {"work_mem": "8MB"}}, "loop_weight": 3, "no_such": null});
    let mark = cluster.nodes[replica].log_mark();
    let answer = send(&cluster.nodes[replica], "PATCH", "/config", &patch);
    let mut expected = before.clone();
    expected["postgresql"]["parameters"] = json!({"work_mem": "8MB"});
    expected["loop_weight"] = 3.into();
    assert_eq!((answer.status, answer.json()), (200, expected.clone()));
    assert_eq!(cluster.keys().get("config").expect("a config key").json(), expected);
    let shown = cluster.nodes[replica].get("/config").expect("an answer").json();
    assert_eq!(shown, expected, "the node that wrote it has seen it when it answers");
    in_force_everywhere(&cluster, &expected, "8MB");
    let (_, warning) = cluster.nodes[replica].await_log(mark, "loop_weight");
    assert!(warning.contains("WARNING") && warning.contains("unknown key"), "{warning}");

    let revision = cluster.keys().get("config").expect("a config key").mod_revision;
    let same = send(&cluster.nodes[primary], "PATCH", "/config", &json!({"ttl": 5, "absent": null}));
    assert_eq!((same.status, same.json()), (200, expected));
    assert_eq!(cluster.keys().get("config").expect("a config key").mod_revision, revision, "nothing was written");

    let answer = send(
        &cluster.nodes[primary],
        "PATCH",
        "/config",
        &json!({"postgresql": {"parameters": null}, "loop_weight": null}),
    );
    assert_eq!((answer.status, answer.json()), (200, before.clone()));
    in_force_everywhere(&cluster, &before, "4MB");

    let mut whole = before;
    whole["postgresql"] = json!({"parameters": {"work_mem": "16MB"}});
    let answer = send(&cluster.nodes[replica], "PUT", "/config", &whole);
    assert_eq!((answer.status, answer.json()), (200, whole.clone()));
    in_force_everywhere(&cluster, &whole, "16MB");
    for (method, body) in [("PATCH", "{}"), ("PUT", "[1]"), ("PATCH", "{"), ("PUT", "")] {
        let answer = request(cluster.nodes[primary].rest_port, method, "/config", body, ANSWER_PATIENCE);
        assert_eq!(answer.expect("an answer").status, 400, "{method} {body}");
    }
    assert_eq!(cluster.keys().get("config").expect("a config key").json(), whole);
}

/// Sends these to nodes at the same moment.
fn at_once(cluster: &Cluster, requests: &[(usize, &str, Value)]) -> Vec<Answer> {
    let start = std::sync::Barrier::new(requests.len());
    let send = |(node, method, body): &(usize, &str, Value)| {
        let port = cluster.nodes[*node].rest_port;
        start.wait();
        request(port, method, "/config", &body.to_string(), ANSWER_PATIENCE).expect("an answer")
    };
    std::thread::scope(|scope| {
        let send = &send;
        let threads: Vec<_> = requests.iter().map(|request| scope.spawn(move || send(request))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    })
}

#[test]
fn changes_made_at_once_neither_get_lost_nor_overwrite_each_other() {
    let cluster = cluster(2);
    let stored = || cluster.keys().get("config").expect("a config key").json();
    let mut accepted = BTreeMap::new();
    for round in 0..4 {
        let keys: Vec<_> = (0..6).map(|n| (n % 2, format!("key_{round}_{n}"))).collect();
        let requests: Vec<_> =
            keys.iter().map(|(node, key)| (*node, "PATCH", json!({"postgresql": {"custom": {key: round}}}))).collect();
        for ((_, key), answer) in keys.into_iter().zip(at_once(&cluster, &requests)) {
            assert!(matches!(answer.status, 200 | 409), "{answer:?}");
            if answer.status == 200 {
                accepted.insert(key, json!(round));
            }
        }
    }
    assert!(!accepted.is_empty());
    assert_eq!(stored()["postgresql"]["custom"], json!(accepted), "every accepted change is there, and no other");

    let base = stored();
    let mut round = 0;
    eventually(PATIENCE, "two replacements collide", || {
        round += 1;
        let of = |node: usize| {
            let mut whole = base.clone();
            whole["postgresql"]["custom"] = json!({"round": round, "from": node});
            whole
        };
        let answers = at_once(&cluster, &[(0, "PUT", of(0)), (1, "PUT", of(1))]);
        let codes: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert!(codes.iter().all(|code| matches!(code, 200 | 409)), "{answers:?}");
        match codes.iter().filter(|code| **code == 200).count() {
            1 => {
                let winner = codes.iter().position(|code| *code == 200).expect("one");
                assert_eq!(stored(), of(winner), "the one that was refused wrote nothing");
                assert!(String::from_utf8_lossy(&answers[1 - winner].body).contains("try again"));
                Some(())
            }
            // one after the other, or each saw an older reading than what is stored
            _ => None,
        }
    });
}

fn with_restapi(cluster: &Cluster, more: &str) {
    let config = cluster.nodes[0].config();
    let text = std::fs::read_to_string(&config).expect("settings");
    let begin = text.find("restapi:\n").expect("restapi") + "restapi:\n".len();
    let end = begin + text[begin..].find("  listen:").expect("listen");
    let text = format!("{}{more}{}", &text[..begin], &text[end..]);
    std::fs::write(config, text).expect("write settings");
}

fn start_with(cluster: &mut Cluster, more: &str) {
    with_restapi(cluster, more);
    let mark = cluster.nodes[0].log_mark();
    cluster.nodes[0].start();
    cluster.nodes[0].await_log(mark, "REST API listens");
}

fn with_login(node: &Node, path: &str, token: Option<&str>) -> Answer {
    let lines = token.map(|token| format!("Authorization: Basic {token}\r\n")).unwrap_or_default();
    request_with(node.rest_port, "POST", path, &lines, "", ANSWER_PATIENCE).expect("an answer")
}

#[test]
fn changes_need_the_password_and_an_address_on_the_list() {
    let mut cluster = Cluster::prepare(1, options());
    start_with(&mut cluster, "  authentication: {username: admin, password: secret}\n");
    let node = &cluster.nodes[0];
    let nobody = with_login(node, "/sigterm", None);
    assert_eq!((nobody.status, nobody.body.as_slice()), (401, b"no auth header received".as_slice()));
    assert!(nobody.head.contains("www-authenticate: basic realm=\"patroni\""), "{}", nobody.head);
    let wrong = with_login(node, "/sigterm", Some("YWRtaW46d3Jvbmc="));
    assert_eq!((wrong.status, wrong.body.as_slice()), (401, b"not authenticated".as_slice()));
    assert_eq!(with_login(node, "/sigterm", Some("YWRtaW46c2VjcmV0")).status, 202);
    for path in ["/cluster", "/patroni", "/liveness"] {
        assert!(node.check(path).is_some_and(|code| code != 401), "{path} is open");
    }
    assert_eq!(send(node, "PATCH", "/config", &json!({"ttl": 77})).status, 401);
    assert!(!node.log().iter().any(|line| line.contains("secret") || line.contains("YWRtaW46")));
    assert_eq!(cluster.nodes[0].terminate().code(), Some(0));

    for (allowlist, status) in [
        ("  allowlist: [10.99.0.0/16]\n", 403),
        ("  allowlist: [10.99.0.0/33]\n", 403),
        ("  allowlist: [10.99.0.0/16, localhost]\n", 202),
        ("  allowlist_include_members: true\n", 202),
    ] {
        start_with(&mut cluster, allowlist);
        let node = &cluster.nodes[0];
        // names, and who is a member, are known a moment after the start
        let answer = eventually(PATIENCE, &format!("{status} with {allowlist}"), || {
            Some(with_login(node, "/sigterm", None)).filter(|answer| answer.status == status)
        });
        assert!(status == 202 || answer.body == b"Access is denied");
        assert_ne!(node.check("/cluster"), Some(403));
        assert_eq!(cluster.nodes[0].terminate().code(), Some(0));
    }
}

#[test]
fn who_may_change_something_changes_with_a_reload() {
    let mut cluster = Cluster::prepare(1, options());
    start_with(&mut cluster, "  allowlist: [10.99.0.0/16]\n");
    let node = &cluster.nodes[0];
    let refused_with = |status: u16| {
        eventually(PATIENCE, &format!("changes are answered with {status}"), || {
            (with_login(node, "/sigterm", None).status == status).then_some(())
        });
    };
    refused_with(403);
    with_restapi(&cluster, "  authentication: {username: admin, password: secret}\n");
    let mark = node.log_mark();
    node.signal_agent(Signal::HUP);
    refused_with(401);
    assert_eq!(with_login(node, "/sigterm", Some("YWRtaW46c2VjcmV0")).status, 202);
    with_restapi(&cluster, "  allowlist: [10.99.0.0/16]\n");
    let asked = with_login(node, "/reload", Some("YWRtaW46c2VjcmV0"));
    assert_eq!((asked.status, asked.body.as_slice()), (202, b"reload scheduled".as_slice()));
    refused_with(403);
    assert_eq!(node.logged_since(mark, "needs a restart of the agent"), None);
}
