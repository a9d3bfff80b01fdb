//! Commands that change something of the whole cluster, by a member's API or in the DCS.

use super::stage::*;
use serde_json::json;

const LOGIN: &str = " Basic cjpz"; // r:s
const SURE: &str = "Are you sure you want to switchover cluster test, demoting current leader a? [y/N]: ";

#[test]
fn a_switchover_is_asked_of_the_leader() {
    let stage = Stage::new(&["a", "b", "c"]);
    stage.member("c", json!({"role": "replica", "tags": {"nofailover": true}}));
    let a = &stage.members["a"];
    a.answers("POST /switchover", 200, "Successfully switched over to \"b\"");
    let (code, out, err) = stage.run(&["switchover"], "\nb\n\ny\n");
    assert_eq!((code, err.as_str()), (DONE, ""));
    let (asked, told) = out.split_once(&format!(" ) [now]: {SURE}")).expect("the last question");
    assert!(
        asked.starts_with(
            "Current cluster topology\nPrimary [a]: Candidate ['b'] []: When should the switchover take place (e.g. 20"
        ),
        "{asked}"
    );
    assert!(told.ends_with("Successfully switched over to \"b\""), "{told}");
    let body = r#"{"leader":"a","candidate":"b"}"#;
    assert_eq!(a.asked(), [format!("POST /switchover {body}{LOGIN}"), format!("POST /switchover {body}{LOGIN}")]);
    for option in ["--leader=a", "--primary=a", "--master=a"] {
        let ran = stage.run_as("patronictl", &["switchover", "--scheduled=now", "--force", option, "--candidate="], "");
        assert!(ran.code == 0 && ran.out.contains("switched over"), "{ran:?}");
        assert_eq!(ran.out.matches("+ Cluster: test (").count(), 2, "before and after: {}", ran.out);
    }
    assert_eq!(a.asked()[0], format!(r#"POST /switchover {{"leader":"a"}}{LOGIN}"#));
    a.answers("POST /switchover", 202, "Switchover scheduled");
    let later = ["switchover", "--force", "--scheduled", "2027-01-01T00:00Z"];
    assert_eq!(stage.run(&later, "").0, DONE);
    assert_eq!(
        a.asked()[0],
        format!(r#"POST /switchover {{"leader":"a","scheduled_at":"2027-01-01T00:00:00+00:00"}}{LOGIN}"#)
    );
    for (status, body, line) in [
        (412, "no", "Switchover failed, details: 412, no"),
        (503, "Switchover failed", "Switchover failed, details: 503, Switchover failed"),
        (
            503,
            "Switchover status unknown after 20 seconds",
            "Switchover result unknown, details: 503, Switchover status unknown after 20 seconds",
        ),
    ] {
        a.answers("POST /switchover", status, body);
        let (code, out, err) = stage.run(&["switchover", "--force"], "");
        assert_eq!((code, out.lines().last().unwrap(), err.as_str()), (REFUSED, line, ""));
    }
}

#[test]
fn a_cluster_is_made_a_standby_of_another_and_its_own_again() {
    let stage = Stage::new(&["a", "b"]);
    let a = &stage.members["a"];
    let said = |arguments: &[&str], input: &str, code, text: &str| {
        let (ended, out, err) = stage.run(arguments, input);
        assert_eq!((ended, (out + &err).trim_end()), (code, text.trim_end()), "{arguments:?}");
    };
    said(&["promote-cluster"], "", DONE, "Cluster is already in the required state\n");
    let (code, _, err) = stage.run(&["demote-cluster"], "");
    assert_eq!(
        (code, err.as_str()),
        ((2, 2), "Error: At least --host, --port or --restore-command should be specified\n")
    );
    let sure = "Are you sure you want to demote test cluster? [y/N]: Error: Aborted demote\n";
    said(&["demote-cluster", "--port", "5433"], "n\n", STOPPED, sure);
    a.answers("PATCH /config", 503, "no");
    let refused = "Failed: demote test cluster, status code=503, (no)\n";
    said(&["demote-cluster", "--host", "far", "--force"], "", REFUSED, refused);
    assert_eq!(a.asked().last().unwrap(), &format!(r#"PATCH /config {{"standby_cluster":{{"host":"far"}}}}{LOGIN}"#));
    stage.member("a", json!({"role": "standby_leader"}));
    a.answers("PATCH /config", 200, "{}");
    let all = [
        "demote-cluster",
        "--host",
        "far",
        "--port",
        "1",
        "--restore-command",
        "cp",
        "--primary-slot-name",
        "s",
        "--force",
    ];
    said(&all, "", DONE, "test cluster is successfully demoted\n");
    let section = r#"{"host":"far","port":1,"restore_command":"cp","primary_slot_name":"s"}"#;
    assert_eq!(a.asked().last().unwrap(), &format!(r#"PATCH /config {{"standby_cluster":{section}}}{LOGIN}"#));
    stage.put("config", json!({"standby_cluster": {"host": "far"}}));
    said(&["demote-cluster", "--host", "far", "--force"], "", DONE, "Cluster is already in the required state\n");
    stage.member("a", json!({"role": "primary"}));
    said(&["promote-cluster", "--force"], "", DONE, "test cluster is successfully promoted\n");
    let asked = format!(r#"PATCH /config {{"standby_cluster":null}}{LOGIN}"#);
    assert_eq!(a.asked(), [asked.clone(), asked], "once by each name");
}

#[test]
fn a_switchover_that_cannot_be_is_not_asked_for() {
    let stage = Stage::new(&["a", "b", "c"]);
    stage.member("c", json!({"role": "replica", "tags": {"nofailover": true}}));
    let stopped = |stage: &Stage, arguments: &[&str], input: &str, error: &str| {
        let (code, _, err) = stage.run(arguments, input);
        assert_eq!((code, err), (STOPPED, format!("{error}\n")), "{arguments:?}");
    };
    stopped(&stage, &["switchover", "--leader", "b"], "", "Error: Member b is not the leader of cluster test");
    stopped(&stage, &["switchover"], "c\n", "Error: Member c is not the leader of cluster test");
    stopped(
        &stage,
        &["switchover", "--candidate", "a", "--force"],
        "",
        "Error: Member a is already the leader of cluster test",
    );
    let unable = "Error: Member c does not exist in cluster test or is tagged as nofailover";
    stopped(&stage, &["switchover", "--candidate", "c", "--force"], "", unable);
    stopped(&stage, &["switchover"], "a\n\nnow\nn\n", "Error: Aborting switchover");
    stopped(&stage, &["switchover"], "a\n\n2027-01-01T00:00Z\nn\n", "Error: Aborting scheduled switchover");
    stopped(&stage, &["switchover"], "a\n", "Aborted!");
    stopped(&stage, &["failover"], "\n", "Error: Failover could be performed only to a specific candidate");
    stopped(&stage, &["failover", "--force"], "", "Error: Failover could be performed only to a specific candidate");
    stopped(&stage, &["failover", "--candidate", "b"], "n\n", "Error: Aborting failover");
    stage.put("config", json!({"pause": true}));
    let later = ["switchover", "--force", "--scheduled", "2027-01-01T00:00Z"];
    stopped(&stage, &later, "", "Error: Can't schedule switchover in the paused state");
    stage.keys.delete("members/b");
    stopped(&stage, &["switchover", "--force"], "", "Error: No candidates found to switchover to");
    stage.keys.delete("leader");
    stopped(&stage, &["switchover"], "", "Error: This cluster has no leader");
    assert!(stage.members.values().all(|member| member.asked().is_empty()));
    assert_eq!(stage.keys.get("failover"), None);
}

#[test]
fn without_an_api_the_request_is_written_into_the_dcs() {
    let stage = Stage::new(&["a", "b"]);
    stage.member("a", json!({"role": "primary", "api_url": "http://127.0.0.1:1/patroni"}));
    let arguments = ["switchover", "--candidate", "b", "--force", "--scheduled", "2027-01-01T00:00Z"];
    let ran = stage.run_as("patronictl", &arguments, "");
    let written = r#"{"leader":"a","member":"b","scheduled_at":"2027-01-01T00:00:00+00:00"}"#;
    let out = without_stamps(&ran.out);
    let told =
        format!("Could not switchover using Patroni api, falling back to DCS\nWrote {written} to the failover key\n");
    assert!(ran.code == 0 && out.contains(&told), "{ran:?}");
    assert_eq!(stage.keys.get("failover").unwrap().text(), written);
    // called by its own name it asks first
    stage.keys.delete("failover");
    let ran = stage.run_as("pgherd", &["switchover", "--candidate", "b", "--scheduled", "now"], "a\ny\nn\n");
    assert_eq!((ran.code, ran.err.lines().last().unwrap()), (1, "Error: Aborting switchover"), "{ran:?}");
    assert_eq!(stage.keys.get("failover"), None);
    let ran = stage.run_as("pgherd", &["switchover", "--candidate", "b", "--scheduled", "now"], "a\ny\ny\n");
    assert_eq!((ran.code, stage.keys.get("failover").unwrap().text().as_str()), (0, r#"{"leader":"a","member":"b"}"#));
    // a request that may have arrived is not made a second time
    stage.keys.delete("failover");
    let broken = pgherd_testkit::ports::lasting_port();
    let listener = std::net::TcpListener::bind(("127.0.0.1", broken)).unwrap();
    let hang_up = std::thread::spawn(move || drop(listener.accept()));
    stage.member("a", json!({"role": "primary", "api_url": format!("http://127.0.0.1:{broken}/patroni")}));
    let ran = stage.run_as("pgherd", &["switchover", "--force"], "");
    hang_up.join().unwrap();
    assert!(ran.code == 1 && ran.out.contains("Switchover result unknown, details: http://127.0.0.1:"), "{ran:?}");
    assert_eq!(stage.keys.get("failover"), None);
}

#[test]
fn a_scheduled_switchover_is_flushed() {
    let stage = Stage::new(&["a", "b"]);
    let (a, b) = (&stage.members["a"], &stage.members["b"]);
    let none = (DONE, "No pending scheduled switchover".to_owned(), String::new());
    assert_eq!(stage.run(&["flush", "test", "switchover"], ""), none);
    let request = json!({"leader": "a", "scheduled_at": "2027-01-01T00:00:00+00:00"});
    stage.put("failover", request.clone());
    let done = "Success: scheduled switchover deleted";
    assert_eq!(stage.run(&["flush", "test", "switchover"], ""), (DONE, done.into(), String::new()));
    assert_eq!(a.asked()[0], format!("DELETE /switchover{LOGIN}"));
    a.answers("DELETE /switchover", 404, "no switchover is scheduled");
    let line = "Failed: delete scheduled switchover, status code=404, (no switchover is scheduled)";
    assert_eq!(stage.run(&["flush", "test", "switchover"], ""), (REFUSED, line.into(), String::new()));
    a.answers("DELETE /switchover", 501, "oh");
    let ran = stage.run_as("pgherd", &["flush", "test", "switchover"], "");
    assert_eq!((ran.code, b.asked().len()), (0, 1), "the next one is asked: {ran:?}");
    b.answers("DELETE /switchover", 501, "oh");
    let ran = stage.run_as("pgherd", &["flush", "test", "switchover"], "");
    assert!(ran.code == 0 && ran.out.ends_with(&format!("falling back to DCS\n{done}\n")), "{ran:?}");
    assert_eq!(stage.keys.get("failover").unwrap().text(), "{}");
}

#[test]
fn pause_and_resume() {
    let stage = Stage::new(&["a", "b"]);
    let (a, b) = (&stage.members["a"], &stage.members["b"]);
    let error = (STOPPED, String::new(), "Error: Cluster is not paused\n".to_owned());
    assert_eq!(stage.run(&["resume"], ""), error);
    let paused = "Success: cluster management is paused";
    assert_eq!(stage.run(&["pause", "test"], ""), (DONE, paused.into(), String::new()));
    assert_eq!(a.asked()[0], format!(r#"PATCH /config {{"pause":true}}{LOGIN}"#));
    assert!(b.asked().is_empty());
    a.answers("PATCH /config", 409, "oh");
    let line = "Failed: pause cluster management, status code=409, (oh)";
    assert_eq!(stage.run(&["pause"], ""), (REFUSED, line.into(), String::new()));
    // nobody has heard of it
    stage.member("a", json!({"role": "primary", "api_url": "http://127.0.0.1:1/patroni", "pause": true}));
    let (code, out, _) = stage.run(&["pause", "--wait"], "");
    let waiting = "'pause' request sent, waiting until it is recognized by all nodes\n";
    assert_eq!((code, out), (REFUSED, format!("{waiting}Failed: not recognized within 2 seconds by b")));
    assert_eq!(b.asked().len(), 2, "the leader could not be asked");
    stage.member("b", json!({"role": "replica", "pause": true}));
    assert_eq!(stage.run(&["pause", "--wait"], "").1, format!("{waiting}{paused}"));
    b.asked();
    stage.put("config", json!({"pause": true, "loop_wait": 1}));
    assert_eq!(stage.run(&["pause"], "").2, "Error: Cluster is already paused\n");
    assert_eq!(stage.run(&["resume"], "").1, "Success: cluster management is resumed");
    assert_eq!(b.asked()[0], format!(r#"PATCH /config {{"pause":null}}{LOGIN}"#));
    stage.member("b", json!({"role": "replica", "api_url": "http://127.0.0.1:1/patroni"}));
    let (code, _, err) = stage.run(&["resume"], "");
    assert!(code == STOPPED && err.starts_with("Error: Can not find accessible cluster member (a: http://"), "{err}");
}

#[test]
fn the_configuration_is_edited() {
    let mut stage = Stage::new(&["a"]);
    let (code, out, err) = stage.run(&["edit-config", "-s", "ttl=30", "-p", "max_connections=50"], "");
    assert_eq!((code, out.as_str(), err.as_str()), (DONE, "Not changed", ""));
    let ran = stage.run_as(
        "patronictl",
        &["edit-config", "-s", "ttl=20", "-s", "loop_wait=null", "-p", "work_mem=8MB"],
        "y\n",
    );
    let difference = "--- \n+++ \n@@ -1,5 +1,5 @@\n-loop_wait: 1\n postgresql:\n   parameters:\n     max_connections: 50\n\
                      -ttl: 30\n+    work_mem: 8MB\n+ttl: 20\nApply these changes? [y/N]: Configuration changed\n";
    assert_eq!((ran.code, ran.out.as_str()), (0, difference));
    let stored = |stage: &Stage| stage.keys.get("config").unwrap().text();
    assert_eq!(stored(&stage), r#"{"ttl":20,"postgresql":{"parameters":{"max_connections":50,"work_mem":"8MB"}}}"#);
    assert!(!stage.run_as("pgherd", &["edit-config", "-s", "ttl=25"], "n\n").out.contains("changed"));
    let ran = stage.run_as("pgherd", &["edit-config", "--apply", "-", "-q"], "ttl: 21");
    assert_eq!((ran.code, ran.out.as_str()), (1, "Use --force option to apply changes\n"));
    assert_eq!(stage.run_as("patronictl", &["edit-config", "--apply", "-", "-q"], "ttl: 21").code, 0);
    let ran =
        stage.run_as("patronictl", &["edit-config", "--replace=-", "--force", "-q"], r#"{"ttl": 40, "a": {"b": 1}}"#);
    assert_eq!(
        (ran.code, ran.out.as_str(), stored(&stage).as_str()),
        (0, "Configuration changed\n", r#"{"ttl":40,"a":{"b":1}}"#)
    );
    let file = stage.directory.path().join("change.yml");
    std::fs::write(&file, "a: {b: null, c: on}\n").unwrap();
    let ran =
        stage.run_as("pgherd", &["edit-config", "--force", "--apply", file.to_str().unwrap(), "-s", "ttl=50"], "");
    assert_eq!((ran.code, stored(&stage).as_str()), (0, r#"{"ttl":50,"a":{"c":true}}"#));
    stage.variables = vec![("EDITOR".into(), "sed -i 's/ttl: 50/ttl: 60/'".into())];
    let ran = stage.run_as("pgherd", &["edit-config"], "y\n");
    assert_eq!((ran.code, stored(&stage).as_str()), (0, r#"{"a":{"c":true},"ttl":60}"#), "{ran:?}");
    stage.variables = vec![("EDITOR".into(), "echo '- x' >".into())];
    assert_eq!(
        stage.run_as("pgherd", &["edit-config"], "").err,
        "Error: the edited text: a configuration is a map of settings\n"
    );
    stage.variables = vec![("EDITOR".into(), "false".into())];
    assert!(stage.run_as("pgherd", &["edit-config"], "").err.starts_with("Error: the editor false ended with "));
    stage.variables = vec![("PATH".into(), "/nowhere".into())];
    let text = "Error: EDITOR environment variable is not set. editor or vi are not available\n";
    assert_eq!(stage.run_as("pgherd", &["edit-config"], "").err, text);
    for (arguments, error) in [
        (vec!["edit-config", "-s", "ttl"], "Error: \"ttl\" is not of the form key=value\n"),
        (vec!["edit-config", "-s", "ttl.x=1"], "Error: ttl.x: ttl is not a map\n"),
        (
            vec!["edit-config", "--apply", "/nowhere"],
            "Error: cannot read /nowhere: No such file or directory (os error 2)\n",
        ),
        (vec!["edit-config", "other", "-s", "a=1"], "Error: The config key does not exist in the cluster other\n"),
    ] {
        assert_eq!(stage.run(&arguments, ""), (STOPPED, String::new(), error.to_owned()), "{arguments:?}");
    }
}

#[test]
fn a_change_by_somebody_else_is_not_overwritten() {
    let mut stage = Stage::new(&["a"]);
    // somebody else is faster while the editor is open
    let url = stage.etcd.url();
    let put = format!("ETCDCTL_API=3 etcdctl --endpoints={url} put /service/test/config '{{}}' >/dev/null");
    stage.variables = vec![("EDITOR".into(), format!("{put}; sed -i s/30/20/"))];
    let ran = stage.run_as("patronictl", &["edit-config", "--force"], "");
    assert_eq!((ran.code, ran.err.as_str()), (1, "Error: Config modification aborted due to concurrent changes\n"));
    assert_eq!(stage.keys.get("config").unwrap().text(), "{}");
}

#[test]
fn a_cluster_is_removed_only_with_every_confirmation() {
    let stage = Stage::new(&["a", "b"]);
    stage.etcd.put("/service/test2/config", "{}");
    for (input, error) in [
        ("tset\n", "Error: Cluster names specified do not match\n"),
        ("test\nyes\n", "Error: You did not exactly type \"Yes I am aware\"\n"),
        ("test\nYes I am aware\nb\n", "Error: You did not specify the current leader of the cluster\n"),
        ("test\nYes I am aware\n", "Aborted!\n"),
    ] {
        let (code, _, err) = stage.run(&["remove", "test"], input);
        assert_eq!((code, err.as_str()), (STOPPED, error));
    }
    assert!(stage.keys.get("leader").is_some());
    let ran = stage.run_as("patronictl", &["remove", "test", "-f", "json"], "test\nYes I am aware\na\n");
    let questions = "Please confirm the cluster name to remove: You are about to remove all information in DCS for test, \
                     please type: \"Yes I am aware\": \
                     This cluster currently is healthy. Please specify the leader name to continue: ";
    assert!(ran.code == 0 && ran.out.starts_with("[{\"Cluster\": \"test\"") && ran.out.ends_with(questions), "{ran:?}");
    for key in ["leader", "config", "initialize", "members/a", "members/b"] {
        assert_eq!(stage.keys.get(key), None, "{key}");
    }
    assert!(stage.etcd.get("/service/test2/config").is_some(), "another cluster's keys stay");
}
