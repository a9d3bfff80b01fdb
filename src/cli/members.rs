//! The members of a cluster as rows and as text: a table, tab-separated lines, or JSON.

use super::python_json;
use super::table::{Align, Column, Table};
use crate::settings::scalar;
use pgherd_types::{Cluster, Initialize, Lsn, Member};
use pgherd_web::cluster::{Behind, MemberView, members};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// One column of the list: its name in machine formats, its header in the table, and its value for a member.
struct Field {
    name: &'static str,
    column: Column,
    value: fn(&Row) -> Value,
}

struct Row<'a> {
    member: MemberView<'a>,
    host: String,
}

const fn field(name: &'static str, header: &'static str, align: Align, value: fn(&Row) -> Value) -> Field {
    Field { name, column: Column { header, align }, value }
}

const FIELDS: &[Field] = &[
    field("Member", "Member", Align::Left, |r| r.member.name.into()),
    field("Host", "Host", Align::Left, |r| r.host.clone().into()),
    field("Role", "Role", Align::Left, |r| role(&r.member).into()),
    field("State", "State", Align::Left, |r| r.member.state.into()),
    field("TL", "TL", Align::Right, |r| r.member.timeline.map_or(Value::Null, |t| t.0.into())),
    field("Receive LSN", "Receive LSN", Align::Right, |r| lsn(r, |b| b.receive)),
    field("Receive Lag", "Lag", Align::Right, |r| lag_mb(r, |b| b.receive)),
    field("Replay LSN", "Replay LSN", Align::Right, |r| lsn(r, |b| b.replay)),
    field("Replay Lag", "Lag", Align::Right, |r| lag_mb(r, |b| b.replay)),
];

const PENDING_REASON: &str = "Pending restart reason";
/// Longer lines of it are hidden in the table.
const REASON_CHARS_MAX: usize = 50;

/// Shown if asked for, or if any member has a value.
const EXTENDED: &[Field] = &[
    field("Pending restart", "Pending restart", Align::Left, |r| {
        if r.member.pending_restart { "*".into() } else { Value::Null }
    }),
    field(PENDING_REASON, "Pending restart reason", Align::Left, reasons),
    field("Scheduled restart", "Scheduled restart", Align::Left, |_| Value::Null),
    field("Tags", "Tags", Align::Left, |r| {
        let tags: Map<_, _> = r.member.tags.iter().map(|(k, v)| (k.clone(), tag_value(v))).collect();
        if tags.is_empty() { Value::Null } else { tags.into() }
    }),
];

fn role(member: &MemberView) -> &'static str {
    match member.role {
        "leader" => "Leader",
        "standby_leader" => "Standby Leader",
        _ => "Replica",
    }
}

fn lsn(row: &Row, position: fn(&Behind) -> Option<Lsn>) -> Value {
    let Some(behind) = &row.member.behind else { return Value::Null };
    position(behind).map_or("unknown".into(), |lsn| lsn.to_string().into())
}

/// `param: old->new`, one line for each.
fn reasons(row: &Row) -> Value {
    let line = |(name, old, new): &(String, String, String)| without_controls(&format!("{name}: {old}->{new}"));
    let lines: Vec<String> = row.member.pending_restart_reason.iter().map(line).collect();
    if lines.is_empty() { Value::Null } else { lines.join("\n").into() }
}

/// In megabytes, rounded.
fn lag_mb(row: &Row, position: fn(&Behind) -> Option<Lsn>) -> Value {
    let bytes = row.member.behind.as_ref().and_then(|behind| behind.lag_bytes(position(behind)));
    bytes.map_or(Value::Null, |bytes| ((bytes + (1 << 19)) >> 20).into())
}

fn tag_value(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| json.into())
}

fn rows(cluster: &Cluster) -> Vec<Row<'_>> {
    let members = members(cluster);
    let endpoints = || members.iter().filter_map(|member| member.endpoint.as_ref());
    let hosts: BTreeSet<_> = endpoints().map(|(host, _)| host).collect();
    // The port tells members apart, or it is not the one everybody expects.
    let with_port = endpoints().any(|(_, port)| *port != 5432) || hosts.len() < endpoints().count();
    let host = |member: &MemberView| match &member.endpoint {
        Some((host, port)) if with_port => format!("{host}:{port}"),
        Some((host, _)) => host.clone(),
        None => String::new(),
    };
    members.iter().map(|member| Row { host: host(member), member: member.clone() }).collect()
}

fn fields(rows: &[Row], extended: bool) -> Vec<&'static Field> {
    let wanted = |field: &&Field| extended || rows.iter().any(|row| !(field.value)(row).is_null());
    FIELDS.iter().chain(EXTENDED.iter().filter(wanted)).collect()
}

/// The table for people.
pub fn members_table(scope: &str, cluster: &Cluster, extended: bool) -> Table {
    let rows = rows(cluster);
    let fields = fields(&rows, extended);
    let cell = |field: &Field, row: &Row| match (field.value)(row) {
        Value::Object(tags) => yaml_block(&tags),
        Value::String(lines) if field.name == PENDING_REASON => {
            lines.lines().map(shortened).collect::<Vec<_>>().join("\n")
        }
        other => plain(&other),
    };
    Table {
        title: format!(" Cluster: {scope} ({}) ", system_id(cluster)),
        columns: fields.iter().map(|field| field.column.clone()).collect(),
        rows: rows.iter().map(|row| fields.iter().map(|field| cell(field, row)).collect()).collect(),
    }
}

/// A long `param: old->new` would make the table unreadable.
fn shortened(line: &str) -> String {
    match line.split_once(": ").filter(|_| line.chars().count() > REASON_CHARS_MAX) {
        Some((name, _)) => format!("{name}: [hidden - too long]"),
        None => line.to_owned(),
    }
}

fn system_id(cluster: &Cluster) -> String {
    match &cluster.initialize {
        None => "uninitialized".to_owned(),
        Some(Initialize::InProgress { .. }) => "initializing".to_owned(),
        Some(Initialize::Done(id)) => id.to_string(),
        Some(Initialize::Garbage) => "unreadable initialize key".to_owned(),
    }
}

/// What is printed below the table.
pub fn service_lines(cluster: &Cluster) -> Vec<String> {
    let config = cluster.config.as_ref().and_then(|config| serde_json::from_str::<Value>(&config.text).ok());
    let paused = config.is_some_and(|config| config["pause"] == true);
    let mode = paused.then(|| " Maintenance mode: on".to_owned());
    mode.into_iter().chain(cluster.members.values().filter_map(trouble_line)).collect()
}

/// What a person must mend at a member, in its own words.
fn trouble_line(member: &Member) -> Option<String> {
    Some(format!(" {}: {}", member.name, without_controls(member.doc.trouble.as_ref()?)))
}

fn without_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A header and one line for each member, tab-separated.
pub fn members_tsv(scope: &str, cluster: &Cluster, extended: bool) -> String {
    let rows = rows(cluster);
    let fields = fields(&rows, extended);
    let cell = |value: Value| match value {
        Value::Object(tags) => yaml_flow(&tags),
        Value::String(lines) => lines.replace('\n', ", "),
        other => plain(&other),
    };
    let header = fields.iter().map(|field| field.name.to_owned()).collect::<Vec<_>>().join("\t");
    let mut lines = vec![format!("Cluster\t{header}")];
    for row in &rows {
        let cells = fields.iter().map(|field| cell((field.value)(row))).collect::<Vec<_>>().join("\t");
        lines.push(format!("{scope}\t{cells}"));
    }
    lines.join("\n")
}

/// One line: an array of objects without their empty values.
pub fn members_json(scope: &str, cluster: &Cluster, extended: bool) -> String {
    let rows = rows(cluster);
    let fields = fields(&rows, extended);
    let object = |row: &Row| {
        let mut object = Map::from_iter([("Cluster".to_owned(), json!(scope))]);
        let values = fields.iter().map(|field| (field.name.to_owned(), (field.value)(row)));
        object.extend(values.filter(|(_, value)| !value.is_null() && *value != ""));
        Value::Object(object)
    };
    python_json::line(&rows.iter().map(object).collect())
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `a: 1`, one line for each tag, by name.
fn yaml_block(tags: &Map<String, Value>) -> String {
    sorted(tags).collect::<Vec<_>>().join("\n")
}

/// `{a: 1, b: x}`.
fn yaml_flow(tags: &Map<String, Value>) -> String {
    format!("{{{}}}", sorted(tags).collect::<Vec<_>>().join(", "))
}

fn sorted(tags: &Map<String, Value>) -> impl Iterator<Item = String> {
    let mut tags: Vec<_> = tags.iter().collect();
    tags.sort_by_key(|(name, _)| *name);
    tags.into_iter().map(|(name, value)| format!("{name}: {}", yaml_scalar(value)))
}

/// Text is quoted where YAML would read something else than text.
fn yaml_scalar(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let special = text.starts_with(|c: char| "-?:,[]{}#&*!|>'\"%@` ".contains(c))
        || text.contains(": ")
        || text.contains(" #")
        || text.ends_with([' ', ':'])
        || text.contains([',', '{', '}', '[', ']', '\n']);
    match scalar::resolve(text) {
        config::ValueKind::String(_) if !special => text.clone(),
        _ => format!("'{}'", text.replace('\'', "''")),
    }
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
