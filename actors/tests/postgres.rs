//! The actors around PostgreSQL, between probes, with a real server.

use actix::prelude::*;
use pgherd_actors::postgres_monitor::PostgresMonitor;
use pgherd_actors::postgres_operator::PostgresOperator;
use pgherd_actors::slot_manager::SlotManager;
use pgherd_actors::sync_manager::SyncManager;
use pgherd_postgres::{OperationControl, clone_from, find_postmaster, observe, start_primary, start_replica};
use pgherd_protocol::coordinator::{OperationFinished, PostgresObserved, SlotsAligned, SyncAligned};
use pgherd_protocol::postgres_monitor::LookNow;
use pgherd_protocol::postgres_operator::{Busy, CancelOperation, ConfigChanged, ExtendFence, StartOperation};
use pgherd_protocol::slot_manager::AlignSlots;
use pgherd_protocol::sync_manager::AlignSync;
use pgherd_testkit::eventually::eventually;
use pgherd_testkit::postgres::{TestDir, TestPostgres, options};
use pgherd_types::{
    Decoding, Instant, Lsn, Operation, OperationEnd, OperationId, PostgresState, Server, SlotChange, SlotTarget,
    StandbyNames, StopMode, SyncApply, SyncName, Timeline, Upstream,
};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const PATIENCE: Duration = Duration::from_secs(60);
const NEVER: Duration = Duration::from_secs(3600);

/// What the actors said to the coordinator's place, in order.
enum Said {
    Observed(Arc<PostgresState>),
    Finished(OperationFinished),
    Slots(SlotsAligned),
    Sync(SyncAligned),
}

struct Probe(UnboundedSender<Said>);

impl Actor for Probe {
    type Context = Context<Self>;
}

impl Handler<PostgresObserved> for Probe {
    type Result = ();
    fn handle(&mut self, PostgresObserved(state): PostgresObserved, _: &mut Self::Context) {
        let _ = self.0.send(Said::Observed(state));
    }
}

impl Handler<OperationFinished> for Probe {
    type Result = ();
    fn handle(&mut self, finished: OperationFinished, _: &mut Self::Context) {
        let _ = self.0.send(Said::Finished(finished));
    }
}

impl Handler<SlotsAligned> for Probe {
    type Result = ();
    fn handle(&mut self, aligned: SlotsAligned, _: &mut Self::Context) {
        let _ = self.0.send(Said::Slots(aligned));
    }
}

impl Handler<SyncAligned> for Probe {
    type Result = ();
    fn handle(&mut self, aligned: SyncAligned, _: &mut Self::Context) {
        let _ = self.0.send(Said::Sync(aligned));
    }
}

struct Heard(UnboundedReceiver<Said>);

impl Heard {
    fn new() -> (Addr<Probe>, Self) {
        let (send, receive) = unbounded_channel();
        (Probe(send).start(), Self(receive))
    }
    async fn next(&mut self) -> Said {
        tokio::time::timeout(PATIENCE, self.0.recv()).await.expect("a message in time").expect("a living probe")
    }
    /// The state that was reported before the end, and the end.
    async fn end(&mut self, id: u64) -> (Arc<PostgresState>, OperationEnd) {
        let mut last = None;
        loop {
            match self.next().await {
                Said::Observed(state) => last = Some(state),
                Said::Finished(finished) => {
                    assert_eq!(finished.id, OperationId(id));
                    return (last.expect("a look before the end"), finished.end);
                }
                Said::Slots(_) | Said::Sync(_) => panic!("neither slots nor names were asked for"),
            }
        }
    }
    async fn state(&mut self, what: &str, wanted: impl Fn(&PostgresState) -> bool) -> Arc<PostgresState> {
        let begun = std::time::Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
            if let Said::Observed(state) = self.next().await
                && wanted(&state)
            {
                return state;
            }
        }
    }
}

fn start(id: u64, operation: Operation) -> StartOperation {
    let fence = operation.needs_lock().then(|| pgherd_clock::boottime() + NEVER);
    StartOperation { id: OperationId(id), operation, fence }
}

async fn primary(dir: &TestDir) -> TestPostgres {
    let it = TestPostgres::bootstrapped(options("a1", dir.path())).await.unwrap();
    start_primary(&it.server, &OperationControl::new(None)).unwrap();
    it
}

#[actix_rt::test]
async fn the_operator_runs_operations_one_at_a_time_and_reports_a_look_before_each_end() {
    let dir = TestDir::new();
    let it = TestPostgres::open(options("a1", dir.path())).unwrap();
    let (probe, mut heard) = Heard::new();
    let operator = PostgresOperator::new(it.server.clone(), probe.clone().recipient(), probe.recipient()).start();

    assert_eq!(operator.send(start(1, Operation::Bootstrap)).await.unwrap(), Ok(()));
    assert_eq!(operator.send(start(2, Operation::StartPrimary)).await.unwrap(), Err(Busy(OperationId(1))));
    let (state, end) = heard.end(1).await;
    assert_eq!((end, &state.server), (OperationEnd::Done, &Server::Stopped));

    let late = StartOperation { fence: Some(Instant::from_millis(1)), ..start(3, Operation::StartPrimary) };
    operator.send(late).await.unwrap().unwrap();
    let (state, end) = heard.end(3).await;
    assert_eq!((end, &state.server), (OperationEnd::TooLate, &Server::Stopped));

    operator.send(start(4, Operation::StartPrimary)).await.unwrap().unwrap();
    let (state, end) = heard.end(4).await;
    assert_eq!(end, OperationEnd::Done);
    assert!(state.running().is_some_and(|r| !r.in_recovery));

    operator.send(ConfigChanged(r#"{"postgresql":{"parameters":{"work_mem":"7MB"}}}"#.to_owned())).await.unwrap();
    let changed = async || it.sql("SHOW work_mem").await.ok().filter(|v| v == &["7MB"]);
    eventually(PATIENCE, "the parameter changes", changed).await;

    operator.send(start(5, Operation::Promote { timeline: Timeline(9) })).await.unwrap().unwrap();
    assert!(matches!(heard.end(5).await.1, OperationEnd::Failed(_)), "a primary cannot be promoted");

    for (id, mode) in [(6, StopMode::Immediate), (7, StopMode::Fast)] {
        operator.send(start(id, Operation::Stop { mode })).await.unwrap().unwrap();
        let (state, end) = heard.end(id).await;
        assert_eq!((end, &state.server), (OperationEnd::Done, &Server::Stopped));
    }
}

#[actix_rt::test]
async fn a_cancelled_operation_is_given_up_and_only_by_its_own_number() {
    let dir = TestDir::new();
    let it = TestPostgres::open(options("a1", dir.path())).unwrap();
    let (probe, mut heard) = Heard::new();
    let operator = PostgresOperator::new(it.server.clone(), probe.clone().recipient(), probe.recipient()).start();
    // A source that takes the connection and never says anything.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let from = Upstream { member: "x".into(), host: "127.0.0.1".to_owned(), port: silent.local_addr().unwrap().port() };
    operator.send(start(1, Operation::Clone { from, replace: false, basebackup_only: false })).await.unwrap().unwrap();
    operator.send(ExtendFence(Instant::from_millis(5))).await.unwrap();
    operator.send(CancelOperation(OperationId(99))).await.unwrap();
    let _open = tokio::task::spawn_blocking(move || silent.accept().map(|(stream, _)| (silent, stream)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(operator.send(start(2, Operation::StartPrimary)).await.unwrap(), Err(Busy(OperationId(1))));
    operator.send(CancelOperation(OperationId(1))).await.unwrap();
    let (state, end) = heard.end(1).await;
    assert_eq!(end, OperationEnd::Cancelled);
    assert_eq!(state.data, pgherd_types::DataDirectory::Empty);
}

#[actix_rt::test]
async fn the_monitor_sees_the_end_of_the_process_at_once_and_finds_the_end_of_the_wal() {
    let dir = TestDir::new();
    let it = primary(&dir).await;
    let (probe, mut heard) = Heard::new();
    let monitor = PostgresMonitor::new(it.server.clone(), probe.recipient(), NEVER).start();
    heard.state("the first look", |s| s.running().is_some()).await;
    monitor.send(LookNow).await.unwrap();
    let before = heard.state("the look that was asked for", |s| s.running().is_some()).await;

    // With its schedule at one hour only the end of the process can be the cause of the next look.
    let pid = find_postmaster(&it.server.options().data_dir).unwrap().pid;
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    let after = heard.state("the process is gone", |s| s.running().is_none()).await;
    assert!(after.looked_at >= before.looked_at);
    assert!(matches!(after.server, Server::Stopped | Server::Orphaned), "{:?}", after.server);
    heard.state("the end of the WAL", |s| s.control().is_some_and(|c| c.wal_end.is_some())).await;

    // A new postmaster is watched as well.
    start_primary(&it.server, &OperationControl::new(None)).unwrap();
    heard.state("it runs again", |s| s.running().is_some()).await;
    it.server.killer().stop_immediate();
    heard.state("it is gone again", |s| s.server == Server::Stopped).await;
}

#[actix_rt::test]
async fn slots_are_made_moved_and_dropped_as_ordered_and_each_for_itself() {
    let dir = TestDir::new();
    let it = primary(&dir).await;
    let (probe, mut heard) = Heard::new();
    let slots = SlotManager::new(it.server.clone(), probe.recipient()).start();
    it.sql("SELECT pg_create_physical_replication_slot(n) FROM unnest(ARRAY['unwanted', 'foreign', 'b1']) n")
        .await
        .unwrap();
    let name = |name: &str| name.to_owned();
    let decoding = Decoding { database: name("postgres"), plugin: name("test_decoding") };
    let end: Lsn = it.sql("SELECT pg_current_wal_lsn()").await.unwrap()[0].parse().unwrap();
    let target = SlotTarget {
        claim: [name("b1")].into(),
        forget: [name("b1")].into(),
        changes: vec![
            SlotChange::Drop { name: name("unwanted"), why: "test" },
            SlotChange::Drop { name: name("absent"), why: "test" },
            SlotChange::CreateLogical { name: name("x"), decoding, failover: false },
            SlotChange::CreatePhysical { name: name("c1") },
            SlotChange::CreatePhysical { name: name("b1") },
            SlotChange::Advance { name: name("c1"), to: end, database: None },
        ],
        compare: None,
    };
    let late = AlignSlots { round: 1, target: target.clone(), fence: Some(Instant::from_millis(1)) };
    slots.send(late).await.unwrap();
    slots.send(AlignSlots { round: 2, target, fence: None }).await.unwrap();
    let Said::Slots(SlotsAligned { round: 1, result: Err(_) }) = heard.next().await else {
        panic!("too late is an error")
    };
    let Said::Slots(SlotsAligned { round: 2, result: Ok(report) }) = heard.next().await else { panic!("not done") };
    assert_eq!(report.faults.keys().collect::<Vec<_>>(), ["x"], "a logical slot needs another wal_level: {report:?}");
    let look = observe(&it.server).await.state;
    let seen = &look.running().expect("it runs").slots;
    let mut told: Vec<_> = seen.iter().map(|s| (s.name.as_str(), s.managed, s.restart_lsn)).collect();
    told.sort_unstable();
    assert_eq!(told, [("b1", true, None), ("c1", true, Some(end)), ("foreign", false, None)]);
    assert_eq!(look.running().unwrap().slots_gone, [name("x")].into());

    // what somebody drops, or was never made, is not ours when somebody makes it anew
    it.sql("SELECT pg_drop_replication_slot('c1')").await.unwrap();
    let target = SlotTarget { forget: ["x", "c1", "b1"].map(name).into(), ..SlotTarget::default() };
    slots.send(AlignSlots { round: 3, target, fence: None }).await.unwrap();
    let Said::Slots(SlotsAligned { round: 3, result: Ok(_) }) = heard.next().await else { panic!("not done") };
    it.sql("SELECT pg_create_physical_replication_slot(n) FROM unnest(ARRAY['x', 'c1']) n").await.unwrap();
    let look = observe(&it.server).await.state;
    let seen = look.running().expect("it runs");
    let mut told: Vec<_> = seen.slots.iter().map(|s| (s.name.as_str(), s.managed)).collect();
    told.sort_unstable();
    assert_eq!(told, [("b1", true), ("c1", false), ("foreign", false), ("x", false)]);
    assert!(seen.slots_gone.is_empty(), "b1 is there, and stays noted");
}

#[actix_rt::test]
async fn sync_orders_are_carried_out_in_their_order_and_before_their_fence() {
    let dir = TestDir::new();
    let it = primary(&dir).await;
    let (probe, mut heard) = Heard::new();
    let sync = SyncManager::new(it.server.clone(), probe.recipient()).start();
    // Left over by another agent in the file that is ours.
    let file = it.server.options().data_dir.join("postgresql.conf");
    let old = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{old}\nsynchronous_standby_names = 'x1'\n")).unwrap();
    assert!(it.server.reload());
    let names = async || it.sql("SHOW synchronous_standby_names").await.ok()?.pop();
    let left_over = async || names().await.filter(|names| names == "x1");
    eventually(PATIENCE, "left over by another agent", left_over).await;

    let any = |name: &str| SyncApply::Names(StandbyNames::any(1, [SyncName::from(name)].into()));
    let in_time = Some(pgherd_clock::boottime() + NEVER);
    let late = Some(Instant::from_millis(1));
    for (round, apply, fence) in [
        (1, SyncApply::UserNames, late),
        (2, SyncApply::UserNames, None),
        (3, any("b1"), in_time),
        (4, any("c1"), late),
        (5, SyncApply::ForceWal, in_time),
    ] {
        sync.send(AlignSync { round, apply, fence }).await.unwrap();
    }
    for round in 1..=5 {
        let Said::Sync(aligned) = heard.next().await else { panic!("not about synchronous replication") };
        let carried_out = !matches!(round, 1 | 4);
        assert_eq!((aligned.round, aligned.result.is_ok()), (round, carried_out), "{:?}", aligned.result);
    }
    assert_eq!(names().await.as_deref(), Some("ANY 1 (b1)"), "neither the user's nor what came late");
}

/// Looks one after the other until one shows a standby that streams; none is under way afterwards.
async fn walsender(monitor: &Addr<PostgresMonitor>, heard: &mut Heard) -> u32 {
    let begun = std::time::Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "no standby streams");
        monitor.send(LookNow).await.unwrap();
        let state = heard.state("the look that was asked for", |_| true).await;
        let streaming = state.running().and_then(|r| r.walsenders.iter().find(|sender| sender.state == "streaming"));
        if let Some(sender) = streaming {
            return sender.pid;
        }
    }
}

#[actix_rt::test]
async fn the_monitor_sees_the_loss_of_a_standby_at_once() {
    let dir = TestDir::new();
    let a = primary(&dir).await;
    let b = TestPostgres::open(options("b1", dir.path())).unwrap();
    clone_from(&b.server, &a.upstream(), false, &OperationControl::new(None)).await.unwrap();
    a.sql("SELECT pg_create_physical_replication_slot('b1')").await.unwrap();
    start_replica(&b.server, Some(&a.upstream()), &OperationControl::new(None)).unwrap();
    let (probe, mut heard) = Heard::new();
    let monitor = PostgresMonitor::new(a.server.clone(), probe.recipient(), NEVER).start();
    heard.state("the first look", |s| s.running().is_some()).await;
    let gone =
        |pid: u32| move |s: &PostgresState| s.running().is_some_and(|r| r.walsenders.iter().all(|w| w.pid != pid));

    // With its schedule at one hour only the end of the walsender can be the cause of the next look.
    let first = walsender(&monitor, &mut heard).await;
    let receiver = b.sql("SELECT pid FROM pg_stat_wal_receiver").await.unwrap();
    assert!(Command::new("kill").args(["-9", &receiver[0]]).status().unwrap().success());
    heard.state("its standby's receiver was killed", gone(first)).await;

    let second = walsender(&monitor, &mut heard).await;
    assert_ne!(first, second);
    assert_eq!(a.sql(&format!("SELECT pg_terminate_backend({second})")).await.unwrap(), ["t"]);
    heard.state("it was ended", gone(second)).await;
}
