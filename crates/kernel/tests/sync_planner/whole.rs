//! The planner as the driver sees it, in a small world: a primary whose log grows, standbys that follow, go and come back,
//! a key that may be written late, an agent that forgets, primaries that die, also half-way to being one. Whoever the key
//! lets win always has everything that was acknowledged; and once the world is calm, all gets to rest.

use crate::world::{Event, Fault, World};
use pgherd_types::SyncMode;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

fn event() -> impl Strategy<Value = Event> {
    let who = || 0..World::NODES;
    let mode = prop::sample::select(&[SyncMode::On, SyncMode::Quorum, SyncMode::Quorum, SyncMode::Off][..]);
    prop_oneof![
        4 => Just(Event::Write),
        6 => (who(), prop::sample::select(&[30_u64, 100, 100][..])).prop_map(|(who, percent)| Event::Follow(who, percent)),
        4 => who().prop_map(Event::Connect),
        2 => who().prop_map(Event::Disconnect),
        14 => Just(Event::Perform),
        2 => Just(Event::PerformUnheard),
        2 => Just(Event::Arrive),
        1 => Just(Event::Forget),
        1 => (mode, any::<bool>(), 1..4_u32).prop_map(|(mode, strict, count)| Event::Settings(mode, strict, count)),
        1 => (who(), any::<bool>()).prop_map(|(who, nosync)| Event::NoSync(who, nosync)),
        1 => any::<bool>().prop_map(Event::Patient),
        1 => Just(Event::Restart),
        3 => (who(), any::<u8>()).prop_map(|(to, reachable)| Event::Failover { to, reachable }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_acknowledged_is_lost_whatever_happens(events in prop::collection::vec(event(), 1..160)) {
        let mut world = World::new();
        for (at, event) in events.iter().enumerate() {
            world.happen(event);
            prop_assert_eq!(world.lost(), None, "after {:?} in step {}", event, at);
        }
        prop_assert_eq!(world.calm(), Ok(()));
    }
}

/// b has gone and PostgreSQL waits for a alone; the key that says so is late, and b is back before it arrives.
#[test]
fn a_late_write_does_no_harm_unless_the_planner_is_not_told() {
    let mut events = vec![Event::Settings(SyncMode::Quorum, false, 1), Event::NoSync(3, true), Event::NoSync(4, true)];
    events.extend([Event::Connect(1), Event::Connect(2), Event::Perform, Event::Perform]);
    events.extend([Event::Follow(1, 100), Event::Follow(2, 100), Event::Perform]);
    events.extend([Event::Disconnect(2), Event::Perform, Event::Write, Event::Follow(1, 100), Event::PerformUnheard]);
    events.extend([Event::Connect(2), Event::Perform, Event::Arrive, Event::Write, Event::Follow(2, 100)]);
    let lost = |fault| {
        let mut world = World::new();
        world.fault = fault;
        events.iter().for_each(|event| world.happen(event));
        assert!(world.late.is_empty(), "nothing was late");
        world.lost()
    };
    assert_eq!(lost(Fault::None), None);
    assert!(lost(Fault::DoubtUntold).is_some());
}

/// The world is only worth something if primaries do change in it.
#[test]
fn members_of_the_key_take_over() {
    let mut world = World::new();
    world.happen(&Event::Settings(SyncMode::Quorum, false, 1));
    assert_eq!(world.calm(), Ok(()));
    world.happen(&Event::Write);
    world.happen(&Event::Follow(1, 100));
    let behind = Event::Failover { to: 2, reachable: 0b10 };
    world.happen(&behind);
    assert_eq!(world.primary, 0, "node 2 is behind node 1");
    world.happen(&Event::Failover { to: 1, reachable: 0b11100 });
    assert_eq!((world.primary, world.lost()), (1, None));
    assert_eq!(world.calm(), Ok(()));
}

/// The world notices what is done wrong around the planner.
#[test]
fn faults_of_the_driver_are_found() {
    for fault in [Fault::KeyAfterPromotion, Fault::NoNamesAtPromotion, Fault::ProofForEver, Fault::TimelineIgnored] {
        let mut runner = TestRunner::deterministic();
        let events = prop::collection::vec(event(), 160);
        let found = (0..4000).find(|_| {
            let mut world = World::new();
            world.fault = fault;
            let events = events.new_tree(&mut runner).unwrap().current();
            events.iter().any(|event| {
                world.happen(event);
                world.lost().is_some()
            })
        });
        println!("{fault:?}: found by run {found:?}");
        assert!(found.is_some(), "{fault:?} was not found");
    }
}
