//! Member documents: the values of `members/<name>`.

use super::manual::{encode_scheduled_restart, scheduled_restart};
use super::{Faults, TEXT_LIMIT_BYTES, json as parse, whole};
use pgherd_types::{Lsn, MemberDoc, Role, Tags, Timeline};
use serde_json::{Map, Value, json};

pub(super) fn decode_member(value: &[u8], faults: &mut Faults) -> MemberDoc {
    match parse(value) {
        Ok(Value::Object(document)) => fields(&Fields { document: &document }, faults),
        _ if value.starts_with(b"postgres") => very_old_form(value),
        Ok(_) => empty(faults, "not an object"),
        Err(e) => empty(faults, &e),
    }
}

fn empty(faults: &mut Faults, what: &str) -> MemberDoc {
    faults.add(format!("{what}; nothing is known of this member"));
    MemberDoc::default()
}

/// A connection URL whose query names the API: `postgres://host:port/db?application_name=http://…`.
fn very_old_form(value: &[u8]) -> MemberDoc {
    let text = String::from_utf8_lossy(value);
    let (conn_url, query) = text.split_once('?').unwrap_or((&text, ""));
    let api_url = query.split('&').find_map(|pair| pair.strip_prefix("application_name="));
    MemberDoc { conn_url: Some(conn_url.to_owned()), api_url: api_url.map(str::to_owned), ..MemberDoc::default() }
}

struct Fields<'a> {
    document: &'a Map<String, Value>,
}

impl Fields<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.document.get(name).filter(|v| !v.is_null())
    }
    fn text(&self, name: &str, faults: &mut Faults) -> Option<String> {
        let value = self.get(name)?;
        let text = value.as_str().filter(|s| s.len() <= TEXT_LIMIT_BYTES).map(str::to_owned);
        self.checked(name, text, "text", faults)
    }
    fn lsn(&self, name: &str, faults: &mut Faults) -> Option<Lsn> {
        let position = whole(self.get(name)?).map(Lsn);
        self.checked(name, position, "a position", faults)
    }
    fn checked<T>(&self, name: &str, value: Option<T>, kind: &str, faults: &mut Faults) -> Option<T> {
        if value.is_none() {
            faults.add(format!("{name} is not {kind}; ignored"));
        }
        value
    }
}

fn fields(document: &Fields<'_>, faults: &mut Faults) -> MemberDoc {
    MemberDoc {
        conn_url: document.text("conn_url", faults),
        api_url: document.text("api_url", faults),
        proxy_url: document.text("proxy_url", faults),
        state: document.text("state", faults).unwrap_or_default(),
        role: role(document, faults),
        version: document.text("version", faults),
        pgherd: document.text("pgherd", faults),
        tags: tags(document.get("tags"), faults),
        xlog_location: document.lsn("xlog_location", faults),
        receive_lsn: document.lsn("receive_lsn", faults),
        replay_lsn: document.lsn("replay_lsn", faults),
        replication_state: document.text("replication_state", faults),
        timeline: timeline(document, faults),
        pending_restart: document.get("pending_restart").is_some_and(|v| v.as_bool() == Some(true)),
        pending_restart_reason: pending_reasons(document.get("pending_restart_reason")),
        scheduled_restart: document.get("scheduled_restart").and_then(scheduled_restart),
        pause: document.get("pause").is_some_and(|v| v.as_bool() == Some(true)),
        checkpoint_pending: document.get("checkpoint_after_promote").is_some_and(|v| v.as_bool() == Some(false)),
        trouble: document.text("pgherd_reason", faults),
        sync_names: document.text("pgherd_sync_names", faults),
    }
}

fn role(document: &Fields<'_>, faults: &mut Faults) -> Option<Role> {
    let role = Role::parse(&document.text("role", faults)?);
    document.checked("role", role, "a known role", faults)
}

fn timeline(document: &Fields<'_>, faults: &mut Faults) -> Option<Timeline> {
    let number = whole(document.get("timeline")?).and_then(|n| u32::try_from(n).ok());
    let timeline = number.filter(|n| *n > 0).map(Timeline);
    document.checked("timeline", timeline, "a timeline", faults)
}

fn tags(value: Option<&Value>, faults: &mut Faults) -> Tags {
    let document = match value {
        None => return Tags::default(),
        Some(Value::Object(document)) => document,
        Some(_) => {
            faults.add("tags is not an object; ignored");
            return Tags::default();
        }
    };
    let mut flag = |name: &str| match document.get(name) {
        None | Some(Value::Null) => false,
        Some(value) => truth(value).unwrap_or_else(|| {
            faults.add(format!("tag {name} is neither true nor false; taken as false"));
            false
        }),
    };
    Tags {
        nofailover: flag("nofailover"),
        noloadbalance: flag("noloadbalance"),
        clonefrom: flag("clonefrom"),
        nostream: flag("nostream"),
        nosync: flag("nosync"),
        failover_priority: document.get("failover_priority").and_then(priority),
        sync_priority: document.get("sync_priority").and_then(priority),
        replicatefrom: document.get("replicatefrom").and_then(Value::as_str).map(str::to_owned),
        shown: document.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
    }
}

/// `{name: {old_value, new_value}}`.
fn pending_reasons(value: Option<&Value>) -> Vec<(String, String, String)> {
    let text = |change: &Value, key: &str| change.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
    let changes = value.and_then(Value::as_object).into_iter().flatten();
    changes.map(|(name, change)| (name.clone(), text(change, "old_value"), text(change, "new_value"))).collect()
}

/// Booleans, and the words and numbers that other agents let through for them.
fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        Value::Number(n) => n.as_f64().map(|n| n != 0.0),
        Value::String(word) => match word.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" | "" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn priority(value: &Value) -> Option<i32> {
    let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())?;
    Some(i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX }))
}

/// Compact JSON, fields in the order Patroni uses, our own ones last.
pub fn encode_member(doc: &MemberDoc) -> Vec<u8> {
    let mut out = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    put("conn_url", doc.conn_url.clone().map(Value::from));
    put("api_url", doc.api_url.clone().map(Value::from));
    put("state", Some(doc.state.clone().into()));
    put("role", doc.role.map(|role| role.as_str().into()));
    put("version", doc.version.clone().map(Value::from));
    put("proxy_url", doc.proxy_url.clone().map(Value::from));
    put("checkpoint_after_promote", doc.checkpoint_pending.then_some(Value::Bool(false)));
    put("tags", shown_tags(&doc.tags));
    put("pending_restart", doc.pending_restart.then_some(Value::Bool(true)));
    put("pending_restart_reason", encode_reasons(&doc.pending_restart_reason));
    put("xlog_location", doc.xlog_location.map(|lsn| lsn.0.into()));
    put("receive_lsn", doc.receive_lsn.filter(|lsn| !lsn.is_zero()).map(|lsn| lsn.0.into()));
    put("replay_lsn", doc.replay_lsn.filter(|lsn| !lsn.is_zero()).map(|lsn| lsn.0.into()));
    put("replication_state", doc.replication_state.clone().map(Value::from));
    put("timeline", doc.timeline.map(|timeline| timeline.0.into()));
    put("scheduled_restart", doc.scheduled_restart.as_ref().map(encode_scheduled_restart));
    put("pause", doc.pause.then_some(Value::Bool(true)));
    put("pgherd", doc.pgherd.clone().map(Value::from));
    put("pgherd_reason", doc.trouble.clone().map(Value::from));
    put("pgherd_sync_names", doc.sync_names.clone().map(Value::from));
    Value::Object(out).to_string().into_bytes()
}

/// `None` when nothing waits.
fn encode_reasons(reasons: &[(String, String, String)]) -> Option<Value> {
    let change =
        |(name, old, new): &(String, String, String)| (name.clone(), json!({"old_value": old, "new_value": new}));
    (!reasons.is_empty()).then(|| Value::Object(reasons.iter().map(change).collect()))
}

fn shown_tags(tags: &Tags) -> Option<Value> {
    let value = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
    let shown: Map<String, Value> = tags.shown.iter().map(|(name, text)| (name.clone(), value(text))).collect();
    (!shown.is_empty()).then_some(Value::Object(shown))
}
