//! The members of a cluster as rows and as text: a table, tab-separated lines, JSON or YAML.

use super::session::{paused, sync_mode};
use super::table::{Align, Column, Table};
use super::{python_json, yaml_text};
use pgherd_types::{Cluster, Initialize, Lsn, Member, MemberDoc, MemberName, Schedule};
use pgherd_web::cluster::{Behind, MemberView, members};
use pgherd_web::synchronous::awaited;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// One column of the list: its name in machine formats, its header in the table, and its value for a member.
struct Field {
    name: &'static str,
    column: Column,
    value: fn(&Row) -> Value,
}

struct Row<'a> {
    member: MemberView<'a>,
    doc: &'a MemberDoc,
    host: String,
}

/// A longer line about a setting is not shown in tables.
const REASON_CHARS_MAX: usize = 50;

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

/// Shown if asked for, or if any member has a value.
const EXTENDED: &[Field] = &[
    field("Pending restart", "Pending restart", Align::Left, |r| {
        if r.member.pending_restart { "*".into() } else { Value::Null }
    }),
    field("Pending restart reason", "Pending restart reason", Align::Left, |r| lines(&reasons(r.doc))),
    field("Scheduled restart", "Scheduled restart", Align::Left, |r| scheduled(r.doc)),
    field("Tags", "Tags", Align::Left, |r| {
        let tags: Map<_, _> = r.member.tags.iter().map(|(k, v)| (k.clone(), tag_value(v))).collect();
        if tags.is_empty() { Value::Null } else { tags.into() }
    }),
];

fn role(member: &MemberView) -> &'static str {
    match member.role {
        "leader" => "Leader",
        "standby_leader" => "Standby Leader",
        "sync_standby" => "Sync Standby",
        "quorum_standby" => "Quorum Standby",
        _ => "Replica",
    }
}

fn lsn(row: &Row, position: fn(&Behind) -> Option<Lsn>) -> Value {
    let Some(behind) = &row.member.behind else { return Value::Null };
    seen(behind, position).map_or("unknown".into(), |lsn| lsn.to_string().into())
}

/// In megabytes, rounded.
fn lag_mb(row: &Row, position: fn(&Behind) -> Option<Lsn>) -> Value {
    let bytes = row.member.behind.as_ref().and_then(|behind| behind.lag_bytes(seen(behind, position)));
    bytes.map_or(Value::Null, |bytes| ((bytes + (1 << 19)) >> 20).into())
}

/// Old members publish one position only.
fn seen(behind: &Behind, position: fn(&Behind) -> Option<Lsn>) -> Option<Lsn> {
    if behind.receive.is_none() && behind.replay.is_none() { behind.both } else { position(behind) }
}

/// `param: old->new`.
fn reasons(doc: &MemberDoc) -> Vec<String> {
    doc.pending_restart_reason.iter().map(|(name, old, new)| format!("{name}: {old}->{new}")).collect()
}

fn lines(lines: &[String]) -> Value {
    if lines.is_empty() { Value::Null } else { lines.join("\n").into() }
}

fn scheduled(doc: &MemberDoc) -> Value {
    let Some(restart) = &doc.scheduled_restart else { return Value::Null };
    let below = restart.shown.iter().find(|(name, _)| name == "postgres_version").map(|(_, json)| tag_value(json));
    let below = below.map(|version| format!(" if version < {}", plain(&version))).unwrap_or_default();
    format!("{}{below}", restart.text).into()
}

fn tag_value(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| json.into())
}

fn rows<'a>(cluster: &'a Cluster) -> Vec<Row<'a>> {
    let members = members(cluster, sync_mode(cluster));
    let endpoints = || members.iter().filter_map(|member| member.endpoint.as_ref());
    let hosts: BTreeSet<_> = endpoints().map(|(host, _)| host).collect();
    // The port tells members apart, or it is not the one everybody expects.
    let with_port = endpoints().any(|(_, port)| *port != 5432) || hosts.len() < endpoints().count();
    let host = |member: &MemberView| match &member.endpoint {
        Some((host, port)) if with_port => format!("{host}:{port}"),
        Some((host, _)) => host.clone(),
        None => String::new(),
    };
    let row = |member: &MemberView<'a>| {
        let doc = &cluster.members.get(&MemberName::from(member.name))?.doc;
        Some(Row { host: host(member), doc, member: member.clone() })
    };
    members.iter().filter_map(row).collect()
}

fn fields(rows: &[Row], extended: bool) -> Vec<&'static Field> {
    let wanted = |field: &&Field| extended || rows.iter().any(|row| !(field.value)(row).is_null());
    FIELDS.iter().chain(EXTENDED.iter().filter(wanted)).collect()
}

/// The table for people.
pub fn members_table(scope: &str, cluster: &Cluster, extended: bool) -> Table {
    table(scope, cluster, &rows(cluster), extended)
}

/// The same, each member indented below the one it replicates from.
pub fn topology_table(scope: &str, cluster: &Cluster) -> Table {
    let mut rows: BTreeMap<_, _> = rows(cluster).into_iter().map(|row| (row.member.name, row)).collect();
    let ordered = tree(cluster);
    let ordered = ordered.iter().filter_map(|(depth, name)| Some((*depth, rows.remove(name)?)));
    let (depths, rows): (Vec<usize>, Vec<Row>) = ordered.unzip();
    let mut table = table(scope, cluster, &rows, false);
    for (row, depth) in table.rows.iter_mut().zip(depths) {
        if let Some(indent) = depth.checked_sub(1) {
            row[0] = format!("{}+ {}", "  ".repeat(indent), row[0]);
        }
    }
    table
}

/// Every member with its depth, each after its source. Who names no other member follows the leader.
fn tree(cluster: &Cluster) -> Vec<(usize, &str)> {
    let leader = cluster.leader_member().map(|member| &member.name);
    let source = |member: &Member| {
        let named = member.doc.tags.replicatefrom.as_deref().map(MemberName::from);
        let named = named.filter(|name| *name != member.name && cluster.members.contains_key(name));
        if leader == Some(&member.name) { None } else { named.or_else(|| leader.cloned()) }
    };
    let mut below: BTreeMap<Option<MemberName>, Vec<&MemberName>> = BTreeMap::new();
    for member in cluster.members.values() {
        below.entry(source(member)).or_default().push(&member.name);
    }
    let mut open: Vec<_> = below.remove(&None).unwrap_or_default().into_iter().rev().map(|name| (0, name)).collect();
    let mut ordered = Vec::new();
    while let Some((depth, name)) = open.pop() {
        ordered.push((depth, name));
        let followers = below.remove(&Some(name.clone())).unwrap_or_default();
        open.extend(followers.into_iter().rev().map(|follower| (depth + 1, follower)));
    }
    // Members that name each other in a ring are below nobody.
    for member in cluster.members.keys() {
        if !ordered.iter().any(|(_, name)| *name == member) {
            ordered.push((0, member));
        }
    }
    ordered.into_iter().map(|(depth, name)| (depth, name.as_str())).collect()
}

fn table(scope: &str, cluster: &Cluster, rows: &[Row], extended: bool) -> Table {
    let fields = fields(rows, extended);
    let cell = |field: &Field, row: &Row| match (field.value)(row) {
        tags @ Value::Object(_) => yaml_text::block(&tags).trim_end().to_owned(),
        other if field.name == "Pending restart reason" => without_long_lines(&plain(&other)),
        other => plain(&other),
    };
    Table {
        title: format!(" Cluster: {scope} ({}) ", system_id(cluster)),
        columns: fields.iter().map(|field| field.column.clone()).collect(),
        rows: rows.iter().map(|row| fields.iter().map(|field| cell(field, row)).collect()).collect(),
    }
}

fn without_long_lines(text: &str) -> String {
    let short = |line: &str| match line.split_once(':').filter(|_| line.chars().count() > REASON_CHARS_MAX) {
        Some((name, _)) => format!("{name}: [hidden - too long]"),
        None => line.to_owned(),
    };
    text.lines().map(short).collect::<Vec<_>>().join("\n")
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
    let mode = paused(cluster).then(|| " Maintenance mode: on".to_owned());
    let scheduled = scheduled_switchover(cluster).into_iter().flatten();
    mode.into_iter().chain(scheduled).chain(cluster.members.values().filter_map(trouble_line)).collect()
}

/// Right-aligned to the first line's colon.
fn scheduled_switchover(cluster: &Cluster) -> Option<Vec<String>> {
    let key = cluster.failover.as_ref()?;
    let Schedule::At { text, .. } = key.schedule.as_ref()? else { return None };
    let line = |what: &str, value: &str| format!("{what:>24}: {value}");
    let parts = [("from", &key.leader), ("to", &key.candidate)];
    let parts = parts.iter().filter_map(|(what, name)| Some(line(what, name.as_ref()?.as_str())));
    Some([line("Switchover scheduled at", text)].into_iter().chain(parts).collect())
}

/// Who must return before anybody may lead a cluster in a synchronous mode.
pub fn waiting_line(cluster: &Cluster) -> Option<String> {
    let awaited = awaited(cluster, sync_mode(cluster))?;
    let (names, others) = (awaited.names(), awaited.others.join(", "));
    let whom = match (names.as_slice(), &awaited.last_primary) {
        ([only], _) => format!(": {only} (synchronous member)"),
        (all, _) if awaited.enough == 1 => format!(" one of: {} (synchronous members)", all.join(", ")),
        (_, Some(last)) => format!(": {last}, or {} of: {others} (synchronous members)", awaited.enough),
        (_, None) => format!(" {} of: {others} (synchronous members)", awaited.enough),
    };
    Some(format!(" Waiting for{whom}"))
}

/// What a person must mend at a member, in its own words.
fn trouble_line(member: &Member) -> Option<String> {
    let text: String = member.doc.trouble.as_ref()?.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    Some(format!(" {}: {text}", member.name))
}

/// A header and one line for each member, tab-separated.
pub fn members_tsv(scope: &str, cluster: &Cluster, extended: bool) -> String {
    let rows = rows(cluster);
    let fields = fields(&rows, extended);
    let cell = |value: Value| match value {
        tags @ Value::Object(_) => yaml_text::flow(&tags),
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
    python_json::line(&objects(scope, cluster, extended))
}

/// The same as YAML.
pub fn members_yaml(scope: &str, cluster: &Cluster, extended: bool) -> String {
    yaml_text::block(&objects(scope, cluster, extended)).trim_end().to_owned()
}

fn objects(scope: &str, cluster: &Cluster, extended: bool) -> Value {
    let rows = rows(cluster);
    let fields = fields(&rows, extended);
    let object = |row: &Row| {
        let mut object = Map::from_iter([("Cluster".to_owned(), json!(scope))]);
        let values = fields.iter().map(|field| (field.name.to_owned(), (field.value)(row)));
        object.extend(values.filter(|(_, value)| !value.is_null() && *value != ""));
        Value::Object(object)
    };
    rows.iter().map(object).collect()
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
