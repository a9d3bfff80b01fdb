use super::*;
use serde_json::json;

fn read(dynamic: Value) -> (SlotSettings, Vec<String>) {
    slot_settings(dynamic.as_object().unwrap(), &SlotSettings::default())
}
fn kinds(dynamic: Value) -> String {
    let (settings, warnings) = read(dynamic);
    assert!(warnings.is_empty(), "{warnings:?}");
    let word = |(name, slot): (&String, &PermanentSlot)| match &slot.kind {
        SlotKind::Physical => format!("{name}:physical"),
        SlotKind::Logical(decoding) => format!("{name}:{}/{}", decoding.database, decoding.plugin),
    };
    settings.permanent.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_form_of_a_permanent_slot_is_understood() {
    let slots = json!({"a": null, "b": {}, "c": 0, "d": {"type": "physical"}, "e": {"cluster_type": "standby"},
        "f": {"database": "db", "plugin": "pgoutput"},
        "g": {"type": "logical", "database": "db", "plugin": "test_decoding", "lsn": 5}});
    assert_eq!(
        kinds(json!({"slots": slots})),
        "a:physical b:physical c:physical d:physical e:physical f:db/pgoutput g:db/test_decoding"
    );
    assert_eq!(
        read(json!({"slots": {"e": {"cluster_type": "standby"}}})).0.permanent["e"].in_standby_cluster,
        Some(true)
    );
    assert_eq!(kinds(json!({"slots": {"a": null}, "permanent_slots": {"b": null}})), "b:physical");
    assert_eq!(
        kinds(json!({"slots": {"a": null}, "permanent_slots": {}, "permanent_replication_slots": null})),
        "a:physical"
    );
    assert_eq!(kinds(json!({})), "");
}

#[test]
fn what_is_wrong_is_told_and_changes_nothing() {
    let before = read(json!({"slots": {"cdc": {"database": "db", "plugin": "pgoutput"}}, "slot_wal_warning": 7})).0;
    let wrong = |dynamic: Value| slot_settings(dynamic.as_object().unwrap(), &before);
    for value in [json!({"database": "db"}), json!({"type": "odd"}), json!("text"), json!({"cluster_type": "x"})] {
        let (settings, warnings) = wrong(json!({"slots": {"cdc": value}}));
        assert_eq!(settings.permanent, before.permanent);
        assert!(warnings[0].contains("Bad value for slot 'cdc' in permanent_slots"), "{warnings:?}");
    }
    for name in ["Big", "a-b", "", &"x".repeat(64)] {
        let (settings, warnings) = wrong(json!({"slots": {name: null}}));
        assert!(settings.permanent.is_empty() && warnings[0].contains("Invalid permanent replication slot name"));
    }
    let (settings, warnings) =
        wrong(json!({"slots": [1], "ignore_slots": 5, "drop_unknown_slots": "x", "slot_wal_warning": "lots",
            "manage_synchronized_standby_slots": "some"}));
    assert_eq!(settings, before);
    assert_eq!(warnings.len(), 5);
}

#[test]
fn an_empty_matcher_is_a_mistake() {
    let (settings, warnings) = read(json!({"ignore_slots": [{}, {"name": "x"}, {"type": "odd"}, {"type": "logical"}]}));
    assert_eq!((settings.ignore.len(), warnings.len()), (2, 2));
    assert!(warnings[0].contains("would mean every slot"));
}

#[test]
fn the_other_keys_have_defaults_and_units() {
    let settings = read(json!({"drop_unknown_slots": "always", "slot_wal_warning": "512MB",
        "manage_synchronized_standby_slots": "on"}));
    let settings = settings.0;
    assert_eq!((settings.drop_unknown, settings.wal_warning, settings.consumers_wait), (true, 512 << 20, true));
    let settings = read(json!({})).0;
    assert_eq!((settings.drop_unknown, settings.wal_warning, settings.consumers_wait), (false, 4 << 30, false));
}
