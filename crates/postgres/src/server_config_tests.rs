//! What becomes of the two configurations.

use super::*;
use std::path::Path;

fn options(local: &[(&str, &str)]) -> PostgresOptions {
    let mut options = PostgresOptions::new("a".into(), "demo", Path::new("/data"));
    options.parameters = local.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    options
}

fn merged(local: &[(&str, &str)], dynamic: &str) -> ServerConfig {
    ServerConfig::merge(&options(local), dynamic).unwrap()
}

#[test]
fn controlled_parameters_come_only_from_the_dynamic_configuration() {
    let local = [("max_connections", "500"), ("Work_Mem", "8MB"), ("port", "1")];
    let config =
        merged(&local, r#"{"postgresql":{"parameters":{"Max_Connections":200,"work_mem":"4MB","jit":false}}}"#);
    assert_eq!(config.controlled["max_connections"], "200");
    assert_eq!(config.controlled["port"], "5432");
    assert_eq!(config.parameters["work_mem"], "8MB");
    assert_eq!(config.parameters["jit"], "off");
    assert!(!config.parameters.contains_key("port") && !config.parameters.contains_key("max_connections"));
}

#[test]
fn a_bad_controlled_value_becomes_the_default() {
    let bad = r#"{"postgresql":{"parameters":{"max_connections":3,"max_wal_senders":1000000,"hot_standby":"off",
        "wal_level":"minimal","wal_log_hints":7,"track_commit_timestamp":"true"}}}"#;
    let config = merged(&[], bad);
    for (name, value) in [
        ("max_connections", "100"),
        ("max_wal_senders", "10"),
        ("hot_standby", "on"),
        ("wal_level", "replica"),
        ("wal_log_hints", "on"),
        ("track_commit_timestamp", "on"),
    ] {
        assert_eq!(config.controlled[name], value);
    }
}

#[test]
fn lists_of_the_local_configuration_replace_the_shared_ones() {
    let dynamic = r#"{"postgresql":{"pg_hba":["shared"],"use_slots":false,"parameters":{"wal_keep_segments":10},
        "recovery_conf":{"restore_command":"cp","recovery_target":"immediate"}}}"#;
    let config = merged(&[], dynamic);
    assert_eq!(config.pg_hba, ["shared"]);
    assert!(!config.use_slots);
    assert_eq!(config.parameters["wal_keep_size"], "160MB");
    assert_eq!(config.recovery.keys().collect::<Vec<_>>(), ["restore_command"]);
    let mut options = options(&[]);
    options.pg_hba = vec!["local".to_owned()];
    assert_eq!(ServerConfig::merge(&options, dynamic).unwrap().pg_hba, ["local"]);
}

#[test]
fn a_recovery_parameter_among_the_others_is_added_to_them_and_wins() {
    let dynamic = r#"{"postgresql":{"parameters":{"restore_command":"new","primary_conninfo":"x","jit":"on"},
        "recovery_conf":{"restore_command":"old","archive_cleanup_command":"rm"}}}"#;
    let config = merged(&[("recovery_min_apply_delay", "5s")], dynamic);
    let recovery: Vec<_> = config.recovery.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(recovery, ["archive_cleanup_command=rm", "recovery_min_apply_delay=5s", "restore_command=new"]);
    assert_eq!(config.parameters.keys().collect::<Vec<_>>(), ["jit", "wal_keep_size"]);
}

#[test]
fn a_role_has_parameters_over_the_others_and_lists_instead_of_them() {
    let dynamic = r#"{"postgresql":{"parameters":{"work_mem":"4MB","jit":"on"},"pg_hba":["all"],"pg_ident":["all"],
        "parameters_replica":{"work_mem":"1MB","max_connections":7,"restore_command":"x"},"pg_hba_primary":["shared"],
        "pg_hba_standby_leader":["sl"]}}"#;
    let mut options = options(&[]);
    let local = Overlay { pg_hba: Some(vec!["local".to_owned()]), ..Overlay::default() };
    options.overlays.insert(RoleClass::Primary, local);
    let config = ServerConfig::merge(&options, dynamic).unwrap();
    let primary = config.for_role(RoleClass::Primary);
    assert_eq!((primary.pg_hba, primary.pg_ident), (vec!["local".to_owned()], vec!["all".to_owned()]));
    assert_eq!(primary.parameters["work_mem"], "4MB");
    let replica = config.for_role(RoleClass::Replica);
    assert_eq!((replica.pg_hba, replica.parameters["work_mem"].as_str()), (vec!["all".to_owned()], "1MB"));
    assert_eq!((replica.parameters["jit"].as_str(), replica.controlled["max_connections"].as_str()), ("on", "100"));
    assert!(!replica.parameters.contains_key("restore_command") && replica.recovery.is_empty());
    assert_eq!(config.for_role(RoleClass::StandbyLeader).pg_hba, ["sl"]);
}

#[test]
fn a_value_of_the_wrong_kind_makes_the_document_unusable() {
    for (dynamic, why) in [
        ("not json", "it is not valid JSON"),
        ("[]", "it is not a JSON object"),
        (r#"{"postgresql":5}"#, "postgresql must be an object"),
        (r#"{"postgresql":{"parameters":[]}}"#, "postgresql.parameters must be an object"),
        (r#"{"postgresql":{"parameters":{"a":[1]}}}"#, "postgresql.parameters.a must be a single value"),
        (r#"{"postgresql":{"pg_hba":"x"}}"#, "postgresql.pg_hba must be a list of texts"),
        (r#"{"postgresql":{"pg_ident_primary":[1]}}"#, "postgresql.pg_ident_primary must be a list of texts"),
        (r#"{"postgresql":{"use_slots":"maybe"}}"#, "postgresql.use_slots must be true or false"),
    ] {
        let error = ServerConfig::merge(&options(&[]), dynamic).unwrap_err().to_string();
        assert!(error.contains(why), "{dynamic}: {error}");
    }
    assert_eq!(merged(&[], r#"{"postgresql":null}"#), merged(&[], "{}"));
    assert_eq!(merged(&[], r#"{"postgresql":{"parameters":{"jit":null},"pg_hba":null}}"#), merged(&[], "{}"));
}

#[test]
fn a_primary_has_its_own_time_to_stop_in_a_synchronous_mode() {
    let timeout = |dynamic: &str| merged(&[], dynamic).primary_stop_timeout.map(|t| t.as_secs());
    for (dynamic, wanted) in [
        (r#"{"primary_stop_timeout":5}"#, None),
        (r#"{"primary_stop_timeout":5,"synchronous_mode":false}"#, None),
        (r#"{"primary_stop_timeout":0,"synchronous_mode":true}"#, None),
        (r#"{"primary_stop_timeout":5,"synchronous_mode":true}"#, Some(5)),
        (r#"{"master_stop_timeout":"6","synchronous_mode":"quorum"}"#, Some(6)),
    ] {
        assert_eq!(timeout(dynamic), wanted, "{dynamic}");
    }
}
