//! The configuration in force: defaults, the dynamic configuration, the local one (spec/postgres-control.md 5.1, 5.2).

use crate::controlled::{controlled, is_controlled, wal_keep_size};
use crate::options::PostgresOptions;
use crate::role_overlay::{Overlay, RoleClass};
use crate::script_settings::Scripts;
use crate::slot_section::slot_settings;
use crate::standby_section::StandbySection;
use pgherd_types::SlotSettings;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the server shall run with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerConfig {
    /// Go on the command line, so that `ALTER SYSTEM` cannot change them, and into the file.
    pub controlled: BTreeMap<String, String>,
    /// Go into the file only.
    pub parameters: BTreeMap<String, String>,
    /// Lines of `pg_hba.conf`; empty leaves the file alone.
    pub pg_hba: Vec<String>,
    /// Lines of `pg_ident.conf`; empty leaves the file alone.
    pub pg_ident: Vec<String>,
    /// Recovery parameters of the user (`restore_command`, …).
    pub recovery: BTreeMap<String, String>,
    /// What is different in a role.
    pub overlays: BTreeMap<RoleClass, Overlay>,
    /// The leader follows the primary of another cluster.
    pub standby_cluster: Option<StandbySection>,
    /// Stream through a replication slot.
    pub use_slots: bool,
    /// There are permanent logical slots.
    pub logical_slots: bool,
    /// The agent says for which standbys consumers of logical slots wait.
    pub consumers_wait: bool,
    /// How long a primary may take to start, and a `pre_promote` script to end.
    pub primary_start_timeout: Duration,
    /// In a synchronous mode: how long a primary may take to stop in order, instead of `pg_ctl_timeout`.
    pub primary_stop_timeout: Option<Duration>,
    /// The user's scripts.
    pub scripts: Scripts,
}

/// The dynamic configuration cannot be used; what was in force before stays so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnusableConfig(String);

type Parameters = BTreeMap<String, String>;

impl ServerConfig {
    /// Merges the dynamic configuration (the JSON text of the `config` key) with the local one.
    pub fn merge(options: &PostgresOptions, dynamic: &str) -> Result<Self, UnusableConfig> {
        let (root, section) = Section::read(dynamic)?;
        let shared = section.parameters("parameters")?.unwrap_or_default();
        let mut parameters = shared.clone();
        parameters.extend(lower_case(&options.parameters));
        let mut recovery = match &options.recovery_conf {
            Some(local) => lower_case(local),
            None => section.parameters("recovery_conf")?.unwrap_or_default(),
        };
        take_recovery_parameters(&mut parameters, &mut recovery);
        recovery.retain(|name, _| is_user_recovery_parameter(name));
        let standby_cluster = StandbySection::read(&root).map_err(UnusableConfig)?;
        if let Some(section) = &standby_cluster {
            let command = |name: &str, value: &Option<String>| value.clone().map(|value| (name.to_owned(), value));
            recovery.extend(command("restore_command", &section.restore_command));
            recovery.extend(command("archive_cleanup_command", &section.archive_cleanup_command));
        }
        parameters.retain(|name, _| !is_controlled(name));
        parameters.insert("wal_keep_size".to_owned(), wal_keep_size(&shared));
        Ok(Self {
            controlled: controlled(options, &shared),
            parameters,
            pg_hba: local_or(&options.pg_hba, section.lines("pg_hba")?),
            pg_ident: local_or(&options.pg_ident, section.lines("pg_ident")?),
            recovery,
            overlays: overlays(options, &section)?,
            use_slots: section.use_slots()?,
            logical_slots: slots_of(&root).logical().next().is_some(),
            consumers_wait: section.use_slots()? && slots_of(&root).consumers_wait,
            standby_cluster,
            primary_start_timeout: primary_start_timeout(&root),
            primary_stop_timeout: primary_stop_timeout(&root),
            scripts: options.scripts.over(section.scripts()?),
        })
    }

    /// One parameter as it is for a server of this role.
    pub fn parameter(&self, role: RoleClass, name: &str) -> Option<&str> {
        let overlay = self.overlays.get(&role).and_then(|overlay| overlay.parameters.as_ref()?.get(name));
        overlay.or_else(|| self.parameters.get(name)).map(String::as_str)
    }

    /// As it is for a server of this role.
    pub fn for_role(&self, role: RoleClass) -> Self {
        let mut config = Self { overlays: BTreeMap::new(), ..self.clone() };
        let Some(overlay) = self.overlays.get(&role).cloned() else { return config };
        config.parameters.extend(overlay.parameters.unwrap_or_default());
        config.pg_hba = overlay.pg_hba.unwrap_or(config.pg_hba);
        config.pg_ident = overlay.pg_ident.unwrap_or(config.pg_ident);
        config
    }
}

/// Each key of the local configuration replaces that of the dynamic one as a whole.
fn overlays(options: &PostgresOptions, section: &Section) -> Result<BTreeMap<RoleClass, Overlay>, UnusableConfig> {
    let mut overlays = BTreeMap::new();
    for role in RoleClass::ALL {
        let key = |name: &str| format!("{name}_{}", role.suffix());
        let shared = Overlay {
            parameters: section.parameters(&key("parameters"))?,
            pg_hba: section.lines(&key("pg_hba"))?,
            pg_ident: section.lines(&key("pg_ident"))?,
        };
        let mut overlay = options.overlays.get(&role).cloned().unwrap_or_default().over(shared);
        overlay.parameters = overlay.parameters.map(|parameters| usable_in_overlay(&parameters, &key("parameters")));
        if !overlay.is_empty() {
            overlays.insert(role, overlay);
        }
    }
    Ok(overlays)
}

fn usable_in_overlay(parameters: &Parameters, key: &str) -> Parameters {
    let mut usable = lower_case(parameters);
    usable.retain(|name, _| {
        let refused = is_controlled(name) || is_recovery_parameter(name);
        if refused {
            log::warn!("parameter {name} cannot depend on the role and is ignored in postgresql.{key}");
        }
        !refused
    });
    usable
}

/// Recovery parameters among the others count, over those of `recovery_conf`, where they belong.
fn take_recovery_parameters(parameters: &mut Parameters, recovery: &mut Parameters) {
    let names: Vec<String> = parameters.keys().filter(|name| is_recovery_parameter(name)).cloned().collect();
    for (name, value) in names.into_iter().filter_map(|name| parameters.remove_entry(&name)) {
        match is_user_recovery_parameter(&name) {
            true => {
                log::warn!(
                    "parameter {name} in postgresql.parameters is used; it belongs into postgresql.recovery_conf"
                );
                recovery.insert(name, value);
            }
            false => log::warn!("parameter {name} in postgresql.parameters is set by the agent and ignored there"),
        }
    }
}

fn slots_of(dynamic: &Value) -> SlotSettings {
    dynamic.as_object().map(|map| slot_settings(map, &SlotSettings::default()).0).unwrap_or_default()
}

/// 300 s unless it is set, and where it is zero, which is about what to do after a crash.
fn primary_start_timeout(dynamic: &Value) -> Duration {
    let set = seconds(dynamic, "primary_start_timeout").or_else(|| seconds(dynamic, "master_start_timeout"));
    Duration::from_secs(set.filter(|s| *s > 0).unwrap_or(300))
}

/// Counts in a synchronous mode only, and not where it is zero.
fn primary_stop_timeout(dynamic: &Value) -> Option<Duration> {
    let synchronous = match &dynamic["synchronous_mode"] {
        Value::Bool(on) => *on,
        Value::String(text) => matches!(text.to_lowercase().as_str(), "on" | "true" | "yes" | "1" | "quorum"),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    };
    let set = seconds(dynamic, "primary_stop_timeout").or_else(|| seconds(dynamic, "master_stop_timeout"));
    set.filter(|s| *s > 0 && synchronous).map(Duration::from_secs)
}

fn seconds(dynamic: &Value, name: &str) -> Option<u64> {
    match &dynamic[name] {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_u64(),
    }
}

/// Parameters that belong into the recovery section of the file.
pub(crate) fn is_recovery_parameter(name: &str) -> bool {
    matches!(
        name,
        "primary_conninfo"
            | "primary_slot_name"
            | "restore_command"
            | "archive_cleanup_command"
            | "recovery_end_command"
            | "recovery_min_apply_delay"
            | "promote_trigger_file"
    ) || name.starts_with("recovery_target")
}

/// Those of them that the user may set.
pub(crate) fn is_user_recovery_parameter(name: &str) -> bool {
    is_recovery_parameter(name)
        && !name.starts_with("recovery_target")
        && !matches!(name, "primary_conninfo" | "primary_slot_name" | "promote_trigger_file")
}

fn local_or(local: &[String], shared: Option<Vec<String>>) -> Vec<String> {
    if local.is_empty() { shared.unwrap_or_default() } else { local.to_vec() }
}

fn lower_case(map: &Parameters) -> Parameters {
    map.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect()
}

/// The section `postgresql` of the dynamic configuration. A value of the wrong kind makes the whole document unusable:
/// half of it in force would be harder to see than none of it.
struct Section(Map<String, Value>);

impl Section {
    /// The whole document without it, and it.
    fn read(dynamic: &str) -> Result<(Value, Self), UnusableConfig> {
        let document: Value =
            serde_json::from_str(dynamic).map_err(|e| UnusableConfig(format!("it is not valid JSON: {e}")))?;
        let Value::Object(mut document) = document else {
            return Err(UnusableConfig("it is not a JSON object".to_owned()));
        };
        let section = match document.remove("postgresql") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(section)) => section,
            Some(_) => return Err(UnusableConfig("postgresql must be an object".to_owned())),
        };
        Ok((Value::Object(document), Self(section)))
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn parameters(&self, key: &str) -> Result<Option<Parameters>, UnusableConfig> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let map = value.as_object().ok_or_else(|| UnusableConfig(format!("postgresql.{key} must be an object")))?;
        let mut parameters = Parameters::new();
        for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
            let text = parameter_text(value)
                .ok_or_else(|| UnusableConfig(format!("postgresql.{key}.{name} must be a single value")))?;
            parameters.insert(name.to_lowercase(), text);
        }
        Ok(Some(parameters))
    }

    fn lines(&self, key: &str) -> Result<Option<Vec<String>>, UnusableConfig> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || UnusableConfig(format!("postgresql.{key} must be a list of texts"));
        let line = |line: &Value| line.as_str().map(str::to_owned).ok_or_else(wrong);
        value.as_array().ok_or_else(wrong)?.iter().map(line).collect::<Result<_, _>>().map(Some)
    }

    fn scripts(&self) -> Result<Scripts, UnusableConfig> {
        Scripts::of_section(&self.0).map_err(|why| UnusableConfig(format!("postgresql.{why}")))
    }

    fn use_slots(&self) -> Result<bool, UnusableConfig> {
        match self.get("use_slots").map(parameter_text) {
            None => Ok(true),
            Some(Some(text)) if matches!(text.to_lowercase().as_str(), "on" | "true" | "yes" | "1") => Ok(true),
            Some(Some(text)) if matches!(text.to_lowercase().as_str(), "off" | "false" | "no" | "0") => Ok(false),
            Some(_) => Err(UnusableConfig("postgresql.use_slots must be true or false".to_owned())),
        }
    }
}

/// A single value as PostgreSQL takes it.
fn parameter_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(true) => Some("on".to_owned()),
        Value::Bool(false) => Some("off".to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
#[path = "server_config_tests.rs"]
mod tests;
