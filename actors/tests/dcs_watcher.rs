//! The DCS watcher between probes: against a real etcd where the outcome depends on it, against a scripted DCS where
//! the order of answers does.

use actix::prelude::*;
use pgherd_actors::dcs_watcher::{Adopted, DcsWatcher, WatcherOptions};
use pgherd_clock::boottime;
use pgherd_dcs::{Answer, Dcs, EtcdOptions, EtcdServer, Reading, Watch, WatchEnded};
use pgherd_protocol::coordinator::{ClusterObserved, DcsLost};
use pgherd_protocol::dcs_watcher::{AcquireLease, ChangeTimes, ReleaseLease, RenewLease, WriteKey};
use pgherd_testkit::etcd::Etcd;
use pgherd_testkit::eventually::eventually;
use pgherd_testkit::proxy::Proxy;
use pgherd_types::{
    Cluster, DcsWrite, Instant, LeaseGrant, LeaseId, Lsn, MemberDoc, Refused, StatusKey, SyncGuard, SystemId,
};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test: what happens before was caused by an event.
const NEVER: Duration = Duration::from_secs(3600);

fn soon() -> Instant {
    boottime() + PATIENCE
}

fn times() -> ChangeTimes {
    ChangeTimes { ttl: Duration::from_secs(60), loop_wait: NEVER, retry_timeout: Duration::from_secs(2) }
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<(Vec<ClusterObserved>, Vec<DcsLost>)>>);

impl Told {
    fn clusters(&self) -> Vec<ClusterObserved> {
        self.0.lock().unwrap().0.clone()
    }
    fn losses(&self) -> Vec<DcsLost> {
        self.0.lock().unwrap().1.clone()
    }
    async fn cluster(&self, what: &str, is: impl Fn(&Cluster) -> bool) -> Arc<Cluster> {
        let last = || self.clusters().pop().map(|observed| observed.cluster);
        eventually(PATIENCE, what, async || last().filter(|cluster| is(cluster))).await
    }
}

struct Coordinator(Told);

impl Actor for Coordinator {
    type Context = Context<Self>;
}

impl Handler<ClusterObserved> for Coordinator {
    type Result = ();
    fn handle(&mut self, fact: ClusterObserved, _: &mut Self::Context) {
        self.0.0.lock().unwrap().0.push(fact);
    }
}

impl Handler<DcsLost> for Coordinator {
    type Result = ();
    fn handle(&mut self, fact: DcsLost, _: &mut Self::Context) {
        self.0.0.lock().unwrap().1.push(fact);
    }
}

fn options(name: &str, url: &str, times: ChangeTimes) -> WatcherOptions {
    let etcd = EtcdOptions {
        server: EtcdServer { endpoints: vec![url.parse().unwrap()], ..EtcdServer::default() }.shared(),
        namespace: "service".into(),
        scope: "main".into(),
        member: name.into(),
        api: pgherd_dcs::EtcdApi::V3,
    };
    WatcherOptions { etcd, times, adopt_lease: None }
}

fn start(options: &WatcherOptions) -> (Addr<DcsWatcher>, Told) {
    let told = Told::default();
    let coordinator = Coordinator(told.clone()).start();
    let (options, observed, lost) = (options.clone(), coordinator.clone().recipient(), coordinator.recipient());
    // On an arbiter of its own, as in production.
    let make = move |_: &mut Context<DcsWatcher>| DcsWatcher::new(&options, observed, lost);
    (DcsWatcher::start_in_arbiter(&Arbiter::new().handle(), make), told)
}

fn move_to(ttl_s: u64) -> RenewLease {
    RenewLease { prove_leader: true, new_ttl: Some(Duration::from_secs(ttl_s)), deadline: soon() }
}

fn renew(prove_leader: bool) -> RenewLease {
    RenewLease { prove_leader, new_ttl: None, deadline: soon() }
}

fn acquire() -> AcquireLease {
    AcquireLease { sync: SyncGuard::At(None), deadline: soon() }
}

fn write(write: DcsWrite) -> WriteKey {
    WriteKey { write, deadline: soon() }
}

fn status(optime: u64) -> StatusKey {
    StatusKey { optime: Lsn(optime), ..StatusKey::default() }
}

#[actix::test]
async fn a_change_by_others_is_told_because_of_the_event() {
    let etcd = Etcd::start();
    let (_watcher, told) = start(&options("a", &etcd.url(), times()));
    told.cluster("the first reading", |_| true).await;
    etcd.put("/service/main/leader", "b");
    let cluster = told.cluster("the leader", |c| c.leader.is_some()).await;
    assert_eq!(cluster.leader.as_ref().unwrap().name, "b".into());
    etcd.delete("/service/main/leader");
    told.cluster("its end", |c| c.leader.is_none()).await;
}

#[actix::test]
async fn a_whole_leadership_goes_through_the_watcher() {
    let etcd = Etcd::start();
    let (a, told) = start(&options("a", &etcd.url(), times()));
    assert_eq!(a.send(renew(true)).await.unwrap(), Err(Refused::LeaseGone), "there is no lease yet");
    let first = a.send(renew(false)).await.unwrap().unwrap();
    assert!(!first.leader_proven);
    assert_eq!(a.send(renew(true)).await.unwrap(), Err(Refused::Absent));
    let grant = a.send(acquire()).await.unwrap().unwrap();
    assert_eq!(grant.lease, first.grant.lease);
    let proven = a.send(renew(true)).await.unwrap().unwrap();
    assert!(proven.leader_proven && proven.grant.lease == grant.lease && proven.grant.sent_at >= grant.sent_at);
    a.send(write(DcsWrite::Member(Box::new(MemberDoc { state: "running".into(), ..MemberDoc::default() }))))
        .await
        .unwrap()
        .unwrap();
    a.send(write(DcsWrite::Status(status(5)))).await.unwrap().unwrap();
    let cluster = told.cluster("its own writes", |c| c.status.optime == Lsn(5)).await;
    assert_eq!(cluster.leader.as_ref().unwrap().lease, Some(grant.lease));
    assert_eq!(cluster.members[&"a".into()].lease, Some(grant.lease));
    let (b, _) = start(&options("b", &etcd.url(), times()));
    assert_eq!(b.send(acquire()).await.unwrap(), Err(Refused::Compare));
    assert_eq!(b.send(write(DcsWrite::Status(status(9)))).await.unwrap(), Err(Refused::Compare));
    a.send(ReleaseLease { status: Some(status(6)), deadline: soon() }).await.unwrap().unwrap();
    b.send(acquire()).await.unwrap().unwrap();
    assert_eq!(a.send(write(DcsWrite::Status(status(9)))).await.unwrap(), Err(Refused::Compare));
    told.cluster("the successor", |c| c.leader.as_ref().is_some_and(|l| l.name == "b".into())).await;
}

#[actix::test]
async fn a_lost_lease_is_reported_to_the_leader_and_replaced_for_others() {
    let etcd = Etcd::start();
    let (a, told) = start(&options("a", &etcd.url(), times()));
    let grant = a.send(acquire()).await.unwrap().unwrap();
    etcd.ctl(&["lease", "revoke", &format!("{:x}", grant.lease.0)]);
    told.cluster("the key goes with its lease", |c| c.leader.is_none()).await;
    assert_eq!(a.send(renew(true)).await.unwrap(), Err(Refused::LeaseGone));
    assert_eq!(a.send(write(DcsWrite::Status(status(1)))).await.unwrap(), Err(Refused::LeaseGone));
    assert_ne!(a.send(renew(false)).await.unwrap().unwrap().grant.lease, grant.lease);
    etcd.ctl(&["lease", "revoke", &format!("{:x}", a.send(renew(false)).await.unwrap().unwrap().grant.lease.0)]);
    a.send(acquire()).await.unwrap().expect("a lease that is gone is replaced before the key is taken");
}

#[actix::test]
async fn a_restarted_agent_goes_on_with_its_recorded_lease() {
    let etcd = Etcd::start();
    let grant = start(&options("a", &etcd.url(), times())).0.send(acquire()).await.unwrap().unwrap();
    let adopting = WatcherOptions {
        adopt_lease: Some(Adopted { id: grant.lease, asked_ttl_ms: None }),
        ..options("a", &etcd.url(), times())
    };
    let (a, _) = start(&adopting);
    let renewed = a.send(renew(true)).await.unwrap().unwrap();
    assert!(renewed.leader_proven && renewed.grant.lease == grant.lease);
}

#[actix::test]
async fn a_changed_ttl_is_taken_by_moving_to_another_lease() {
    let etcd = Etcd::start();
    let (a, told) = start(&options("a", &etcd.url(), times()));
    let old = a.send(acquire()).await.unwrap().unwrap();
    a.send(write(DcsWrite::Member(Box::default()))).await.unwrap().unwrap();
    a.send(ChangeTimes { ttl: Duration::from_secs(90), ..times() }).await.unwrap();
    assert_eq!(a.send(renew(true)).await.unwrap().unwrap().grant.lease, old.lease, "not of its own accord");
    let moved = a.send(move_to(90)).await.unwrap().unwrap();
    assert!(moved.leader_proven && moved.grant.lease != old.lease && moved.grant.ttl_ms == 90_000, "{moved:?}");
    let again = a.send(renew(true)).await.unwrap().unwrap().grant;
    assert_eq!((again.lease, again.asked_ttl_ms), (moved.grant.lease, Some(90_000)));
    told.cluster("both keys on the new lease", |c| {
        c.leader.as_ref().is_some_and(|leader| leader.lease == Some(again.lease))
            && c.members[&"a".into()].lease == Some(again.lease)
    })
    .await;
    eventually(PATIENCE, "the old lease ends", async || {
        etcd.ctl(&["lease", "timetolive", &format!("{:x}", old.lease.0)]).contains("already expired").then_some(())
    })
    .await;
}

#[actix::test]
async fn an_outage_is_reported_and_ends_by_itself() {
    let etcd = Etcd::start();
    let proxy = Proxy::start(etcd.port());
    let (a, told) = start(&options("a", &proxy.url(), times()));
    told.cluster("the first reading", |_| true).await;
    let before = boottime();
    proxy.cut();
    eventually(PATIENCE, "more than one report", async || (told.losses().len() > 1).then_some(())).await;
    let losses = told.losses();
    assert!(losses.iter().all(|lost| lost.since == losses[0].since && lost.since >= before), "{losses:?}");
    let refused = a
        .send(RenewLease { prove_leader: false, new_ttl: None, deadline: boottime() + Duration::from_millis(500) })
        .await;
    assert!(matches!(refused.unwrap(), Err(Refused::Unreachable(_))));
    let seen = told.clusters().len();
    proxy.heal();
    let after = eventually(PATIENCE, "it is told again, changed or not", async || told.clusters().get(seen).cloned());
    assert!(after.await.read_at > before);
    proxy.stall();
    a.do_send(RenewLease { prove_leader: false, new_ttl: None, deadline: boottime() + Duration::from_millis(500) });
    eventually(PATIENCE, "silence is an outage too", async || {
        told.losses().last().filter(|lost| lost.since > losses[0].since).map(|_| ())
    })
    .await;
}

#[actix::test]
async fn a_dcs_that_is_dead_at_the_start_is_waited_for() {
    let mut etcd = Etcd::start();
    etcd.kill();
    let (_watcher, told) = start(&options("a", &etcd.url(), times()));
    eventually(PATIENCE, "the loss", async || told.losses().pop()).await;
    etcd.spawn_again();
    told.cluster("the first reading", |_| true).await;
}

#[actix::test]
async fn changes_are_seen_after_the_watch_was_cut() {
    let mut etcd = Etcd::start();
    let (_watcher, told) = start(&options("a", &etcd.url(), times()));
    told.cluster("the first reading", |_| true).await;
    etcd.restart();
    told.cluster("a reading after the restart", |_| true).await;
    etcd.put("/service/main/leader", "x");
    told.cluster("a change after the restart", |c| c.leader.is_some()).await;
    etcd.restart_empty();
    told.cluster("a store that went back", |c| c.leader.is_none()).await;
    etcd.put("/service/main/leader", "y");
    told.cluster("a change in it", |c| c.leader.is_some()).await;
}

#[actix::test]
async fn an_unchanged_cluster_is_told_again_after_loop_wait() {
    let etcd = Etcd::start();
    let (_watcher, told) =
        start(&options("a", &etcd.url(), ChangeTimes { loop_wait: Duration::from_secs(1), ..times() }));
    let clusters = eventually(PATIENCE, "three reports", async || Some(told.clusters()).filter(|c| c.len() >= 3)).await;
    assert!(clusters.windows(2).all(|pair| pair[0].read_at < pair[1].read_at));
}

/// A DCS that does as it is told.
#[derive(Default)]
struct Scripted {
    cluster: RefCell<Cluster>,
    changed_at: Cell<i64>,
    reads: Cell<u32>,
    watches: Cell<u32>,
    writes_hang: Cell<u32>,
    leases: Cell<i64>,
    /// Answers to come; `Ok` when none is left.
    moves: RefCell<Vec<Result<(), Refused>>>,
    moved: RefCell<Vec<(LeaseId, LeaseId)>>,
}

struct Deaf(i64);

impl Watch for Deaf {
    fn created_at(&self) -> i64 {
        self.0
    }
    fn next(&mut self) -> Answer<'_, Result<pgherd_dcs::WatchEvent, WatchEnded>> {
        Box::pin(std::future::pending())
    }
}

impl Dcs for Scripted {
    fn read(&self, _: Instant) -> Answer<'_, Result<Reading, Refused>> {
        self.reads.set(self.reads.get() + 1);
        let reading = Reading {
            cluster: self.cluster.borrow().clone(),
            changed_at: self.changed_at.get(),
            complaints: Vec::new(),
        };
        Box::pin(async { Ok(reading) })
    }
    fn grant(&self, ttl: Duration, _: Instant) -> Answer<'_, Result<LeaseGrant, Refused>> {
        self.leases.set(self.leases.get() + 1);
        let lease = LeaseId(self.leases.get());
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap();
        Box::pin(async move { Ok(LeaseGrant { lease, sent_at: boottime(), ttl_ms, asked_ttl_ms: Some(ttl_ms) }) })
    }
    fn renew(&self, lease: LeaseId, _: bool, _: Instant) -> Answer<'_, Result<LeaseGrant, Refused>> {
        Box::pin(async move { Ok(LeaseGrant { lease, sent_at: boottime(), ttl_ms: 60_000, asked_ttl_ms: None }) })
    }
    fn move_keys(&self, from: LeaseId, to: LeaseId, _: bool, _: Instant) -> Answer<'_, Result<(), Refused>> {
        self.moved.borrow_mut().push((from, to));
        let answer = self.moves.borrow_mut().pop().unwrap_or(Ok(()));
        Box::pin(async { answer })
    }
    fn revoke(&self, _: LeaseId, _: Instant) -> Answer<'_, ()> {
        Box::pin(async {})
    }
    fn acquire(&self, _: LeaseId, _: SyncGuard, _: Instant) -> Answer<'_, Result<(), Refused>> {
        Box::pin(async { Ok(()) })
    }
    fn release(&self, _: LeaseId, _: Option<StatusKey>, _: Instant) -> Answer<'_, Result<(), Refused>> {
        Box::pin(async { Ok(()) })
    }
    fn write(&self, _: Option<LeaseId>, _: DcsWrite, _: Instant) -> Answer<'_, Result<(), Refused>> {
        self.writes_hang.set(self.writes_hang.get() + 1);
        Box::pin(std::future::pending())
    }
    fn remove_all(&self, _: Instant) -> Answer<'_, Result<(), Refused>> {
        Box::pin(async { Ok(()) })
    }
    fn watch(&self, _: Option<i64>, _: Instant) -> Answer<'_, Result<Box<dyn Watch>, WatchEnded>> {
        self.watches.set(self.watches.get() + 1);
        let watch: Box<dyn Watch> = Box::new(Deaf(self.revision_seen()));
        Box::pin(async { Ok(watch) })
    }
    fn revision_seen(&self) -> i64 {
        self.cluster.borrow().revision
    }
}

fn start_scripted(dcs: &Rc<Scripted>) -> (Addr<DcsWatcher>, Told) {
    let told = Told::default();
    let coordinator = Coordinator(told.clone()).start();
    let (observed, lost) = (coordinator.clone().recipient(), coordinator.recipient());
    (DcsWatcher::with_dcs(dcs.clone(), times(), None, observed, lost).start(), told)
}

#[actix::test]
async fn a_move_whose_fate_is_not_known_is_settled_by_the_next_renewal() {
    let dcs = Rc::new(Scripted::default());
    let (watcher, _) = start_scripted(&dcs);
    let old = watcher.send(acquire()).await.unwrap().unwrap().lease;
    dcs.moves.borrow_mut().push(Err(Refused::Unreachable("no answer".into())));
    let unknown = watcher.send(move_to(90)).await.unwrap();
    assert!(matches!(unknown, Err(Refused::Unreachable(_))), "{unknown:?}");
    let settled = watcher.send(renew(true)).await.unwrap().unwrap();
    assert!(settled.leader_proven && settled.grant.lease != old, "not proven on the old lease: {settled:?}");
    assert_eq!(dcs.moved.borrow().as_slice(), [(old, settled.grant.lease), (old, settled.grant.lease)]);
    assert_eq!(watcher.send(renew(true)).await.unwrap().unwrap().grant.lease, settled.grant.lease);
    assert_eq!(dcs.moved.borrow().len(), 2, "it is settled");
}

#[actix::test]
async fn a_renewal_never_waits_behind_other_requests() {
    let dcs = Rc::new(Scripted::default());
    let (watcher, _) = start_scripted(&dcs);
    for _ in 0..200 {
        watcher.do_send(write(DcsWrite::AdoptInitialize(SystemId(7))));
    }
    watcher.send(renew(false)).await.unwrap().unwrap();
    assert_eq!(dcs.writes_hang.get(), 200, "all of them are under way");
}

#[actix::test]
async fn a_deaf_watch_is_noticed_by_the_next_renewal() {
    let dcs = Rc::new(Scripted::default());
    dcs.cluster.borrow_mut().revision = 10;
    let (watcher, told) = start_scripted(&dcs);
    told.cluster("the first reading", |c| c.revision == 10).await;
    eventually(PATIENCE, "a watch", async || (dcs.watches.get() == 1).then_some(())).await;
    dcs.cluster.borrow_mut().revision = 11;
    dcs.cluster.borrow_mut().status = status(1);
    dcs.changed_at.set(11);
    watcher.send(renew(false)).await.unwrap().unwrap();
    told.cluster("the change that the watch missed", |c| c.status == status(1)).await;
    eventually(PATIENCE, "another watch", async || (dcs.watches.get() == 2).then_some(())).await;
}

#[actix::test]
async fn other_clusters_keys_cause_a_reading_but_no_report() {
    let dcs = Rc::new(Scripted::default());
    dcs.cluster.borrow_mut().revision = 10;
    let (watcher, told) = start_scripted(&dcs);
    told.cluster("the first reading", |c| c.revision == 10).await;
    let reads = dcs.reads.get();
    dcs.cluster.borrow_mut().revision = 11;
    watcher.send(renew(false)).await.unwrap().unwrap();
    eventually(PATIENCE, "a reading", async || (dcs.reads.get() > reads).then_some(())).await;
    dcs.cluster.borrow_mut().status = status(1);
    watcher.send(ChangeTimes { ..times() }).await.unwrap();
    told.cluster("the next change", |c| c.status == status(1)).await;
    assert_eq!(told.clusters().len(), 2, "only what changed was told");
    assert_eq!(dcs.watches.get(), 1, "the watch is not deaf");
}
