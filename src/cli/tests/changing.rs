//! Commands that ask members to do something.

use super::stage::*;
use serde_json::json;

const LOGIN: &str = " Basic cjpz"; // r:s

#[test]
fn reload() {
    let stage = Stage::new(&["a", "b"]);
    stage.member("gone", json!({"role": "replica"}));
    stage.members["a"].answers("POST /reload", 202, "reload scheduled");
    let (code, out, err) = stage.run(&["reload", "test", "a", "b"], "y\n");
    let expected = "Are you sure you want to reload members b, a? [y/N]: No changes to apply on member b
Reload request received for member a and will be processed within 1 seconds";
    assert_eq!((code, out.as_str(), err.as_str()), (DONE, expected, ""));
    assert_eq!(stage.members["a"].asked(), [format!("POST /reload{LOGIN}"), format!("POST /reload{LOGIN}")]);
    stage.members["a"].answers("POST /reload", 503, "no\nway");
    let (code, out, _) = stage.run(&["reload", "test", "a", "--force"], "");
    assert_eq!((code, out.as_str()), (REFUSED, "Failed: reload for member a, status code=503, (no way)"));
    // one that is away does not keep the others from it, and is a failure by either name
    let (code, out, _) = stage.run(&["reload", "test", "--force", "-r", "replica"], "");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!((code, lines[0], lines.len()), (STOPPED, "No changes to apply on member b", 2));
    assert!(lines[1].starts_with("Failed: reload for member gone, http://127.0.0.1:1/reload: "), "{out}");
    for (arguments, input, error) in [
        (vec!["reload", "test"], "n\n", "Error: Aborted reload\n"),
        (vec!["reload", "test"], "\n", "Error: Aborted reload\n"),
        (vec!["reload", "test"], "", "Aborted!\n"),
        (vec!["reload", "test", "x"], "", "Error: x is not a member of cluster\n"),
        (vec!["reload", "test", "b", "-r", "primary"], "", "Error: No 'primary' among provided members\n"),
        (vec!["reload", "other"], "", "Error: other cluster doesn't have any members\n"),
    ] {
        let (code, _, err) = stage.run(&arguments, input);
        assert_eq!((code, err.as_str()), (STOPPED, error), "{arguments:?}");
    }
    let (_, out, _) = stage.run(&["reload", "test", "b"], "what\nYES\n");
    assert!(out.contains("Error: invalid input\nAre you sure"), "{out}");
    assert_eq!(stage.run_as("patronictl", &["reload"], "").code, 2, "the cluster must be named");
}

#[test]
fn restart_now() {
    let stage = Stage::new(&["a", "b"]);
    stage.member("b", json!({"role": "replica", "pending_restart": true}));
    let (a, b) = (&stage.members["a"], &stage.members["b"]);
    let (code, out, err) = stage.run(&["restart", "test"], "\ny\n15.4\n");
    assert_eq!((code, err.as_str()), (DONE, ""));
    let question = " [now]: Are you sure you want to restart members b, a? [y/N]: \
                    Restart if the PostgreSQL version is less than provided (e.g. 9.5.2) []: Success: restart on member b\n\
                    Success: restart on member a";
    assert!(out.starts_with("When should the restart take place (e.g. 20") && out.ends_with(question), "{out}");
    assert_eq!(a.asked()[0], format!(r#"POST /restart {{"postgres_version":"15.4"}}{LOGIN}"#));
    b.asked();
    let (code, out, _) = stage.run(&["restart", "test", "--pending", "--force", "--timeout", "5min"], "");
    assert_eq!((code, out.as_str()), (DONE, "Success: restart on member b"));
    assert_eq!(b.asked()[1], format!(r#"POST /restart {{"timeout":"5min"}}{LOGIN}"#));
    let nothing = "No restart is pending on any of these members";
    assert_eq!(stage.run(&["restart", "test", "a", "--pending", "--force"], ""), (DONE, nothing.into(), String::new()));
    assert_eq!(stage.run_as("pgherd", &["restart", "test", "--any", "--force"], "").out.matches("Success").count(), 1);
    for (status, body, line) in [
        (503, "restart failed", "Failed: restart for member a, status code=503, (restart failed)"),
        (409, "Another restart is already scheduled", "Failed: another restart is already scheduled on member a"),
        (401, "no auth header received", "Failed: restart for member a, status code=401, (no auth header received)"),
    ] {
        a.answers("POST /restart", status, body);
        assert_eq!(stage.run(&["restart", "test", "a", "--force"], ""), (REFUSED, line.into(), String::new()));
    }
    for (arguments, input, error) in [
        (vec!["restart", "test"], "now\nn\n", "Error: Aborted restart\n"),
        (vec!["restart", "test"], "now\n", "Aborted!\n"),
        (
            vec!["restart", "test", "--force", "--pg-version", "15"],
            "",
            "Error: Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: 15\n",
        ),
    ] {
        let (code, _, err) = stage.run(&arguments, input);
        assert_eq!((code, err.as_str()), (STOPPED, error), "{arguments:?}");
    }
}

#[test]
fn restart_later_and_flush() {
    let stage = Stage::new(&["a", "b"]);
    let (a, b) = (&stage.members["a"], &stage.members["b"]);
    a.answers("POST /restart", 202, "Restart scheduled");
    let time = "2027-01-01T00:00:00+00:00";
    let (code, out, _) = stage
        .run(&["restart", "test", "a", "--scheduled", "2027-01-01 00:00Z", "--pending", "--pg-version", ""], "y\n");
    let expected = format!(
        "Are you sure you want to schedule restart of members a at {time}? [y/N]: Success: restart scheduled on member a"
    );
    assert_eq!((code, out), (DONE, expected));
    let asked = format!(r#"POST /restart {{"schedule":"{time}","restart_pending":true}}{LOGIN}"#);
    assert_eq!(a.asked(), [asked.clone(), asked]);
    let (code, _, err) = stage.run(&["restart", "test", "a", "--scheduled", time], "n\n");
    assert_eq!((code, err.as_str()), (STOPPED, "Error: Aborted scheduled restart\n"));
    // a new time instead of the old one
    let scheduled = json!({"schedule": time, "postmaster_start_time": "x"});
    stage.member("a", json!({"role": "primary", "scheduled_restart": scheduled}));
    let (code, out, _) = stage.run(&["restart", "test", "a", "--force", "--scheduled", time], "");
    assert_eq!(
        (code, out.as_str()),
        (DONE, "Success: flush scheduled restart for member a\nSuccess: restart scheduled on member a")
    );
    assert_eq!(a.asked()[0], format!("DELETE /restart{LOGIN}"));

    let (code, out, _) = stage.run(&["flush", "test", "restart"], "y\n");
    let expected = "Are you sure you want to flush members b, a? [y/N]: No scheduled restart for member b
Success: flush scheduled restart for member a";
    assert_eq!((code, out.as_str()), (DONE, expected));
    assert!(b.asked().is_empty());
    a.answers("DELETE /restart", 404, "no restarts are scheduled");
    let (code, out, _) = stage.run(&["flush", "test", "a", "restart", "--force"], "");
    let expected = "Failed: flush scheduled restart for member a, status code=404, (no restarts are scheduled)";
    assert_eq!((code, out.as_str()), (REFUSED, expected));
    let (_, out, _) = stage.run(&["flush", "test", "a", "b", "-r", "replica", "restart", "--force"], "");
    assert_eq!(out, "No scheduled restart for member b");
    assert_eq!(stage.run_as("patronictl", &["flush", "test", "nothing"], "").code, 2);
    assert_eq!(stage.run(&["flush", "test", "restart"], "n\n").2, "Error: Aborted flush\n");

    stage.put("config", json!({"pause": true}));
    let (code, _, err) = stage.run(&["restart", "test", "a", "--force", "--scheduled", time], "");
    assert_eq!((code, err.as_str()), (STOPPED, "Error: Can't schedule restart in the paused state\n"));
    let (code, _, err) = stage.run(&["restart", "test", "a", "--force", "--scheduled", "soon"], "");
    assert_eq!(code, STOPPED);
    assert!(
        err.starts_with("Error: Unable to parse scheduled timestamp (soon). It should be in an unambiguous format"),
        "{err}"
    );
}

#[test]
fn reinit() {
    let stage = Stage::new(&["a", "b", "c"]);
    let (b, c) = (&stage.members["b"], &stage.members["c"]);
    let (code, out, _) = stage.run(&["reinit", "test"], "b\ny\n");
    let expected = "Which member do you want to reinitialize [b, c]?: Are you sure you want to reinitialize members b? [y/N]: \
                    Success: reinitialize for member b";
    assert_eq!((code, out.as_str()), (DONE, expected));
    assert_eq!(b.asked()[0], format!(r#"POST /reinitialize {{"force":false,"from_leader":false}}{LOGIN}"#));
    assert_eq!(stage.run(&["reinit", "test", "--force"], ""), (DONE, String::new(), String::new()), "nobody is meant");
    assert!(b.asked().is_empty() && c.asked().is_empty());
    stage.run_as("pgherd", &["reinit", "test", "c", "--force", "--from-leader"], "");
    assert_eq!(c.asked(), [format!(r#"POST /reinitialize {{"force":true,"from_leader":true}}{LOGIN}"#)]);
    for (arguments, input, error) in [
        (vec!["reinit", "test", "a"], "", "Error: No replica among provided members\n"),
        (vec!["reinit", "test", "x"], "", "Error: x is not a member of cluster\n"),
        (vec!["reinit", "test", "b"], "n\n", "Error: Aborted reinitialize\n"),
        (vec!["reinit", "test"], "x\n", "Error: x is not a member of cluster\n"),
        (vec!["reinit", "test"], "", "Aborted!\n"),
    ] {
        let (code, _, err) = stage.run(&arguments, input);
        assert_eq!((code, err.as_str()), (STOPPED, error), "{arguments:?}");
    }
    let busy = "Failed: reinitialize for member b, status code=503, (restarting after failure already in progress)\n\
                Do you want to cancel it and reinitialize anyway? [y/N]: ";
    b.answers("POST /reinitialize", 503, "restarting after failure already in progress");
    let (code, out, _) = stage.run(&["reinit", "test", "b"], "y\nn\n");
    assert_eq!(code, REFUSED);
    assert!(out.ends_with(busy.trim_end()) || out.ends_with(busy), "{out}");
    b.asked();
    stage.run_as("pgherd", &["reinit", "test", "b"], "y\ny\n");
    assert_eq!(b.asked()[1], format!(r#"POST /reinitialize {{"force":true,"from_leader":false}}{LOGIN}"#));
    b.answers("POST /reinitialize", 503, "Cluster has no leader, can not reinitialize");
    let (code, out, _) = stage.run(&["reinit", "test", "b", "--force"], "");
    let line = "Failed: reinitialize for member b, status code=503, (Cluster has no leader, can not reinitialize)";
    assert_eq!((code, out.as_str()), (REFUSED, line));
}

#[test]
fn reinit_is_waited_for() {
    let stage = Stage::new(&["a", "b"]);
    let b = &stage.members["b"];
    b.answers("GET /patroni", 503, r#"{"state": "creating replica"}"#);
    let ran = stage.run_as("pgherd", &["reinit", "test", "b", "--force", "--wait", "--timeout", "0"], "");
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.ends_with("Waiting for reinitialize to complete on: b\nFailed: reinitialize goes on after 0 s on: b\n"),
        "{}",
        ran.out
    );
    b.answers("GET /patroni", 200, r#"{"state": "running"}"#);
    let ran = stage.run_as("patronictl", &["reinit", "test", "b", "--force", "--wait"], "");
    assert!(ran.code == 0 && ran.out.ends_with("Reinitialize is completed on: b\n"), "{}", ran.out);
}
