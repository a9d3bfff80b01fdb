//! From status to status.

use super::*;
use pgherd_types::node_status::ReasonText;
use pgherd_types::postgres::SeenSlot;
use pgherd_types::*;
use serde_json::json;

fn at(ms: u64, change: impl FnOnce(&mut NodeStatus, &mut Cluster)) -> NodeStatus {
    let member = |name: &str| (MemberName::from(name), Member { name: name.into(), lease: None, doc: running() });
    let mut cluster = Cluster {
        leader: Some(LeaderKey { name: "a".into(), lease: Some(LeaseId(1)) }),
        members: ["a", "b"].map(member).into(),
        config: Some(ConfigKey { mod_revision: 4, text: "{}".into(), valid: true }),
        ..Cluster::default()
    };
    let turned_at = Instant::from_millis(ms);
    let mut status = NodeStatus { name: "b".into(), role: Role::Replica, turned_at, ..NodeStatus::default() };
    change(&mut status, &mut cluster);
    status.cluster = Some((Arc::new(cluster), turned_at));
    status
}

fn running() -> MemberDoc {
    MemberDoc { state: "running".into(), ..MemberDoc::default() }
}

fn usual(ms: u64) -> NodeStatus {
    at(ms, |_, _| {})
}

/// Everything that happens from one status to the next.
fn story(statuses: impl IntoIterator<Item = NodeStatus>) -> Vec<(&'static str, Value)> {
    let mut changes = Changes::default();
    let happened = statuses.into_iter().flat_map(|status| changes.seen(&Arc::new(status)));
    happened.map(|happening| (happening.kind, happening.data)).collect()
}

fn kinds(happened: &[(&'static str, Value)]) -> Vec<&'static str> {
    happened.iter().map(|(kind, _)| *kind).collect()
}

#[test]
fn nothing_happens_while_nothing_changes() {
    assert_eq!(story([usual(0), usual(10), usual(20)]), []);
}

#[test]
fn a_failover_is_one_chain_with_its_times() {
    let because = |id: &str| ReasonText { id: id.into(), text: format!("{id} in words") };
    let leaderless = |ms, id: &'static str| {
        at(ms, move |status, cluster| {
            (cluster.leader, status.reason) = (None, because(id));
            cluster.members.remove(&"a".into());
        })
    };
    let leading = |ms, role| {
        at(ms, move |status, cluster| {
            cluster.leader = Some(LeaderKey { name: "b".into(), lease: Some(LeaseId(2)) });
            cluster.members.remove(&"a".into());
            (status.role, status.leader_until) = (role, Some(Instant::from_millis(99_999)));
            (status.reason, status.timeline) = (because("PromotedByLock"), Some(Timeline(2)));
        })
    };
    let happened = story([
        usual(0),
        leaderless(1000, "AskingPeers"),
        leaderless(1050, "Acquiring"),
        leaderless(1060, "AskingPeers"),
        leaderless(1070, "Acquiring"),
        leading(1100, Role::Replica),
        leading(1400, Role::Primary),
    ]);
    let expected = ["leader.lost", "member.lost", "race.step", "race.step", "leader.elected", "role.changed"];
    assert_eq!(kinds(&happened), expected);
    assert_eq!(happened[0].1, json!({"leader": "a", "asked_for": false}));
    assert_eq!(happened[2].1["reason"]["id"], "AskingPeers");
    assert_eq!(happened[4].1, json!({"leader": "b", "former": "a", "leaderless_ms": 100}));
    assert_eq!(happened[5].1["phases"], json!({"leader_lost_to_key_ms": 100, "key_to_primary_ms": 300}));
    assert_eq!((&happened[5].1["timeline"], &happened[5].1["to"]), (&json!(2), &json!("primary")));
}

#[test]
fn the_dcs_members_and_keys() {
    let lost = at(3000, |status, _| status.dcs_lost_since = Some(Instant::from_millis(1000)));
    let happened = story([usual(0), lost, usual(4000)]);
    assert_eq!(happened, [("dcs.lost", json!({"silent_ms": 2000})), ("dcs.back", json!({"lost_ms": 3000}))]);

    let restored = |revision| at(10, move |_, cluster| cluster.revision = revision);
    let happened = story([restored(7), restored(9), restored(3), restored(4)]);
    assert_eq!(happened, [("dcs.went_back", json!({"from": 9, "to": 3}))]);

    let streaming = at(10, |_, cluster| {
        cluster.members.get_mut(&"b".into()).unwrap().doc.replication_state = Some("streaming".into());
        cluster.members.insert("c".into(), Member { name: "c".into(), lease: None, doc: running() });
    });
    let happened = story([usual(0), streaming]);
    assert_eq!(happened[0], ("member.state", json!({"member": "b", "from": "running", "to": "streaming"})));
    assert_eq!(happened[1].0, "member.joined");

    let configured = |text: &str| {
        let config = Some(ConfigKey { mod_revision: 9, text: text.into(), valid: true });
        at(10, move |_, cluster| cluster.config = config)
    };
    let happened = story([
        configured(r#"{"ttl":30,"postgresql":{"parameters":{"work_mem":"4MB"},"x":1}}"#),
        configured(r#"{"ttl":20,"postgresql":{"parameters":{"work_mem":"secret"},"x":1},"pause":true}"#),
    ]);
    let keys = json!(["pause", "postgresql.parameters.work_mem", "ttl"]);
    assert_eq!(happened, [("config.changed", json!({"revision": 9, "usable": true, "keys": keys}))]);

    let key = |standbys: &[&str]| {
        let standbys = standbys.iter().map(|name| SyncName::from(*name)).collect();
        let key = SyncKey { mod_revision: 1, leader: Some("a".into()), quorum: 0, standbys };
        at(10, move |_, cluster| cluster.sync = SyncSeen::Valid(key))
    };
    let happened = story([key(&[]), key(&["b"])]);
    assert_eq!((happened[0].0, &happened[0].1["to"]["standbys"]), ("sync.changed", &json!(["b"])));

    let asked = at(10, |_, cluster| {
        cluster.failover = Some(FailoverKey {
            mod_revision: 1,
            leader: Some("a".into()),
            candidate: Some("b".into()),
            schedule: None,
        });
    });
    let happened = story([usual(0), asked, usual(20)]);
    let request = json!({"from": "a", "to": "b", "at": null});
    assert_eq!(happened, [("switchover.requested", request.clone()), ("switchover.over", request)]);
}

fn with_server(ms: u64, change: impl FnOnce(&mut RunningServer)) -> NodeStatus {
    let mut server = RunningServer { postmaster_start_time: "one".into(), ..RunningServer::default() };
    change(&mut server);
    at(ms, move |status, _| {
        status.postgres = Some(Arc::new(PostgresState {
            looked_at: Instant::from_millis(ms),
            wall: WallTime(0),
            data: DataDirectory::Empty,
            server: Server::Running(server),
            progress: None,
        }));
    })
}

#[test]
fn the_server_and_its_slots() {
    let slot = SeenSlot { name: "b".into(), physical: true, active: true, ..SeenSlot::default() };
    let happened = story([
        with_server(0, |_| {}),
        with_server(10, |server| server.slots.push(slot.clone())),
        with_server(20, |server| {
            server.postmaster_start_time = "two".into();
            server.pending_restart = true;
            server.pending_restart_reason = vec![("max_connections".into(), "1".into(), "2".into())];
        }),
    ]);
    assert_eq!(
        happened,
        [
            ("slots.changed", json!({"added": ["b"], "removed": []})),
            ("postgresql.restarted", json!({"started_at": "two"})),
            ("restart.pending", json!({"settings": ["max_connections"]})),
            ("slots.changed", json!({"added": [], "removed": ["b"]})),
        ]
    );
}

#[test]
fn what_is_to_be_known_of_slots_begins_and_ends_and_a_restart_is_no_end() {
    let noted = |ms, notes: &'static [(&'static str, &'static str)], safe: &'static [&'static str]| {
        let mut status = with_server(ms, |_| {});
        let note = |(slot, state): &(&'static str, &'static str)| SlotNote {
            slot: (*slot).to_owned(),
            state,
            text: format!("{state} in words"),
        };
        status.slot_notes = notes.iter().map(note).collect();
        status.safe_slots = safe.iter().map(|slot| (*slot).to_owned()).collect();
        status
    };
    let unsafe_cdc = &[("cdc", "not-safe-yet")];
    let happened = story([
        noted(0, &[], &[]),
        noted(10, unsafe_cdc, &[]),
        usual(20),
        noted(30, unsafe_cdc, &[]),
        noted(40, &[("x", "holds-wal")], &["cdc"]),
        noted(50, &[("x", "holds-wal"), ("cdc", "unsafe")], &["cdc"]),
    ]);
    let note = |slot: &str, note: &str| json!({"slot": slot, "note": note, "text": format!("{note} in words")});
    assert_eq!(
        happened,
        [
            ("slot.noted", note("cdc", "not-safe-yet")),
            ("slot.noted", note("x", "holds-wal")),
            ("slot.note_over", json!({"slot": "cdc", "note": "not-safe-yet"})),
            ("slot.safe", json!({"slot": "cdc"})),
            ("slot.noted", note("cdc", "unsafe")),
        ]
    );
}

#[test]
fn operations_and_how_far_a_copy_has_come() {
    let copying = |ms, done_bytes| {
        at(ms, move |status, _| {
            status.operation = Some("clone");
            status.postgres = Some(Arc::new(PostgresState {
                looked_at: Instant::from_millis(ms),
                wall: WallTime(0),
                data: DataDirectory::Empty,
                server: Server::Stopped,
                progress: Some(Progress { done_bytes, total_bytes: Some(1000) }),
            }));
        })
    };
    let happened = story([usual(0), copying(10, 0), copying(20, 99), copying(30, 150), copying(40, 180), usual(500)]);
    assert_eq!(kinds(&happened), ["operation.started", "operation.progress", "operation.ended"]);
    assert_eq!(happened[1].1, json!({"operation": "clone", "done_bytes": 150, "total_bytes": 1000}));
    assert_eq!(happened[2].1, json!({"operation": "clone", "took_ms": 490}));
}

#[test]
fn a_fence_is_told_once_and_so_are_switches() {
    let fenced = |ms, id: &'static str| at(ms, move |status, _| status.reason.id = id.into());
    let happened = story([usual(0), fenced(10, "FencedLeaseRanOut"), fenced(20, "FencedLockLost"), usual(30)]);
    assert_eq!(kinds(&happened), ["fence.fired"]);
    let paused = at(10, |status, _| {
        (status.settings.pause, status.failsafe_active, status.watchdog_failed) = (true, true, true);
        status.counts.breaches = 1;
    });
    let happened = story([usual(0), paused]);
    let expected = [
        ("maintenance.changed", json!({"on": true})),
        ("failsafe.changed", json!({"on": true})),
        ("watchdog.changed", json!({"on": false})),
        ("invariant.breached", json!({"on": true})),
    ];
    assert_eq!(happened, expected);
}

#[test]
fn what_is_to_be_known_of_the_store_itself_is_told_when_it_changes() {
    let with = |ms: u64, survey: DcsSurvey| at(ms, |status, _| status.dcs_survey = survey);
    let here = DcsSurvey { members: 3, leader_here: Some(true), ..DcsSurvey::default() };
    let moved = DcsSurvey { moved_to: Some("m2".into()), ..here.clone() };
    let away = DcsSurvey { leader_here: Some(false), troubles: vec!["alarm:NOSPACE".into()], ..here.clone() };
    let happened = story([usual(1), with(2, here.clone()), with(3, here), with(4, moved), with(5, away)]);
    assert_eq!(
        happened,
        [
            ("dcs.leader", json!({"here": true})),
            ("dcs.leader", json!({"here": false})),
            ("dcs.leader.moved", json!({"to": "m2"})),
            ("dcs.trouble", json!({"troubles": ["alarm:NOSPACE"]})),
        ]
    );
}
