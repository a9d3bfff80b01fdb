//! Typed reading of one map of the settings. Every key that is asked for becomes known; `finish` warns about the others,
//! so that a misspelt key is never passed over in silence.

use super::error::SettingsError;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

/// What is common to all sections: where values came from, and the warnings so far.
pub struct Reading {
    /// The file or directory that was named.
    pub file: String,
    /// Dotted path to `file:line` or the name of a variable.
    pub origins: HashMap<String, String>,
    /// What looks like a mistake.
    pub warnings: RefCell<Vec<String>>,
}

impl Reading {
    fn place(&self, path: &str) -> &str {
        self.origins.get(path).unwrap_or(&self.file)
    }
    /// An error about the key at `path`.
    pub fn error(&self, path: &str, what: impl Into<String>) -> SettingsError {
        SettingsError { place: self.place(path).to_owned(), key: Some(path.to_owned()), what: what.into() }
    }
    /// A warning about the key at `path`.
    pub fn warn(&self, path: &str, what: &str) {
        self.warnings.borrow_mut().push(format!("{}: {path}: {what}", self.place(path)));
    }
}

/// One map of the settings; an absent one reads as empty.
pub struct Section<'a> {
    reading: &'a Reading,
    path: String,
    map: Option<&'a Map<String, Value>>,
    known: RefCell<BTreeSet<String>>,
}

type Read<T> = Result<T, SettingsError>;

impl<'a> Section<'a> {
    /// The whole tree.
    pub fn root(reading: &'a Reading, map: &'a Map<String, Value>) -> Self {
        Self { reading, path: String::new(), map: Some(map), known: RefCell::default() }
    }
    /// The dotted path of a key of this section.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
    /// An error about a key.
    pub fn error(&self, key: &str, what: impl Into<String>) -> SettingsError {
        self.reading.error(&self.path_of(key), what)
    }
    /// A warning about a key.
    pub fn warn(&self, key: &str, what: &str) {
        self.reading.warn(&self.path_of(key), what);
    }
    /// Is the section in the settings?
    pub fn exists(&self) -> bool {
        self.map.is_some()
    }
    /// The value, unless it is absent or null.
    pub fn raw(&self, key: &str) -> Option<&'a Value> {
        self.known.borrow_mut().insert(key.to_owned());
        self.map?.get(key).filter(|v| !v.is_null())
    }
    /// The keys and values, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.map.into_iter().flatten().filter(|(_, v)| !v.is_null())
    }
    /// The map below `key`.
    pub fn section(&self, key: &str) -> Read<Section<'a>> {
        let map = match self.raw(key) {
            None => None,
            Some(Value::Object(map)) => Some(map),
            Some(other) => return Err(self.error(key, format!("must be a map of settings, not {}", kind(other)))),
        };
        Ok(Section { reading: self.reading, path: self.path_of(key), map, known: RefCell::default() })
    }
    /// A text; a number is taken as its digits, with a warning, because YAML may have changed it (`0123` is 83).
    pub fn text(&self, key: &str) -> Read<Option<String>> {
        match self.raw(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) if !number.is_f64() => {
                self.warn(key, "is a number for YAML and is used as text; put it in quotes");
                Ok(Some(number.to_string()))
            }
            Some(other) => Err(self.error(key, format!("must be text, not {}", kind(other)))),
        }
    }
    /// A text that must be there and not be empty.
    pub fn required_text(&self, key: &str) -> Read<String> {
        self.text(key)?.filter(|text| !text.is_empty()).ok_or_else(|| self.missing(key))
    }
    /// The error for a key that must be there.
    pub fn missing(&self, key: &str) -> SettingsError {
        self.error(key, "missing, but needed")
    }
    /// A whole number, also as text.
    pub fn integer(&self, key: &str) -> Read<Option<i64>> {
        let Some(value) = self.raw(key) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.map(Some).ok_or_else(|| self.error(key, format!("must be a whole number, not {}", kind(value))))
    }
    /// True or false, also as text.
    pub fn flag(&self, key: &str) -> Read<Option<bool>> {
        let Some(value) = self.raw(key) else { return Ok(None) };
        let flag = match value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => boolean(text),
            _ => None,
        };
        flag.map(Some).ok_or_else(|| self.error(key, format!("must be true or false, not {}", kind(value))))
    }
    /// A list of texts.
    pub fn texts(&self, key: &str) -> Read<Option<Vec<String>>> {
        let Some(value) = self.raw(key) else { return Ok(None) };
        let Value::Array(items) = value else {
            return Err(self.error(key, format!("must be a list, not {}", kind(value))));
        };
        let text = |item: &Value| match item {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.error(key, format!("every item must be text, not {}", kind(other)))),
        };
        items.iter().map(text).collect::<Read<_>>().map(Some)
    }
    /// A free map of names to single values, each as PostgreSQL would take it: `on`, `off`, digits or text.
    pub fn parameters(&self, key: &str) -> Read<Vec<(String, String)>> {
        let section = self.section(key)?;
        section.entries().map(|(name, value)| Ok((name.clone(), section.scalar(name, value)?))).collect()
    }
    /// A single value as PostgreSQL would take it.
    pub fn scalar(&self, name: &str, value: &Value) -> Read<String> {
        match value {
            Value::Bool(flag) => Ok(if *flag { "on" } else { "off" }.to_owned()),
            Value::Number(number) => Ok(number.to_string()),
            Value::String(text) => Ok(text.clone()),
            other => Err(self.error(name, format!("must be a single value, not {}", kind(other)))),
        }
    }
    /// Keys that other agents understand and this one does not act on yet: said once, not called unknown.
    pub fn without_effect_yet(&self, keys: &[&str]) {
        for key in keys {
            if self.raw(key).is_some() {
                self.warn(key, "is not supported yet and has no effect");
            }
        }
    }
    /// Warns about every key nobody asked for.
    pub fn finish(self) {
        let known = self.known.borrow();
        for (key, _) in self.map.into_iter().flatten().filter(|(key, _)| !known.contains(*key)) {
            self.warn(key, "unknown key, ignored");
        }
    }
}

/// A list of maps, each with the path of the list and its place in it.
pub fn items<'a>(section: &Section<'a>, key: &str) -> Read<Vec<Section<'a>>> {
    let items = match section.raw(key) {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(section.error(key, format!("must be a list, not {}", kind(other)))),
    };
    let item = |(at, item): (usize, &'a Value)| match item {
        Value::Object(map) => Ok(Section {
            reading: section.reading,
            path: format!("{}[{at}]", section.path_of(key)),
            map: Some(map),
            known: RefCell::default(),
        }),
        other => Err(section.error(key, format!("every item must be a map, not {}", kind(other)))),
    };
    items.iter().enumerate().map(item).collect()
}

/// `on`, `true`, `yes`, `1` and their opposites.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// What a value is, for messages; never the value itself, which may be a secret.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
