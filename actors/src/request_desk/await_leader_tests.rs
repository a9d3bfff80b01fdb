//! Every outcome of a switchover, in virtual time.

use super::*;
use pgherd_types::LeaderKey;
use pgherd_types::node_status::ReasonText;
use std::sync::Arc;

const WRITTEN_AT: Instant = Instant::from_millis(1_000);
const PATIENCE: Duration = Duration::from_secs(20);

fn key(mod_revision: i64, leader: Option<&str>, candidate: Option<&str>) -> FailoverKey {
    FailoverKey { mod_revision, leader: leader.map(Into::into), candidate: candidate.map(Into::into), schedule: None }
}

fn cluster(leader: Option<&str>, failover: Option<FailoverKey>) -> Cluster {
    let leader = leader.map(|name| LeaderKey { name: name.into(), lease: None });
    Cluster { leader, failover, ..Cluster::default() }
}

/// Asked while `a` led and the key was at revision 5.
fn awaited(action: &'static str, candidate: Option<&str>) -> Awaited {
    let leader = (action == "switchover").then(|| "a".into());
    let request = RequestFailover { action, leader, candidate: candidate.map(Into::into), scheduled_at: None };
    let asked =
        FailoverKey { leader: request.leader.clone(), candidate: request.candidate.clone(), ..key(0, None, None) };
    Awaited::from_now(&request, asked, &cluster(Some("a"), Some(key(5, None, None)))).written(WRITTEN_AT)
}

fn status(leader: Option<&str>, failover: Option<FailoverKey>, read_at_ms: u64) -> NodeStatus {
    let cluster = Some((Arc::new(cluster(leader, failover)), Instant::from_millis(read_at_ms)));
    NodeStatus { cluster, ..NodeStatus::default() }
}

/// Publishes these one after the other, a second each, and the last for ever.
async fn after(awaited: Awaited, course: Vec<NodeStatus>) -> Reply {
    let published = Arc::new(ArcSwap::from_pointee(NodeStatus::default()));
    let publish = published.clone();
    actix_rt::spawn(async move {
        for status in course {
            publish.store(Arc::new(status));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    outcome(&published, awaited, PATIENCE).await
}

fn ours(mod_revision: i64) -> Option<FailoverKey> {
    Some(key(mod_revision, Some("a"), Some("b")))
}

fn nothing(mod_revision: i64) -> Option<FailoverKey> {
    Some(key(mod_revision, None, None))
}

#[actix::test]
async fn a_new_leader_is_a_success() {
    tokio::time::pause();
    for (action, candidate, leader, text) in [
        ("switchover", Some("b"), "b", r#"Successfully switched over to "b""#),
        ("switchover", None, "c", r#"Successfully switched over to "c""#),
        ("switchover", Some("b"), "c", r#"Switched over to "c" instead of "b""#),
        ("failover", Some("b"), "b", r#"Successfully failed over to "b""#),
        ("failover", Some("b"), "c", r#"Failed over to "c" instead of "b""#),
    ] {
        let asked = || Some(key(6, (action == "switchover").then_some("a"), candidate));
        let course =
            vec![status(Some("a"), asked(), 1_100), status(None, asked(), 1_200), status(Some(leader), asked(), 1_300)];
        assert_eq!(after(awaited(action, candidate), course).await, Reply::new(200, text));
    }
}

#[actix::test]
async fn a_key_that_vanished_under_the_same_leader_is_a_failure() {
    tokio::time::pause();
    let failed = Reply::new(503, "Switchover failed");
    let course = vec![status(Some("a"), ours(6), 900), status(Some("a"), nothing(7), 900)];
    assert_eq!(after(awaited("switchover", Some("b")), course).await, failed, "it was seen");
    let course = vec![status(Some("a"), nothing(5), 900), status(Some("a"), nothing(7), 1_000)];
    assert_eq!(after(awaited("switchover", Some("b")), course).await, failed, "it came and went between two readings");
    let course =
        vec![status(Some("a"), ours(6), 1_100), status(None, nothing(7), 1_200), status(Some("a"), nothing(7), 1_300)];
    assert_eq!(after(awaited("switchover", Some("b")), course).await, failed, "the old leader took the lead back");
    let course = vec![status(Some("a"), nothing(6), 1_000)];
    assert_eq!(after(awaited("failover", Some("b")), course).await, Reply::new(503, "Failover failed"));
}

#[actix::test]
async fn a_key_that_vanished_before_the_next_leader_came_is_a_success() {
    tokio::time::pause();
    let course =
        vec![status(Some("a"), ours(6), 1_100), status(None, nothing(7), 1_200), status(Some("b"), nothing(7), 1_300)];
    let reply = after(awaited("switchover", Some("b")), course).await;
    assert_eq!(reply, Reply::new(200, r#"Successfully switched over to "b""#));
}

#[actix::test]
async fn nothing_in_time_is_unknown() {
    tokio::time::pause();
    let unknown = "status unknown after 20 seconds; operation may still be in progress";
    for (what, state) in [
        ("pending", status(Some("a"), ours(6), 1_100)),
        ("released", status(None, ours(6), 1_100)),
        ("an older reading", status(Some("a"), nothing(6), 999)),
        ("never read", NodeStatus::default()),
    ] {
        let reply = after(awaited("switchover", Some("b")), vec![state]).await;
        assert_eq!(reply, Reply::new(503, format!("Switchover {unknown}")), "{what}");
    }
    let reply =
        after(awaited("failover", Some("b")), vec![status(Some("a"), Some(key(6, None, Some("b"))), 1_100)]).await;
    assert_eq!(reply, Reply::new(503, format!("Failover {unknown}")));
}

#[actix::test]
async fn the_leaders_reason_is_passed_on_but_no_word_of_success() {
    tokio::time::pause();
    for (id, text, expected) in [
        ("ManualRequestCleared", "switchover: nobody is good", "Switchover failed: switchover: nobody is good"),
        ("HandoverGivenUp", "going on as the leader: lag", "Switchover failed: going on as the leader: lag"),
        ("ManualRequestCleared", "not failed over, because of lag", "Switchover failed"),
        ("LeaderWithLock", "no action. I am (a), the leader with the lock", "Switchover failed"),
    ] {
        let mut says = status(Some("a"), ours(6), 1_100);
        says.leader_until = Some(Instant::from_millis(9_000));
        says.reason = ReasonText { id: id.into(), text: text.into() };
        let course = vec![says, status(Some("a"), nothing(7), 1_200)];
        assert_eq!(after(awaited("switchover", Some("b")), course).await, Reply::new(503, expected));
    }
}
