//! Which parameters wait for a restart: the value in force and the one that is wanted, both as PostgreSQL shows them.
//!
//! PostgreSQL tells by `pg_settings.pending_restart`, but not always: a standby runs with what its primary had, not with
//! what is configured, and its file says so too. The controlled parameters are therefore compared with the configuration.

use crate::units;
use serde_json::Value;
use std::collections::BTreeMap;

/// The column of the monitoring query; `{names}` is a list. The file is only read when something waits.
const COLUMN: &str = "
  (SELECT json_agg(json_build_object('name', s.name, 'now', current_setting(s.name), 'unit', s.unit, 'type', s.vartype,
     'default', s.boot_val, 'waits', s.pending_restart, 'file', CASE WHEN s.pending_restart THEN
       (SELECT f.setting FROM pg_file_settings f WHERE lower(f.name) = lower(s.name) ORDER BY f.seqno DESC LIMIT 1) END))
     FROM pg_settings s WHERE s.pending_restart OR s.name IN ({names})) AS settings";

/// What the automatic size of `wal_buffers` follows from.
const FOR_WAL_BUFFERS: [&str; 2] = ["shared_buffers", "wal_segment_size"];
/// The unit of `wal_buffers`.
const BLOCK: &str = "8kB";

/// Stands for a value that is not known.
const UNKNOWN: &str = "?";

/// The column for these controlled parameters.
pub(crate) fn column(controlled: &BTreeMap<String, String>) -> String {
    let names = controlled.keys().map(String::as_str).chain(FOR_WAL_BUFFERS);
    let names: Vec<String> = names.map(|name| format!("'{name}'")).collect();
    COLUMN.replace("{names}", &names.join(", "))
}

/// Name, value in force, value wanted; by name.
pub(crate) fn reasons(settings: &[Value], controlled: &BTreeMap<String, String>) -> Vec<(String, String, String)> {
    let mut reasons: Vec<_> = settings.iter().filter_map(|setting| reason(setting, settings, controlled)).collect();
    reasons.sort();
    reasons
}

fn reason(setting: &Value, all: &[Value], controlled: &BTreeMap<String, String>) -> Option<(String, String, String)> {
    let name = setting["name"].as_str()?;
    let now = setting["now"].as_str().unwrap_or(UNKNOWN);
    let wanted = match controlled.get(name) {
        Some(wanted) => wanted.clone(),
        None if setting["waits"] != true => return None,
        None => wanted(setting),
    };
    let wanted = if name == "wal_buffers" && wanted == "-1" { automatic_wal_buffers(all) } else { wanted };
    (wanted != now).then(|| (name.to_owned(), now.to_owned(), wanted))
}

/// After a restart: what the file says, or the default if it says nothing any more.
fn wanted(setting: &Value) -> String {
    if setting["waits"] != true {
        return setting["now"].as_str().unwrap_or(UNKNOWN).to_owned();
    }
    let text = |key: &str| setting[key].as_str();
    shown(text("file").or(text("default")), text("type"), text("unit").unwrap_or_default())
}

/// PostgreSQL's rule: a 32nd of `shared_buffers`, at least 64 kB and at most one segment.
fn automatic_wal_buffers(all: &[Value]) -> String {
    let blocks = |name: &str| {
        let setting = all.iter().find(|setting| setting["name"] == name)?;
        units::parse(&wanted(setting), BLOCK)
    };
    let [shared, segment] = FOR_WAL_BUFFERS.map(blocks);
    let (Some(shared), Some(segment)) = (shared, segment) else { return UNKNOWN.to_owned() };
    let automatic = (shared / 32.0).floor().min(segment).max(8.0);
    units::human(&automatic.to_string(), BLOCK).unwrap_or_else(|| UNKNOWN.to_owned())
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
        let mut segment = setting("wal_segment_size", "16MB", "B".into(), "integer", Value::Null);
        segment["waits"] = false.into();
        let settings = [
            setting("shared_buffers", "128MB", "8kB".into(), "integer", "64MB".into()),
            setting("wal_buffers", "4MB", "8kB".into(), "integer", "-1".into()),
            setting("temp_buffers", "4MB", "8kB".into(), "integer", Value::Null),
            setting("archive_mode", "off", Value::Null, "enum", "on".into()),
            setting("logging_collector", "off", Value::Null, "bool", "True".into()),
            setting("wal_log_hints", "on", Value::Null, "bool", "off".into()),
            setting("huge_page_size", "0", "kB".into(), "integer", "0".into()),
            setting("port_x", "1", Value::Null, "integer", "many".into()),
            quiet,
            segment,
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
            "temp_buffers: 4MB->64MB",
            "wal_buffers: 4MB->2MB",
        ];
        assert_eq!(found, wanted);
    }
}
