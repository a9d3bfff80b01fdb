//! Which parameters wait for a restart: the value in force and the one that is wanted, both as PostgreSQL shows them.
//!
//! PostgreSQL tells by `pg_settings.pending_restart`, but not always: a standby runs with what its primary had, not with
//! what is configured, and its file says so too. The controlled parameters are therefore compared with the configuration.

use crate::units;
use serde_json::Value;
use std::collections::BTreeMap;

/// The column of the monitoring query; `{controlled}` is a list of names. The file is only read when something waits.
const COLUMN: &str = "
  (SELECT json_agg(json_build_object('name', s.name, 'now', current_setting(s.name), 'unit', s.unit, 'type', s.vartype,
     'default', s.boot_val, 'waits', s.pending_restart, 'file', CASE WHEN s.pending_restart THEN
       (SELECT f.setting FROM pg_file_settings f WHERE lower(f.name) = lower(s.name) ORDER BY f.seqno DESC LIMIT 1) END))
     FROM pg_settings s WHERE s.pending_restart OR s.name IN ({controlled})) AS settings";

/// Stands for a value that is not known.
const UNKNOWN: &str = "?";

/// The column for these controlled parameters.
pub(crate) fn column(controlled: &BTreeMap<String, String>) -> String {
    let names: Vec<String> = controlled.keys().map(|name| format!("'{name}'")).collect();
    COLUMN.replace("{controlled}", &names.join(", "))
}

/// Name, value in force, value wanted; by name.
pub(crate) fn reasons(settings: &[Value], controlled: &BTreeMap<String, String>) -> Vec<(String, String, String)> {
    let mut reasons: Vec<_> = settings.iter().filter_map(|setting| reason(setting, controlled)).collect();
    reasons.sort();
    reasons
}

fn reason(setting: &Value, controlled: &BTreeMap<String, String>) -> Option<(String, String, String)> {
    let text = |key: &str| setting[key].as_str();
    let (name, now) = (text("name")?, text("now").unwrap_or(UNKNOWN));
    let wanted = match controlled.get(name) {
        Some(wanted) => wanted.clone(),
        None if setting["waits"] != true => return None,
        // Gone from the file: the default is wanted.
        None => shown(text("file").or(text("default")), text("type"), text("unit").unwrap_or_default()),
    };
    (wanted != now).then(|| (name.to_owned(), now.to_owned(), wanted))
}

fn shown(value: Option<&str>, kind: Option<&str>, unit: &str) -> String {
    let Some(value) = value else { return UNKNOWN.to_owned() };
    let shown = match kind {
        Some("integer" | "real") => units::human(value, unit),
        Some("bool") => match value.to_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Some("on".to_owned()),
            "off" | "false" | "no" | "0" => Some("off".to_owned()),
            _ => None,
        },
        _ => None,
    };
    shown.unwrap_or_else(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reasons_are_shown_as_postgresql_shows_values() {
        let controlled = BTreeMap::from([
            ("max_connections".to_owned(), "80".to_owned()),
            ("wal_log_hints".to_owned(), "on".to_owned()),
        ]);
        let setting = |name: &str, now: &str, unit: Value, kind: &str, file: Value| json!({"name": name, "now": now, "unit": unit, "type": kind, "default": "8192", "waits": true, "file": file});
        let mut quiet = setting("max_connections", "100", Value::Null, "integer", Value::Null);
        quiet["waits"] = false.into();
        let settings = [
            setting("shared_buffers", "128MB", "8kB".into(), "integer", "64MB".into()),
            setting("wal_buffers", "4MB", "8kB".into(), "integer", Value::Null),
            setting("archive_mode", "off", Value::Null, "enum", "on".into()),
            setting("logging_collector", "off", Value::Null, "bool", "True".into()),
            setting("wal_log_hints", "on", Value::Null, "bool", "off".into()),
            setting("huge_page_size", "0", "kB".into(), "integer", "0".into()),
            setting("port_x", "1", Value::Null, "integer", "many".into()),
            quiet,
        ];
        let found: Vec<String> = reasons(&settings, &controlled)
            .into_iter()
            .map(|(name, old, new)| format!("{name}: {old}->{new}"))
            .collect();
        let wanted = [
            "archive_mode: off->on",
            "logging_collector: off->on",
            "max_connections: 100->80",
            "port_x: 1->many",
            "shared_buffers: 128MB->64MB",
            "wal_buffers: 4MB->64MB",
        ];
        assert_eq!(found, wanted);
    }
}
