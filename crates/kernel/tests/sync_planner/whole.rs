//! The planner as the driver sees it, in a small world: a primary `p` whose position grows, standbys that follow, go and
//! come back, a key that may be written late, an agent that forgets. Whoever the key lets win always has everything that
//! was acknowledged; and once the world is calm, all gets to rest.

use pgherd_kernel::sync::{
    KeyWrite, Presence, ReadyMemory, StandbyRow, SyncMember, SyncState, SyncStep, SyncView, Waiting, before_promotion,
    eligible, next_step,
};
use pgherd_types::{Lsn, StandbyNames, SyncKey, SyncKind, SyncMode, SyncName, SyncSeen, SyncSettings};
use proptest::prelude::*;
use std::collections::BTreeMap;

const STANDBYS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Event {
    /// The primary writes.
    Write,
    /// A standby receives up to there (percent of what it lacks).
    Follow(usize, u64),
    /// A standby connects or goes.
    Connect(usize),
    Disconnect(usize),
    /// The planner's next step is performed.
    Perform,
    /// The same, but nothing is heard of the write, which may arrive later.
    PerformUnheard,
    /// A write that nothing was heard of arrives.
    Arrive,
    /// The agent is started anew.
    Forget,
    Settings(SyncMode, bool, u32),
    NoSync(usize, bool),
    Patient(bool),
}

struct World {
    view: SyncView,
    standbys: Vec<(SyncName, Lsn, bool, u32)>,
    acknowledged: Lsn,
    /// A planted fault: the planner is not told of writes whose end is unknown.
    careless: bool,
    late: Vec<(Option<i64>, SyncKey)>,
    revision: i64,
}

impl World {
    fn new() -> Self {
        let members = STANDBYS.map(|name| (SyncName::from(name), SyncMember::default())).into();
        let view = SyncView {
            me: "p".into(),
            settings: SyncSettings { mode: SyncMode::On, ..SyncSettings::default() },
            key: SyncSeen::Absent,
            in_doubt: None,
            names: Some(StandbyNames::none()),
            user_names: StandbyNames::none(),
            rows: Vec::new(),
            members,
            position: Lsn(100),
            ready: ReadyMemory::default(),
            patient: false,
            pristine: false,
        };
        let standbys = STANDBYS.map(|name| (name.into(), Lsn(50), true, 1)).into();
        Self { view, standbys, acknowledged: Lsn(100), careless: false, late: Vec::new(), revision: 10 }
    }
    /// What PostgreSQL does by itself, and a look at it.
    fn turn(&mut self) {
        let names = self.view.names.clone().unwrap();
        let state = if names.kind == SyncKind::Any { SyncState::Quorum } else { SyncState::Sync };
        let streams = self.standbys.iter().filter(|(_, _, connected, _)| *connected);
        let row = |(name, lsn, _, pid): &(SyncName, Lsn, bool, u32)| StandbyRow {
            name: name.clone(),
            pid: *pid,
            lsn: Some(*lsn),
            sync_state: if names.names.contains(name) { state } else { SyncState::Async },
            slot_matches: true,
            silent: false,
        };
        self.view.rows = streams.map(row).collect();
        let mut positions: Vec<Lsn> =
            self.view.rows.iter().filter(|row| names.names.contains(&row.name)).filter_map(|row| row.lsn).collect();
        positions.sort_unstable();
        let everybody_has = match names.number as usize {
            0 => Some(self.view.position),
            number => positions.len().checked_sub(number).map(|at| positions[at]),
        };
        self.acknowledged = self.acknowledged.max(everybody_has.unwrap_or_default());
        self.view.ready.look(&names, self.view.position, &self.view.rows.clone());
    }
    fn put(&mut self, seen: Option<i64>, key: SyncKey) {
        if self.view.key.revision() == seen {
            self.revision += 1;
            self.view.key = SyncSeen::Valid(SyncKey { mod_revision: self.revision, ..key });
        }
    }
    fn perform(&mut self, heard: bool) -> SyncStep {
        let step = next_step(&self.view);
        match step.clone() {
            SyncStep::WriteKey(KeyWrite { leader, quorum, standbys, seen }) => {
                let key = SyncKey { mod_revision: 0, leader: Some(leader), quorum, standbys };
                if heard {
                    self.put(seen, key);
                } else {
                    self.late.push((seen, key));
                    self.view.in_doubt = Some(seen).filter(|_| !self.careless);
                }
            }
            SyncStep::DeleteKey { seen } => {
                assert_eq!(self.view.key.revision(), Some(seen));
                self.view.key = SyncSeen::Absent;
            }
            SyncStep::SetNames(names) => self.view.names = Some(names),
            SyncStep::SetUserNames => self.view.names = Some(self.view.user_names.clone()),
            SyncStep::ForceWal => {
                self.view.position.0 += 1;
                self.view.ready.forced();
            }
            SyncStep::Nothing | SyncStep::Wait(_) => {}
        }
        step
    }
    fn happen(&mut self, event: &Event) {
        match event.clone() {
            Event::Write => self.view.position.0 += 10,
            Event::Follow(who, percent) => {
                let (_, lsn, connected, _) = &mut self.standbys[who];
                if *connected {
                    lsn.0 += (self.view.position.0 - lsn.0) * percent / 100;
                }
            }
            Event::Connect(who) => {
                let (_, _, connected, pid) = &mut self.standbys[who];
                (*pid, *connected) = (*pid + u32::from(!*connected), true);
            }
            Event::Disconnect(who) => self.standbys[who].2 = false,
            Event::Perform => drop(self.perform(true)),
            Event::PerformUnheard => drop(self.perform(false)),
            Event::Arrive => {
                if let Some((seen, key)) = self.late.pop() {
                    self.put(seen, key);
                }
            }
            Event::Forget => self.view.ready.forget(),
            Event::Settings(mode, strict, node_count) => {
                self.view.settings = SyncSettings { mode, strict, node_count, maximum_lag: None };
            }
            Event::NoSync(who, nosync) => {
                self.view.members.get_mut(&STANDBYS[who].into()).unwrap().nosync = nosync;
            }
            Event::Patient(patient) => self.view.patient = patient,
        }
        if self.view.in_doubt.is_some_and(|seen| seen != self.view.key.revision()) {
            self.view.in_doubt = None;
        }
        self.turn();
    }
    /// Whoever is level with `quorum` others of voters and leader has what was acknowledged.
    fn lost(&self) -> Option<String> {
        let Some(key) = self.view.key.active() else { return None };
        // this primary, which has everything, is one of them
        let lacking =
            self.standbys.iter().filter(|(name, lsn, ..)| key.standbys.contains(name) && *lsn < self.acknowledged);
        let lacking: Vec<_> = lacking.collect();
        (lacking.len() > key.quorum as usize).then(|| {
            format!(
                "{:?} acknowledged, {lacking:?} lack it, {key:?}, {}",
                self.acknowledged,
                self.view.names.clone().unwrap()
            )
        })
    }
    /// Nothing goes wrong any more: until the planner has nothing to do.
    fn calm(&mut self) -> Result<(), String> {
        self.late.clear();
        self.view.patient = false;
        for who in 0..STANDBYS.len() {
            self.happen(&Event::Connect(who));
            self.happen(&Event::NoSync(who, false));
        }
        for _ in 0..40 {
            for who in 0..STANDBYS.len() {
                self.happen(&Event::Follow(who, 100));
            }
            if self.perform(true) == SyncStep::Nothing {
                return Ok(());
            }
            self.happen(&Event::Patient(false));
            if let Some(lost) = self.lost() {
                return Err(lost);
            }
        }
        Err(format!("no rest: {:?}", self.view))
    }
}

fn event() -> impl Strategy<Value = Event> {
    let who = || 0..STANDBYS.len();
    let mode = prop::sample::select(&[SyncMode::On, SyncMode::Quorum, SyncMode::Quorum, SyncMode::Off][..]);
    prop_oneof![
        4 => Just(Event::Write),
        6 => (who(), prop::sample::select(&[30_u64, 100, 100][..])).prop_map(|(who, percent)| Event::Follow(who, percent)),
        2 => who().prop_map(Event::Connect),
        2 => who().prop_map(Event::Disconnect),
        10 => Just(Event::Perform),
        2 => Just(Event::PerformUnheard),
        2 => Just(Event::Arrive),
        1 => Just(Event::Forget),
        1 => (mode, any::<bool>(), 1..4_u32).prop_map(|(mode, strict, count)| Event::Settings(mode, strict, count)),
        1 => (who(), any::<bool>()).prop_map(|(who, nosync)| Event::NoSync(who, nosync)),
        1 => any::<bool>().prop_map(Event::Patient),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_acknowledged_is_lost_whatever_happens(events in prop::collection::vec(event(), 1..120)) {
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
    let mut events = vec![Event::Settings(SyncMode::Quorum, false, 1), Event::NoSync(2, true), Event::NoSync(3, true)];
    events.extend([Event::Perform, Event::Perform, Event::Follow(0, 100), Event::Follow(1, 100), Event::Perform]);
    events.extend([Event::Disconnect(1), Event::Perform, Event::Write, Event::Follow(0, 100), Event::PerformUnheard]);
    events.extend([Event::Connect(1), Event::Perform, Event::Arrive, Event::Write, Event::Follow(1, 100)]);
    let lost = |careless| {
        let mut world = World { careless, ..World::new() };
        events.iter().for_each(|event| world.happen(event));
        assert!(world.late.is_empty(), "nothing was late");
        world.lost()
    };
    assert_eq!(lost(false), None);
    assert!(lost(true).is_some());
}

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
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]
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
