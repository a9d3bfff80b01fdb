//! `tags`: what this member may do, and anything its users want to see or filter by.

use super::error::SettingsError;
use super::section::{Section, boolean};
use pgherd_types::Tags;
use serde_json::Value;

/// Tags that are true or false.
const FLAGS: &[&str] = &["clonefrom", "nofailover", "noloadbalance", "nosync", "nostream"];

/// Reads the section.
pub fn read(section: Section) -> Result<Tags, SettingsError> {
    let mut flags = Vec::new();
    for flag in FLAGS {
        flags.push((*flag, flag_value(&section, flag)?));
    }
    let is = |name: &str| flags.iter().any(|(flag, value)| *flag == name && *value == Some(true));
    let failover_priority = priority(&section, "failover_priority")?;
    let sync_priority = priority(&section, "sync_priority")?;
    warn_of_contradiction(&section, "nofailover", is("nofailover"), "failover_priority", failover_priority);
    warn_of_contradiction(&section, "nosync", is("nosync"), "sync_priority", sync_priority);
    let tags = Tags {
        nofailover: is("nofailover"),
        failover_priority,
        noloadbalance: is("noloadbalance"),
        clonefrom: is("clonefrom"),
        nostream: is("nostream"),
        replicatefrom: section.text("replicatefrom")?,
        nosync: is("nosync"),
        sync_priority,
        shown: Vec::new(),
    };
    let hidden = |name: &str| match name {
        "nofailover" => !is(name) && failover_priority.is_none(),
        "nosync" => !is(name) && sync_priority.is_none(),
        _ => FLAGS.contains(&name) && !is(name),
    };
    let shown = section
        .entries()
        .filter(|(name, _)| !hidden(name))
        .map(|(name, value)| (name.clone(), shown_value(name, value)));
    Ok(Tags { shown: shown.collect(), ..tags })
}

/// True or false; a text such as "false" is accepted, because in other agents it silently counts as true.
fn flag_value(section: &Section, flag: &str) -> Result<Option<bool>, SettingsError> {
    if let Some(Value::String(text)) = section.raw(flag)
        && boolean(text).is_some()
    {
        section.warn(flag, "is text and is read as true or false; write it without quotes");
    }
    section.flag(flag)
}

fn priority(section: &Section, key: &str) -> Result<Option<i32>, SettingsError> {
    let Some(number) = section.integer(key)? else { return Ok(None) };
    i32::try_from(number).map(Some).map_err(|_| section.error(key, "is out of range"))
}

fn warn_of_contradiction(section: &Section, flag: &str, set: bool, key: &str, priority: Option<i32>) {
    let given = section.raw(flag).is_some();
    if let Some(priority) = priority
        && given
        && set != (priority <= 0)
    {
        section.warn(key, &format!("contradicts {flag}, which wins"));
    }
}

fn shown_value(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) if FLAGS.contains(&name) => boolean(text).unwrap_or_default().to_string(),
        other => other.to_string(),
    }
}
