//! Commands that only look.

use super::stage::*;
use serde_json::{Value, json};

#[test]
fn the_members_in_every_form() {
    let stage = Stage::new(&["a", "b", "c"]);
    stage.member(
        "c",
        json!({"role": "replica", "tags": {"replicatefrom": "b"}, "replication_state": "streaming",
            "receive_lsn": 83_886_080, "replay_lsn": 83_886_080, "pending_restart": true,
            "pending_restart_reason": {"max_connections": {"old_value": "100", "new_value": "50"}},
            "scheduled_restart": {"schedule": "2027-01-01T00:00:00+00:00", "postgres_version": "15.4",
                "postmaster_start_time": "x"}}),
    );
    let out = stage.run_as("pgherd", &["list"], "").out;
    assert!(out.starts_with("+ Cluster: test (7277694203142172922) "), "{out}");
    assert!(
        out.contains("max_connections: 100->50") && out.contains("| 2027-01-01T00:00:00+00:00 if version < 15.4 |"),
        "{out}"
    );
    let yaml = stage.run_as("patronictl", &["list", "test", "-f", "yml"], "").out;
    assert!(
        yaml.starts_with(
            "- Cluster: test\n  Host: 127.0.0.1:5432\n  Member: a\n  Role: Leader\n  State: running\n  TL: 1\n"
        ),
        "{yaml}"
    );
    assert!(yaml.contains("  Tags:\n    replicatefrom: b\n"), "{yaml}");
    let ran = stage.run_as("patronictl", &["list", "-f", "json", "test", "other"], "");
    assert_eq!((ran.code, ran.err.as_str(), ran.out.lines().count()), (0, "", 2));
    let shown: Value = serde_json::from_str(ran.out.lines().next().unwrap()).unwrap();
    assert_eq!((&shown[2]["Pending restart"], &shown[2]["Receive LSN"]), (&json!("*"), &json!("0/5000000")));
    let tree = stage.run_as("pgherd", &["topology"], "").out;
    let names: Vec<_> =
        tree.lines().skip(3).filter_map(|line| Some(line.strip_prefix("| ")?.split(" |").next()?.trim_end())).collect();
    assert_eq!(names[..3], ["a", "+ b", "  + c"], "{tree}");
    let time = stage.run_as("pgherd", &["list", "-t"], "").out;
    assert_eq!(time.lines().next().unwrap().len(), 19, "{time}");
}

#[test]
fn what_is_planned_is_told_below_the_table() {
    let stage = Stage::new(&["a", "b"]);
    stage.put("config", json!({"pause": true}));
    stage.put("failover", json!({"leader": "a", "member": "b", "scheduled_at": "2027-01-01T00:00:00+00:00"}));
    let (_, out, _) = stage.run(&["topology"], "");
    let expected = " Maintenance mode: on
 Switchover scheduled at: 2027-01-01T00:00:00+00:00
                    from: a
                      to: b";
    assert_eq!(out, expected);
    assert!(!stage.run(&["list", "-f", "tsv"], "").1.contains("Maintenance"));
}

#[test]
fn whom_a_cluster_without_a_leader_waits_for_is_told_by_pgherd_only() {
    let stage = Stage::new(&["a", "b", "c"]);
    stage.put("config", json!({"synchronous_mode": true}));
    stage.put("sync", json!({"leader": "a", "quorum": 0, "sync_standby": "b"}));
    let listed = stage.run_as("pgherd", &["list", "-f", "tsv"], "").out;
    let roles: Vec<_> = listed.lines().skip(1).filter_map(|line| line.split('\t').nth(3)).collect();
    assert_eq!(roles, ["Leader", "Sync Standby", "Replica"]);
    ["leader", "members/a", "members/b"].iter().for_each(|key| stage.keys.delete(key));
    let line = " Waiting for one of: a, b (synchronous members)";
    for command in ["list", "topology"] {
        let ran = stage.run_as("pgherd", &[command], "");
        assert_eq!((ran.code, without_stamps(&ran.out).as_str()), (0, line), "{command}");
        let ran = stage.run_as("patronictl", &[command], "");
        assert_eq!((ran.code, without_stamps(&ran.out).as_str()), (0, ""), "{command}");
    }
    assert!(!stage.run(&["list", "-f", "json"], "").1.contains("Waiting"));
}

#[test]
fn documents_and_addresses() {
    let stage = Stage::new(&["a", "b"]);
    let config = "loop_wait: 1\npostgresql:\n  parameters:\n    max_connections: 50\nttl: 30\n";
    assert_eq!(stage.run_as("patronictl", &["show-config"], "").out, config);
    assert_eq!(stage.run(&["show-config", "nobody"], ""), (DONE, String::new(), String::new()));
    stage.put("history", json!([[1, 25, "no recovery target specified", "2026-11-21T22:00:00+00:00", "b"]]));
    let (code, out, _) = stage.run(&["history", "-f", "tsv"], "");
    assert_eq!(
        (code, out.lines().nth(1).unwrap()),
        (DONE, "1\t25\tno recovery target specified\t2026-11-21T22:00:00+00:00\tb")
    );
    for (arguments, shown) in [
        (vec!["dsn"], "host=127.0.0.1 port=5432"),
        (vec!["dsn", "test", "-r", "replica"], "host=127.0.0.1 port=5433"),
        (vec!["dsn", "-m", "b"], "host=127.0.0.1 port=5433"),
        (vec!["dsn", "-r", "master"], "host=127.0.0.1 port=5432"),
    ] {
        assert_eq!(stage.run(&arguments, ""), (DONE, shown.to_owned(), String::new()), "{arguments:?}");
    }
    for (arguments, error) in [
        (vec!["dsn", "-m", "x"], "Error: Can not find a suitable member\n"),
        (vec!["dsn", "-r", "standby-leader"], "Error: Can not find a suitable member\n"),
        (vec!["dsn", "-r", "any", "-m", "b"], "Error: --role and --member are mutually exclusive options\n"),
    ] {
        assert_eq!(stage.run(&arguments, ""), (STOPPED, String::new(), error.to_owned()), "{arguments:?}");
    }
}

#[test]
fn versions() {
    let stage = Stage::new(&["a", "b"]);
    stage.member("gone", json!({"role": "replica"}));
    let document = json!({"patroni": {"version": "4.1.4"}, "server_version": 150_004}).to_string();
    stage.members["a"].answers("GET /patroni", 200, &document);
    stage.members["b"].answers("GET /patroni", 503, "oh");
    assert_eq!(stage.run_as("patronictl", &["version"], "").out, "patronictl version 4.1.4\n");
    let ran = stage.run_as("pgherd", &["version", "test"], "");
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines[..2], [format!("pgherd version {}", pgherd_types::PRODUCT_VERSION).as_str(), ""]);
    assert_eq!(lines[2], "a: Patroni 4.1.4 PostgreSQL 15.4");
    assert_eq!(lines[3], "b: failed to get version: status code=503, (oh)");
    assert!(lines[4].starts_with("gone: failed to get version: http://127.0.0.1:1/patroni: "), "{lines:?}");
    assert_eq!((ran.code, stage.run_as("patronictl", &["version", "test"], "").code), REFUSED);
    assert_eq!(stage.run_as("pgherd", &["version", "test", "a"], "").out.lines().count(), 3);
}

#[test]
fn settings_come_from_the_file_the_environment_or_a_url() {
    let mut stage = Stage::new(&["a"]);
    let url = format!("127.0.0.1:{}/service", stage.etcd.port());
    let ran = stage.run_bare("pgherd", &["-k", "-d", &url, "dsn", "test"], "", |_| false);
    assert_eq!((ran.code, ran.out.as_str()), (0, "host=127.0.0.1 port=5432\n"), "{ran:?}");
    let ran = stage.run_bare("pgherd", &["dsn", "test"], "", |_| false);
    let text =
        "Error: Can not find suitable configuration of distributed configuration store\nAvailable implementations: ";
    assert!(ran.code == 1 && ran.err.starts_with(text), "{ran:?}");
    let ran = stage.run_bare("pgherd", &["-c", "/nowhere.yml", "list"], "", |_| false);
    let text = "Error: Provided config file /nowhere.yml not existing or no read rights. Check the -c/--config-file parameter\n";
    assert_eq!((ran.code, ran.err.as_str()), (1, text));
    let ran = stage.run_bare("pgherd", &["list", "-d", "x://"], "", |_| false);
    assert_eq!((ran.code, ran.err.as_str()), (1, "Error: Unknown dcs scheme: x\n"));
    let ran = stage.run_bare("pgherd", &["list", "-d", &url], "", |_| false);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{ran:?}");
    assert!(ran.err.starts_with("Warning: no cluster was named"), "{ran:?}");
    stage.variables = vec![("DCS_URL".into(), url), ("PATRONI_SCOPE".into(), "test".into())];
    assert_eq!(stage.run_bare("pgherd", &["dsn"], "", |_| false).out, "host=127.0.0.1 port=5432\n");
    stage.variables = vec![("PATRONICTL_CONFIG_FILE".into(), stage.settings().display().to_string())];
    assert_eq!(stage.run_bare("patronictl", &["dsn"], "", |_| false).out, "host=127.0.0.1 port=5432\n");
    let ran = stage.run_bare("patronictl", &["list", "--no-such-option"], "", |_| false);
    assert!(ran.code == 2 && ran.err.contains("Usage: "), "{ran:?}");
    assert_eq!(stage.run_bare("patronictl", &["list", "-f", "xml"], "", |_| false).code, 2);
}

#[test]
fn a_store_that_does_not_answer_is_an_error() {
    let stage = Stage::new(&["a"]);
    let port = pgherd_testkit::ports::lasting_port();
    let ran = stage.run_bare("pgherd", &["list", "test", "-d", &format!(":{port}")], "", |_| false);
    assert!(
        ran.code == 1 && ran.err.starts_with("Error: cannot read the cluster test at http://localhost:"),
        "{ran:?}"
    );
}

#[test]
fn a_watch_goes_on_until_ctrl_c() {
    let stage = Stage::new(&["a"]);
    let settings = stage.settings();
    let arguments = ["list", "-w", "0.01", "-f", "tsv", "-c", settings.to_str().unwrap()];
    let ran = stage.run_bare("patronictl", &arguments, "", |out| out.matches("\ntest\ta\t").count() > 1);
    assert_eq!((ran.code, ran.err.as_str()), (1, "Aborted!\n"));
    assert_eq!(stage.run_as("pgherd", &["list", "-w", "-1"], "").code, 2, "clap takes -1 for an option");
    let ran = stage.run_as("pgherd", &["list", "--watch=-1"], "");
    assert_eq!((ran.code, ran.err.as_str()), (1, "Error: --watch must be a number of seconds, not below zero\n"));
}
