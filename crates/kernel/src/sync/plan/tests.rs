use super::super::testing::{key, row, streaming, view};
use super::super::view::SyncState;
use super::*;
use pgherd_types::{Lsn, SyncMode::Off, SyncMode::On, SyncMode::Quorum};

fn names(list: &str) -> SyncNames {
    StandbyNames::read(list).names
}

fn write(quorum: u32, standbys: &str, seen: Option<i64>) -> SyncStep {
    SyncStep::WriteKey(KeyWrite { leader: "a".into(), quorum, standbys: names(standbys), seen })
}

/// Performs the step as the driver would, PostgreSQL following at once.
fn perform(view: &mut SyncView, step: SyncStep) {
    match step {
        SyncStep::WriteKey(write) => {
            assert_eq!(write.seen, view.key.revision());
            let mod_revision = write.seen.unwrap_or(10) + 1;
            let (leader, quorum) = (Some(write.leader), write.quorum);
            view.key = SyncSeen::Valid(SyncKey { mod_revision, leader, quorum, standbys: write.standbys });
        }
        SyncStep::SetNames(names) => {
            let state = if names.kind == SyncKind::Any { SyncState::Quorum } else { SyncState::Sync };
            for row in &mut view.rows {
                row.sync_state = if names.names.contains(&row.name) { state } else { SyncState::Async };
            }
            view.names = Some(names);
            look(view);
        }
        SyncStep::ForceWal => view.ready.forced(),
        SyncStep::DeleteKey { seen } => {
            assert_eq!(Some(seen), view.key.revision());
            view.key = SyncSeen::Absent;
        }
        SyncStep::SetUserNames => view.names = Some(view.user_names.clone()),
        SyncStep::Nothing | SyncStep::Wait(_) => {}
    }
}

fn look(view: &mut SyncView) {
    view.ready.look(view.names.as_ref().unwrap(), view.position, &view.rows);
}

/// The steps until nothing can be done.
fn play(view: &mut SyncView) -> Vec<SyncStep> {
    let mut steps = Vec::new();
    for _ in 0..12 {
        let step = next_step(view);
        let ends = matches!(step, SyncStep::Nothing | SyncStep::Wait(_));
        steps.push(step.clone());
        if ends {
            return steps;
        }
        perform(view, step);
    }
    panic!("does not end: {steps:?}")
}

#[test]
fn switching_on_as_patroni_shows_it() {
    let mut v = streaming(view("a", On), &[row("c", 900, SyncState::Async)]);
    let set = SyncStep::SetNames(StandbyNames::read("c"));
    let proof = SyncStep::Wait(Waiting::Proof(names("c")));
    assert_eq!(play(&mut v), [write(0, "", None), set, SyncStep::ForceWal, proof]);
    v.rows[0].lsn = Some(Lsn(1000));
    look(&mut v);
    assert_eq!(play(&mut v), [write(0, "c", Some(11)), SyncStep::Nothing]);
}

#[test]
fn from_priority_to_quorum_and_back() {
    let rows = [row("b", 1000, SyncState::Sync), row("c", 1000, SyncState::Async)];
    let mut v = streaming(view("a", On), &rows);
    (v.key, v.names) = (key(4, "a", 0, &["b"]), Some(StandbyNames::read("b")));
    look(&mut v);
    assert_eq!(play(&mut v), [SyncStep::Nothing]);
    v.settings.mode = Quorum;
    let set = |text: &str| SyncStep::SetNames(StandbyNames::read(text));
    assert_eq!(play(&mut v), [write(1, "b,c", Some(4)), set("ANY 1 (b,c)"), SyncStep::Nothing]);
    v.settings.mode = On;
    assert_eq!(play(&mut v), [write(0, "", Some(5)), set("b"), write(0, "b", Some(6)), SyncStep::Nothing]);
}

#[test]
fn the_form_of_the_text_is_put_right_last() {
    let mut v = streaming(view("a", Quorum), &[row("b", 1000, SyncState::Sync)]);
    (v.key, v.names) = (key(4, "a", 0, &["b"]), Some(StandbyNames::read("b")));
    assert_eq!(play(&mut v), [SyncStep::SetNames(StandbyNames::read("ANY 1 (b)")), SyncStep::Nothing]);
    v.names = Some(StandbyNames::read("ANY 7 (b)"));
    assert_eq!(next_step(&v), SyncStep::SetNames(StandbyNames::read("ANY 1 (b)")));
    // everybody: nothing is known of whom commits waited for
    v.names = Some(StandbyNames::read("ANY 1 (b, *)"));
    let set = SyncStep::SetNames(StandbyNames::read("ANY 1 (b)"));
    assert_eq!(play(&mut v), [write(0, "", Some(4)), set, write(0, "b", Some(5)), SyncStep::Nothing]);
}

#[test]
fn switching_off_removes_the_key_first() {
    for seen in [key(4, "x", 1, &["b"]), SyncSeen::Garbage { mod_revision: 4 }] {
        let mut v = view("a", Off);
        (v.key, v.names, v.user_names) = (seen, Some(StandbyNames::read("b")), StandbyNames::read("ANY 1 (*)"));
        assert_eq!(play(&mut v), [SyncStep::DeleteKey { seen: 4 }, SyncStep::SetUserNames, SyncStep::Nothing]);
    }
    let mut v = view("a", Off);
    v.names = None;
    assert_eq!(next_step(&v), SyncStep::Wait(Waiting::Names));
}

#[test]
fn strict_mode_without_a_standby() {
    for (mode, text) in [(On, "1"), (Quorum, "ANY 1")] {
        let mut v = view("a", mode);
        v.settings.strict = true;
        let blocked = StandbyNames::read(&format!("{text} ({})", pgherd_types::sync::PLACEHOLDER));
        let (set, wait) = (SyncStep::SetNames(blocked), SyncStep::Wait(Waiting::Standby));
        assert_eq!(play(&mut v), [write(0, "", None), set, wait], "{mode:?}");
        v.settings.strict = false;
        assert_eq!(play(&mut v), [SyncStep::SetNames(StandbyNames::none()), SyncStep::Nothing], "{mode:?}");
    }
}

#[test]
fn spoiled_keys_are_replaced() {
    let mut v = view("a", On);
    v.key = SyncSeen::Garbage { mod_revision: 7 };
    assert_eq!(play(&mut v), [write(0, "", Some(7)), SyncStep::Nothing]);
}

/// A write `b may win alone` that is still on its way must not arrive after PostgreSQL was told that c will do as well.
#[test]
fn a_write_of_unknown_end_is_made_void_before_anything_else() {
    let rows = [row("b", 1000, SyncState::Quorum), row("c", 1000, SyncState::Async)];
    let mut v = streaming(view("a", Quorum), &rows);
    (v.key, v.names) = (key(4, "a", 1, &["b", "c"]), Some(StandbyNames::read("ANY 1 (b)")));
    look(&mut v);
    let grow = SyncStep::SetNames(StandbyNames::read("ANY 1 (b,c)"));
    assert_eq!(next_step(&v), grow);
    v.in_doubt = Some(Some(4));
    assert_eq!(next_step(&v), write(1, "b,c", Some(4)), "the same once more");
    v.in_doubt = Some(Some(3));
    assert_eq!(next_step(&v), grow, "it cannot find its revision any more");
    v.in_doubt = Some(None);
    assert_eq!(next_step(&v), grow);
    v.key = SyncSeen::Absent;
    assert_eq!(next_step(&v), write(0, "", None));
}

#[test]
fn a_proof_over_another_connection_is_none() {
    let mut v = streaming(view("a", On), &[row("c", 1000, SyncState::Sync)]);
    (v.key, v.names) = (key(4, "a", 0, &[]), Some(StandbyNames::read("c")));
    look(&mut v);
    v.rows[0].pid += 1;
    assert_eq!(next_step(&v), SyncStep::ForceWal);
    v.rows[0].pid -= 1;
    assert_eq!(next_step(&v), write(0, "c", Some(4)));
}
