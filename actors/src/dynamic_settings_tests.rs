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
fn unknown_keys_and_entries_without_meaning_are_reported() {
    let text = r#"{"ttll":30,"failsafe_mode":false,"slots":{},"ignore_slots":[{"name":"x"},{}]}"#;
    let warnings = read(text, &Settings::default(), true).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.contains(&"ttll: unknown key, ignored".to_owned()), "{warnings:?}");
}

/// What comes out of these values where quorum of two, strict and a limit were in force before.
fn sync(fields: &str) -> (SyncSettings, Vec<String>) {
    let sync = SyncSettings { mode: SyncMode::Quorum, strict: true, node_count: 2, maximum_lag: Some(7) };
    let previous = Settings { sync, ..Settings::default() };
    let checked = read(&format!("{{{fields}}}"), &previous, true).unwrap();
    (checked.settings.sync, checked.warnings)
}

#[test]
fn synchronous_modes_are_read_and_nonsense_keeps_what_was_in_force() {
    assert_eq!(sync(""), (SyncSettings::default(), vec![]), "absent keys have their defaults");
    for (value, mode) in [
        ("true", SyncMode::On),
        ("\"on\"", SyncMode::On),
        ("\"Yes\"", SyncMode::On),
        ("1", SyncMode::On),
        ("\"quorum\"", SyncMode::Quorum),
        ("\"QUORUM\"", SyncMode::Quorum),
        ("false", SyncMode::Off),
        ("\"off\"", SyncMode::Off),
        ("null", SyncMode::Off),
    ] {
        let (settings, warnings) = sync(&format!("\"synchronous_mode\":{value}"));
        assert_eq!((settings.mode, warnings), (mode, vec![]), "{value}");
    }
    for nonsense in ["\"perhaps\"", "2", "[]", "{}", "\"\"", "1.5"] {
        let (settings, warnings) = sync(&format!("\"synchronous_mode\":{nonsense}"));
        let told = "synchronous_mode: must be on, off or quorum; the value in force before is kept";
        assert_eq!((settings.mode, warnings), (SyncMode::Quorum, vec![told.to_owned()]), "{nonsense}");
    }
}

#[test]
fn the_other_settings_of_synchronous_replication_are_read_too() {
    let (settings, warnings) =
        sync(r#""synchronous_mode_strict":"on","synchronous_node_count":"3","maximum_lag_on_syncnode":1048576"#);
    assert_eq!((settings.strict, settings.node_count, settings.maximum_lag), (true, 3, Some(1_048_576)));
    assert_eq!(warnings, [""; 0]);
    for off in ["-1", "0", "\"-1\"", "null"] {
        let (settings, warnings) = sync(&format!("\"maximum_lag_on_syncnode\":{off}"));
        assert_eq!((settings.maximum_lag, warnings), (None, vec![]), "{off}");
    }
    assert!(!sync(r#""synchronous_mode_strict":false"#).0.strict);
    for (key, wrong) in [
        ("synchronous_node_count", "0"),
        ("synchronous_node_count", "-1"),
        ("synchronous_node_count", "\"many\""),
        ("synchronous_node_count", "4294967296"),
        ("maximum_lag_on_syncnode", "\"1MB\""),
        ("maximum_lag_on_syncnode", "[]"),
        ("synchronous_mode_strict", "\"perhaps\""),
    ] {
        let (settings, warnings) = sync(&format!("\"{key}\":{wrong}"));
        let kept = match key {
            "synchronous_node_count" => settings.node_count == 2,
            "maximum_lag_on_syncnode" => settings.maximum_lag == Some(7),
            _ => settings.strict,
        };
        assert!(
            kept && warnings.len() == 1 && warnings[0].starts_with(key),
            "{key} {wrong}: {settings:?} {warnings:?}"
        );
    }
}

#[test]
fn a_standby_cluster_has_no_synchronous_mode() {
    let text = r#"{"synchronous_mode":"quorum","standby_cluster":{"host":"far"}}"#;
    let settings = read(text, &Settings::default(), true).unwrap().settings;
    assert_eq!((settings.sync.mode, settings.sync_mode()), (SyncMode::Quorum, SyncMode::Off));
    let alone = read(r#"{"synchronous_mode":"quorum"}"#, &settings, true).unwrap().settings;
    assert_eq!(alone.sync_mode(), SyncMode::Quorum);
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
