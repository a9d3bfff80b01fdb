//! The dynamic configuration: rules, wrong values, and that nothing makes it panic.

use super::*;

fn timings(text: &str, all_ours: bool) -> (u64, u64, u64, usize) {
    let checked = read(text, &Settings::default(), all_ours).unwrap();
    let s = &checked.settings;
    (s.ttl.as_secs(), s.loop_wait.as_secs(), s.retry_timeout.as_secs(), checked.warnings.len())
}

#[test]
fn timings_follow_the_rule() {
    assert_eq!(timings("{}", true), (30, 10, 10, 0));
    assert_eq!(timings(r#"{"ttl":3,"loop_wait":1,"retry_timeout":1}"#, true), (3, 1, 1, 0));
    assert_eq!(timings(r#"{"ttl":3,"loop_wait":1,"retry_timeout":1}"#, false), (20, 1, 3, 2));
    assert_eq!(timings(r#"{"ttl":0,"loop_wait":0,"retry_timeout":0}"#, true), (3, 1, 1, 3));
    assert_eq!(timings(r#"{"ttl":20,"loop_wait":10,"retry_timeout":8}"#, true), (20, 4, 8, 1));
    assert_eq!(timings(r#"{"ttl":20,"loop_wait":10,"retry_timeout":10}"#, true), (20, 1, 9, 1));
    assert_eq!(timings(r#"{"ttl":"30","loop_wait":10.4,"retry_timeout":"10"}"#, true), (30, 10, 10, 0));
}

#[test]
fn a_wrong_value_keeps_what_was_before() {
    let previous =
        Settings { ttl: Duration::from_secs(60), pause: true, maximum_lag_on_failover: 7, ..Settings::default() };
    let text = r#"{"ttl":[1],"loop_wait":10,"pause":"perhaps","maximum_lag_on_failover":"1MB","postgresql":{"use_slots":"x"}}"#;
    let checked = read(text, &previous, true).unwrap();
    assert_eq!(checked.settings.ttl, Duration::from_secs(60));
    assert!(checked.settings.pause);
    assert_eq!(checked.settings.maximum_lag_on_failover, 7);
    assert!(checked.settings.use_slots);
    assert_eq!(checked.warnings.len(), 4, "{:?}", checked.warnings);
    assert!(checked.warnings[0].starts_with("ttl: must be a number of seconds"), "{:?}", checked.warnings);
}

#[test]
fn an_absent_or_null_key_has_its_default() {
    let previous = Settings { ttl: Duration::from_secs(60), pause: true, ..Settings::default() };
    assert_eq!(read(r#"{"pause":null}"#, &previous, true).unwrap().settings, Settings::default());
}

#[test]
fn old_names_units_and_our_own_key() {
    let text = r#"{"master_start_timeout":20,"member_slots_ttl":"2h","dcs_outage_demote":"retry_timeout",
        "max_timelines_history":"5","pause":"on","postgresql":{"use_slots":false,"parameters":{}}}"#;
    let checked = read(text, &Settings::default(), true).unwrap();
    assert_eq!(checked.settings.primary_start_timeout, Duration::from_secs(20));
    assert_eq!(checked.settings.member_slots_ttl, Duration::from_secs(7200));
    assert!(checked.settings.dcs_outage_demote_early && checked.settings.pause && !checked.settings.use_slots);
    assert_eq!(checked.settings.max_timelines_history, 5);
    assert_eq!(checked.warnings, [""; 0]);
}

#[test]
fn unknown_and_unsupported_keys_are_reported() {
    let text = r#"{"ttll":30,"synchronous_mode":true,"failsafe_mode":false,"slots":{}}"#;
    let warnings = read(text, &Settings::default(), true).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.contains(&"ttll: unknown key, ignored".to_owned()), "{warnings:?}");
}

#[test]
fn nothing_makes_it_panic() {
    let deep = "[".repeat(100_000);
    for text in ["", "null", "[]", "{", "\u{0}", "1e999", deep.as_str()] {
        assert!(read(text, &Settings::default(), true).is_err(), "{text:.20}");
    }
    let extreme = r#"{"ttl":1e300,"loop_wait":-1,"retry_timeout":18446744073709551615,"member_slots_ttl":"9999999999999999999d",
        "maximum_lag_on_failover":-5,"max_timelines_history":1.5e17,"primary_start_timeout":"é1min","dcs_outage_demote":{}}"#;
    let checked = read(extreme, &Settings::default(), false).unwrap();
    assert_eq!(checked.settings, Settings::default());
    assert_eq!(checked.warnings.len(), 8, "{:?}", checked.warnings);
}
