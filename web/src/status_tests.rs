//! Statuses for all tests of the package, and the text of their documents.

use super::*;
use pgherd_types::node_status::ReasonText;
use pgherd_types::postgres::WalSender;
use pgherd_types::*;
use std::time::Duration;

/// The time of the tests.
pub const NOW: Instant = Instant::from_millis(1_000_000);

/// A leader for ten more seconds, at 0/1000064.
pub fn primary() -> NodeStatus {
    let sender = WalSender {
        usename: "repl".into(),
        application_name: "pg2".into(),
        client_addr: Some("10.0.0.2".into()),
        state: "streaming".into(),
        sync_state: "async".into(),
        sync_priority: 0,
        pid: 1,
        written: None,
        flushed: None,
        replayed: None,
        replied_ms_ago: None,
    };
    let server = RunningServer {
        in_recovery: false,
        flushed: Lsn(0x100_0064),
        received: Lsn(0),
        replayed: Lsn(0),
        streaming: false,
        walsenders: vec![sender],
        sync: Default::default(),
        ..standby_server()
    };
    NodeStatus {
        operation: None,
        scheduled_restart: None,
        failsafe_active: false,
        watchdog_failed: false,
        slot_notes: Vec::new(),
        safe_slots: Default::default(),
        name: "pg1".into(),
        role: Role::Primary,
        leader_until: Some(NOW + Duration::from_secs(10)),
        postgres: Some(look(server)),
        tags: Tags::default(),
        ..replica()
    }
}

/// A replica of it: 50 bytes behind in receiving, 100 in replaying; by its WAL receiver the leader is at -60.
pub fn replica() -> NodeStatus {
    NodeStatus {
        operation: None,
        scheduled_restart: None,
        failsafe_active: false,
        watchdog_failed: false,
        slot_notes: Vec::new(),
        safe_slots: Default::default(),
        name: "pg2".into(),
        scope: "demo".into(),
        tags: Tags { clonefrom: true, shown: shown_tags(), ..Tags::default() },
        role: Role::Replica,
        phase: ServerPhase::Running,
        leader_until: None,
        turned_at: NOW.minus(Duration::from_secs(1)),
        postgres: Some(look(standby_server())),
        cluster: Some((Arc::new(cluster()), NOW.minus(Duration::from_millis(250)))),
        dcs_last_seen: WallTime(1_700_000_000_999),
        dcs_lost_since: None,
        dcs_survey: DcsSurvey::default(),
        settings: Settings::default(),
        system_id: Some(SystemId(7_300_000_000_000_000_001)),
        timeline: Some(Timeline(2)),
        reason: ReasonText { id: "FollowLeader".into(), text: "no action. I am (pg2), a secondary".into() },
        counts: Counts::default(),
    }
}

/// Its server, to change it.
pub fn server_of(status: &mut NodeStatus) -> &mut RunningServer {
    match &mut Arc::make_mut(status.postgres.as_mut().unwrap()).server {
        Server::Running(server) => server,
        other => panic!("not running: {other:?}"),
    }
}

/// Both members, led by pg1.
pub fn cluster() -> Cluster {
    let member = |name: &str, host: &str, doc: MemberDoc| {
        let doc = MemberDoc {
            conn_url: Some(format!("postgres://{host}:5432/postgres")),
            api_url: Some(format!("http://{host}:8008/patroni")),
            state: "running".into(),
            timeline: Some(Timeline(2)),
            ..doc
        };
        (MemberName::from(name), Member { name: name.into(), lease: None, doc })
    };
    let standby = MemberDoc {
        role: Some(Role::Replica),
        tags: Tags { shown: shown_tags(), ..Tags::default() },
        receive_lsn: Some(Lsn(0x100_0032)),
        replay_lsn: Some(Lsn(0x100_0000)),
        replication_state: Some("streaming".into()),
        ..MemberDoc::default()
    };
    Cluster {
        initialize: Some(Initialize::Done(SystemId(7_300_000_000_000_000_001))),
        leader: Some(LeaderKey { name: "pg1".into(), lease: Some(LeaseId(7)) }),
        members: [
            member("pg2", "10.0.0.2", standby),
            member("pg1", "10.0.0.1", MemberDoc { role: Some(Role::Primary), ..MemberDoc::default() }),
        ]
        .into(),
        status: StatusKey { optime: Lsn(0x100_0064), ..StatusKey::default() },
        ..Cluster::default()
    }
}

fn shown_tags() -> Vec<(String, String)> {
    [("clonefrom", "true"), ("zone", "\"b\""), ("weight", "1.5")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

fn look(server: RunningServer) -> Arc<PostgresState> {
    Arc::new(PostgresState {
        progress: None,
        looked_at: NOW.minus(Duration::from_millis(500)),
        wall: WallTime::default(),
        data: DataDirectory::Empty,
        server: Server::Running(server),
    })
}

fn standby_server() -> RunningServer {
    RunningServer {
        in_recovery: true,
        timeline: Some(Timeline(2)),
        flushed: Lsn(0),
        received: Lsn(0x100_0032),
        replayed: Lsn(0x100_0000),
        replayed_timestamp: Some("2026-11-21 22:00:00.5+00".into()),
        replay_paused: false,
        streaming: true,
        latest_end: Some(Lsn(0x100_0028)),
        restore_command: false,
        upstream: None,
        forked_at: None,
        slots: vec![],
        slots_gone: Default::default(),
        walsenders: vec![],
        sync: Default::default(),
        postmaster_start_time: "2026-11-21 21:00:00.123456+00".into(),
        server_version: 150_018,
        pending_restart: false,
        pending_restart_reason: vec![],
        history: Default::default(),
    }
}

fn document(status: &NodeStatus, now: Instant) -> Value {
    serde_json::from_str(&text(&Arc::new(status.clone()), now)).unwrap()
}

#[test]
fn a_primarys_document() {
    assert_eq!(
        document(&primary(), NOW).to_string(),
        concat!(
            r#"{"state":"running","postmaster_start_time":"2026-11-21 21:00:00.123456+00:00","role":"primary","#,
            r#""server_version":150018,"xlog":{"location":16777316},"timeline":2,"#,
            r#""replication":[{"usename":"repl","application_name":"pg2","client_addr":"10.0.0.2","state":"streaming","#,
            r#""sync_state":"async","sync_priority":0}],"dcs_last_seen":1700000000,"#,
            r#""database_system_identifier":"7300000000000000001","patroni":{"version":"4.1.4","scope":"demo","name":"pg1"},"#,
            r#""pgherd":{"version":"0.1.0","reason":{"id":"FollowLeader","text":"no action. I am (pg2), a secondary"},"#,
            r#""looked_ms_ago":500,"leader_for_ms":10000}}"#,
        )
        .replace("0.1.0", PRODUCT_VERSION)
    );
}

#[test]
fn a_replicas_document() {
    let mut status = replica();
    server_of(&mut status).pending_restart = true;
    server_of(&mut status).pending_restart_reason =
        vec![("shared_buffers".to_owned(), "128MB".to_owned(), "64MB".to_owned())];
    let doc = document(&status, NOW);
    assert_eq!(
        doc["xlog"].to_string(),
        r#"{"received_location":16777266,"replayed_location":16777216,"replayed_timestamp":"2026-11-21 22:00:00.500000+00:00","paused":false}"#
    );
    assert_eq!(doc["role"], "replica");
    assert_eq!(doc["replication_state"], "streaming");
    assert_eq!(doc["tags"].to_string(), r#"{"clonefrom":true,"zone":"b","weight":1.5}"#);
    assert_eq!(doc["pending_restart"], true);
    assert_eq!(
        doc["pending_restart_reason"].to_string(),
        r#"{"shared_buffers":{"old_value":"128MB","new_value":"64MB"}}"#
    );
    assert!(doc.get("cluster_unlocked").is_none() && doc.get("pause").is_none() && doc.get("replication").is_none());
    server_of(&mut status).received = Lsn(0);
    assert_eq!(document(&status, NOW)["xlog"]["received_location"], 0x100_0000);
}

#[test]
fn a_synchronous_standby_says_so_behind_its_positions() {
    let mut status = replica();
    let with = |status: &mut NodeStatus, mode, listed: &str| {
        let key = SyncKey { leader: Some("pg1".into()), standbys: [listed.into()].into(), ..SyncKey::default() };
        status.cluster = Some((Arc::new(Cluster { sync: SyncSeen::Valid(key), ..cluster() }), NOW));
        status.settings.sync.mode = mode;
    };
    for (mode, listed, word) in [
        (SyncMode::On, "PG2", Some("sync_standby")),
        (SyncMode::Quorum, "pg2", Some("quorum_standby")),
        (SyncMode::On, "pg3", None),
        (SyncMode::Off, "pg2", None),
    ] {
        with(&mut status, mode, listed);
        let text = document(&status, NOW).to_string();
        let expected = word.map_or("\"paused\":false},\"timeline\":2".to_owned(), |word| {
            format!("\"paused\":false}},\"{word}\":true,\"timeline\":2")
        });
        assert!(text.contains(&expected), "{mode:?} {listed}: {text}");
    }
    let mut leader = primary();
    with(&mut leader, SyncMode::On, "pg1");
    assert_eq!(document(&leader, NOW).get("sync_standby"), None, "a primary is no standby");
    with(&mut status, SyncMode::On, "pg2");
    status.dcs_lost_since = Some(NOW);
    assert_eq!(document(&status, NOW).get("sync_standby"), None, "nobody knows");
}

#[test]
fn what_was_kept_of_a_status_is_of_no_other_one_and_of_no_other_time() {
    let (led, followed) = (Arc::new(primary()), Arc::new(replica()));
    let later = NOW + Duration::from_secs(3600);
    let asked = [
        (&led, NOW),
        (&led, NOW + Duration::from_secs(1)),
        (&followed, NOW),
        (&led, later),
        (&led, NOW),
        (&followed, later),
    ];
    for (status, now) in asked {
        assert_eq!(text(status, now), text(&Arc::new(NodeStatus::clone(status)), now));
    }
    let lead = |now| document(&led, now)["pgherd"]["leader_for_ms"].clone();
    assert_eq!((lead(NOW), lead(NOW + Duration::from_secs(1))), (json!(10_000), json!(9_000)));
    assert_eq!(lead(NOW + Duration::from_secs(10)), Value::Null, "the claim lapses by itself");
}

#[test]
fn what_was_not_seen_lately_is_not_claimed() {
    let doc = document(&primary(), NOW + Duration::from_secs(3600));
    assert_eq!(doc["state"], "unknown");
    assert_eq!(doc["role"], "primary");
    for key in ["xlog", "timeline", "server_version", "postmaster_start_time"] {
        assert!(doc.get(key).is_none(), "{key}");
    }
    assert!(doc["pgherd"].get("leader_for_ms").is_none());
    let stopped = NodeStatus { phase: ServerPhase::Stopped, role: Role::Demoted, postgres: None, ..replica() };
    let doc = document(&stopped, NOW);
    assert_eq!((&doc["state"], &doc["role"]), (&json!("stopped"), &json!("demoted")));
}

#[test]
fn an_unlocked_or_unseen_cluster_is_told() {
    let mut unlocked = replica();
    unlocked.settings.pause = true;
    let leaderless = Cluster { leader: None, ..cluster() };
    unlocked.cluster = Some((Arc::new(leaderless), NOW));
    let doc = document(&unlocked, NOW);
    assert_eq!((&doc["cluster_unlocked"], &doc["pause"]), (&json!(true), &json!(true)));
    let lost = NodeStatus { dcs_lost_since: Some(NOW.minus(Duration::from_secs(2))), ..replica() };
    let doc = document(&lost, NOW);
    assert_eq!((&doc["cluster_unlocked"], &doc["pgherd"]["dcs_lost_ms"]), (&json!(true), &json!(2000)));
    assert_eq!(document(&NodeStatus::default(), NOW)["dcs_last_seen"], 0);
}

#[test]
fn what_was_asked_for_and_what_is_wrong_is_told() {
    let quiet = document(&replica(), NOW);
    for key in ["scheduled_restart", "failsafe_mode_is_active", "watchdog_failed"] {
        assert!(quiet.get(key).is_none(), "{key}");
    }
    let restart = ScheduledRestart {
        at: WallTime(1_893_456_000_000),
        text: "2030-01-01T00:00:00+00:00".into(),
        wish: RestartWish::default(),
        shown: vec![("restart_pending".into(), "true".into()), ("timeout".into(), "\"5min\"".into())],
        postmaster_start_time: "2026-11-21 21:00:00+00".into(),
    };
    let status =
        NodeStatus { scheduled_restart: Some(restart), failsafe_active: true, watchdog_failed: true, ..replica() };
    let doc = document(&status, NOW);
    let expected = r#"{"schedule":"2030-01-01T00:00:00+00:00","restart_pending":true,"timeout":"5min"}"#;
    assert_eq!(doc["scheduled_restart"].to_string(), expected);
    assert_eq!((&doc["failsafe_mode_is_active"], &doc["watchdog_failed"]), (&json!(true), &json!(true)));
}
