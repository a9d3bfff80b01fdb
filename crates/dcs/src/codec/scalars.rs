//! `initialize`, `leader`, `status`, `history`, `timeline`, `config`: the values that are not member documents.

use super::{Faults, TEXT_LIMIT_BYTES, json, whole};
use pgherd_types::{ConfigKey, HistoryRow, Initialize, LeaseId, Lsn, StatusKey, SystemId, Timeline};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub(super) fn initialize(value: &[u8], lease: Option<LeaseId>, faults: &mut Faults) -> Initialize {
    if value.is_empty() {
        return Initialize::InProgress { lease };
    }
    // Shorter numbers are no system identifiers: their upper half is a time stamp.
    let text = std::str::from_utf8(value).unwrap_or_default();
    let digits = text.len() >= 10 && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse().ok().filter(|_| digits) {
        Some(id) => Initialize::Done(SystemId(id)),
        None => {
            faults.add("neither empty nor a system identifier; remove the key or write the right identifier");
            Initialize::Garbage
        }
    }
}

pub(super) fn status(value: &[u8], faults: &mut Faults) -> StatusKey {
    let document = match json(value) {
        Ok(Value::Object(document)) => document,
        Ok(bare) if whole(&bare).is_some() => return optime_only(whole(&bare)),
        Ok(_) => return complain(faults, "neither an object nor a number; taken as empty"),
        Err(e) => return complain(faults, &format!("{e}; taken as empty")),
    };
    let optime = document.get("optime").filter(|v| !v.is_null());
    if optime.is_some_and(|v| whole(v).is_none()) {
        faults.add("optime is not a position; taken as 0");
    }
    StatusKey {
        optime: Lsn(optime.and_then(whole).unwrap_or(0)),
        slots: unwrapped(document.get("slots")).map(|v| slot_positions(&v, faults)).unwrap_or_default(),
        retain_slots: unwrapped(document.get("retain_slots")).map(|v| names(&v, faults)).unwrap_or_default(),
    }
}

fn optime_only(optime: Option<u64>) -> StatusKey {
    StatusKey { optime: Lsn(optime.unwrap_or(0)), ..StatusKey::default() }
}

fn complain(faults: &mut Faults, what: &str) -> StatusKey {
    faults.add(what);
    StatusKey::default()
}

/// Old versions wrote these parts as JSON inside a string.
fn unwrapped(value: Option<&Value>) -> Option<Value> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(serde_json::from_str(text).unwrap_or_else(|_| Value::String(String::new()))),
        other => Some(other.clone()),
    }
}

fn slot_positions(value: &Value, faults: &mut Faults) -> BTreeMap<String, Lsn> {
    let Value::Object(slots) = value else {
        faults.add("slots is not an object; ignored");
        return BTreeMap::new();
    };
    let mut positions = BTreeMap::new();
    for (name, position) in slots {
        match whole(position) {
            Some(position) => drop(positions.insert(name.clone(), Lsn(position))),
            None => faults.add("a slot's position is not a number; the slot is ignored"),
        }
    }
    positions
}

fn names(value: &Value, faults: &mut Faults) -> Vec<String> {
    let Value::Array(items) = value else {
        faults.add("retain_slots is not an array; ignored");
        return Vec::new();
    };
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Parts that are empty are left out; the order is fixed.
pub fn encode_status(status: &StatusKey) -> Vec<u8> {
    let mut document = Map::new();
    if !status.optime.is_zero() {
        document.insert("optime".into(), status.optime.0.into());
    }
    if !status.slots.is_empty() {
        let slots: Map<String, Value> = status.slots.iter().map(|(name, at)| (name.clone(), at.0.into())).collect();
        document.insert("slots".into(), slots.into());
    }
    if !status.retain_slots.is_empty() {
        let mut names = status.retain_slots.clone();
        names.sort();
        document.insert("retain_slots".into(), names.into());
    }
    Value::Object(document).to_string().into_bytes()
}

pub(super) fn history(value: &[u8], faults: &mut Faults) -> Option<Vec<HistoryRow>> {
    let rows = match json(value) {
        Ok(Value::Array(rows)) => rows,
        Ok(_) => return absent(faults, "not an array; taken as absent"),
        Err(e) => return absent(faults, &format!("{e}; taken as absent")),
    };
    let parsed: Option<Vec<_>> = rows.iter().map(history_row).collect();
    if parsed.is_none() {
        faults.add("a row is not [timeline, position, reason, time, leader]; the whole key is taken as absent");
    }
    parsed
}

fn absent<T>(faults: &mut Faults, what: &str) -> Option<T> {
    faults.add(what);
    None
}

fn history_row(row: &Value) -> Option<HistoryRow> {
    let text = |n: usize| row.get(n).and_then(Value::as_str).map(str::to_owned);
    let timeline = whole(row.get(0)?).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0)?;
    Some(HistoryRow {
        timeline: Timeline(timeline),
        switch_lsn: Lsn(whole(row.get(1)?)?),
        reason: text(2).unwrap_or_default(),
        at: text(3),
        new_leader: text(4),
    })
}

/// Rows `[timeline, position, reason, time, leader]`; the last two are left out when unknown.
pub fn encode_history(rows: &[HistoryRow]) -> Vec<u8> {
    let encode = |row: &HistoryRow| {
        let mut items: Vec<Value> = vec![row.timeline.0.into(), row.switch_lsn.0.into(), row.reason.clone().into()];
        match (&row.at, &row.new_leader) {
            (None, None) => {}
            (at, None) => items.push(at.clone().into()),
            (at, Some(leader)) => items.extend([at.clone().into(), leader.clone().into()]),
        }
        Value::Array(items)
    };
    Value::Array(rows.iter().map(encode).collect()).to_string().into_bytes()
}

/// The `timeline` key: a number in decimal; anything else counts as absent.
pub fn read_timeline(value: &[u8]) -> Option<Timeline> {
    let number: u32 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
    (number > 0).then_some(Timeline(number))
}

pub(super) fn config(value: &[u8], mod_revision: i64, faults: &mut Faults) -> ConfigKey {
    let valid = is_config_object(value);
    if !valid {
        faults.add("not a JSON object; the last valid configuration stays in force");
    }
    // Garbage of any size need not travel through the program.
    let kept = if valid { value } else { &value[..value.len().min(TEXT_LIMIT_BYTES)] };
    ConfigKey { mod_revision, text: String::from_utf8_lossy(kept).into_owned(), valid }
}

/// May this stand in `config`?
pub fn is_config_object(value: &[u8]) -> bool {
    matches!(json(value), Ok(Value::Object(_)))
}
