//! Restarts and new copies of the data that somebody asks for.

use crate::support::*;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;

fn ask(cluster: &Cluster, node: usize, method: &str, path: &str, body: &Value) -> (u16, String) {
    send(&cluster.nodes[node], method, path, body)
}

#[test]
fn a_restart_keeps_the_lead_and_the_timeline() {
    let mut cluster = Cluster::start(2, options_with(60, 20, 5));
    let primary = cluster.await_primary();
    let writer = cluster.write();
    for node in [primary, 1 - primary] {
        let (postmaster, key) = (cluster.nodes[node].postmaster(), leader_key(&cluster));
        assert_eq!(ask(&cluster, node, "POST", "/restart", &Value::Null), (200, "restarted successfully".to_owned()));
        assert_ne!(cluster.nodes[node].postmaster(), postmaster);
        assert_eq!(leader_key(&cluster).create_revision, key.create_revision);
    }
    cluster.await_acks(&writer, 20);
    assert_eq!(cluster.await_complete(), primary);
    assert_eq!(timeline(&cluster.nodes[primary]), 1);
    assert_nothing_lost(&cluster, primary, &writer.stop());
}

#[test]
fn a_restart_waits_for_its_conditions_and_its_time() {
    let mut cluster = Cluster::start(2, options());
    let primary = cluster.await_primary();
    let postmaster = cluster.nodes[primary].postmaster();
    for body in [json!({"role": "replica"}), json!({"restart_pending": true}), json!({"postgres_version": "9.5.2"})] {
        let answer = ask(&cluster, primary, "POST", "/restart", &body);
        assert_eq!(answer, (503, "restart conditions are not satisfied".to_owned()), "{body}");
    }
    assert_eq!(cluster.nodes[primary].postmaster(), postmaster);

    let at = |seconds: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).to_string();
    let schedule = |seconds| json!({"schedule": at(seconds), "role": "primary"});
    let post = |body: &Value| ask(&cluster, primary, "POST", "/restart", body);
    assert_eq!(post(&schedule(3600)), (202, "Restart scheduled".to_owned()));
    assert_eq!(post(&schedule(3600)), (409, "Another restart is already scheduled".to_owned()));
    let member = format!("members/{}", cluster.nodes[primary].name);
    eventually(PATIENCE, "the member key shows it", || {
        (cluster.keys().get(&member)?.json()["scheduled_restart"]["role"] == "primary").then_some(())
    });
    let delete = || ask(&cluster, primary, "DELETE", "/restart", &Value::Null);
    assert_eq!(delete(), (200, "scheduled restart deleted".to_owned()));
    assert_eq!(delete(), (404, "no restarts are scheduled".to_owned()));
    assert_eq!(cluster.nodes[primary].postmaster(), postmaster);

    assert_eq!(post(&schedule(2)).0, 202);
    eventually(PATIENCE, "another server runs", || {
        let now = cluster.nodes[primary].postmaster();
        (now.is_some() && now != postmaster).then_some(())
    });
    assert_eq!(cluster.await_complete(), primary);
}

#[test]
fn a_new_copy_replaces_the_data_of_a_replica_and_only_of_one() {
    let mut cluster = Cluster::start(2, options());
    let (primary, replica) = (cluster.await_primary(), 1 - cluster.await_primary());
    let directory = |cluster: &Cluster| std::fs::metadata(cluster.nodes[replica].data_dir()).expect("data").ino();
    let before = directory(&cluster);
    let leader_data = std::fs::metadata(cluster.nodes[primary].data_dir()).expect("data").ino();
    let writer = cluster.write();
    assert_eq!(
        ask(&cluster, primary, "POST", "/reinitialize", &Value::Null),
        (503, "I am the leader, can not reinitialize".to_owned())
    );
    assert_eq!(ask(&cluster, replica, "POST", "/reinitialize", &Value::Null), (200, "reinitialize started".to_owned()));
    eventually(PATIENCE, "the data directory is another one", || {
        let now = std::fs::metadata(cluster.nodes[replica].data_dir()).ok()?.ino();
        (now != before).then_some(())
    });
    assert_eq!(cluster.await_complete(), primary);
    assert_undisturbed(&writer.stop());
    assert_eq!(std::fs::metadata(cluster.nodes[primary].data_dir()).expect("data").ino(), leader_data);
    cluster.await_caught_up(primary, replica);
    assert_eq!(cluster.nodes[replica].rows(), cluster.nodes[primary].rows());
}
