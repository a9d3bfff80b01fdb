//! What must hold for every view that any facts, in any order, can lead to: deciding never panics, is repeatable, asks
//! for nothing twice, wakes up again in time, and breaks no invariant.

use pgherd_kernel::{Action, Decision, Me, Observation, View, decide, invariants};
use pgherd_kernel::{explain, wishes};
use pgherd_types::postgres::{ControlState, SeenSlot};
use pgherd_types::{
    Cluster, ConfigKey, ControlData, DataDirectory, DcsWrite, FailoverKey, FenceOrder, HistoryRow, Initialize, Instant,
    LeaderKey, LeaseGrant, LeaseId, Lsn, Member, MemberDoc, MemberName, Now, OperationEnd, OperationId, PeerAnswer,
    PeerReport, PeerSaid, PostgresState, Refused, RequestId, RestartFilter, RestartWish, RewindPolicy, Role,
    RunningServer, Schedule, ScheduledRestart, Server, Settings, SlotReport, StandbyCluster, StatusKey, SyncKey,
    SyncMode, SyncName, SyncSeen, SyncSettings, SystemId, Tags, Timeline, WallTime, Wish,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const NAMES: [&str; 3] = ["n1", "n2", "n3"];
const BEGIN_MS: u64 = 1_000_000;

/// A fact that still lacks its times, which count back from when it arrives.
#[derive(Clone, Debug)]
enum Raw {
    Cluster(Cluster, u64),
    DcsLost(u64),
    Renewed(i64, u64, bool),
    LeaseRefused(Refused),
    Acquired(i64, u64),
    AcquireRefused(Refused),
    Released,
    ReleaseRefused(Refused),
    AnswerWrites(Option<Refused>),
    Postgres(DataDirectory, Server, u64),
    Peers(Vec<PeerReport>),
    Finished(OperationEnd),
    Slots(bool),
    Wished(Wish),
    Settings { pause: bool, failsafe: bool, rewind: bool, replace: bool },
    Agreement(bool),
    Promised(MemberName),
    Watchdog(bool),
    Shutdown,
}

fn name() -> impl Strategy<Value = MemberName> {
    prop::sample::select(&NAMES[..]).prop_map(MemberName::from)
}
fn lease() -> impl Strategy<Value = i64> {
    1..4i64
}
fn timeline() -> impl Strategy<Value = Timeline> {
    (1..5u32).prop_map(Timeline)
}
fn lsn() -> impl Strategy<Value = Lsn> {
    prop_oneof![Just(0), 100..105u64, Just(5_000_000)].prop_map(Lsn)
}
fn refused() -> impl Strategy<Value = Refused> {
    prop_oneof![
        Just(Refused::Compare),
        Just(Refused::LeaseGone),
        Just(Refused::Denied("no".into())),
        Just(Refused::Unreachable("silence".into()))
    ]
}
fn tags() -> impl Strategy<Value = Tags> {
    (any::<bool>(), option::of(-1..3i32), any::<bool>(), option::of(name())).prop_map(
        |(nofailover, priority, clonefrom, from)| {
            let replicatefrom = from.map(|n| n.0);
            Tags { nofailover, failover_priority: priority, clonefrom, replicatefrom, ..Tags::default() }
        },
    )
}
fn rows() -> impl Strategy<Value = Vec<HistoryRow>> {
    vec((timeline(), lsn()), 0..4).prop_map(|mut rows| {
        rows.sort();
        rows.dedup_by_key(|row| row.0);
        let row = |(timeline, switch_lsn)| HistoryRow {
            timeline,
            switch_lsn,
            reason: "r".into(),
            at: None,
            new_leader: None,
        };
        rows.into_iter().map(row).collect()
    })
}
fn member_doc() -> impl Strategy<Value = MemberDoc> {
    let role = prop_oneof![Just(Role::Primary), Just(Role::Replica), Just(Role::Demoted), Just(Role::Uninitialized)];
    (name(), any::<bool>(), option::of(role), tags(), option::of(lsn()), option::of(timeline()), any::<bool>())
        .prop_map(|(name, known, role, tags, xlog_location, timeline, running)| MemberDoc {
            conn_url: known.then(|| format!("postgres://{name}:5432/x")),
            api_url: known.then(|| format!("http://{name}:8008/patroni")),
            state: if running { "running" } else { "stopped" }.into(),
            role,
            tags,
            xlog_location,
            timeline,
            ..MemberDoc::default()
        })
}
fn initialize() -> impl Strategy<Value = Option<Initialize>> {
    prop_oneof![
        1 => Just(None),
        4 => Just(Some(Initialize::Done(SystemId(7)))),
        1 => Just(Some(Initialize::Done(SystemId(8)))),
        1 => Just(Some(Initialize::Garbage)),
        1 => option::of(lease()).prop_map(|l| Some(Initialize::InProgress { lease: l.map(LeaseId) })),
    ]
}
fn failover() -> impl Strategy<Value = FailoverKey> {
    let schedule = prop_oneof![
        2 => Just(None),
        1 => (0..40_i64).prop_map(|s| Some(Schedule::At { at: WallTime(s * 1000), text: "then".into() })),
        1 => Just(Some(Schedule::Garbage("soon".into()))),
    ];
    (option::of(name()), option::of(name()), schedule).prop_map(|(leader, candidate, schedule)| FailoverKey {
        mod_revision: 1,
        leader,
        candidate,
        schedule,
    })
}
fn sync_key() -> impl Strategy<Value = SyncSeen> {
    let valid =
        (option::of(name()), 0..3u32, vec(name(), 0..3), 1..4i64).prop_map(|(leader, quorum, names, revision)| {
            let standbys = names.into_iter().map(SyncName::from).collect();
            SyncSeen::Valid(SyncKey { mod_revision: revision, leader, quorum, standbys })
        });
    prop_oneof![3 => Just(SyncSeen::Absent), 1 => Just(SyncSeen::Garbage { mod_revision: 2 }), 4 => valid]
}
fn cluster() -> impl Strategy<Value = Cluster> {
    let leader = option::of((name(), option::of(lease())));
    let members = btree_map(name(), (option::of(lease()), member_doc()), 0..4);
    let config = option::of(any::<bool>());
    let failover = option::of(failover());
    let known = (option::of(rows()), option::of(timeline()));
    (initialize(), leader, members, lsn(), known, config, failover, sync_key()).prop_map(
        |(initialize, leader, members, optime, (history, timeline_reserved), config, failover, sync)| Cluster {
            status_is_leaders: true,
            revision: 1,
            initialize,
            leader: leader.map(|(name, lease)| LeaderKey { name, lease: lease.map(LeaseId) }),
            members: members
                .into_iter()
                .map(|(name, (lease, doc))| (name.clone(), Member { name, lease: lease.map(LeaseId), doc }))
                .collect(),
            status: StatusKey { optime, ..StatusKey::default() },
            history,
            timeline_reserved,
            config: config.map(|valid| ConfigKey { mod_revision: 1, text: "{}".into(), valid }),
            failover,
            sync,
            failsafe: None,
        },
    )
}
fn data() -> impl Strategy<Value = DataDirectory> {
    let state = prop_oneof![
        Just(ControlState::ShutDown),
        Just(ControlState::InProduction),
        Just(ControlState::InArchiveRecovery)
    ];
    let control = (state, lsn(), timeline(), lsn(), timeline(), any::<bool>(), option::of(lsn())).prop_map(
        |(
            state,
            checkpoint_lsn,
            checkpoint_timeline,
            min_recovery_lsn,
            min_recovery_timeline,
            standby_signal,
            wal_end,
        )| {
            DataDirectory::Present(ControlData {
                system_id: SystemId(7),
                state,
                checkpoint_lsn,
                checkpoint_timeline,
                min_recovery_lsn,
                min_recovery_timeline,
                standby_signal,
                wal_end,
                major_version: 15,
                rewindable: true,
                rewind_interrupted: false,
            })
        },
    );
    prop_oneof![1 => Just(DataDirectory::Empty), 1 => Just(DataDirectory::Unusable("why".into())), 8 => control]
}
fn running() -> impl Strategy<Value = RunningServer> {
    let slots = vec(name(), 0..3);
    (any::<bool>(), rows(), option::of(timeline()), lsn(), lsn(), any::<bool>(), option::of(name()), slots).prop_map(
        |(in_recovery, history, timeline, end, replayed, streaming, upstream, slots)| RunningServer {
            in_recovery,
            history: if in_recovery { Vec::new() } else { history },
            timeline,
            flushed: if in_recovery { Lsn(0) } else { end },
            received: if in_recovery { end } else { Lsn(0) },
            replayed,
            replayed_timestamp: None,
            replay_paused: false,
            streaming,
            latest_end: None,
            restore_command: false,
            slots_gone: upstream.iter().map(|name: &MemberName| name.slot_name()).collect(),
            upstream: upstream.map(|name| (name.0, 5432)),
            forked_at: None,
            slots: slots
                .into_iter()
                .map(|name| SeenSlot {
                    name: name.slot_name(),
                    physical: true,
                    restart_lsn: Some(end),
                    ..SeenSlot::default()
                })
                .collect(),
            walsenders: Vec::new(),
            sync: Default::default(),
            postmaster_start_time: String::new(),
            server_version: 150_018,
            pending_restart: false,
            pending_restart_reason: Vec::new(),
        },
    )
}
fn server() -> impl Strategy<Value = Server> {
    prop_oneof![
        2 => Just(Server::Stopped),
        1 => Just(Server::Orphaned),
        1 => Just(Server::Starting),
        1 => Just(Server::Stopping),
        1 => Just(Server::Archiving),
        1 => Just(Server::Unresponsive("why".into())),
        6 => running().prop_map(Server::Running),
    ]
}
fn report() -> impl Strategy<Value = PeerReport> {
    let said = (any::<bool>(), lsn(), option::of(timeline()), 0..3i32, 0..3000u64).prop_map(
        |(is_primary, position, timeline, priority, ago)| {
            let looked_at = Instant::from_millis(BEGIN_MS + ago);
            PeerAnswer::Said(PeerSaid {
                is_primary,
                position,
                timeline,
                priority,
                safe_slots: None,
                watchdog_failed: false,
                looked_at,
            })
        },
    );
    let answer = prop_oneof![1 => Just(PeerAnswer::Silent("x".into())), 3 => said];
    (name(), answer).prop_map(|(name, answer)| PeerReport { name, answer })
}
fn wish() -> impl Strategy<Value = Wish> {
    let filter = (option::of(prop_oneof![Just(Role::Primary), Just(Role::Replica)]), any::<bool>())
        .prop_map(|(role, pending_only)| RestartFilter { role, below_version: None, pending_only });
    let restart = filter.prop_map(|filter| RestartWish { filter, timeout: None });
    prop_oneof![
        3 => restart.clone().prop_map(Wish::Restart),
        1 => (restart, 0..40_i64).prop_map(|(wish, s)| Wish::ScheduleRestart(ScheduledRestart {
            at: WallTime(s * 1000),
            text: "then".into(),
            wish,
            shown: Vec::new(),
            postmaster_start_time: String::new(),
        })),
        1 => Just(Wish::CancelRestart),
        2 => (any::<bool>(), any::<bool>())
            .prop_map(|(force, from_leader)| Wish::Reinitialize { force, from_leader }),
    ]
}
fn fact() -> impl Strategy<Value = Raw> {
    let end = prop_oneof![
        3 => Just(OperationEnd::Done),
        1 => Just(OperationEnd::Failed("why".into())),
        1 => Just(OperationEnd::Cancelled),
        1 => Just(OperationEnd::TooLate)
    ];
    let ago = || 0..400u64;
    prop_oneof![
        48 => (cluster(), ago()).prop_map(|(c, ago)| Raw::Cluster(c, ago)),
        8 => ago().prop_map(Raw::DcsLost),
        32 => (lease(), ago(), any::<bool>()).prop_map(|(l, ago, proven)| Raw::Renewed(l, ago, proven)),
        8 => refused().prop_map(Raw::LeaseRefused),
        24 => (lease(), ago()).prop_map(|(l, ago)| Raw::Acquired(l, ago)),
        8 => refused().prop_map(Raw::AcquireRefused),
        8 => Just(Raw::Released),
        8 => refused().prop_map(Raw::ReleaseRefused),
        24 => option::of(refused()).prop_map(Raw::AnswerWrites),
        48 => (data(), server(), ago()).prop_map(|(d, s, ago)| Raw::Postgres(d, s, ago)),
        24 => vec(report(), 0..3).prop_map(Raw::Peers),
        32 => end.prop_map(Raw::Finished),
        8 => any::<bool>().prop_map(Raw::Slots),
        4 => wish().prop_map(Raw::Wished),
        6 => (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(pause, failsafe, rewind, replace)| Raw::Settings { pause, failsafe, rewind, replace }),
        8 => any::<bool>().prop_map(Raw::Agreement),
        2 => name().prop_map(Raw::Promised),
        1 => any::<bool>().prop_map(Raw::Watchdog),
        1 => Just(Raw::Shutdown),
    ]
}

/// The observations that a raw fact stands for, given what was asked for.
fn observations(raw: Raw, view: &View, now: Now) -> Vec<Observation> {
    let before = |ago: u64| now.mono.minus(Duration::from_millis(ago));
    let grant = |lease: i64, ago: u64| LeaseGrant {
        lease: LeaseId(lease),
        sent_at: before(ago),
        ttl_ms: 30_000,
        asked_ttl_ms: None,
    };
    vec![match raw {
        Raw::Cluster(cluster, ago) => Observation::Cluster { cluster: Arc::new(cluster), read_at: before(ago) },
        Raw::DcsLost(ago) => Observation::DcsLost { since: before(ago) },
        Raw::Renewed(lease, ago, leader_proven) => {
            Observation::LeaseRenewed { grant: grant(lease, ago), leader_proven }
        }
        Raw::LeaseRefused(why) => Observation::LeaseRefused { why },
        Raw::Acquired(lease, ago) => Observation::LeaderAcquired(grant(lease, ago)),
        Raw::AcquireRefused(why) => Observation::AcquireRefused(why),
        Raw::Released => Observation::LeaderReleased,
        Raw::ReleaseRefused(why) => Observation::ReleaseRefused(why),
        Raw::AnswerWrites(answer) => {
            let asked = view.asked.writes.values().map(|ask| ask.what.clone());
            let answered = |write: DcsWrite| match &answer {
                None => Observation::Written(write),
                Some(why) => Observation::WriteRefused(write, why.clone()),
            };
            return asked.map(answered).collect();
        }
        Raw::Postgres(data, server, ago) => {
            let state = PostgresState { looked_at: before(ago), wall: now.wall, data, server, progress: None };
            Observation::Postgres(Arc::new(state))
        }
        Raw::Peers(reports) => {
            let Some(round) = view.asked.probe.as_ref().map(|ask| ask.what) else { return Vec::new() };
            Observation::Peers { round, reports }
        }
        Raw::Finished(end) => {
            let id = view.operation.as_ref().map_or(OperationId(0), |running| running.id);
            Observation::OperationFinished { id, end }
        }
        Raw::Slots(ok) if view.asked.sync.as_ref().is_some_and(|(round, _)| *round == view.last_round) => {
            Observation::SyncAligned { round: view.last_round, ok }
        }
        Raw::Slots(ok) => Observation::SlotsAligned { round: view.last_round, report: ok.then(SlotReport::default) },
        Raw::Wished(wish) => {
            if wishes::judge(view, &wish, now.mono).is_err() {
                return Vec::new();
            }
            Observation::Wished { id: RequestId(now.mono.as_millis()), wish }
        }
        Raw::Settings { pause, failsafe, rewind, replace } => Observation::Settings(Settings {
            pause: pause && failsafe, // not too often: in maintenance mode little is decided
            failsafe_mode: failsafe,
            // every combination of the other two draws
            sync: SyncSettings {
                mode: match (failsafe, replace) {
                    (true, _) => SyncMode::Off,
                    (false, true) => SyncMode::On,
                    (false, false) => SyncMode::Quorum,
                },
                strict: rewind,
                ..SyncSettings::default()
            },
            standby_cluster: (rewind && replace && failsafe)
                .then(|| StandbyCluster { host: Some("far".into()), port: 5432 }),
            rewind: RewindPolicy { use_pg_rewind: rewind, replace_on_failure: replace, replace_on_divergence: replace },
            ..view.settings.clone()
        }),
        Raw::Agreement(agreed) => {
            let Some(ask) = &view.asked.failsafe else { return Vec::new() };
            let refused = if agreed { Vec::new() } else { vec![(NAMES[1].into(), "no".to_owned())] };
            Observation::FailsafeAsked { round: ask.what, asked_at: ask.at, refused }
        }
        Raw::Promised(to) => {
            Observation::FailsafePromised { to, slots: BTreeMap::from([("cdc".to_owned(), Lsn(1000))]) }
        }
        Raw::Watchdog(failed) => Observation::WatchdogFailed(failed),
        Raw::Shutdown => Observation::ShutdownRequested,
    }]
}

fn me(tags: Tags) -> Me {
    Me {
        name: NAMES[0].into(),
        conn_url: "postgres://n1:5432/x".into(),
        api_url: "http://n1:8008/patroni".into(),
        tags,
        can_bootstrap: true,
        ..Me::default()
    }
}

fn at(ms: u64) -> Now {
    Now { mono: Instant::from_millis(ms), wall: WallTime(ms as i64) }
}

fn asks_for_something(decision: &Decision) -> bool {
    !matches!(decision.role, Action::Hold | Action::Exit) || !decision.upkeep.is_empty()
}

/// One turn, with everything that must hold of it.
fn turn(view: &mut View, now: Now) -> Decision {
    let decision = decide(view, now);
    assert_eq!(decision, decide(&view.clone(), now), "the same view gives the same decision");
    assert!(decision.decide_again_at > now.mono, "the wake-up lies ahead: {decision:?}");
    assert!(decision.decide_again_at <= now.mono + view.settings.loop_wait, "and not too far: {decision:?}");
    if let Err(breach) = invariants::check(view, &decision, now) {
        panic!("{}: {} in {view:#?}", breach.id, breach.what);
    }
    explained_well(view, now);
    view.dispatched(&decision, now);
    if view.may_be_writable() && (!view.settings.pause || view.becomes_writable()) {
        assert_ne!(view.fence_order(now.mono), FenceOrder::Disarmed, "what may become writable is fenced");
    }
    decision
}

/// Whatever is known, the kernel can be asked what would be; only who would take the key could lead, and only one leads.
fn explained_well(view: &View, now: Now) {
    let candidates = explain::candidates(view, now);
    assert!(candidates.iter().filter(|candidate| candidate.leads).count() <= 1, "{candidates:?}");
    for candidate in candidates.iter().filter(|candidate| !candidate.leads) {
        assert_eq!(candidate.could_lead, candidate.because.id() == "Acquiring", "{candidate:?}");
    }
    assert!(explain::successors(view, now).iter().all(|candidate| !candidate.leads));
    let alone = explain::without_leader(view, now);
    assert!(alone.is_none_or(|decision| decision.decide_again_at > now.mono));
}

/// So many different reasons must turn up, or the facts are too dull to prove anything.
const REASONS_MIN: usize = 40;

#[test]
fn every_view_is_decided_well() {
    let config = ProptestConfig {
        cases: 2000,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let facts = vec((0..5000u64, fact()), 1..40);
    let reasons = RefCell::new(BTreeMap::<String, u32>::new());
    let outcome = TestRunner::new(config).run(&(tags(), any::<bool>(), option::of(0..40_000u64), facts), |input| {
        decided_well(input, &mut reasons.borrow_mut())
    });
    outcome.unwrap_or_else(|why| panic!("{why}"));
    let reasons = reasons.into_inner();
    assert!(reasons.len() >= REASONS_MIN, "only {} reasons turned up: {reasons:#?}", reasons.len());
}

type Input = (Tags, bool, Option<u64>, Vec<(u64, Raw)>);

fn decided_well(
    (tags, early, recorded, facts): Input,
    reasons: &mut BTreeMap<String, u32>,
) -> Result<(), TestCaseError> {
    let settings = Settings { dcs_outage_demote_early: early, ..Settings::default() };
    let recorded = recorded.map(|ago| LeaseGrant {
        lease: LeaseId(1),
        sent_at: Instant::from_millis(BEGIN_MS - ago),
        ttl_ms: 30_000,
        asked_ttl_ms: None,
    });
    let mut clock = BEGIN_MS;
    let mut view = View::new(me(tags), settings, recorded, at(clock).mono);
    for (later, raw) in facts {
        clock += later;
        let now = at(clock);
        // now and then a cluster's time to live is changed
        view.settings.ttl = std::time::Duration::from_secs(if clock.is_multiple_of(7) { 20 } else { 30 });
        for fact in observations(raw, &view, now) {
            view.apply(fact, now);
        }
        let mut last = turn(&mut view, now);
        *reasons.entry(last.because.id()).or_default() += 1;
        let mut turns = 0;
        while asks_for_something(&last) {
            let next = turn(&mut view, now);
            prop_assert!(!asks_again(&last, &next), "asked twice: {last:?} and {next:?}");
            last = next;
            turns += 1;
            prop_assert!(turns < 10, "no rest: {last:?}");
        }
    }
    Ok(())
}

/// Does the second decision, on the same facts, ask for something that the first has asked for?
fn asks_again(first: &Decision, second: &Decision) -> bool {
    let role = !matches!(first.role, Action::Hold | Action::Exit) && first.role == second.role;
    let renew = first.upkeep.renew.is_some() && second.upkeep.renew.is_some();
    let write = first.upkeep.writes.iter().any(|write| second.upkeep.writes.contains(write));
    let others = (first.upkeep.look && second.upkeep.look)
        || (first.upkeep.repair_config && second.upkeep.repair_config)
        || (first.upkeep.slots.is_some() && second.upkeep.slots.is_some());
    role || renew || write || others
}

/// Found by the simulator: a node that had once given the leader key up, other than in a shutdown, never renewed again.
#[test]
fn a_node_that_released_the_key_renews_again() {
    let mut view = View::new(me(Tags::default()), Settings::default(), None, at(BEGIN_MS).mono);
    let grant = |ms: u64| LeaseGrant {
        lease: LeaseId(1),
        sent_at: Instant::from_millis(ms),
        ttl_ms: 30_000,
        asked_ttl_ms: None,
    };
    view.apply(Observation::LeaderAcquired(grant(BEGIN_MS)), at(BEGIN_MS));
    view.apply(Observation::LeaderReleased, at(BEGIN_MS + 100));
    let later = at(BEGIN_MS + 20_000);
    assert_eq!(decide(&view, later).upkeep.renew, Some(false));
    view.apply(Observation::LeaderAcquired(grant(BEGIN_MS + 19_000)), later);
    assert!(!view.released, "this key has not been given up");
}

/// Found by the simulator: a new primary showed its timeline while `history` still was its predecessor's, and a standby
/// whose data were fine found them diverged.
#[test]
fn a_primary_shows_its_timeline_once_history_tells_of_it() {
    let row = |switch: u64| HistoryRow {
        timeline: Timeline(1),
        switch_lsn: Lsn(switch),
        reason: "r".into(),
        at: None,
        new_leader: None,
    };
    let mut view = View::new(me(Tags::default()), Settings::default(), None, at(BEGIN_MS).mono);
    let lease = LeaseGrant { lease: LeaseId(1), sent_at: at(BEGIN_MS).mono, ttl_ms: 30_000, asked_ttl_ms: None };
    view.apply(Observation::LeaderAcquired(lease), at(BEGIN_MS));
    view.apply(Observation::Postgres(Arc::new(primary_on_timeline_3(row(300)))), at(BEGIN_MS));
    let mut shown = |history: HistoryRow, ms: u64| {
        let cluster = Cluster {
            leader: Some(LeaderKey { name: NAMES[0].into(), lease: Some(LeaseId(1)) }),
            history: Some(vec![history]),
            ..Cluster::default()
        };
        view.apply(Observation::Cluster { cluster: Arc::new(cluster), read_at: at(ms).mono }, at(ms));
        let writes = decide(&view, at(ms)).upkeep.writes;
        let member =
            writes.into_iter().find_map(|write| if let DcsWrite::Member(doc) = write { Some(doc) } else { None });
        member.expect("the member key is due").timeline
    };
    assert_eq!(shown(row(200), BEGIN_MS + 10), None, "these rows are the history of timeline 2");
    assert_eq!(shown(row(300), BEGIN_MS + 20), Some(Timeline(3)));
}

fn primary_on_timeline_3(row: HistoryRow) -> PostgresState {
    let control = ControlData {
        system_id: SystemId(7),
        state: ControlState::InProduction,
        checkpoint_lsn: Lsn(310),
        checkpoint_timeline: Timeline(3),
        min_recovery_lsn: Lsn(0),
        min_recovery_timeline: Timeline(0),
        standby_signal: false,
        wal_end: None,
        major_version: 15,
        rewindable: true,
        rewind_interrupted: false,
    };
    let server = RunningServer {
        in_recovery: false,
        history: vec![row],
        timeline: Some(Timeline(3)),
        flushed: Lsn(310),
        received: Lsn(0),
        replayed: Lsn(0),
        replayed_timestamp: None,
        replay_paused: false,
        streaming: false,
        latest_end: None,
        restore_command: false,
        upstream: None,
        forked_at: None,
        slots: Vec::new(),
        slots_gone: Default::default(),
        walsenders: Vec::new(),
        sync: Default::default(),
        postmaster_start_time: String::new(),
        server_version: 150_018,
        pending_restart: false,
        pending_restart_reason: Vec::new(),
    };
    let now = at(BEGIN_MS);
    PostgresState {
        looked_at: now.mono,
        wall: now.wall,
        data: DataDirectory::Present(control),
        server: Server::Running(server),
        progress: None,
    }
}
