//! Tables of health checks: one base status, each case changes one thing.

use super::*;
use crate::status::tests::{NOW, primary, replica};
use pgherd_types::{Cluster, Server, StandbyCluster, SyncKey, SyncMode, SyncSeen};
use std::sync::Arc;

fn answer(status: &NodeStatus, request: &str, now: Instant) -> &'static str {
    let (path, query) = request.split_once('?').unwrap_or((request, ""));
    match check(status, path, &Parameters::parse(query).unwrap(), now) {
        Verdict::Healthy => "200",
        Verdict::Unhealthy => "503",
        Verdict::Nonsense(_) => "400",
    }
}

#[track_caller]
fn expect(status: &NodeStatus, answers: &[(&str, &str)]) {
    for (request, expected) in answers {
        assert_eq!(answer(status, request, NOW), *expected, "{request}");
    }
}

#[test]
fn a_standby_leader_is_a_leader_and_neither_primary_nor_replica() {
    let mut status = replica();
    status.settings.standby_cluster = Some(StandbyCluster { host: Some("far".into()), port: 5432 });
    status.leader_until = primary().leader_until;
    let answers = [
        ("/standby-leader", "200"),
        ("/standby_leader", "200"),
        ("/leader", "200"),
        ("/read-only", "200"),
        ("/read-only-sync", "200"),
        ("/primary", "503"),
        ("/", "503"),
        ("/replica", "503"),
        ("/async", "503"),
        ("/health", "200"),
    ];
    expect(&status, &answers);
    status.leader_until = None;
    expect(&status, &[("/standby-leader", "503"), ("/leader", "503"), ("/replica", "200")]);
    let mut not_yet = primary();
    not_yet.settings.standby_cluster.clone_from(&status.settings.standby_cluster);
    expect(&not_yet, &[("/primary", "503"), ("/standby-leader", "503"), ("/leader", "200"), ("/replica", "503")]);
}

#[test]
fn a_standby_leader_in_maintenance_mode_that_lost_sight_of_the_dcs_is_still_one() {
    let mut status = replica();
    status.settings.standby_cluster = Some(StandbyCluster { host: Some("far".into()), port: 5432 });
    status.settings.pause = true;
    status.dcs_lost_since = Some(NOW);
    let led_by = |status: &mut NodeStatus, name: &str| {
        let (known, at) = status.cluster.take().expect("a cluster");
        let leader = known.leader.clone().map(|leader| pgherd_types::LeaderKey { name: name.into(), ..leader });
        status.cluster = Some((Arc::new(Cluster { leader, ..(*known).clone() }), at));
    };
    let me = status.name.to_string();
    led_by(&mut status, &me);
    expect(&status, &[("/standby-leader", "200"), ("/leader", "200"), ("/primary", "503")]);
    for change in [
        |status: &mut NodeStatus| status.settings.pause = false,
        |status: &mut NodeStatus| status.dcs_lost_since = None,
        |status: &mut NodeStatus| status.settings.standby_cluster = None,
    ] {
        let mut other = status.clone();
        change(&mut other);
        expect(&other, &[("/standby-leader", "503"), ("/leader", "503")]);
    }
    led_by(&mut status, "somebody");
    expect(&status, &[("/standby-leader", "503"), ("/leader", "503")]);
}

#[test]
fn a_leader_answers_the_leaders_checks() {
    expect(
        &primary(),
        &[
            ("/", "200"),
            ("/primary", "200"),
            ("/primary/", "200"),
            ("/master", "200"),
            ("/read-write", "200"),
            ("/leader", "200"),
            ("/leadership", "200"),
            ("/read-only", "200"),
            ("/read-only-sync", "200"),
            ("/read-only-quorum", "200"),
            ("/health", "200"),
            ("/healthz", "200"),
            ("/replica", "503"),
            ("/standby_leader", "503"),
            ("/standby-leader", "503"),
            ("/async", "503"),
            ("/sync", "503"),
            ("/quorum", "503"),
            ("/PRIMARY", "503"),
            ("/unknown", "503"),
            ("/primary?lag=nonsense&tag_a=b", "200"),
        ],
    );
}

#[test]
fn a_replica_answers_the_replicas_checks() {
    expect(
        &replica(),
        &[
            ("/", "503"),
            ("/primary", "503"),
            ("/leader", "503"),
            ("/replica", "200"),
            ("/read-only", "200"),
            ("/async", "200"),
            ("/asynchronous/", "200"),
            ("/sync", "503"),
            ("/quorum", "503"),
            ("/read-only-sync", "503"),
            ("/health", "200"),
            // 100 bytes behind.
            ("/replica?lag=100", "200"),
            ("/replica?lag=99", "503"),
            ("/read-only?lag=99", "503"),
            ("/replica?lag=1kB", "200"),
            ("/replica?lag=10mb", "400"),
            ("/health?lag=10mb", "200"),
            ("/replica?replication_state=streaming", "200"),
            ("/replica?replication_state=in%20archive%20recovery", "503"),
            ("/replica?tag_zone=b", "200"),
            ("/replica?tag_zone=B", "503"),
            ("/replica?tag_weight=1.5", "200"),
            ("/replica?tag_clonefrom=true", "200"),
            ("/replica?tag_nofailover=false", "503"),
            ("/health?tag_missing=x", "503"),
        ],
    );
}

/// The same node with this mode asked for; the key says that pg1 leads and lists these.
fn synchronous(mut status: NodeStatus, mode: SyncMode, standbys: &[&str]) -> NodeStatus {
    status.settings.sync.mode = mode;
    let standbys = standbys.iter().map(|name| (*name).into()).collect();
    let key = SyncKey { mod_revision: 9, leader: Some("pg1".into()), quorum: 0, standbys };
    let (cluster, _) = status.cluster.as_mut().unwrap();
    Arc::make_mut(cluster).sync = SyncSeen::Valid(key);
    status
}

const SYNC_PATHS: [&str; 7] =
    ["/sync", "/synchronous", "/quorum", "/async", "/asynchronous", "/read-only-sync", "/read-only-quorum"];

#[track_caller]
fn expect_sync(status: &NodeStatus, answers: [&str; 7]) {
    let pairs: Vec<_> = SYNC_PATHS.into_iter().zip(answers).collect();
    expect(status, &pairs);
    let both = ["/read-only-sync", "/read-only-synchronous"].map(|path| answer(status, path, NOW));
    assert_eq!(both[0], both[1]);
}

#[test]
fn a_replica_is_synchronous_while_the_key_of_an_active_mode_lists_it() {
    let sync = ["200", "200", "503", "503", "503", "200", "503"];
    let quorum = ["503", "503", "200", "503", "503", "503", "200"];
    let neither = ["503", "503", "503", "200", "200", "503", "503"];
    let with = |mode, names: &[&str]| synchronous(replica(), mode, names);
    expect_sync(&with(SyncMode::On, &["PG2", "pg3"]), sync);
    expect_sync(&with(SyncMode::Quorum, &["pg2"]), quorum);
    expect_sync(&with(SyncMode::On, &["pg3"]), neither);
    expect_sync(&with(SyncMode::Off, &["pg2"]), neither);
    let mut inactive = with(SyncMode::On, &["pg2"]);
    let (cluster, _) = inactive.cluster.as_mut().unwrap();
    Arc::make_mut(cluster).sync = SyncSeen::Valid(SyncKey { standbys: ["pg2".into()].into(), ..SyncKey::default() });
    expect_sync(&inactive, neither);
    let mut standby_cluster = with(SyncMode::On, &["pg2"]);
    standby_cluster.settings.standby_cluster = Some(StandbyCluster { host: None, port: 5432 });
    expect_sync(&standby_cluster, neither);
}

#[test]
fn a_synchronous_standby_must_be_a_usable_replica() {
    let nothing = ["503"; 7];
    let mut hidden = synchronous(replica(), SyncMode::On, &["pg2"]);
    expect(&hidden, &[("/sync?lag=100", "200"), ("/sync?lag=99", "503"), ("/sync?lag=x", "400"), ("/replica", "200")]);
    expect(&hidden, &[("/sync?tag_zone=b", "200"), ("/read-only-sync?tag_zone=c", "503"), ("/read-only", "200")]);
    hidden.tags.noloadbalance = true;
    expect_sync(&hidden, nothing);
    let stopped = NodeStatus { phase: ServerPhase::Stopped, ..synchronous(replica(), SyncMode::On, &["pg2"]) };
    expect_sync(&stopped, nothing);
    let blind = NodeStatus { dcs_lost_since: Some(NOW), ..synchronous(replica(), SyncMode::On, &["pg2"]) };
    expect_sync(&blind, nothing);
    let leader = synchronous(primary(), SyncMode::Quorum, &["pg2"]);
    expect_sync(&leader, ["503", "503", "503", "503", "503", "200", "200"]);
}

#[test]
fn the_leaders_claim_lapses_by_itself() {
    let status = primary();
    let until = status.leader_until.unwrap();
    assert_eq!(answer(&status, "/primary", until.minus(Duration::from_millis(1))), "200");
    for path in ["/primary", "/leader", "/read-write", "/"] {
        assert_eq!(answer(&status, path, until), "503", "{path}");
    }
}

#[test]
fn an_old_look_at_postgresql_is_no_look() {
    let status = replica();
    let looked_at = status.postgres.as_ref().unwrap().looked_at;
    let oldest = looked_at + status.settings.loop_wait * 2 + Duration::from_secs(5);
    for path in ["/replica", "/read-only", "/health", "/async"] {
        assert_eq!(answer(&status, path, oldest), "200", "{path}");
        assert_eq!(answer(&status, path, oldest + Duration::from_millis(1)), "503", "{path}");
    }
}

#[test]
fn without_the_dcs_only_what_needs_it_is_denied() {
    let lost = NodeStatus { dcs_lost_since: Some(NOW), ..replica() };
    expect(&lost, &[("/replica", "200"), ("/health", "200"), ("/async", "503"), ("/read-only-sync", "503")]);
    // The leader's position is then known from the WAL receiver alone: 40 bytes behind.
    expect(&lost, &[("/replica?lag=40", "200"), ("/replica?lag=39", "503")]);
    let never = NodeStatus { cluster: None, ..replica() };
    expect(&never, &[("/replica", "200"), ("/async", "503")]);
}

#[test]
fn without_the_dcs_a_primary_leads_as_long_as_its_claim_and_no_longer() {
    let mut status = NodeStatus { dcs_lost_since: Some(NOW), ..primary() };
    expect(&status, &[("/primary", "200"), ("/leader", "200")]);
    status.leader_until = None;
    expect(&status, &[("/primary", "503"), ("/leader", "503")]);
    // In maintenance mode a primary goes on without the DCS, and a replica is still none (spec/rest-api.md 6).
    status.settings.pause = true;
    expect(&status, &[("/primary", "200"), ("/leader", "200")]);
    let mut replica = NodeStatus { dcs_lost_since: Some(NOW), ..replica() };
    replica.settings.pause = true;
    expect(&replica, &[("/primary", "503"), ("/leader", "503")]);
    // With the DCS at hand the lock counts, whatever the mode.
    status.dcs_lost_since = None;
    expect(&status, &[("/primary", "503"), ("/leader", "503")]);
}

#[test]
fn a_replica_must_run_recover_and_be_offered() {
    for phase in [ServerPhase::Starting, ServerPhase::Stopped, ServerPhase::Crashed, ServerPhase::CreatingReplica] {
        expect(&NodeStatus { phase, ..replica() }, &[("/replica", "503"), ("/health", "503")]);
    }
    let mut status = replica();
    status.tags.noloadbalance = true;
    expect(&status, &[("/replica", "503"), ("/read-only", "503"), ("/health", "200")]);
    let mut status = replica();
    Arc::make_mut(status.postgres.as_mut().unwrap()).server = Server::Starting;
    expect(&status, &[("/replica", "503"), ("/health", "503")]);
    expect(&NodeStatus { postgres: None, ..replica() }, &[("/replica", "503"), ("/health", "503")]);
}

#[test]
fn an_unknown_leader_position_is_no_lag() {
    let mut status = replica();
    status.cluster = Some((Arc::new(Cluster::default()), NOW));
    if let Server::Running(server) = &mut Arc::make_mut(status.postgres.as_mut().unwrap()).server {
        server.latest_end = None;
    }
    expect(&status, &[("/replica?lag=0", "200")]);
}

#[test]
fn a_node_that_has_not_begun_is_nothing() {
    expect(&NodeStatus::default(), &[("/", "503"), ("/replica", "503"), ("/health", "503"), ("/read-only", "503")]);
}
