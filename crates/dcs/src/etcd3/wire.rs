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

fn bytes<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(d)?).map_err(serde::de::Error::custom)
}

#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(super) struct Header {
    #[serde(deserialize_with = "int64")]
    pub revision: i64,
}

/// The store's revision when it gave this answer. `None` if the header is missing: then it is an error, or not etcd that
/// answered, and what is left out must not be taken for defaults (no keys, no lease).
pub(super) fn answered_at(body: &[u8]) -> Option<i64> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Envelope {
        header: Header,
        result: Option<Box<Envelope>>,
    }
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    let header = envelope.result.map_or(envelope.header, |stream| stream.header);
    (header.revision > 0).then_some(header.revision)
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

const LEASE_NOT_FOUND: &str = "requested lease not found";

/// An error that etcd put into words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct EtcdError {
    /// The gRPC code; 2 (unknown) when there was none.
    pub code: u64,
    pub message: String,
}

impl EtcdError {
    /// From a body in any of the four shapes; `None` if it is not an error of etcd's.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(body).ok()?;
        Self::from_json(&document)
    }
    fn from_json(document: &Value) -> Option<Self> {
        let error = document.get("error");
        let inner = error.filter(|e| e.is_object());
        let message = [document.get("message"), inner.and_then(|e| e.get("message")), error];
        let message = message.into_iter().flatten().find_map(Value::as_str)?;
        let code = [document.get("code"), inner.and_then(|e| e.get("grpc_code")), inner.and_then(|e| e.get("code"))];
        let code = code.into_iter().flatten().find_map(Value::as_u64).unwrap_or(2);
        Some(Self { code, message: message.to_owned() })
    }
    /// From the `error` member of a stream's frame.
    pub fn from_frame(error: &Value) -> Self {
        Self::from_json(&json!({ "error": error }))
            .unwrap_or_else(|| Self { code: 2, message: "an error without a message".into() })
    }
    pub fn lease_not_found() -> Self {
        Self { code: 5, message: format!("etcdserver: {LEASE_NOT_FOUND}") }
    }
    pub fn lease_gone(&self) -> bool {
        self.message.contains(LEASE_NOT_FOUND)
    }
    /// The member could not find out, or not in time: the next one may, and the request may yet take effect.
    /// Decided by code and text, because HTTP status codes differ between versions.
    pub fn is_no_answer(&self) -> bool {
        const TEXTS: [&str; 6] = [
            "context deadline exceeded",
            "request timed out",
            "no leader",
            "leader changed",
            "not a primary lessor",
            "too many requests",
        ];
        matches!(self.code, 1 | 2 | 4 | 13 | 14) || TEXTS.iter().any(|text| self.message.contains(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(body: &str) -> EtcdError {
        EtcdError::parse(body.as_bytes()).unwrap()
    }

    /// Bodies as etcd 3.4.23 and 3.5.30 send them.
    #[test]
    fn errors_of_all_versions_are_understood() {
        for (body, code, message) in [
            (r#"{"error":"etcdserver: x","message":"etcdserver: x","code":5}"#, 5, "etcdserver: x"),
            (r#"{"code":5,"message":"etcdserver: x"}"#, 5, "etcdserver: x"),
            (r#"{"code":5,"message":"etcdserver: x","details":[]}"#, 5, "etcdserver: x"),
            (
                r#"{"error":{"grpc_code":14,"http_code":503,"message":"no leader","http_status":"Service Unavailable"}}"#,
                14,
                "no leader",
            ),
            (r#"{"error":{"code":14,"message":"no leader"}}"#, 14, "no leader"),
            (r#"{"error":"only text"}"#, 2, "only text"),
        ] {
            assert_eq!(error(body), EtcdError { code, message: message.into() }, "{body}");
        }
        for body in ["Not Found", "404 page not found", "", "[]", "{}", "3", r#"{"error":5}"#, r#"{"message":{}}"#] {
            assert_eq!(EtcdError::parse(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn errors_are_classified_by_code_and_text() {
        let no_answer = [
            r#"{"error":"context deadline exceeded","code":2}"#,
            r#"{"code":4,"message":"context deadline exceeded"}"#,
            r#"{"error":"etcdserver: request timed out","code":14}"#,
            r#"{"error":"not a primary lessor","code":2}"#,
            r#"{"code":14,"message":"etcdserver: leader changed"}"#,
            r#"{"code":8,"message":"etcdserver: too many requests"}"#,
        ];
        assert!(no_answer.iter().all(|body| error(body).is_no_answer()));
        let final_word = [
            r#"{"code":8,"message":"etcdserver: mvcc: database space exceeded"}"#,
            r#"{"code":7,"message":"etcdserver: permission denied"}"#,
            r#"{"code":3,"message":"etcdserver: user name is empty"}"#,
            r#"{"code":5,"message":"etcdserver: requested lease not found"}"#,
        ];
        assert!(final_word.iter().all(|body| !error(body).is_no_answer()));
        assert!(error(final_word[3]).lease_gone() && !error(final_word[0]).lease_gone());
    }

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
        assert_eq!(answered_at(br#"{"header":{"revision":"7"}}"#), Some(7));
        assert_eq!(answered_at(br#"{"result":{"header":{"revision":"7"},"ID":"1"}}"#), Some(7));
        for body in ["", "[]", "{}", "hello", r#"{"header":{}}"#, r#"{"error":{"message":"x"}}"#, r#"{"result":{}}"#] {
            assert_eq!(answered_at(body.as_bytes()), None, "{body}");
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
