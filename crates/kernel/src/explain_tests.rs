//! The kernel is asked about others.

use super::*;
use crate::testing::*;
use pgherd_types::{Initialize, SyncKey, SyncMode, SyncSeen};

/// `a` and `c` follow `b`; by their keys they are there.
fn following(of_a: u64, of_c: u64) -> Case {
    replica().with_server(move |it| (it.received, it.replayed) = (Lsn(of_a), Lsn(of_a))).with_cluster(move |cluster| {
        for (name, position) in [("a", of_a), ("c", of_c)] {
            let doc = &mut cluster.members.get_mut(&name.into()).unwrap().doc;
            (doc.receive_lsn, doc.replay_lsn) = (Some(Lsn(position)), Some(Lsn(position)));
        }
    })
}

/// `b:leads a:Acquiring c:!PeerAhead`, by name.
fn shown(candidates: &[Candidate]) -> String {
    let one = |candidate: &Candidate| {
        let sign = match (candidate.leads, candidate.could_lead) {
            (true, _) => "leads ",
            (false, true) => "",
            (false, false) => "!",
        };
        format!("{}:{sign}{}", candidate.name, candidate.because.id())
    };
    candidates.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn now(case: Case) -> String {
    let (view, now) = case.build();
    shown(&candidates(&view, now))
}

#[test]
fn the_one_who_has_most_could_lead_and_the_other_is_told_why_not() {
    assert_eq!(now(following(1000, 900)), "a:Acquiring b:leads LeaderWithLock c:!PeerAhead");
    assert_eq!(now(following(900, 1000)), "a:!PeerAhead b:leads LeaderWithLock c:Acquiring");
    assert_eq!(now(following(1000, 1000)), "a:Acquiring b:leads LeaderWithLock c:Acquiring", "whoever is first");
}

#[test]
fn every_rule_that_bars_is_named() {
    let tagged = |name: &'static str| {
        following(1000, 1000).with_cluster(move |cluster| {
            cluster.members.get_mut(&name.into()).unwrap().doc.tags.nofailover = true;
        })
    };
    assert_eq!(now(tagged("c")), "a:Acquiring b:leads LeaderWithLock c:!NotAllowedToPromote");
    let own = following(1000, 1000).with_view(|view| view.me.tags.nofailover = true);
    assert_eq!(now(own), "a:!NotAllowedToPromote b:leads LeaderWithLock c:Acquiring");
    let far_behind = following(1000, 1000).with_cluster(|cluster| cluster.status.optime = Lsn(1 << 40));
    assert_eq!(now(far_behind), "a:!LagTooLarge b:leads LeaderWithLock c:!LagTooLarge");
    let garbage = following(1000, 1000).with_cluster(|cluster| cluster.initialize = Some(Initialize::Garbage));
    assert_eq!(now(garbage), "a:!InitializeIsGarbage b:leads LeaderWithLock c:!InitializeIsGarbage");
    let watchdog = following(1000, 1000).with_view(|view| view.watchdog_failed = true);
    assert_eq!(now(watchdog), "a:!WatchdogUnusable b:leads LeaderWithLock c:Acquiring", "of others it is not known");
    let down = following(1000, 1000)
        .with_cluster(|cluster| cluster.members.get_mut(&"c".into()).unwrap().doc.state = "stopped".into());
    let said = now(down);
    assert!(said.starts_with("a:Acquiring b:leads LeaderWithLock c:!"), "{said}");
}

#[test]
fn in_a_synchronous_mode_only_members_of_the_key_could_lead() {
    let synchronous = |mode, quorum, standbys: &'static [&'static str]| {
        following(1000, 2000).with_view(move |view| view.settings.sync.mode = mode).with_cluster(move |cluster| {
            let standbys = standbys.iter().map(|name| (*name).into()).collect();
            cluster.sync = SyncSeen::Valid(SyncKey { mod_revision: 3, leader: Some("b".into()), quorum, standbys });
        })
    };
    assert_eq!(
        now(synchronous(SyncMode::On, 0, &["a"])),
        "a:Acquiring b:leads LeaderWithLock c:!NotSynchronous",
        "c has more, and not for certain all that was acknowledged"
    );
    assert_eq!(now(synchronous(SyncMode::Quorum, 1, &["a", "c"])), "a:!PeerAhead b:leads LeaderWithLock c:Acquiring");
}

#[test]
fn without_the_leader_the_others_are_judged_and_it_is_not() {
    let (view, now) = following(1000, 900).build();
    assert_eq!(shown(&successors(&view, now)), "a:Acquiring c:!PeerAhead");
    let decision = without_leader(&view, now).unwrap();
    assert_eq!((decision.role, decision.because.id().as_str()), (Action::Acquire, "Acquiring"));
    let leading = primary().with_cluster(|cluster| {
        for name in ["b", "c"] {
            let doc = &mut cluster.members.get_mut(&name.into()).unwrap().doc;
            (doc.role, doc.receive_lsn) = (Some(Role::Replica), Some(Lsn(1000)));
        }
    });
    let (view, now) = leading.build();
    assert_eq!(shown(&candidates(&view, now)), "a:leads LeaderWithLock b:Acquiring c:Acquiring");
    assert_eq!(shown(&successors(&view, now)), "b:Acquiring c:Acquiring");
    assert_eq!(without_leader(&view, now), None, "it is the one that is lost");
    assert_eq!(candidates(&View::default(), now), [], "nothing was read yet");
}

#[test]
fn asking_changes_nothing() {
    let (view, now) = following(1000, 900).build();
    let before = format!("{view:?}");
    let _ = (candidates(&view, now), successors(&view, now), without_leader(&view, now));
    assert_eq!(format!("{view:?}"), before);
}
