//! What operators ask for: the `failover` key and a member's scheduled restart; and the `failsafe` key.

use super::{Faults, is_config_object, json};
use pgherd_types::{
    DcsWrite, FailoverKey, MemberName, Refused, RestartFilter, RestartWish, Role, Schedule, ScheduledRestart, WallTime,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// An object, or the old text `from:to`; anything else asks for nothing.
pub(super) fn failover(value: &[u8], mod_revision: i64, faults: &mut Faults) -> FailoverKey {
    let nothing = FailoverKey { mod_revision, ..FailoverKey::default() };
    match json(value) {
        Ok(Value::Object(fields)) => FailoverKey {
            leader: named(&fields, "leader", faults),
            candidate: named(&fields, "member", faults),
            schedule: fields.get("scheduled_at").and_then(|at| schedule(at, faults)),
            ..nothing
        },
        Ok(_) => {
            faults.add("not an object; taken as no request");
            nothing
        }
        Err(why) => match std::str::from_utf8(value).ok().and_then(|text| text.trim().split_once(':')) {
            Some((from, to)) if !from.contains(['{', '"']) => {
                FailoverKey { leader: name_of(from), candidate: name_of(to), ..nothing }
            }
            _ => {
                faults.add(format!("{why}; taken as no request"));
                nothing
            }
        },
    }
}

fn named(fields: &Map<String, Value>, key: &str, faults: &mut Faults) -> Option<MemberName> {
    match fields.get(key)? {
        Value::Null => None,
        Value::String(name) => name_of(name),
        _ => {
            faults.add(format!("{key} is not a member name; ignored"));
            None
        }
    }
}

fn name_of(text: &str) -> Option<MemberName> {
    Some(text.trim()).filter(|name| !name.is_empty()).map(MemberName::from)
}

fn schedule(value: &Value, faults: &mut Faults) -> Option<Schedule> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) if text.is_empty() => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match moment(&text) {
        Some(at) => Some(Schedule::At { at, text }),
        None => {
            faults.add("scheduled_at is not a time with a zone; the request is void");
            Some(Schedule::Garbage(text))
        }
    }
}

/// ISO 8601 with a zone: without one, nobody knows when it is.
pub fn moment(text: &str) -> Option<WallTime> {
    text.trim().parse::<jiff::Timestamp>().ok().map(|at| WallTime(at.as_millisecond()))
}

/// What anybody may write for an operator: the value, and the revision of the key that it was made up by, 0 for none. `None`
/// where it is written whatever is there.
pub fn operators_value(write: &DcsWrite) -> Result<(Vec<u8>, Option<i64>), Refused> {
    match write {
        DcsWrite::ReplaceConfig { text, .. } if !is_config_object(text.as_bytes()) => {
            Err(Refused::Denied("the configuration to write is not a JSON object".into()))
        }
        DcsWrite::ReplaceConfig { text, seen } => Ok((text.clone().into_bytes(), Some(*seen))),
        DcsWrite::AskFailover { request, seen } => Ok((encode_failover(request), *seen)),
        DcsWrite::ClearFailover { seen } => Ok((b"{}".to_vec(), Some(*seen))),
        other => Err(Refused::Denied(format!("{} is not an operator's to write", other.key()))),
    }
}

/// Patroni's form: the parts that are given, in this order.
pub fn encode_failover(request: &FailoverKey) -> Vec<u8> {
    let mut fields = Map::new();
    if let Some(leader) = &request.leader {
        fields.insert("leader".into(), leader.as_str().into());
    }
    if let Some(candidate) = &request.candidate {
        fields.insert("member".into(), candidate.as_str().into());
    }
    if let Some(Schedule::At { text, .. } | Schedule::Garbage(text)) = &request.schedule {
        fields.insert("scheduled_at".into(), text.clone().into());
    }
    Value::Object(fields).to_string().into_bytes()
}

pub(super) fn failsafe(value: &[u8], faults: &mut Faults) -> Option<BTreeMap<MemberName, String>> {
    let Ok(Value::Object(members)) = json(value) else {
        faults.add("not an object; taken as no topology");
        return None;
    };
    let api = |(name, api): (String, Value)| Some((MemberName(name), api.as_str()?.to_owned()));
    Some(members.into_iter().filter_map(api).collect())
}

/// Every member and its API.
pub fn encode_failsafe(members: &BTreeMap<MemberName, String>) -> Vec<u8> {
    let fields: Map<String, Value> = members.iter().map(|(name, api)| (name.0.clone(), api.clone().into())).collect();
    Value::Object(fields).to_string().into_bytes()
}

/// A member's `scheduled_restart`; one without a usable time is none.
pub(super) fn scheduled_restart(value: &Value) -> Option<ScheduledRestart> {
    let fields = value.as_object()?;
    let text = fields.get("schedule")?.as_str()?.to_owned();
    let at = moment(&text)?;
    let mut restart = ScheduledRestart {
        at,
        text,
        wish: RestartWish::default(),
        shown: Vec::new(),
        postmaster_start_time: String::new(),
    };
    for (name, value) in fields {
        match name.as_str() {
            "schedule" => {}
            "postmaster_start_time" => {
                restart.postmaster_start_time = value.as_str().unwrap_or_default().to_owned();
            }
            _ => {
                note_condition(&mut restart.wish, name, value);
                restart.shown.push((name.clone(), value.to_string()));
            }
        }
    }
    Some(restart)
}

fn note_condition(wish: &mut RestartWish, name: &str, value: &Value) {
    let RestartFilter { role, pending_only, .. } = &mut wish.filter;
    match name {
        "role" => *role = value.as_str().and_then(Role::parse),
        "restart_pending" => *pending_only = value != &Value::Bool(false),
        "timeout" => wish.timeout = value.as_u64().map(Duration::from_secs),
        _ => {} // others are for the node itself, which does not read its wish back
    }
}

pub(super) fn encode_scheduled_restart(restart: &ScheduledRestart) -> Value {
    let mut fields = Map::new();
    fields.insert("schedule".into(), restart.text.clone().into());
    for (name, text) in &restart.shown {
        fields.insert(name.clone(), serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()));
    }
    fields.insert("postmaster_start_time".into(), restart.postmaster_start_time.clone().into());
    Value::Object(fields)
}
