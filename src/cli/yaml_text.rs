//! JSON values as YAML text, in the form PyYAML gives them: keys sorted, block style, text quoted where YAML 1.1 would read
//! something else. The emitter of `yaml-rust2` follows YAML 1.2: what it leaves plain (`12:30`, `0755`, `on`) would be
//! read back as another value.

use crate::settings::{scalar, yaml};
use serde_json::{Map, Value};

/// Reads a YAML text; the error names the line.
pub fn read(origin: &str, text: &str) -> Result<Value, String> {
    let root = yaml::parse(origin, text)?.root;
    root.try_deserialize().map_err(|e| format!("{origin}: {e}"))
}

/// A whole document with a line break at its end.
pub fn block(value: &Value) -> String {
    let mut out = String::new();
    node(&mut out, value, 0);
    out
}

/// One line: `{a: 1, b: [x]}`.
pub fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let pairs: Vec<_> = sorted(map).map(|(key, v)| format!("{}: {}", text(key, true), flow(v))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        other => scalar_text(other, true),
    }
}

fn node(out: &mut String, value: &Value, indent: usize) {
    let margin = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in sorted(map) {
                *out += &format!("{margin}{}:", text(key, false));
                match value {
                    Value::Object(inner) if !inner.is_empty() => below(out, value, indent + 2),
                    // the dash stands where the key does
                    Value::Array(inner) if !inner.is_empty() => below(out, value, indent),
                    other => *out += &format!(" {}\n", scalar_text(other, false)),
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                node(&mut inner, item, indent + 2);
                *out += &format!("{margin}- {}", &inner[indent + 2..]);
            }
        }
        other => *out += &format!("{margin}{}\n", scalar_text(other, false)),
    }
}

fn below(out: &mut String, value: &Value, indent: usize) {
    out.push('\n');
    node(out, value, indent);
}

fn sorted(map: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries.into_iter()
}

fn scalar_text(value: &Value, in_flow: bool) -> String {
    match value {
        Value::String(string) => text(string, in_flow),
        Value::Number(number) => number_text(&number.to_string()),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        Value::Null | Value::Bool(_) => value.to_string(),
    }
}

/// YAML 1.1 wants a point in the mantissa and a sign before the exponent; `1e3` would be text.
fn number_text(number: &str) -> String {
    let Some((mantissa, exponent)) = number.split_once('e') else { return number.to_owned() };
    let point = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with(['+', '-']) { "" } else { "+" };
    format!("{mantissa}{point}e{sign}{exponent}")
}

/// Text as it is, in single quotes, or (with what cannot be shown in it) in double quotes.
fn text(text: &str, in_flow: bool) -> String {
    if text.chars().any(|c| c.is_control()) {
        return Value::from(text).to_string().replace('\u{7f}', "\\u007f");
    }
    let special = text.starts_with(|c: char| "-?:,[]{}#&*!|>'\"%@`= ".contains(c))
        || text.starts_with("...")
        || text.starts_with("<<")
        || text.contains(": ")
        || text.contains(" #")
        || text.ends_with([' ', ':'])
        || (in_flow && text.contains([',', '{', '}', '[', ']']))
        || looks_like_a_date(text);
    match scalar::resolve(text) {
        config::ValueKind::String(_) if !special => text.to_owned(),
        _ => format!("'{}'", text.replace('\'', "''")),
    }
}

/// PyYAML makes a date of it.
fn looks_like_a_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-').map(|part| part.bytes().take_while(u8::is_ascii_digit).count());
    parts.next() == Some(4) && parts.next().is_some_and(|n| n > 0) && parts.next().is_some_and(|n| n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_have_pyyamls_form() {
        let value = json!({"ttl": 30, "postgresql": {"use_slots": true, "parameters": {}, "pg_hba": ["host all all", "x"]},
            "a": null, "nested": [[1, 2], {"b": 1, "a": [true]}, {}], "factor": 1e300});
        let expected = "\
a: null
factor: 1.0e+300
nested:
- - 1
  - 2
- a:
  - true
  b: 1
- {}
postgresql:
  parameters: {}
  pg_hba:
  - host all all
  - x
  use_slots: true
ttl: 30
";
        assert_eq!(block(&value), expected);
        assert_eq!(block(&json!({})), "{}\n");
        assert_eq!(flow(&json!({"b": "x, y", "a": [1, "on"]})), "{a: [1, 'on'], b: 'x, y'}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let texts = [
            "",
            "on",
            "12:30",
            "0755",
            "1e3",
            "1.5",
            "null",
            "~",
            "- x",
            "-c",
            "a: b",
            "a #b",
            "it's",
            "a\nb\t\u{7f}\u{1}",
            "x:",
            " x ",
            "2001-01-01",
            "<<",
            "=",
            "...",
            "%p",
            "test ! -f /a/%f && cp %p /a/%f",
            "a, b",
            "{x}",
            "ä",
            "\u{85}é",
            "\"q\"",
            "!x",
            "*",
            "1_000",
            ".inf",
            "@",
            "`",
            "?",
            "|",
        ];
        let value: Map<_, _> = texts.iter().map(|t| ((*t).to_owned(), json!([t, {"k": t}]))).collect();
        let value = json!({"deep": value, "numbers": [1, -1, 1.5, 1e300, 2.5e-9, u64::MAX]});
        assert_eq!(read("x", &block(&value)).unwrap(), value, "{}", block(&value));
        assert_eq!(read("x", &flow(&value)).unwrap(), value, "{}", flow(&value));
    }
}
