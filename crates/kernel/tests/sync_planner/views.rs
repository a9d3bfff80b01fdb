//! Any view whatever has a next step, always the same one, and a sensible one.

use pgherd_kernel::sync::{
    Presence, ReadyMemory, StandbyRow, SyncMember, SyncState, SyncStep, SyncView, Waiting, before_promotion, eligible,
    next_step,
};
use pgherd_types::{Lsn, StandbyNames, SyncKey, SyncKind, SyncMode, SyncName, SyncSeen, SyncSettings};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn name() -> impl Strategy<Value = SyncName> {
    prop::sample::select(&["a", "B", "c", "d", "p", "*", "x,y", ""][..]).prop_map(SyncName::from)
}

fn any_names() -> impl Strategy<Value = StandbyNames> {
    let text =
        prop::sample::select(&["", "*", "a", "FIRST 1 (a,b)", "ANY 9 (a,c,d)", "ANY 2 (*, a)", "p", "3 (p,b,zz)"][..]);
    prop_oneof![
        4 => text.prop_map(StandbyNames::read),
        1 => Just(StandbyNames::blocked(SyncKind::Any)),
        2 => (any::<u32>(), prop::collection::btree_set(name(), 0..4)).prop_map(|(number, names)| StandbyNames {
            kind: SyncKind::First, number, names, has_star: false,
        }),
    ]
}

fn any_key() -> impl Strategy<Value = SyncSeen> {
    let valid =
        (prop::option::of(name()), prop_oneof![0..4_u32, any::<u32>()], prop::collection::btree_set(name(), 0..5));
    prop_oneof![
        Just(SyncSeen::Absent),
        Just(SyncSeen::Garbage { mod_revision: 5 }),
        valid.prop_map(|(leader, quorum, standbys)| SyncSeen::Valid(SyncKey {
            mod_revision: 5,
            leader: leader.map(|name| name.member().clone()),
            quorum,
            standbys,
        })),
    ]
}

fn any_row() -> impl Strategy<Value = StandbyRow> {
    let state = prop::sample::select(&[SyncState::Async, SyncState::Potential, SyncState::Quorum, SyncState::Sync][..]);
    let position = prop::option::of(prop::sample::select(&[0, 99, 100, 101, u64::MAX][..]));
    (name(), 1..4_u32, position, state, prop::bool::weighted(0.9), prop::bool::weighted(0.1)).prop_map(
        |(name, pid, lsn, sync_state, slot_matches, silent)| StandbyRow {
            name,
            pid,
            lsn: lsn.map(Lsn),
            sync_state,
            slot_matches,
            silent,
        },
    )
}

fn any_member() -> impl Strategy<Value = SyncMember> {
    let presence =
        prop::sample::select(&[Presence::Running, Presence::SeenLately, Presence::Gone, Presence::NotRunning][..]);
    (presence, prop::bool::weighted(0.2), any::<bool>(), -1..3_i32, prop::option::of(name())).prop_map(
        |(presence, nosync, nofailover, sync_priority, replicate_from)| SyncMember {
            presence,
            nosync,
            nofailover,
            sync_priority,
            replicate_from,
        },
    )
}

prop_compose! {
    fn any_view()(
        mode in prop::sample::select(&[SyncMode::Off, SyncMode::On, SyncMode::Quorum][..]),
        (strict, patient, pristine) in any::<(bool, bool, bool)>(),
        node_count in prop_oneof![0..4_u32, Just(u32::MAX)],
        maximum_lag in prop::option::of(prop::sample::select(&[0, 1, u64::MAX][..])),
        key in any_key(),
        in_doubt in prop::option::of(prop::option::of(4..6_i64)),
        names in prop::option::of(any_names()),
        user_names in any_names(),
        rows in prop::collection::vec(any_row(), 0..6),
        members in prop::collection::btree_map(name(), any_member(), 0..6),
        looks in prop::collection::vec((any_names(), 99..102_u64), 0..3),
    ) -> SyncView {
        let mut ready = ReadyMemory::default();
        for (names, position) in looks.into_iter().chain(names.clone().map(|names| (names, 100))) {
            ready.look(&names, Lsn(position), &rows);
        }
        let settings = SyncSettings { mode, strict, node_count, maximum_lag };
        SyncView {
            me: "p".into(), settings, key, in_doubt, names, user_names, rows, members: BTreeMap::from_iter(members),
            position: Lsn(100), ready, patient, pristine,
        }
    }
}

fn next_sensible(step: &SyncStep, view: &SyncView) -> Result<(), TestCaseError> {
    match step {
        SyncStep::WriteKey(write) => {
            prop_assert_eq!(write.seen, view.key.revision());
            let again = view.in_doubt == Some(view.key.revision());
            prop_assert!(again || write.leader == "p".into());
            prop_assert!(again || write.quorum == 0 || (write.quorum as usize) < write.standbys.len(), "{:?}", write);
            prop_assert!(again || !write.standbys.contains(&"p".into()), "{:?}", write);
        }
        SyncStep::SetNames(names) => {
            prop_assert_ne!(Some(names), view.names.as_ref());
            prop_assert!(!names.names.contains(&"p".into()), "waits for itself: {}", names);
            prop_assert_eq!(&StandbyNames::read(&names.to_string()), names, "cannot be written");
        }
        SyncStep::Wait(Waiting::Proof(names)) => prop_assert!(!names.is_empty()),
        SyncStep::DeleteKey { seen } => prop_assert_eq!(Some(*seen), view.key.revision()),
        SyncStep::Nothing
        | SyncStep::SetUserNames
        | SyncStep::ForceWal
        | SyncStep::Wait(Waiting::Names | Waiting::Reconnect | Waiting::Standby) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_view_has_a_sensible_next_step(view in any_view()) {
        let chosen = eligible(&view);
        prop_assert!(chosen.picked.iter().all(|name| chosen.ranked.contains(name) && name.is_usable()));
        for ask in [next_step, before_promotion] {
            let step = ask(&view);
            prop_assert_eq!(&step, &ask(&view));
            next_sensible(&step, &view)?;
        }
    }
}
