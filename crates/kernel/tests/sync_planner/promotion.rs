//! Before a promotion: every key, every node that wins by it, every mode. Nodes are n0 (who wins) to n4.

use crate::model::{Commits, commits, winning_sets};
use pgherd_kernel::sync::{ReadyMemory, SyncStep, SyncView, before_promotion};
use pgherd_types::{Lsn, StandbyNames, SyncKey, SyncMode, SyncName, SyncNames, SyncSeen, SyncSettings};
use std::collections::BTreeMap;

fn names(mask: u8) -> SyncNames {
    (0..5).filter(|node| mask & 1 << node != 0).map(|node| SyncName::from(format!("n{node}").as_str())).collect()
}

fn mask<'a>(names: impl IntoIterator<Item = &'a SyncName>) -> u8 {
    names.into_iter().map(|name| 1_u8 << name.as_str()[1..].parse::<u8>().unwrap()).sum()
}

fn view(settings: SyncSettings, key: SyncKey) -> SyncView {
    SyncView {
        me: "n0".into(),
        settings,
        key: SyncSeen::Valid(key),
        in_doubt: None,
        names: Some(StandbyNames::none()),
        user_names: StandbyNames::none(),
        rows: Vec::new(),
        members: BTreeMap::new(),
        position: Lsn(1),
        ready: ReadyMemory::default(),
        patient: true,
        pristine: true,
    }
}

/// The commits that n0 has and that some node lacks whom this key lets win.
fn lost_under(key: &SyncKey) -> Commits {
    let leader = SyncName::from(key.leader.as_ref().unwrap());
    let voters = mask(&key.standbys) | mask([&leader]);
    commits(|holders| winning_sets(key.quorum, voters).any(|set| set & (holders | 1) == 0))
}

fn acknowledged(names: &StandbyNames) -> Commits {
    if names.is_blocked() {
        return 0;
    }
    commits(|holders| (holders & mask(&names.names)).count_ones() >= names.number)
}

/// The first key of the new reign and the names PostgreSQL begins with; checks every key written on the way.
fn reign(mut view: SyncView, earlier: Commits) -> (SyncKey, StandbyNames) {
    for _ in 0..3 {
        match before_promotion(&view) {
            SyncStep::SetNames(names) => view.names = Some(names),
            SyncStep::WriteKey(write) => {
                let (leader, quorum, standbys) = (Some(write.leader), write.quorum, write.standbys);
                let key = SyncKey { mod_revision: 2, leader, quorum, standbys };
                assert_eq!(lost_under(&key) & earlier, 0, "{key:?} in {view:?}");
                view.key = SyncSeen::Valid(key);
            }
            SyncStep::Nothing => return (view.key.active().unwrap().clone(), view.names.unwrap()),
            other => panic!("{other:?} in {view:?}"),
        }
    }
    panic!("does not end: {view:?}")
}

#[test]
fn whoever_wins_begins_a_reign_that_loses_nothing() {
    let mut tried = 0;
    for (voters, leader, quorum) in
        (0..32).flat_map(|v| (0..5_u8).flat_map(move |l| (0..5_u32).map(move |q| (v, l, q))))
    {
        let leader = SyncName::from(format!("n{leader}").as_str());
        let standbys: SyncNames = names(voters).into_iter().filter(|name| *name != leader).collect();
        let key = SyncKey { mod_revision: 1, leader: Some(leader.member().clone()), quorum, standbys };
        let earlier = !lost_under(&key); // and this node has it, or it would not have won
        for (mode, strict) in [SyncMode::On, SyncMode::Quorum].into_iter().flat_map(|m| [(m, false), (m, true)]) {
            let settings = SyncSettings { mode, strict, ..SyncSettings::default() };
            let (first, names) = reign(view(settings, key.clone()), earlier);
            assert_eq!(first.leader, Some("n0".into()));
            assert_eq!(lost_under(&first) & acknowledged(&names), 0, "{first:?} {names}, was {key:?}");
            assert!(!names.names.contains(&"n0".into()), "waits for itself: {names}");
            assert!(!strict || !names.is_none(), "runs alone: {key:?}");
            assert!(first.quorum == 0 || (first.quorum as usize) < first.standbys.len(), "{first:?}");
            tried += 1;
        }
    }
    assert!(tried > 3000, "{tried}");
}
