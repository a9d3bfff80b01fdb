//! `bootstrap`: how a new cluster is made; without effect once the cluster exists.

use super::error::SettingsError;
use super::secret::Secret;
use super::section::Section;
use pgherd_actors::dynamic_settings;
use pgherd_postgres::{BootstrapMethod, command_words};
use pgherd_types::Settings;
use serde_json::Value;

/// A role made in a new cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BootstrapUser {
    /// Its name.
    pub name: String,
    /// Its password; `None` when it logs in by other means.
    pub password: Option<Secret>,
    /// Words for CREATE ROLE, such as `createdb`.
    pub options: Vec<String>,
}

/// How a new cluster is made.
#[derive(Clone, PartialEq, Debug)]
pub struct Bootstrap {
    /// The section is there: this node may make a new cluster.
    pub present: bool,
    /// The first dynamic configuration, a JSON object as text.
    pub dcs: String,
    /// Options for initdb, `--name` or `--name=value`.
    pub initdb: Vec<String>,
    /// Lines appended to `pg_hba.conf` after initdb when `postgresql.pg_hba` is not set.
    pub pg_hba: Vec<String>,
    /// The program that makes a new cluster; `None` for initdb.
    pub method: Option<BootstrapMethod>,
    /// The script that is run in a new cluster.
    pub post_bootstrap: Option<String>,
    /// Roles to make.
    pub users: Vec<BootstrapUser>,
}

/// Options that the agent sets itself, or that would break what it relies on.
const INITDB_OWN: &[&str] = &["username"];
/// Options with which no cluster is made.
const INITDB_FORBIDDEN: &[&str] = &["pgdata", "nosync", "no-sync", "pwfile", "pwprompt", "sync-only", "version"];
/// What is wrong with a command line that has no words.
pub const UNUSABLE_COMMAND: &str = "the command is empty, or a quote or backslash in it has no end";

/// Reads the section.
pub fn read(section: Section) -> Result<Bootstrap, SettingsError> {
    let bootstrap = Bootstrap {
        present: section.exists(),
        dcs: dcs(&section)?,
        initdb: options(&section, "initdb", INITDB_OWN)?,
        pg_hba: section.texts("pg_hba")?.unwrap_or_default(),
        method: method(&section)?,
        post_bootstrap: post_bootstrap(&section)?,
        users: users(&section)?,
    };
    for option in &bootstrap.initdb {
        let name = option.trim_start_matches('-').split('=').next().unwrap_or_default();
        if INITDB_FORBIDDEN.contains(&name) {
            section.warn("initdb", &format!("the option {name} is not allowed: no cluster can be made with it"));
        }
    }
    section.finish();
    Ok(bootstrap)
}

/// The section that `method` names, if it names a command; else initdb.
fn method(section: &Section) -> Result<Option<BootstrapMethod>, SettingsError> {
    let Some(name) = section.text("method")?.filter(|name| name != "initdb") else { return Ok(None) };
    let map = match section.raw(&name) {
        None => None,
        Some(Value::Object(map)) => BootstrapMethod::from_section(&name, map).map_err(|e| section.error(&name, e))?,
        Some(_) => return Err(section.error(&name, "must be a map: the section of a bootstrap method")),
    };
    match &map {
        None => section.warn("method", &format!("bootstrap.{name} names no command: initdb is used")),
        Some(method) => {
            command_words(&method.command).ok_or_else(|| section.error(&name, UNUSABLE_COMMAND))?;
        }
    }
    Ok(map)
}

fn post_bootstrap(section: &Section) -> Result<Option<String>, SettingsError> {
    let both = (section.text("post_bootstrap")?, section.text("post_init")?);
    let Some(command) = both.0.or(both.1) else { return Ok(None) };
    command_words(&command).ok_or_else(|| section.error("post_bootstrap", UNUSABLE_COMMAND))?;
    Ok(Some(command))
}

fn dcs(section: &Section) -> Result<String, SettingsError> {
    let text = match section.raw("dcs") {
        None => "{}".to_owned(),
        Some(map @ Value::Object(_)) => map.to_string(),
        Some(_) => return Err(section.error("dcs", "must be a map of settings")),
    };
    let checked =
        dynamic_settings::read(&text, &Settings::default(), true).map_err(|e| section.error("dcs", e.to_string()))?;
    for warning in checked.warnings {
        section.warn("dcs", &warning);
    }
    Ok(text)
}

/// Options of a PostgreSQL program: a list of names and one-entry maps, or one map. Those in `own` are left out with a
/// warning.
pub fn options(section: &Section, key: &str, own: &[&str]) -> Result<Vec<String>, SettingsError> {
    let wrong = || section.error(key, "must be a list of option names and one-entry maps `name: value`");
    let mut pairs: Vec<(&str, Option<&Value>)> = Vec::new();
    match section.raw(key) {
        None => {}
        Some(Value::Object(map)) => pairs.extend(map.iter().map(|(name, value)| (name.as_str(), Some(value)))),
        Some(Value::Array(items)) => {
            for item in items {
                match item {
                    Value::String(name) => pairs.push((name, None)),
                    Value::Object(map) if map.len() == 1 => {
                        pairs.extend(map.iter().map(|(name, value)| (name.as_str(), Some(value))));
                    }
                    _ => return Err(wrong()),
                }
            }
        }
        Some(_) => return Err(wrong()),
    }
    let mut options = Vec::new();
    for (name, value) in pairs {
        if own.contains(&name) {
            section.warn(key, &format!("the option {name} is set by the agent and ignored here"));
            continue;
        }
        match value {
            None | Some(Value::Bool(true)) => options.push(format!("--{name}")),
            Some(Value::Bool(false) | Value::Null) => {}
            Some(value) => options.push(format!("--{name}={}", section.scalar(key, value)?)),
        }
    }
    Ok(options)
}

fn users(section: &Section) -> Result<Vec<BootstrapUser>, SettingsError> {
    let all = section.section("users")?;
    let mut users = Vec::new();
    for (name, value) in all.entries() {
        if !value.is_object() {
            return Err(all.error(name, "must be a map with password and options"));
        }
        let user = all.section(name)?;
        let password = user.text("password")?.map(Secret::new);
        let options = user.texts("options")?.unwrap_or_default();
        user.finish();
        users.push(BootstrapUser { name: name.clone(), password, options });
    }
    Ok(users)
}
