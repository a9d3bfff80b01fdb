//! Who may race, succeed and promote in a synchronous mode.

use crate::testing::*;
use crate::{Action, Observation, decide, invariants};
use pgherd_types::*;
use std::time::Duration;

fn mode(case: Case, mode: SyncMode) -> Case {
    case.with_view(move |v| v.settings.sync.mode = mode)
}
fn key(case: Case, leader: &str, quorum: u32, standbys: &[&str]) -> Case {
    let standbys = standbys.iter().map(|name| SyncName::from(*name)).collect();
    let key = SyncKey { mod_revision: 8, leader: Some(leader.into()), quorum, standbys };
    case.with_cluster(move |c| c.sync = SyncSeen::Valid(key))
}
/// `b` led and is lost; `a` is this node.
fn lost(sync: SyncMode, quorum: u32, standbys: &[&str]) -> Case {
    key(mode(replica().unlocked(), sync), "b", quorum, standbys)
}
fn answers(case: Case, c: PeerAnswer) -> Case {
    case.peers(vec![("b", silent()), ("c", c)])
}

#[test]
fn only_members_of_the_key_race_and_among_themselves() {
    check(answers(lost(SyncMode::On, 0, &["a"]), answered(5000)), "Acquire", "Acquiring");
    check(answers(lost(SyncMode::On, 0, &["c"]), silent()), "Hold", "NotSynchronous");
    check(answers(lost(SyncMode::On, 0, &["a", "c"]), answered(1001)), "Hold", "PeerAhead");
    check(answers(lost(SyncMode::Off, 0, &["c"]), silent()), "Acquire", "Acquiring");
    let alive = PeerAnswer::Said(PeerSaid { is_primary: true, ..said(1) });
    check(answers(lost(SyncMode::On, 0, &["a"]), alive), "Hold", "PrimaryStillAlive");
}

#[test]
fn a_synchronous_standby_may_lag_behind_what_nobody_was_promised() {
    let far = lost(SyncMode::On, 0, &["a"]).with_cluster(|c| c.status.optime = Lsn(1 << 40));
    check(answers(far, silent()), "Acquire", "Acquiring");
}

#[test]
fn a_quorum_of_positions_from_after_the_loss_is_needed() {
    let case = || lost(SyncMode::Quorum, 1, &["a", "c"]);
    check(answers(case(), answered(1000)), "Acquire", "Acquiring");
    let decision = check(answers(case(), silent()), "Hold", "QuorumNotReached");
    assert!(decision.because.to_string().ends_with("0 of 1 votes; no answer from b, c"), "{}", decision.because);
    let stale = PeerAnswer::Said(PeerSaid { looked_at: Instant::from_millis(59_000), ..said(900) });
    check(answers(case(), stale.clone()), "Hold", "AwaitingPeerPosition");
    let older = PeerAnswer::Said(PeerSaid { looked_at: Instant::from_millis(57_000), ..said(900) });
    let (mut view, now) = answers(case(), older).build();
    view.leaderless_since = Some(Instant::from_millis(57_500));
    view.peers.as_mut().unwrap().asked_at = Instant::from_millis(59_940);
    assert_eq!(name_of(&decide(&view, now).role), "Probe", "not even after a while");
    check(answers(lost(SyncMode::Quorum, 1, &["c", "d"]), answered(1000)), "Hold", "QuorumNotReached");
}

#[test]
fn a_key_that_cannot_be_read_or_is_gone_sets_nobody_free() {
    let bad = |sync: SyncSeen| {
        let (mut view, now) = answers(lost(SyncMode::On, 0, &["c"]), silent()).build();
        let mut cluster = view.cluster.get().unwrap().as_ref().clone();
        cluster.sync = sync;
        view.apply(Observation::Cluster { cluster: cluster.into(), read_at: now.mono }, now);
        decide(&view, now)
    };
    for (sync, words) in
        [(SyncSeen::Garbage { mod_revision: 9 }, "cannot be read"), (SyncSeen::Absent, "the sync key is gone")]
    {
        let decision = bad(sync);
        assert_eq!((name_of(&decision.role).as_str(), decision.because.id().as_str()), ("Hold", "NotSynchronous"));
        assert!(decision.because.to_string().contains(words), "{}", decision.because);
    }
    check(answers(mode(replica().unlocked(), SyncMode::On), silent()), "Acquire", "Acquiring");
}

#[test]
fn a_switchover_is_for_members_and_a_failover_for_whom_an_operator_names() {
    let asked = |leader: Option<&str>, sync: SyncMode| {
        let manual = FailoverKey {
            mod_revision: 5,
            leader: leader.map(Into::into),
            candidate: Some("a".into()),
            schedule: None,
        };
        answers(lost(sync, 0, &["c"]), answered(10)).with_cluster(|c| c.failover = Some(manual))
    };
    check(asked(None, SyncMode::On), "Acquire", "Acquiring");
    check(asked(Some("b"), SyncMode::On), "Hold", "NotSynchronous");
    check(asked(Some("b"), SyncMode::Quorum), "Hold", "NotSynchronous");
}

/// `a` leads and is asked to hand over.
fn leads(sync: SyncMode, quorum: u32, standbys: &[&str], candidate: Option<&str>, leader: Option<&str>) -> Case {
    let manual = FailoverKey {
        mod_revision: 5,
        leader: leader.map(Into::into),
        candidate: candidate.map(Into::into),
        schedule: None,
    };
    let case = key(mode(primary(), sync), "a", quorum, standbys).with_cluster(|c| c.failover = Some(manual));
    case.peers(vec![("b", answered(1000)), ("c", answered(1000))])
}

#[test]
fn a_leader_hands_over_to_those_who_may_lead() {
    check(leads(SyncMode::On, 0, &["b"], None, Some("a")), "Stop Fast", "HandingOver");
    check(leads(SyncMode::On, 0, &[], None, Some("a")), "Write ClearFailover", "ManualRequestCleared");
    check(leads(SyncMode::On, 0, &["b"], Some("c"), Some("a")), "Write ClearFailover", "ManualRequestCleared");
    check(leads(SyncMode::On, 0, &["b"], Some("c"), None), "Stop Fast", "HandingOver");
    check(leads(SyncMode::Quorum, 1, &["b", "c"], None, Some("a")), "Stop Fast", "HandingOver");
    let decision =
        check(leads(SyncMode::Quorum, 2, &["b", "c"], None, Some("a")), "Write ClearFailover", "ManualRequestCleared");
    assert!(decision.because.to_string().contains("Quorum requirement 2 can not be reached"), "{}", decision.because);
}

#[test]
fn a_promotion_waits_for_names_and_key_and_a_changed_key_is_a_new_race() {
    let elected = || {
        let case = lost(SyncMode::Quorum, 1, &["a", "c"]).locked().with_server(|s| s.streaming = false);
        case.with_view(|v| v.reservation = Some(Timeline(2)))
    };
    let decision = check(elected(), "Hold", "PreparingSynchronous");
    let names = StandbyNames::read("ANY 1 (b,c)");
    assert_eq!(decision.upkeep.sync.map(|(_, order)| order), Some(SyncApply::Names(names.clone())));
    let named = || elected().with_server(|s| (s.sync.names, s.sync.managed) = ("ANY 1 (b,c)".into(), true));
    let decision = check(named(), "Hold", "PreparingSynchronous");
    let written = decision.upkeep.writes.iter().find_map(|w| if let DcsWrite::Sync(w) = w { Some(w) } else { None });
    let written = written.expect("the key");
    assert_eq!((written.leader.as_str(), written.quorum, written.seen), ("a", 1, Some(8)));
    check(key(named(), "a", 1, &["b", "c"]), "Start Promote", "PromotedByLock");
    check(named().with_view(|v| v.sync.refused = true), "Release", "PostponingPromotion");
    let (view, now) = named().build();
    let promote = Action::Start {
        id: OperationId(1),
        operation: Operation::Promote { timeline: Timeline(2) },
        fence: Some(Instant::from_millis(85_000)),
    };
    let early = crate::Decision { role: promote, ..decide(&view, now) };
    assert_eq!(invariants::check(&view, &early, now).unwrap_err().id, "S5");
}

#[test]
fn a_standby_that_stops_is_let_go_first() {
    let listed = |standbys: &[&str]| key(mode(replica(), SyncMode::On), "b", 0, standbys);
    let leaving = |case: Case| case.with_view(|v| v.shutdown = Some(Instant::from_millis(59_000)));
    let decision = check(leaving(listed(&["a"])), "Hold", "AwaitingSyncRelease");
    assert_eq!(decision.decide_again_at, Instant::from_millis(60_000).max(decision.decide_again_at));
    let nosync = |w: &DcsWrite| matches!(w, DcsWrite::Member(doc) if doc.tags.nosync && doc.tags.sync_rank() == 0);
    assert!(decision.upkeep.writes.iter().any(nosync));
    check(leaving(listed(&["c"])), "Stop Fast", "ShuttingDown");
    let waited_for = |names: &'static str| {
        leaving(listed(&["c"])).with_cluster(move |c| {
            c.members.get_mut(&"b".into()).unwrap().doc.sync_names = Some(names.to_owned());
        })
    };
    check(waited_for("2 (a,c)"), "Hold", "AwaitingSyncRelease");
    check(waited_for("c"), "Stop Fast", "ShuttingDown");
    let long_ago = listed(&["a"]).with_view(|v| v.shutdown = Some(Instant::from_millis(40_000)));
    check(long_ago, "Stop Fast", "ShuttingDown");
    let (mut view, now) = leaving(listed(&["a"])).build();
    view.apply(Observation::DcsLost { since: now.mono }, now);
    assert_eq!(name_of(&decide(&view, now).role), "Stop Fast", "a dead DCS skips the wait");
    let wishes = |wish: Wish| {
        listed(&["a"]).with_view(|v| {
            let at = Now { mono: Instant::from_millis(59_000), ..Now::default() };
            v.apply(Observation::Wished { id: RequestId(1), wish }, at);
        })
    };
    check(wishes(Wish::Restart(RestartWish::default())), "Hold", "AwaitingSyncRelease");
    check(wishes(Wish::Reinitialize { force: false, from_leader: false }), "Hold", "AwaitingSyncRelease");
}

#[test]
fn a_primary_in_a_synchronous_mode_plans_one_step_at_a_time() {
    let sender = |name: &str, pid| WalSender {
        usename: "replicator".into(),
        application_name: name.into(),
        client_addr: None,
        state: "streaming".into(),
        sync_state: "async".into(),
        sync_priority: 0,
        pid,
        written: Some(Lsn(1000)),
        flushed: Some(Lsn(1000)),
        replayed: Some(Lsn(1000)),
        replied_ms_ago: Some(10),
    };
    let case = || {
        mode(primary(), SyncMode::On).with_server(|s| {
            s.walsenders = vec![sender("b", 7), sender("c", 8)];
            s.sync.status_interval_ms = 10_000;
        })
    };
    let decision = check(case(), "Hold", "LeaderWithLock");
    let first = decision.upkeep.writes.iter().any(|w| matches!(w, DcsWrite::Sync(w) if w.standbys.is_empty()));
    assert!(first && decision.upkeep.sync.is_none(), "the key first: {:?}", decision.upkeep);
    let (mut view, now) = key(case(), "a", 0, &[]).build();
    let decision = decide(&view, now);
    let (round, order) = decision.upkeep.sync.clone().expect("then names");
    assert_eq!(order, SyncApply::Names(StandbyNames::read("b")));
    view.dispatched(&decision, now);
    let again = decide(&view, now);
    assert!(again.upkeep.sync.is_none() && again.upkeep.writes.iter().all(|w| w.key() != "sync"), "{again:?}");
    let later = Now { mono: now.mono + Duration::from_millis(200), ..now };
    view.apply(Observation::SyncAligned { round, ok: false }, later);
    let much_later = Now { mono: now.mono + Duration::from_millis(1300), ..now };
    let mut state = view.postgres.get().unwrap().as_ref().clone();
    state.looked_at = much_later.mono;
    view.apply(Observation::Postgres(state.into()), much_later);
    let repeated = decide(&view, much_later).upkeep.sync.expect("it may be on its way: the same again").1;
    assert_eq!(repeated, SyncApply::Names(StandbyNames::read("b")));
}
