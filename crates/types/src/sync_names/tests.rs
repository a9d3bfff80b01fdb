//! Every text here was given to PostgreSQL 15 (`ALTER SYSTEM SET`), which took or refused it as said.

use super::*;
use proptest::prelude::*;

fn of(kind: SyncKind, number: u32, names: &[&str], has_star: bool) -> StandbyNames {
    StandbyNames { kind, number, names: names.iter().map(|n| SyncName::from(*n)).collect(), has_star }
}

#[test]
fn every_form_of_postgresql_is_read() {
    use SyncKind::{Any, First};
    for (text, expected) in [
        ("", StandbyNames::none()),
        ("a", of(First, 1, &["a"], false)),
        (" a ", of(First, 1, &["a"], false)),
        ("a,b", of(First, 1, &["a", "b"], false)),
        ("2 (a, b)", of(First, 2, &["a", "b"], false)),
        ("FIRST 2 (a,b)", of(First, 2, &["a", "b"], false)),
        ("first 1(a)", of(First, 1, &["a"], false)),
        ("ANY 1 (a,\"B c\")", of(Any, 1, &["a", "B c"], false)),
        ("aNy 2 (*)", of(Any, 2, &[], true)),
        ("\"*\"", of(First, 1, &[], true)),
        ("a,*", of(First, 1, &["a"], true)),
        ("\"any\"", of(First, 1, &["any"], false)),
        ("3 (a)", of(First, 3, &["a"], false)),
        ("1", of(First, 1, &["1"], false)),
        ("1,2", of(First, 1, &["1", "2"], false)),
        ("2 (1,x)", of(First, 2, &["1", "x"], false)),
        ("a$b", of(First, 1, &["a$b"], false)),
        ("\"a-b\"", of(First, 1, &["a-b"], false)),
        ("\"a\"\"b\"", of(First, 1, &["a\"b"], false)),
        ("\"\"", of(First, 1, &[""], false)),
        ("ä", of(First, 1, &["ä"], false)),
        ("firsts", of(First, 1, &["firsts"], false)),
        // atoi: cut to 32 bits
        ("4294967297 (a)", of(First, 1, &["a"], false)),
        ("99999999999 (a)", of(First, 1_215_752_191, &["a"], false)),
    ] {
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }
}

#[test]
fn what_postgresql_refuses_waits_for_nobody() {
    for text in [
        "any",
        "first",
        "any,b",
        "FIRST (a)",
        "0 (a)",
        "ANY 0 (a)",
        "1a",
        "$a",
        "a-b",
        "\"a",
        "a,,b",
        "a,",
        "(a)",
        " ",
        "a b",
        "ANY 1 ()",
        "-1 (a)",
        "FIRST1 (a)",
        "FIRST 1a (b)",
        "2(a)b",
        "\"a\" \"b\"",
        "\"a\"\"b\"\"",
        "a\t,",
        "1 (y), 2",
    ] {
        assert_eq!(text.parse::<StandbyNames>(), Err(NotStandbyNames), "{text}");
        assert!(StandbyNames::read(text).is_none(), "{text}");
    }
}

#[test]
fn what_is_written() {
    let set = |names: &[&str]| -> SyncNames { names.iter().map(|n| SyncName::from(*n)).collect() };
    for (names, text) in [
        (StandbyNames::none(), ""),
        (StandbyNames::all(set(&["a"])), "a"),
        (StandbyNames::all(set(&["b", "a"])), "2 (a,b)"),
        (StandbyNames::all(set(&["postgres-1"])), "\"postgres-1\""),
        (StandbyNames::all(set(&["first", "Any", "x\"y", "1", "_a$1"])), "5 (\"1\",\"Any\",\"first\",\"x\"\"y\",_a$1)"),
        (StandbyNames::any(1, set(&["a"])), "ANY 1 (a)"),
        (StandbyNames::any(2, set(&["b", "a", "c"])), "ANY 2 (a,b,c)"),
        (StandbyNames::blocked(SyncKind::First), "__patroni_strict_sync_replica_placeholder__"),
        (StandbyNames::blocked(SyncKind::Any), "ANY 1 (__patroni_strict_sync_replica_placeholder__)"),
        (of(SyncKind::First, 1, &["a"], true), "1 (a,*)"),
    ] {
        assert_eq!(names.to_string(), text);
    }
}

#[test]
fn the_placeholder_is_nobody() {
    let names = StandbyNames::read("ANY 1 (__patroni_strict_sync_replica_placeholder__)");
    assert!(names.is_blocked() && names.known().is_empty());
    let more = StandbyNames::read("a,__patroni_strict_sync_replica_placeholder__");
    assert!(!more.is_blocked());
    assert_eq!(more.known(), SyncNames::from(["a".into()]));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        any in any::<bool>(),
        number in 1..9u32,
        names in prop::collection::vec("[^*\u{0}]{0,12}|[a-c_$1\"]{1,6}|first|ANY", 1..5),
        has_star in any::<bool>(),
    ) {
        let kind = if any { SyncKind::Any } else { SyncKind::First };
        let names = StandbyNames { kind, number, names: names.iter().map(|n| n.as_str().into()).collect(), has_star };
        prop_assert_eq!(names.to_string().parse(), Ok(names));
    }

    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,40}|[anyfirst0-9(),\" *ä]{0,20}") {
        let _ = StandbyNames::read(&text).to_string();
    }
}
