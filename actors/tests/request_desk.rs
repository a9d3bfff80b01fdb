//! The request desk between a DCS that answers as told and members with a real HTTP endpoint.

use actix::prelude::*;
use arc_swap::ArcSwap;
use pgherd_actors::peer_client::SharedPeers;
use pgherd_actors::request_desk::{RequestDesk, SharedWriter};
use pgherd_clock::boottime;
use pgherd_protocol::dcs_watcher::WriteKey;
use pgherd_protocol::request_desk::{Moment, Reply, RequestCancelSwitchover, RequestConfig, RequestFailover};
use pgherd_testkit::eventually::eventually;
use pgherd_types::{
    Cluster, ConfigKey, DcsWrite, FailoverKey, LeaderKey, Lsn, Member, MemberDoc, NodeStatus, Refused, Schedule,
    StatusKey, WallTime,
};
use serde_json::{Value, json};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(60);

/// The store: takes writes as etcd would and publishes what was read, or refuses as told.
#[derive(Clone)]
struct Store {
    status: Arc<ArcSwap<NodeStatus>>,
    writes: Arc<Mutex<Vec<DcsWrite>>>,
    refusals: Arc<Mutex<Vec<Refused>>>,
    /// What is written is not published yet.
    late: Arc<std::sync::atomic::AtomicBool>,
    /// Somebody else's change of the configuration that comes just before ours.
    rival: Arc<Mutex<Vec<String>>>,
}

impl Store {
    fn new(cluster: Cluster) -> Self {
        let status = NodeStatus { cluster: Some((Arc::new(cluster), boottime())), ..NodeStatus::default() };
        Self {
            status: Arc::new(ArcSwap::from_pointee(status)),
            writes: Arc::default(),
            refusals: Arc::default(),
            late: Arc::default(),
            rival: Arc::default(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Cluster)) {
        let mut status = NodeStatus::clone(&self.status.load());
        let mut cluster = Cluster::clone(&status.cluster.as_ref().unwrap().0);
        cluster.revision += 1;
        change(&mut cluster);
        status.cluster = Some((Arc::new(cluster), boottime()));
        self.status.store(Arc::new(status));
    }

    fn put_config(&self, text: &str) {
        self.change(|cluster| {
            cluster.config = Some(ConfigKey { mod_revision: cluster.revision, text: text.to_owned(), valid: true });
        });
    }

    fn perform(&self, write: DcsWrite) -> Result<(), Refused> {
        self.writes.lock().unwrap().push(write.clone());
        if let Some(refused) = self.refusals.lock().unwrap().pop() {
            return Err(refused);
        }
        if let Some(text) = self.rival.lock().unwrap().pop() {
            self.put_config(&text);
        }
        let cluster = self.status.load().cluster.as_ref().unwrap().0.clone();
        match write {
            DcsWrite::ReplaceConfig { text, seen } => {
                if cluster.config.as_ref().map_or(0, |key| key.mod_revision) != seen {
                    return Err(Refused::Compare);
                }
                if !self.late.load(Relaxed) {
                    self.put_config(&text);
                }
            }
            DcsWrite::AskFailover { request, seen: None } => self.change(|cluster| {
                cluster.failover = Some(FailoverKey { mod_revision: cluster.revision, ..request });
            }),
            DcsWrite::ClearFailover { seen } => {
                if cluster.failover.as_ref().map(|key| key.mod_revision) != Some(seen) {
                    return Err(Refused::Compare);
                }
                self.clear_failover();
            }
            other => panic!("the desk never writes this: {other:?}"),
        }
        Ok(())
    }

    fn clear_failover(&self) {
        self.change(|cluster| {
            cluster.failover = Some(FailoverKey { mod_revision: cluster.revision, ..FailoverKey::default() });
        });
    }

    fn writes(&self) -> Vec<DcsWrite> {
        std::mem::take(&mut self.writes.lock().unwrap())
    }

    /// The key as the leader sees it, when it is there.
    async fn failover_key(&self) -> FailoverKey {
        let key = || self.status.load().cluster.as_ref()?.0.manual().cloned();
        eventually(PATIENCE, "the failover key", async || key()).await
    }

    fn desk(&self) -> Addr<RequestDesk> {
        let writer = SharedWriter::default();
        assert!(writer.set(Watcher(self.clone()).start().recipient()).is_ok());
        RequestDesk::new(self.status.clone(), writer, SharedPeers::default()).start()
    }
}

struct Watcher(Store);

impl Actor for Watcher {
    type Context = Context<Self>;
}

impl Handler<WriteKey> for Watcher {
    type Result = Result<(), Refused>;
    fn handle(&mut self, WriteKey { write, .. }: WriteKey, _: &mut Self::Context) -> Self::Result {
        self.0.perform(write)
    }
}

/// A member's API that answers everything with this document.
async fn member_api(document: Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/patroni", listener.local_addr().unwrap());
    actix_rt::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let body = document.to_string();
            let answer =
                format!("HTTP/1.1 503 Any\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

fn standby(position: u64) -> Value {
    json!({"role": "replica", "xlog": {"received_location": position, "replayed_location": position}})
}

async fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/patroni", listener.local_addr().unwrap());
    drop(listener);
    url
}

/// Led by `a`, at 10,000,000.
fn cluster(members: &[(&str, Option<String>)]) -> Cluster {
    let member = |(name, api_url): &(&str, Option<String>)| {
        let doc = MemberDoc { api_url: api_url.clone(), ..MemberDoc::default() };
        ((*name).into(), Member { name: (*name).into(), lease: None, doc })
    };
    Cluster {
        revision: 100,
        leader: Some(LeaderKey { name: "a".into(), lease: None }),
        members: members.iter().map(member).collect(),
        status: StatusKey { optime: Lsn(10_000_000), ..StatusKey::default() },
        ..Cluster::default()
    }
}

fn switchover(candidate: Option<&str>) -> RequestFailover {
    let candidate = candidate.map(Into::into);
    RequestFailover { action: "switchover", leader: Some("a".into()), candidate, scheduled_at: None }
}

fn failover(candidate: &str) -> RequestFailover {
    RequestFailover { action: "failover", leader: None, candidate: Some(candidate.into()), scheduled_at: None }
}

#[actix::test]
async fn a_switchover_is_written_and_its_outcome_awaited() {
    let store = Store::new(cluster(&[("a", None), ("b", Some(member_api(standby(10_000_000)).await))]));
    let desk = store.desk();
    let asked = desk.send(switchover(Some("b")));
    let lead = async {
        let key = store.failover_key().await;
        assert_eq!((key.leader, key.candidate, key.schedule), (Some("a".into()), Some("b".into()), None));
        store.change(|cluster| cluster.leader = None);
        store.change(|cluster| cluster.leader = Some(LeaderKey { name: "b".into(), lease: None }));
    };
    let (reply, ()) = tokio::join!(asked, lead);
    assert_eq!(reply.unwrap(), Reply::new(200, r#"Successfully switched over to "b""#));
}

#[actix::test]
async fn a_leader_that_puts_the_request_aside_is_a_failure() {
    let store = Store::new(cluster(&[("a", None), ("b", Some(member_api(standby(10_000_000)).await))]));
    let desk = store.desk();
    let asked = desk.send(failover("b"));
    let refuse = async {
        assert_eq!(store.failover_key().await.leader, None);
        store.clear_failover();
    };
    let (reply, ()) = tokio::join!(asked, refuse);
    assert_eq!(reply.unwrap(), Reply::new(503, "Failover failed"));
}

#[actix::test]
async fn members_are_asked_before_anything_is_written() {
    let no_good = "is not possible: no good candidates have been found";
    let lagging = member_api(standby(10_000_000 - 1_048_577)).await;
    let forbidden = member_api(json!({"tags": {"nofailover": true}, "xlog": {"received_location": 10_000_000}})).await;
    let unwatched = member_api(json!({"watchdog_failed": true, "xlog": {"received_location": 10_000_000}})).await;
    let junk = member_api(json!([])).await;
    for (what, api) in [
        ("not reachable", Some(silent().await)),
        ("without an API", None),
        ("lagging", Some(lagging)),
        ("nofailover", Some(forbidden)),
        ("watchdog", Some(unwatched)),
        ("junk", Some(junk)),
    ] {
        let store = Store::new(cluster(&[("a", None), ("b", api)]));
        let desk = store.desk();
        for request in [switchover(None), switchover(Some("b")), failover("b")] {
            let text = format!("{} {no_good}", request.action);
            assert_eq!(desk.send(request).await.unwrap(), Reply::new(412, text), "{what}");
        }
        assert_eq!(store.writes(), [], "{what}");
    }
    let store = Store::new(cluster(&[("a", None)]));
    let text = "switchover is not possible: cluster does not have members except leader";
    assert_eq!(store.desk().send(switchover(None)).await.unwrap(), Reply::new(412, text));
    let wrong = RequestFailover { leader: Some("b".into()), ..switchover(None) };
    assert_eq!(store.desk().send(wrong).await.unwrap(), Reply::new(412, "leader name does not match"));
    assert_eq!(store.desk().send(failover("x")).await.unwrap(), Reply::new(412, "candidate does not exists"));
    assert_eq!(store.writes(), []);
}

#[actix::test]
async fn one_good_member_is_enough() {
    let members = [("a", None), ("b", Some(silent().await)), ("c", Some(member_api(standby(10_000_000)).await))];
    let store = Store::new(cluster(&members));
    let desk = store.desk();
    let lead = async {
        store.failover_key().await;
        store.change(|cluster| cluster.leader = Some(LeaderKey { name: "c".into(), lease: None }));
    };
    let (reply, ()) = tokio::join!(desk.send(switchover(None)), lead);
    assert_eq!(reply.unwrap(), Reply::new(200, r#"Successfully switched over to "c""#));
}

#[actix::test]
async fn a_switchover_can_be_scheduled_and_forgotten() {
    let store = Store::new(cluster(&[("a", None)]));
    let desk = store.desk();
    let none = Reply::new(404, "no switchover is scheduled");
    assert_eq!(desk.send(RequestCancelSwitchover).await.unwrap(), none);
    let (at, text) = (WallTime(1_893_456_000_000), "2030-01-01T00:00:00Z".to_owned());
    let scheduled_at = Some(Moment { at, text: text.clone() });
    // nobody is asked: who is good then is not known now
    let request = RequestFailover { scheduled_at, ..switchover(Some("x")) };
    assert_eq!(desk.send(request).await.unwrap(), Reply::new(202, "Switchover scheduled"));
    assert_eq!(store.failover_key().await.schedule, Some(Schedule::At { at, text }));
    assert_eq!(desk.send(RequestCancelSwitchover).await.unwrap(), Reply::new(200, "scheduled switchover deleted"));
    assert_eq!(desk.send(RequestCancelSwitchover).await.unwrap(), none);
    store.change(|cluster| {
        cluster.failover =
            Some(FailoverKey { mod_revision: 9, leader: Some("a".into()), candidate: None, schedule: None })
    });
    assert_eq!(desk.send(RequestCancelSwitchover).await.unwrap(), none, "one under way is not scheduled");
    let schedule = Some(Schedule::Garbage("soon".into()));
    store.change(|cluster| cluster.failover.as_mut().unwrap().schedule = schedule);
    store.refusals.lock().unwrap().push(Refused::Compare);
    assert_eq!(desk.send(RequestCancelSwitchover).await.unwrap().code, 409);
}

#[actix::test]
async fn a_store_that_does_not_answer_is_told() {
    let store = Store::new(cluster(&[("a", None), ("b", Some(member_api(standby(10_000_000)).await))]));
    let desk = store.desk();
    store.put_config("{}");
    let lost = || store.refusals.lock().unwrap().push(Refused::Unreachable("no answer".into()));
    lost();
    let reply = desk.send(switchover(Some("b"))).await.unwrap();
    assert_eq!(reply, Reply::new(503, "failed to write failover key into DCS"));
    lost();
    assert_eq!(desk.send(patch(json!({"ttl": 20}))).await.unwrap().code, 503);
    lost();
    assert_eq!(desk.send(put(json!({"ttl": 20}))).await.unwrap().code, 502);
    let mut status = NodeStatus::clone(&store.status.load());
    status.dcs_lost_since = Some(boottime());
    store.status.store(Arc::new(status));
    store.writes();
    assert_eq!(desk.send(switchover(None)).await.unwrap().code, 503);
    assert_eq!(desk.send(RequestCancelSwitchover).await.unwrap().code, 503);
    assert_eq!(desk.send(put(json!({"ttl": 20}))).await.unwrap().code, 503);
    assert_eq!(store.writes(), []);
    let starting =
        RequestDesk::new(Store::new(cluster(&[])).status, SharedWriter::default(), SharedPeers::default()).start();
    assert_eq!(starting.send(put(json!({"ttl": 20}))).await.unwrap().code, 502);
}

fn patch(value: Value) -> RequestConfig {
    RequestConfig::Patch(value.as_object().unwrap().clone())
}

fn put(value: Value) -> RequestConfig {
    RequestConfig::Replace(value.as_object().unwrap().clone())
}

#[actix::test]
async fn the_configuration_is_changed_only_where_it_differs() {
    let store = Store::new(cluster(&[]));
    let desk = store.desk();
    assert_eq!(desk.send(patch(json!({"ttl": 20}))).await.unwrap().code, 503, "there is nothing to change");
    assert_eq!(desk.send(put(json!({"ttl": 30}))).await.unwrap(), Reply::new(200, r#"{"ttl":30}"#));
    assert_eq!(desk.send(patch(json!({"ttl": 30, "x": null}))).await.unwrap(), Reply::new(200, r#"{"ttl":30}"#));
    assert_eq!(desk.send(put(json!({"ttl": 30}))).await.unwrap(), Reply::new(200, r#"{"ttl":30}"#));
    assert_eq!(store.writes(), [DcsWrite::ReplaceConfig { text: r#"{"ttl":30}"#.into(), seen: 0 }]);
    // each sees what the one before wrote
    for ttl in [20, 40, 60] {
        assert_eq!(desk.send(patch(json!({"ttl": ttl, "a": {"b": ttl}}))).await.unwrap().code, 200);
    }
    let text = store.status.load().cluster.as_ref().unwrap().0.config.clone().unwrap().text;
    assert_eq!(text, r#"{"ttl":60,"a":{"b":60}}"#);
}

#[actix::test]
async fn the_answer_comes_when_the_node_has_seen_the_change() {
    let store = Store::new(cluster(&[]));
    let desk = store.desk();
    store.late.store(true, Relaxed);
    let asked = actix_rt::spawn(desk.send(put(json!({"ttl": 30}))));
    eventually(PATIENCE, "it is written", async || (!store.writes().is_empty()).then_some(())).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!asked.is_finished(), "who asks for the configuration now would get the old one");
    store.put_config(r#"{"ttl":30}"#);
    assert_eq!(asked.await.unwrap().unwrap(), Reply::new(200, r#"{"ttl":30}"#));
}

#[actix::test]
async fn a_rivals_change_is_never_overwritten() {
    let store = Store::new(cluster(&[]));
    let desk = store.desk();
    store.put_config(r#"{"ttl":30}"#);
    store.rival.lock().unwrap().push(r#"{"ttl":30,"theirs":1}"#.into());
    let reply = desk.send(patch(json!({"ours": 1}))).await.unwrap();
    assert_eq!(reply, Reply::new(200, r#"{"ttl":30,"theirs":1,"ours":1}"#), "the change was merged again");
    store.rival.lock().unwrap().push(r#"{"ttl":30}"#.into());
    assert_eq!(desk.send(put(json!({"ttl": 99}))).await.unwrap().code, 409);
    let text = || store.status.load().cluster.as_ref().unwrap().0.config.clone().unwrap().text;
    assert_eq!(text(), r#"{"ttl":30}"#);
    let rivals = (0..100).map(|n| format!(r#"{{"ttl":30,"n":{n}}}"#)).collect();
    *store.rival.lock().unwrap() = rivals;
    assert_eq!(desk.send(patch(json!({"ours": 1}))).await.unwrap().code, 409, "not for ever");
    assert!(!text().contains("ours"));
}

#[actix::test]
async fn more_than_a_few_at_a_time_are_turned_away() {
    let store = Store::new(cluster(&[("a", None), ("b", Some(member_api(standby(10_000_000)).await))]));
    let desk = store.desk();
    let waiting: Vec<_> = (0..16).map(|_| actix_rt::spawn(desk.send(failover("b")))).collect();
    eventually(PATIENCE, "all are written", async || (store.writes.lock().unwrap().len() == 16).then_some(())).await;
    let reply = desk.send(put(json!({"ttl": 1}))).await.unwrap();
    assert!(reply.code == 503 && reply.text.contains("16 requests"), "{reply:?}");
    store.change(|cluster| cluster.leader = Some(LeaderKey { name: "b".into(), lease: None }));
    for request in waiting {
        assert_eq!(request.await.unwrap().unwrap().text, r#"Successfully failed over to "b""#);
    }
    assert_eq!(desk.send(put(json!({"ttl": 1}))).await.unwrap().code, 200, "there is room again");
}
