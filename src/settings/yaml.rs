//! One YAML document to a tree of `config` values, each with the line it came from. The scanner is `yaml-rust2`, which
//! `config` uses too; what the scalars mean is decided in `scalar`, and anchors, merge keys (`<<`) and the last of two equal
//! keys behave as in PyYAML.

use super::scalar;
use config::{Map, Value, ValueKind};
use std::collections::HashMap;
use std::fmt::Write as _;
use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::{Marker, TScalarStyle};

/// Aliases can multiply a small text to any size, and a file may nest without end; no configuration needs more.
const VALUES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 64;

/// What the text says, and what in it looks like a mistake.
#[derive(Debug)]
pub struct Document {
    /// The value; `Nil` for an empty text.
    pub root: Value,
    /// Repeated keys.
    pub warnings: Vec<String>,
}

/// Reads `text`; `origin` (a file name) is what errors and values name. The error names the line.
pub fn parse(origin: &str, text: &str) -> Result<Document, String> {
    let mut parser = Parser::new_from_str(text);
    let mut loader =
        Loader { origin, open: Vec::new(), anchors: HashMap::new(), root: None, values: 0, warnings: vec![] };
    let mut documents = 0;
    loop {
        let (event, mark) = parser.next_token().map_err(|e| at(origin, e.marker().line(), e.info()))?;
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart if documents > 0 => {
                return Err(at(origin, mark.line(), "a second document begins; only one is allowed"));
            }
            Event::DocumentStart => documents += 1,
            other => loader.take(other, &mark).map_err(|why| at(origin, mark.line(), &why))?,
        }
    }
    Ok(Document { root: loader.root.unwrap_or_else(|| Value::new(None, ValueKind::Nil)), warnings: loader.warnings })
}

fn at(origin: &str, line: usize, why: &str) -> String {
    format!("{origin}:{line}: {why}")
}

/// A list or map that has begun and not yet ended.
enum Open {
    List { items: Vec<Value>, anchor: usize, line: usize },
    Map { entries: Map<String, Value>, merged: Vec<String>, key: Option<Key>, anchor: usize, line: usize },
}

enum Key {
    Named(String),
    Merge,
}

struct Loader<'a> {
    origin: &'a str,
    open: Vec<Open>,
    anchors: HashMap<usize, (Value, usize)>,
    root: Option<Value>,
    values: usize,
    warnings: Vec<String>,
}

impl Loader<'_> {
    fn take(&mut self, event: Event, mark: &Marker) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => self.scalar(text, style, anchor, tag.as_ref(), mark),
            Event::SequenceStart(anchor, tag) => {
                known_tag(tag.as_ref(), "seq")?;
                self.begin(Open::List { items: Vec::new(), anchor, line: mark.line() })
            }
            Event::MappingStart(anchor, tag) => {
                known_tag(tag.as_ref(), "map")?;
                self.begin(Open::Map { entries: Map::new(), merged: Vec::new(), key: None, anchor, line: mark.line() })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(mark),
            Event::Alias(id) => {
                let (value, size) = self.anchors.get(&id).cloned().ok_or("an alias refers to itself")?;
                self.place(value, size, 0, mark)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn scalar(
        &mut self,
        text: String,
        style: TScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        mark: &Marker,
    ) -> Result<(), String> {
        let plain = matches!(style, TScalarStyle::Plain);
        if let Some(Open::Map { key: key @ None, .. }) = self.open.last_mut() {
            // A key is text whatever it looks like: `on:` and `1:` name keys, not values.
            *key = Some(if plain && text == "<<" { Key::Merge } else { Key::Named(text.clone()) });
            if anchor > 0 {
                self.anchors.insert(anchor, (self.value(ValueKind::String(text), mark.line()), 1));
            }
            return Ok(());
        }
        let kind = match short_tag(tag)? {
            None if plain => scalar::resolve(&text),
            None | Some("str") => ValueKind::String(text),
            Some("int" | "float" | "bool" | "null") => scalar::resolve(&text),
            Some(other) => return Err(format!("the tag !!{other} is not supported")),
        };
        let value = self.value(kind, mark.line());
        self.place(value, 1, anchor, mark)
    }

    fn value(&self, kind: ValueKind, line: usize) -> Value {
        Value::new(Some(&format!("{}:{line}", self.origin)), kind)
    }

    fn begin(&mut self, open: Open) -> Result<(), String> {
        if matches!(self.open.last(), Some(Open::Map { key: None, .. })) {
            return Err("a list or map cannot be a key".to_owned());
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self, mark: &Marker) -> Result<(), String> {
        let (kind, anchor, line) = match self.open.pop() {
            Some(Open::List { items, anchor, line }) => (ValueKind::Array(items), anchor, line),
            Some(Open::Map { entries, anchor, line, .. }) => (ValueKind::Table(entries), anchor, line),
            None => return Ok(()),
        };
        let value = self.value(kind, line);
        let size = if anchor > 0 { size_of(&value) } else { 1 };
        self.place(value, size, anchor, mark)
    }

    fn place(&mut self, value: Value, size: usize, anchor: usize, mark: &Marker) -> Result<(), String> {
        self.values += size;
        if self.values > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), size));
        }
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Open::List { items, .. }) => items.push(value),
            Some(Open::Map { entries, merged, key, .. }) => match key.take() {
                None => *key = Some(Key::Named(value.kind.to_string())),
                Some(Key::Merge) => merge(entries, merged, value)?,
                Some(Key::Named(name)) => {
                    let explicit = entries.contains_key(&name) && !merged.contains(&name);
                    if explicit {
                        let mut text = String::new();
                        let _ = write!(text, "{}:{}: the key {name} appears twice; ", self.origin, mark.line());
                        text.push_str("the last one counts");
                        self.warnings.push(text);
                    }
                    merged.retain(|m| *m != name);
                    entries.insert(name, value);
                }
            },
        }
        Ok(())
    }
}

/// `<<: *defaults` or `<<: [*a, *b]`: their keys, unless the map has its own (before or after).
fn merge(entries: &mut Map<String, Value>, merged: &mut Vec<String>, value: Value) -> Result<(), String> {
    let sources = match value.kind {
        ValueKind::Array(items) => items,
        other => vec![Value::new(None, other)],
    };
    for source in sources {
        let ValueKind::Table(table) = source.kind else { return Err("<< needs a map or a list of maps".to_owned()) };
        for (name, value) in table {
            if !entries.contains_key(&name) {
                merged.push(name.clone());
                entries.insert(name, value);
            }
        }
    }
    Ok(())
}

fn size_of(value: &Value) -> usize {
    match &value.kind {
        ValueKind::Array(items) => 1 + items.iter().map(size_of).sum::<usize>(),
        ValueKind::Table(entries) => 1 + entries.values().map(size_of).sum::<usize>(),
        _ => 1,
    }
}

/// `str` of `!!str`; an error for a tag of any other kind.
fn short_tag(tag: Option<&Tag>) -> Result<Option<&str>, String> {
    match tag {
        None => Ok(None),
        Some(tag) if tag.handle == "tag:yaml.org,2002:" => Ok(Some(&tag.suffix)),
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(Some("str")),
        Some(tag) => Err(format!("the tag {}{} is not supported", tag.handle, tag.suffix)),
    }
}

fn known_tag(tag: Option<&Tag>, expected: &str) -> Result<(), String> {
    match short_tag(tag)? {
        None => Ok(()),
        Some(name) if name == expected => Ok(()),
        Some(other) => Err(format!("the tag !!{other} is not supported here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        let root = parse("f.yml", text).unwrap().root;
        serde_json::to_string(&root.try_deserialize::<serde_json::Value>().unwrap()).unwrap()
    }

    #[test]
    fn trees_keep_order_case_and_yaml_1_1_meaning() {
        let cases = [
            ("b: on\nA: 0123\nc: '0123'", r#"{"b":true,"A":83,"c":"0123"}"#),
            ("on: 1\n1: [a, ~, 'x']", r#"{"on":1,"1":["a",null,"x"]}"#),
            ("p:\n  pg_stat_statements.track: all", r#"{"p":{"pg_stat_statements.track":"all"}}"#),
            ("x: &d {a: 1, b: 2}\ny:\n  <<: *d\n  b: 3", r#"{"x":{"a":1,"b":2},"y":{"a":1,"b":3}}"#),
            ("y: {b: 3, <<: {a: 1, b: 2}}", r#"{"y":{"b":3,"a":1}}"#),
            ("k: |\n  host all\n  x\n", r#"{"k":"host all\nx\n"}"#),
            ("a: !!str 12\nb: 18446744073709551615", r#"{"a":"12","b":18446744073709551615}"#),
            ("", "null"),
            ("# only a comment\n", "null"),
        ];
        for (text, expected) in cases {
            assert_eq!(json(text), expected, "{text}");
        }
    }

    #[test]
    fn mistakes_name_the_line() {
        let cases = [
            ("a: 1\nb: [1, 2\nc: 3", "f.yml:"),
            ("a: 1\n---\nb: 2", "f.yml:2: a second document"),
            ("a: !!python/none x", "is not supported"),
            ("? [1, 2]\n: x", "cannot be a key"),
            ("a: *nope", "f.yml:1: "),
            ("a: &x [*x]", "f.yml:1: "),
        ];
        for (text, part) in cases {
            let error = parse("f.yml", text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert_eq!(parse("f", "a: 1\na: 2").unwrap().warnings, ["f:2: the key a appears twice; the last one counts"]);
    }

    #[test]
    fn size_and_depth_are_limited() {
        let deep = "[".repeat(100_000);
        assert!(parse("f", &deep).is_err());
        let block: String = (0..100).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert!(parse("f", &block).unwrap_err().contains("nested deeper"));
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..9 {
            let item = format!("*a{}", level - 1);
            let _ = writeln!(bomb, "a{level}: &a{level} [{}]", [item.as_str(); 10].join(","));
        }
        assert!(parse("f", &bomb).unwrap_err().contains("more than"));
    }
}
