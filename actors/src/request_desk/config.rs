//! `PATCH /config` and `PUT /config`: read as last seen, change, write if nobody else did.

use super::merge::merged;
use super::{Desk, POLL};
use crate::dynamic_settings;
use pgherd_protocol::request_desk::{Reply, RequestConfig};
use pgherd_types::{Cluster, ConfigKey, DcsWrite, NodeStatus, Refused};
use serde_json::{Map, Value};
use std::time::Duration;

/// What a change that lost against another one is merged again.
const TRIES: usize = 5;
/// How long the change may take to come back to this node before the answer goes out without waiting for it.
const SEEN_PATIENCE: Duration = Duration::from_secs(2);
/// etcd takes 1.5 MiB at a time.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// `Err` is an answer too.
pub(super) async fn perform(desk: &Desk, request: RequestConfig) -> Result<Reply, Reply> {
    let mut tries = 0;
    loop {
        tries += 1;
        let (status, cluster) = desk.cluster()?;
        let key = cluster.config.as_ref();
        let seen = key.map_or(0, |key| key.mod_revision);
        let Some(text) = changed(key, &request)? else {
            return Ok(Reply::new(200, unchanged_text(key, &request)));
        };
        refuse_mistakes(key, &text, &status, &cluster)?;
        match desk.write(DcsWrite::ReplaceConfig { text: text.clone(), seen }).await {
            Ok(()) => {
                warn_about(&text, &status, &cluster);
                await_change(desk, seen).await;
                return Ok(Reply::new(200, text));
            }
            // Merged again it is the same change; what replaces everything must be looked at again by who wants it.
            Err(Refused::Compare) if tries < TRIES && matches!(request, RequestConfig::Patch(_)) => {
                await_change(desk, seen).await;
            }
            Err(Refused::Compare) => {
                let text = "the configuration was changed by somebody else meanwhile: nothing was written; read it and try again";
                return Err(Reply::new(409, text));
            }
            Err(why) => {
                log::error!("the dynamic configuration was not written: {why:?}");
                let code = if matches!(request, RequestConfig::Patch(_)) { 503 } else { 502 };
                return Err(Reply::new(code, format!("the configuration could not be written: {}", plain(&why))));
            }
        }
    }
}

/// The new text; `None` if it would say what is there already. Compared are values, not their texts.
fn changed(key: Option<&ConfigKey>, request: &RequestConfig) -> Result<Option<String>, Reply> {
    let present = key.and_then(object);
    let wanted = match (request, &present) {
        (RequestConfig::Replace(wanted), _) => wanted.clone(),
        (RequestConfig::Patch(patch), Some(present)) => merged(present, patch),
        (RequestConfig::Patch(_), None) => {
            return Err(Reply::new(503, "there is no usable dynamic configuration to change; replace it with PUT"));
        }
    };
    if present.as_ref() == Some(&wanted) {
        return Ok(None);
    }
    let text = Value::Object(wanted).to_string();
    if text.len() > TEXT_BYTES_MAX {
        return Err(Reply::new(413, format!("the configuration would be larger than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(Some(text))
}

fn unchanged_text(key: Option<&ConfigKey>, request: &RequestConfig) -> String {
    match request {
        RequestConfig::Replace(wanted) => Value::Object(wanted.clone()).to_string(),
        RequestConfig::Patch(_) => key.map_or_else(|| "{}".to_owned(), |key| key.text.clone()),
    }
}

fn object(key: &ConfigKey) -> Option<Map<String, Value>> {
    match serde_json::from_str(&key.text) {
        Ok(Value::Object(object)) if key.valid => Some(object),
        _ => None,
    }
}

/// A value that nobody can use is not written. One that is there already must not be in the way of other changes.
fn refuse_mistakes(key: Option<&ConfigKey>, text: &str, status: &NodeStatus, cluster: &Cluster) -> Result<(), Reply> {
    let all_ours = cluster.all_members_are_ours();
    let mistakes = |text: &str| {
        let checked = dynamic_settings::read(text, &status.settings, all_ours);
        checked.map_or_else(|e| vec![e.to_string()], |checked| checked.mistakes)
    };
    let before = key.map(|key| mistakes(&key.text)).unwrap_or_default();
    let new: Vec<_> = mistakes(text).into_iter().filter(|mistake| !before.contains(mistake)).collect();
    match new.is_empty() {
        true => Ok(()),
        false => Err(Reply::new(400, format!("nothing was written: {}", new.join("; ")))),
    }
}

/// What is written is what was asked for, but a misspelt key should not go unnoticed.
fn warn_about(text: &str, status: &NodeStatus, cluster: &Cluster) {
    if let Ok(checked) = dynamic_settings::read(text, &status.settings, cluster.all_members_are_ours()) {
        checked.warnings.iter().for_each(|warning| log::warn!("configuration written on request: {warning}"));
    }
}

/// Waits until this node has seen another revision of the key, for a while.
async fn await_change(desk: &Desk, seen: i64) {
    let still = || {
        let status = desk.status.load();
        let key = status.cluster.as_ref().and_then(|(cluster, _)| cluster.config.as_ref());
        key.map_or(0, |key| key.mod_revision) == seen
    };
    let change = async {
        while still() {
            tokio::time::sleep(POLL).await;
        }
    };
    let _ = tokio::time::timeout(SEEN_PATIENCE, change).await;
}

fn plain(why: &Refused) -> String {
    match why {
        Refused::Denied(why) | Refused::Unreachable(why) => why.clone(),
        Refused::Compare | Refused::Absent | Refused::LeaseGone => format!("{why:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(text: &str, valid: bool) -> ConfigKey {
        ConfigKey { mod_revision: 5, text: text.into(), valid }
    }

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn only_what_changes_something_is_written() {
        let present = key(r#"{"ttl": 30, "a": {"b": 1}}"#, true);
        let patch = |value: Value| changed(Some(&present), &RequestConfig::Patch(map(&value)));
        let put = |value: Value| changed(Some(&present), &RequestConfig::Replace(map(&value)));
        assert_eq!(patch(json!({"ttl": 30})), Ok(None));
        assert_eq!(patch(json!({"ttl": "30"})), Ok(Some(r#"{"ttl":"30","a":{"b":1}}"#.to_owned())));
        assert_eq!(patch(json!({"x": null, "a": {"b": 1, "c": null}})), Ok(None));
        assert_eq!(patch(json!({"a": null})), Ok(Some(r#"{"ttl":30}"#.to_owned())));
        assert_eq!(put(json!({"a": {"b": 1}, "ttl": 30})), Ok(None), "order is nothing");
        assert_eq!(put(json!({"ttl": null})), Ok(Some(r#"{"ttl":null}"#.to_owned())));
        let request = RequestConfig::Patch(map(&json!({"ttl": 30})));
        assert_eq!(unchanged_text(Some(&present), &request), present.text, "as it is stored");
    }

    #[test]
    fn values_that_nobody_can_use_are_refused_and_old_ones_are_not_in_the_way() {
        let (status, cluster) = (NodeStatus::default(), Cluster::default());
        let refused = |before: &str, text: &str| {
            refuse_mistakes(Some(&key(before, true)), text, &status, &cluster)
                .err()
                .map(|reply| (reply.code, reply.text))
        };
        let what = |text: &str| Some((400, format!("nothing was written: {text}")));
        assert_eq!(refused("{}", r#"{"ttl":"soon"}"#), what("ttl: must be a number of seconds"));
        assert_eq!(refused("{}", r#"{"ttl":-1}"#), what("ttl: must be a number of seconds"));
        assert_eq!(refused("{}", r#"{"postgresql":[]}"#), what("postgresql: must be a map"));
        assert_eq!(
            refused("{}", r#"{"pause":"maybe","synchronous_mode":7}"#),
            what("pause: must be true or false; synchronous_mode: must be on, off or quorum")
        );
        assert_eq!(refused(r#"{"ttl":"soon"}"#, r#"{"ttl":"soon","loop_wait":5}"#), None);
        assert_eq!(refused("{}", r#"{"ttl":"30","loop_wait":"5s","mine":{"x":1},"postgresql":null}"#), None);
    }

    #[test]
    fn without_a_usable_document_nothing_is_merged_but_it_can_be_replaced() {
        let value = map(&json!({"ttl": 20}));
        for absent in [None, Some(key("[]", false)), Some(key("{", false))] {
            let patched = changed(absent.as_ref(), &RequestConfig::Patch(value.clone()));
            assert_eq!(patched.unwrap_err().code, 503);
            let put = changed(absent.as_ref(), &RequestConfig::Replace(value.clone()));
            assert_eq!(put, Ok(Some(r#"{"ttl":20}"#.to_owned())));
        }
        let large = map(&json!({"x": "x".repeat(TEXT_BYTES_MAX)}));
        assert_eq!(changed(None, &RequestConfig::Replace(large)).unwrap_err().code, 413);
    }
}
