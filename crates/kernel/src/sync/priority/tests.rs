use super::super::state::Promise;
use super::*;

type World = State<char>;

fn set(names: &str) -> BTreeSet<char> {
    names.chars().filter(|c| *c != '-').collect()
}

/// Leader a is the primary; the key, PostgreSQL (all of the names), who is active, and who of them is picked.
fn world(voters: &str, names: &str, active: &str, picked: &str) -> World {
    State {
        me: 'a',
        promise: Promise { leader: Some('a'), quorum: 0, voters: set(voters) },
        waits: Waits::of(names.len(), set(names)),
        active: set(active),
        picked: set(picked),
        proven: BTreeSet::new(),
        wanted: 1,
        strict: false,
        patient: false,
        pristine: false,
    }
}

fn shown(names: &BTreeSet<char>) -> String {
    if names.is_empty() { "-".to_owned() } else { names.iter().collect() }
}

/// Carries steps out until there is none, and lists them; every active standby in PostgreSQL's list proves itself as
/// soon as that is waited for.
fn play(mut s: World) -> String {
    let mut steps = Vec::new();
    for _ in 0..20 {
        match next(&s) {
            Step::Promise { quorum, voters } => {
                steps.push(format!("K({})", shown(&voters)));
                s.promise = Promise { leader: Some(s.me), quorum, voters };
            }
            Step::Waits(waits) => {
                steps.push(format!("P({},{})", waits.number, shown(&waits.names)));
                s.waits = waits;
            }
            Step::Await(Awaited::Proof) => {
                steps.push("proof".to_owned());
                s.proven = s.alive();
            }
            Step::Await(Awaited::Reconnect) => steps.push("reconnect".to_owned()),
            Step::Await(Awaited::Standby) => steps.push("standby".to_owned()),
            Step::Done => break,
        }
        if steps.last().is_some_and(|last| matches!(last.as_str(), "reconnect" | "standby")) {
            break;
        }
    }
    steps.join(" ")
}

/// The spec's driver (spec/sync-and-quorum.md 6) changes number and names of PostgreSQL at once.
#[test]
fn one_step_after_the_other() {
    for (voters, names, active, picked, steps) in [
        ("-", "-", "-", "-", ""),
        ("-", "-", "b", "b", "P(1,b) proof K(b)"),
        ("b", "b", "b", "b", ""),
        ("b", "b", "bc", "b", ""),
        ("b", "b", "bc", "bc", "P(2,b) P(2,bc) proof K(bc)"),
        ("bc", "bc", "b", "b", "K(b) P(2,b) P(1,b)"),
        ("bc", "bc", "bc", "b", "K(b) P(2,b) P(1,b)"),
        ("b", "b", "-", "-", "K(-) P(0,-)"),
        ("b", "b", "c", "c", "K(-) P(1,c) proof K(c)"),
        ("-", "b", "-", "-", "P(0,-)"),
        ("-", "b", "c", "c", "P(1,c) proof K(c)"),
        ("b", "bc", "bc", "b", "P(2,b) P(1,b)"),
        // one that makes way for a better one stays until that one has everything
        ("b", "b", "bc", "c", "P(2,b) P(2,bc) proof K(c) P(2,c) P(1,c)"),
        // the key says more than PostgreSQL keeps
        ("bc", "b", "bc", "bc", "K(-) P(2,bc) proof K(bc)"),
    ] {
        assert_eq!(play(world(voters, names, active, picked)), steps, "{voters} {names} {active} {picked}");
    }
}

#[test]
fn an_absent_or_foreign_key_becomes_a_promise_of_nobody() {
    for leader in [None, Some('b')] {
        let mut s = world("bc", "bc", "bc", "bc");
        s.promise.leader = leader;
        assert_eq!(play(s), "K(-) proof K(bc)");
    }
}

#[test]
fn a_key_of_quorum_mode_is_not_taken_for_one_of_this_mode() {
    let mut s = world("bc", "bc", "bc", "bc");
    s.promise.quorum = 1;
    s.waits.number = 1;
    assert_eq!(play(s), "K(-) P(2,bc) proof K(bc)");
}

#[test]
fn strict_mode_keeps_the_last_ones_until_another_is_there() {
    let strict =
        |voters: &str, names: &str, active: &str| State { strict: true, ..world(voters, names, active, active) };
    assert_eq!(play(strict("b", "b", "-")), "standby");
    assert_eq!(play(strict("b", "bc", "-")), "P(2,b) P(1,b) standby");
    assert_eq!(play(strict("bc", "b", "-")), "K(-) P(1,-) standby", "the key was broken");
    assert_eq!(play(strict("-", "-", "-")), "P(1,-) standby");
    assert_eq!(play(strict("b", "b", "c")), "K(-) P(1,c) proof K(c)");
    // after a promotion PostgreSQL waits for everybody: the first who streams is enough
    assert_eq!(play(strict("bc", "bc", "c")), "K(c) P(2,c) P(1,c)");
    assert_eq!(play(State { waits: Waits::blocked(), ..strict("b", "-", "b") }), "P(1,b)");
}

#[test]
fn patience_keeps_those_who_are_coming_back_while_nobody_else_is_there() {
    for (voters, names) in [("b", "b"), ("-", "b")] {
        let s = State { patient: true, ..world(voters, names, "-", "-") };
        assert_eq!(play(s), "reconnect", "{voters} {names}");
    }
    let other_one = world("b", "b", "c", "c");
    let patient = State { patient: true, ..other_one.clone() };
    assert_eq!(play(patient), play(other_one), "commits must not wait for the dead while another one streams");
}
