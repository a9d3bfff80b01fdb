//! `failover`: whom it is asked of, and what is asked before.

use super::stage::*;
use serde_json::json;

const LOGIN: &str = " Basic cjpz"; // r:s

#[test]
fn a_failover_is_asked_of_the_leader_or_the_candidate() {
    let stage = Stage::new(&["a", "b"]);
    let (a, b) = (&stage.members["a"], &stage.members["b"]);
    a.answers("POST /failover", 200, "Successfully failed over to \"b\"");
    let (code, out, _) = stage.run(&["failover"], "b\ny\n");
    let expected = "Current cluster topology\nCandidate ['b'] []: Are you sure you want to failover cluster test, demoting current leader a? [y/N]: ";
    assert_eq!(code, DONE);
    assert!(out.starts_with(expected) && out.ends_with("Successfully failed over to \"b\""), "{out}");
    assert_eq!(a.asked()[0], format!(r#"POST /failover {{"candidate":"b"}}{LOGIN}"#));
    stage.keys.delete("leader");
    b.answers("POST /failover", 503, "Failover failed");
    let (code, out, _) = stage.run(&["failover", "--candidate", "b", "--force"], "");
    assert_eq!((code, out.lines().last().unwrap()), (REFUSED, "Failover failed, details: 503, Failover failed"));
    let (_, out, _) = stage.run(&["failover", "--candidate", "b"], "y\n");
    assert!(out.contains("Are you sure you want to failover cluster test? [y/N]: "), "{out}");
}

#[test]
fn a_failover_to_an_asynchronous_node_is_asked_about_twice() {
    let stage = Stage::new(&["a", "b", "c"]);
    let a = &stage.members["a"];
    a.answers("POST /failover", 200, "Successfully failed over to \"c\"");
    stage.put("sync", json!({"leader": "a", "quorum": 0, "sync_standby": "B"}));
    let sure = "Are you sure you want to failover cluster test, demoting current leader a? [y/N]: ";
    let loss = "Are you sure you want to failover to the asynchronous node c? [y/N]: ";
    let asked = |mode: &str, candidate: &str, input: &str| {
        stage.put("config", json!({"synchronous_mode": mode}));
        let (code, out, err) = stage.run(&["failover", "--candidate", candidate], input);
        (code, out.contains(loss), out.contains(sure), err)
    };
    for mode in ["on", "quorum"] {
        assert_eq!(asked(mode, "c", "y\ny\n"), (DONE, true, true, String::new()), "{mode}");
        assert_eq!(a.asked().len(), 2, "by both names");
        let refusal = "Error: Aborting failover\n".to_owned();
        assert_eq!(asked(mode, "c", "n\n"), (STOPPED, true, false, refusal.clone()), "{mode}");
        assert_eq!(asked(mode, "c", "y\nn\n"), (STOPPED, true, true, refusal), "{mode}");
        assert_eq!(a.asked(), [""; 0]);
        assert_eq!(asked(mode, "b", "y\n"), (DONE, false, true, String::new()), "{mode}");
        assert_eq!(a.asked().len(), 2, "by both names");
    }
    assert_eq!(asked("off", "c", "y\n"), (DONE, false, true, String::new()));
    stage.put("config", json!({"synchronous_mode": "on"}));
    let (code, out, _) = stage.run(&["failover", "--candidate", "c", "--force"], "");
    assert!(code == DONE && !out.contains("sure"), "{out}");
    // a switchover is checked by the member that is asked
    a.answers("POST /switchover", 412, "candidate name does not match with sync_standby");
    let (code, out, _) = stage.run(&["switchover", "--candidate", "c"], "a\nnow\ny\n");
    let refused = "Switchover failed, details: 412, candidate name does not match with sync_standby";
    assert_eq!(
        (code, out.contains("asynchronous"), out.lines().last().unwrap().ends_with(refused)),
        (REFUSED, false, true),
        "{out}"
    );
    // what was not yet active promises nothing
    stage.put("sync", json!({"leader": null, "quorum": 0, "sync_standby": null}));
    assert_eq!(asked("on", "c", "y\n"), (DONE, false, true, String::new()));
}
