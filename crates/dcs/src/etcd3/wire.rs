//! JSON of the gateway: requests out, answers in. 64-bit numbers are text on the wire, defaults are left out, bytes are
//! base64, and errors come in four shapes.

use crate::codec::KeyValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgherd_types::LeaseId;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// A transaction: all comparisons hold, or nothing is done.
#[derive(Clone, Default)]
pub(super) struct Txn {
    compare: Vec<Value>,
    then: Vec<Value>,
    otherwise: Vec<Value>,
}

impl Txn {
    pub fn new() -> Self {
        Self::default()
    }
    /// The key hangs on this lease.
    pub fn if_lease(mut self, key: &str, lease: LeaseId) -> Self {
        self.compare.push(json!({"target": "LEASE", "key": b64(key), "lease": lease.0.to_string()}));
        self
    }
    /// The key was created at this revision; 0: it does not exist.
    pub fn if_created(mut self, key: &str, revision: i64) -> Self {
        self.compare.push(json!({"target": "CREATE", "key": b64(key), "create_revision": revision.to_string()}));
        self
    }
    /// The key was last changed at this revision; 0: it does not exist.
    pub fn if_modified(mut self, key: &str, revision: i64) -> Self {
        self.compare.push(json!({"target": "MOD", "key": b64(key), "mod_revision": revision.to_string()}));
        self
    }
    /// The key exists and holds this value.
    pub fn if_value(mut self, key: &str, value: &[u8]) -> Self {
        self.compare.push(json!({"target": "VALUE", "key": b64(key), "value": b64(value)}));
        self
    }
    pub fn put(mut self, key: &str, value: &[u8], lease: Option<LeaseId>) -> Self {
        let lease = lease.map_or(0, |l| l.0).to_string();
        self.then.push(json!({"request_put": {"key": b64(key), "value": b64(value), "lease": lease}}));
        self
    }
    pub fn delete(mut self, key: &str) -> Self {
        self.then.push(json!({"request_delete_range": {"key": b64(key)}}));
        self
    }
    /// Reads the key, whatever the comparisons say. etcd serves a transaction without any (linearizable) read or
    /// write from local memory, stale or not: a transaction that only compares must read something too.
    pub fn read(mut self, key: &str) -> Self {
        let range = json!({"request_range": {"key": b64(key)}});
        self.then.push(range.clone());
        self.otherwise.push(range);
        self
    }
    pub fn body(&self) -> String {
        json!({"compare": self.compare, "success": self.then, "failure": self.otherwise}).to_string()
    }
}

pub(super) fn range_body(from: &str, end: &[u8]) -> String {
    json!({"key": b64(from), "range_end": b64(end)}).to_string()
}

pub(super) fn one_body(key: &str) -> String {
    json!({"key": b64(key)}).to_string()
}

/// Only keys that were changed after that revision; `count` counts all.
pub(super) fn range_since_body(from: &str, end: &[u8], revision: i64) -> String {
    json!({"key": b64(from), "range_end": b64(end), "min_mod_revision": (revision + 1).to_string()}).to_string()
}

pub(super) fn watch_body(from: &str, end: &[u8], start_revision: Option<i64>) -> String {
    let start = start_revision.unwrap_or(0).to_string();
    json!({"create_request": {"key": b64(from), "range_end": b64(end), "start_revision": start}}).to_string()
}

fn int64<'de, D: Deserializer<'de>>(d: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Text(String),
        Plain(i64),
    }
    match Number::deserialize(d)? {
        Number::Text(text) => text.parse().map_err(serde::de::Error::custom),
        Number::Plain(number) => Ok(number),
    }
}

fn uint64<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Text(String),
        Plain(u64),
    }
    match Number::deserialize(d)? {
        Number::Text(text) => text.parse().map_err(serde::de::Error::custom),
        Number::Plain(number) => Ok(number),
    }
}

fn bytes<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(d)?).map_err(serde::de::Error::custom)
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(crate) struct Header {
    #[serde(deserialize_with = "int64")]
    pub revision: i64,
    #[serde(deserialize_with = "uint64")]
    pub cluster_id: u64,
    #[serde(deserialize_with = "uint64")]
    pub member_id: u64,
}

/// The header of an answer. `None` if it is missing: then it is an error, or not etcd that answered, and what is left out
/// must not be taken for defaults (no keys, no lease).
pub(super) fn answered(body: &[u8]) -> Option<Header> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Envelope {
        header: Header,
        result: Option<Box<Envelope>>,
    }
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    let header = envelope.result.map_or(envelope.header, |stream| stream.header);
    // the list of members has no revision
    (header.revision > 0 || header.member_id != 0).then_some(header)
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct WireKey {
    #[serde(deserialize_with = "bytes")]
    key: Vec<u8>,
    #[serde(deserialize_with = "bytes")]
    value: Vec<u8>,
    #[serde(deserialize_with = "int64")]
    create_revision: i64,
    #[serde(deserialize_with = "int64")]
    mod_revision: i64,
    #[serde(deserialize_with = "int64")]
    lease: i64,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(super) struct RangeReply {
    pub header: Header,
    kvs: Vec<WireKey>,
    /// How many keys there are, whether or not they are among those that were asked for.
    #[serde(deserialize_with = "int64")]
    pub count: i64,
}

impl RangeReply {
    pub fn keys(self) -> Vec<KeyValue> {
        let plain = |k: WireKey| KeyValue {
            key: k.key,
            value: k.value,
            create_revision: k.create_revision,
            mod_revision: k.mod_revision,
            lease: (k.lease != 0).then_some(LeaseId(k.lease)),
        };
        self.kvs.into_iter().map(plain).collect()
    }
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(super) struct TxnReply {
    pub succeeded: bool,
    responses: Vec<ResponseOp>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
struct ResponseOp {
    response_range: Option<RangeReply>,
}

impl TxnReply {
    /// The keys read, one entry a read, in order.
    pub fn reads(self) -> impl Iterator<Item = Option<KeyValue>> {
        self.responses.into_iter().filter_map(|r| r.response_range).map(|range| range.keys().pop())
    }
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(super) struct LeaseReply {
    #[serde(rename = "ID", deserialize_with = "int64")]
    pub id: i64,
    /// Left out, and so 0, when the lease does not exist: with HTTP status 200.
    #[serde(rename = "TTL", deserialize_with = "int64")]
    pub ttl_s: i64,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(super) struct TokenReply {
    pub token: String,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(super) struct MembersReply {
    pub members: Vec<MemberInfo>,
}

/// A member of etcd, as it is known to the others.
#[derive(Deserialize, Default, Clone, Debug)]
#[serde(default)]
pub(super) struct MemberInfo {
    #[serde(rename = "ID", deserialize_with = "uint64")]
    pub id: u64,
    /// Empty before it was started for the first time.
    pub name: String,
    #[serde(rename = "clientURLs")]
    pub client_urls: Vec<String>,
    /// It does not vote and cannot lead.
    #[serde(rename = "isLearner")]
    pub is_learner: bool,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(super) struct StatusReply {
    /// 0 when there is none.
    #[serde(deserialize_with = "uint64")]
    pub leader: u64,
    /// What is wrong with the store, such as an alarm for space.
    pub errors: Vec<String>,
}

/// A stream's frame.
#[derive(Deserialize, Debug)]
pub(super) struct Framed<T> {
    pub result: Option<T>,
    pub error: Option<Value>,
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(super) struct WatchFrame {
    pub header: Header,
    pub created: bool,
    pub canceled: bool,
    #[serde(deserialize_with = "int64")]
    pub compact_revision: i64,
    pub cancel_reason: String,
    /// What changed does not matter: the watch is a hint to read again.
    pub events: Vec<serde::de::IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keepalive_without_ttl_is_a_lost_lease() {
        let reply = |body: &str| serde_json::from_str::<Framed<LeaseReply>>(body).unwrap().result.unwrap();
        assert_eq!(reply(r#"{"result":{"header":{"revision":"7"},"ID":"777"}}"#).ttl_s, 0);
        let alive = reply(r#"{"result":{"header":{"revision":"7"},"ID":"777","TTL":"30"}}"#);
        assert_eq!((alive.id, alive.ttl_s), (777, 30));
        assert_eq!(reply(r#"{"result":{"ID":777,"TTL":30}}"#).ttl_s, 30, "numbers may be numbers");
    }

    #[test]
    fn an_answer_without_a_header_is_not_etcds() {
        let revision = |body: &[u8]| answered(body).map(|header| header.revision);
        assert_eq!(revision(br#"{"header":{"revision":"7"}}"#), Some(7));
        assert_eq!(revision(br#"{"result":{"header":{"revision":"7"},"ID":"1"}}"#), Some(7));
        assert_eq!(revision(br#"{"header":{"member_id":"18446744073709551615"},"members":[]}"#), Some(0));
        for body in ["", "[]", "{}", "hello", r#"{"header":{}}"#, r#"{"error":{"message":"x"}}"#, r#"{"result":{}}"#] {
            assert_eq!(revision(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn defaults_that_are_left_out_are_filled_in() {
        let reply: TxnReply = serde_json::from_str(r#"{"header":{}}"#).unwrap();
        assert!(!reply.succeeded && reply.reads().next().is_none());
        let range = r#"{"header":{"revision":"9"},"kvs":[{"key":"YQ==","mod_revision":"3"}],"count":"1"}"#;
        let keys = serde_json::from_str::<RangeReply>(range).unwrap().keys();
        assert_eq!((keys[0].key.as_slice(), keys[0].value.as_slice(), keys[0].lease), (&b"a"[..], &b""[..], None));
    }
}
