//! Changes of the dynamic configuration as values: `K=V`, merging, and the difference of two texts. No I/O.

use super::yaml_text;
use serde_json::{Map, Value};
use similar::{ChangeTag, TextDiff};

/// Everything behind it is one name: parameters of extensions have dots in theirs.
const PARAMETERS: &str = "postgresql.parameters";

/// A value at a path; null removes it.
#[derive(Clone, PartialEq, Debug)]
pub struct Setting {
    path: Vec<String>,
    value: Value,
}

impl Setting {
    /// Reads `K=V`: a dotted path and a YAML value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not of the form key=value"))?;
        let path: Vec<_> = match key.strip_prefix(PARAMETERS).and_then(|rest| rest.strip_prefix('.')) {
            Some(name) => PARAMETERS.split('.').chain([name]).map(str::to_owned).collect(),
            None => key.split('.').map(str::to_owned).collect(),
        };
        if path.iter().any(|part| part.trim().is_empty()) {
            return Err(format!("{text:?}: a part of the key is empty"));
        }
        Ok(Self { path, value: yaml_text::read(key, value)? })
    }

    /// Reads `K=V` where K is the name of a PostgreSQL parameter.
    pub fn parse_parameter(text: &str) -> Result<Self, String> {
        Self::parse(&format!("{PARAMETERS}.{text}"))
    }

    /// Sets it, or removes it with every parent that is empty then.
    pub fn apply(&self, config: &mut Map<String, Value>) -> Result<(), String> {
        set(config, &self.path, &self.value).map_err(|part| format!("{}: {part} is not a map", self.path.join(".")))
    }
}

/// The error is the part of the path that holds something else than a map.
fn set(config: &mut Map<String, Value>, path: &[String], value: &Value) -> Result<(), String> {
    let (Some(name), rest) = (path.first(), path.get(1..).unwrap_or_default()) else { return Ok(()) };
    if rest.is_empty() {
        if value.is_null() {
            config.shift_remove(name);
        } else {
            config.insert(name.clone(), value.clone());
        }
        return Ok(());
    }
    if value.is_null() && !config.contains_key(name) {
        return Ok(());
    }
    let Value::Object(inner) = config.entry(name.clone()).or_insert_with(|| Map::new().into()) else {
        return Err(name.clone());
    };
    set(inner, rest, value)?;
    if value.is_null() && inner.is_empty() {
        config.shift_remove(name);
    }
    Ok(())
}

/// Objects merge, null removes, everything else replaces.
pub fn merge(config: &mut Map<String, Value>, change: &Map<String, Value>) {
    for (name, value) in change {
        match value {
            Value::Null => drop(config.shift_remove(name)),
            Value::Object(change) => {
                let there = config.entry(name.clone()).or_insert_with(|| Map::new().into());
                if !there.is_object() {
                    *there = Map::new().into();
                }
                if let Value::Object(inner) = there {
                    merge(inner, change);
                }
            }
            other => drop(config.insert(name.clone(), other.clone())),
        }
    }
}

const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

/// The unified difference of two texts.
pub fn difference(old: &str, new: &str, colour: bool) -> String {
    let paint = |colour_of: &str, line: &str| match colour && !colour_of.is_empty() {
        true => format!("{colour_of}{line}{PLAIN}\n"),
        false => format!("{line}\n"),
    };
    let mut text = paint("", "--- ") + &paint("", "+++ ");
    let diff = TextDiff::from_lines(old, new);
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        text += &paint(CYAN, &hunk.header().to_string());
        for change in hunk.iter_changes() {
            let (sign, of) = match change.tag() {
                ChangeTag::Delete => ('-', RED),
                ChangeTag::Insert => ('+', GREEN),
                ChangeTag::Equal => (' ', ""),
            };
            text += &paint(of, &format!("{sign}{}", change.value().trim_end_matches('\n')));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn changed(mut config: Value, settings: &[&str]) -> Result<Value, String> {
        for text in settings {
            let Value::Object(map) = &mut config else { panic!("an object") };
            Setting::parse(text)?.apply(map)?;
        }
        Ok(config)
    }

    #[test]
    fn settings_are_paths_and_yaml_values() {
        for (before, settings, after) in [
            (json!({"ttl": 30}), vec!["ttl=20"], json!({"ttl": 20})),
            (json!({}), vec!["a.b.c=on"], json!({"a": {"b": {"c": true}}})),
            (json!({"a": {"b": {"c": 1}}, "d": 1}), vec!["a.b.c=null"], json!({"d": 1})),
            (json!({"a": {"b": 1, "c": 2}}), vec!["a.b=null"], json!({"a": {"c": 2}})),
            (json!({}), vec!["a.b=null"], json!({})),
            (json!({}), vec!["x='a=b'"], json!({"x": "a=b"})),
            (json!({}), vec!["x=[1, b]", "y={a: ~}", "z="], json!({"x": [1, "b"], "y": {"a": null}})),
            (
                json!({}),
                vec!["postgresql.parameters.pg_stat_statements.track=all"],
                json!({"postgresql": {"parameters": {"pg_stat_statements.track": "all"}}}),
            ),
        ] {
            assert_eq!(changed(before, &settings), Ok(after), "{settings:?}");
        }
        for (setting, part) in
            [("ttl", "key=value"), ("=1", "empty"), ("a..b=1", "empty"), ("a=[", "a:"), ("ttl.x=1", "ttl is not")]
        {
            let error = changed(json!({"ttl": 30}), &[setting]).unwrap_err();
            assert!(error.contains(part), "{setting}: {error}");
        }
        let parameter = Setting::parse_parameter("auto_explain.log_nested=on").unwrap();
        assert_eq!(parameter.path, ["postgresql", "parameters", "auto_explain.log_nested"]);
    }

    #[test]
    fn merging_keeps_the_order_of_keys() {
        let mut config = json!({"b": 1, "a": {"x": 1, "y": 2}, "c": 3});
        let change = json!({"a": {"y": null, "z": {"n": null}}, "b": {"k": 1}, "c": null, "d": [null]});
        let (Value::Object(map), Value::Object(change)) = (&mut config, &change) else { panic!("objects") };
        merge(map, change);
        assert_eq!(config.to_string(), r#"{"b":{"k":1},"a":{"x":1,"z":{}},"d":[null]}"#);
    }

    #[test]
    fn differences_are_unified() {
        let (old, new) = ("a: 1\nb: 2\nc: 3\n", "a: 1\nb: 20\nc: 3\n");
        assert_eq!(difference(old, new, false), "--- \n+++ \n@@ -1,3 +1,3 @@\n a: 1\n-b: 2\n+b: 20\n c: 3\n");
        let coloured = difference(old, new, true);
        assert!(coloured.contains("\x1b[31m-b: 2\x1b[0m\n\x1b[32m+b: 20\x1b[0m\n"), "{coloured:?}");
    }
}
