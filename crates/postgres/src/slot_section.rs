//! The keys of the dynamic configuration that are about slots (spec/slots.md 3).

use crate::units;
use pgherd_types::{Decoding, PermanentSlot, SlotKind, SlotMatcher, SlotSettings};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The names of the permanent slots' key; the first that says anything counts.
const PERMANENT: [&str; 3] = ["permanent_replication_slots", "permanent_slots", "slots"];
/// All keys that are read here.
pub const SLOT_KEYS: [&str; 7] = [
    "permanent_replication_slots",
    "permanent_slots",
    "slots",
    "ignore_slots",
    "drop_unknown_slots",
    "slot_wal_warning",
    "manage_synchronized_standby_slots",
];
const NAME_MAX: usize = 63;
/// More are a mistake.
const SLOTS_MAX: usize = 1000;

/// Reads them from a dynamic configuration. What is wrong is reported and stays as it was before.
pub fn slot_settings(dynamic: &Map<String, Value>, previous: &SlotSettings) -> (SlotSettings, Vec<String>) {
    let mut reader = Reader { dynamic, previous, warnings: Vec::new() };
    let settings = SlotSettings {
        permanent: reader.permanent(),
        ignore: reader.ignore(),
        drop_unknown: reader.drop_unknown(),
        wal_warning: reader.wal_warning(),
        consumers_wait: reader.consumers_wait(),
    };
    (settings, reader.warnings)
}

struct Reader<'a> {
    dynamic: &'a Map<String, Value>,
    previous: &'a SlotSettings,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.dynamic.get(key).filter(|value| !value.is_null())
    }

    fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    fn permanent(&mut self) -> BTreeMap<String, PermanentSlot> {
        let says = |key: &&str| self.get(key).is_some_and(|value| !is_empty(value));
        let Some(key) = PERMANENT.into_iter().find(says) else { return BTreeMap::new() };
        let Some(slots) = self.get(key).and_then(Value::as_object).filter(|slots| slots.len() <= SLOTS_MAX) else {
            self.warn(format!(
                "{key}: must be a map of at most {SLOTS_MAX} slots by their names; what was in force before is kept"
            ));
            return self.previous.permanent.clone();
        };
        let mut all = BTreeMap::new();
        for (name, value) in slots {
            if !is_slot_name(name) {
                self.warn(format!(
                    "{key}: Invalid permanent replication slot name '{name}': Slot name may only contain lower case \
                     letters, numbers, and the underscore chars"
                ));
                continue;
            }
            match permanent_slot(value) {
                Some(slot) => drop(all.insert(name.clone(), slot)),
                None => {
                    self.warn(format!("{key}: Bad value for slot '{name}' in permanent_slots: {value}"));
                    // a slip must not cost a slot that a consumer relies upon
                    all.extend(self.previous.permanent.get_key_value(name).map(|(n, s)| (n.clone(), s.clone())));
                }
            }
        }
        all
    }

    fn ignore(&mut self) -> Vec<SlotMatcher> {
        let Some(value) = self.get("ignore_slots") else { return Vec::new() };
        let Some(items) = value.as_array().filter(|items| items.len() <= SLOTS_MAX) else {
            self.warn("ignore_slots: must be a list of maps; what was in force before is kept".to_owned());
            return self.previous.ignore.clone();
        };
        let mut matchers = Vec::new();
        for item in items {
            match matcher(item) {
                Some(matcher) if matcher != SlotMatcher::default() => matchers.push(matcher),
                Some(_) => self.warn("ignore_slots: an empty entry would mean every slot; it is passed over".to_owned()),
                None => self.warn(format!(
                    "ignore_slots: an entry must be a map with name, type (physical, logical), database or plugin, not {item}"
                )),
            }
        }
        matchers
    }

    fn drop_unknown(&mut self) -> bool {
        match self.get("drop_unknown_slots") {
            None => false,
            Some(Value::Bool(drop)) => *drop,
            Some(Value::String(word)) if matches!(word.as_str(), "always" | "on" | "true" | "yes") => true,
            Some(Value::String(word)) if matches!(word.as_str(), "never" | "off" | "false" | "no") => false,
            Some(_) => {
                self.warn("drop_unknown_slots: must be never or always; what was in force before is kept".to_owned());
                self.previous.drop_unknown
            }
        }
    }

    fn consumers_wait(&mut self) -> bool {
        match self.get("manage_synchronized_standby_slots") {
            None => false,
            Some(Value::Bool(on)) => *on,
            Some(Value::String(word)) if matches!(word.as_str(), "on" | "true" | "yes" | "1") => true,
            Some(Value::String(word)) if matches!(word.as_str(), "off" | "false" | "no" | "0") => false,
            Some(_) => {
                self.warn(
                    "manage_synchronized_standby_slots: must be true or false; what was in force before is kept"
                        .to_owned(),
                );
                self.previous.consumers_wait
            }
        }
    }

    fn wal_warning(&mut self) -> u64 {
        let bytes = match self.get("slot_wal_warning") {
            None => return SlotSettings::default().wal_warning,
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => units::parse(text, "B").filter(|n| (0.0..9e15).contains(n)).map(|n| n as u64),
            Some(_) => None,
        };
        bytes.unwrap_or_else(|| {
            self.warn(
                "slot_wal_warning: must be a number of bytes, or one with kB, MB, GB or TB; what was in force before is kept"
                    .to_owned(),
            );
            self.previous.wal_warning
        })
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn is_slot_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(allowed)
}

fn permanent_slot(value: &Value) -> Option<PermanentSlot> {
    if is_empty(value) {
        return Some(PermanentSlot { kind: SlotKind::Physical, in_standby_cluster: None });
    }
    let map = value.as_object()?;
    let text = |key: &str| map.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let in_standby_cluster = match map.get("cluster_type").filter(|value| !is_empty(value)) {
        None => None,
        Some(Value::String(word)) if word == "primary" => Some(false),
        Some(Value::String(word)) if word == "standby" => Some(true),
        Some(_) => return None,
    };
    let decoding = || Some(Decoding { database: text("database")?.to_owned(), plugin: text("plugin")?.to_owned() });
    let kind = match (text("type"), decoding()) {
        (Some("physical"), _) => SlotKind::Physical,
        (Some("logical") | None, Some(decoding)) => SlotKind::Logical(decoding),
        (None, None) if map.keys().all(|key| key == "cluster_type") => SlotKind::Physical,
        (Some(_) | None, _) => return None,
    };
    Some(PermanentSlot { kind, in_standby_cluster })
}

fn matcher(value: &Value) -> Option<SlotMatcher> {
    let map = value.as_object()?;
    let text = |key: &str| map.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let physical = match text("type").as_deref() {
        None => None,
        Some("physical") => Some(true),
        Some("logical") => Some(false),
        Some(_) => return None,
    };
    Some(SlotMatcher { name: text("name"), physical, database: text("database"), plugin: text("plugin") })
}

#[cfg(test)]
#[path = "slot_section_tests.rs"]
mod tests;
