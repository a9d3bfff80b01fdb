//! A cluster's keys as they stand in etcd, read and written past the agents: bytes, revisions and leases.

use crate::http;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// A key as etcd has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// Its value.
    pub value: Vec<u8>,
    /// Revision of its creation.
    pub create_revision: i64,
    /// Revision of its last change.
    pub mod_revision: i64,
    /// The lease it hangs on; 0 if none.
    pub lease: i64,
}

impl Key {
    /// The value as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.value).into_owned()
    }
    /// The value as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.value).unwrap_or_default()
    }
}

/// The keys below one prefix, by way of one etcd endpoint.
#[derive(Clone, Debug)]
pub struct Keys {
    port: u16,
    prefix: String,
}

impl Keys {
    /// The keys below `prefix` (which ends with a slash) in the etcd on that port.
    pub fn new(port: u16, prefix: &str) -> Self {
        Self { port, prefix: prefix.to_owned() }
    }

    /// A key that must be readable: its absence is `None`, an etcd that does not answer a panic.
    pub fn get(&self, name: &str) -> Option<Key> {
        self.try_get(name).expect("etcd answers")
    }

    /// The same where etcd may not answer.
    pub fn try_get(&self, name: &str) -> Option<Option<Key>> {
        let answer = self.call("/v3/kv/range", &json!({"key": self.encoded(name)}))?;
        Some(answer["kvs"].get(0).map(|kv| Key {
            value: BASE64_STANDARD.decode(kv["value"].as_str().unwrap_or_default()).expect("base64 from etcd"),
            create_revision: number(&kv["create_revision"]),
            mod_revision: number(&kv["mod_revision"]),
            lease: number(&kv["lease"]),
        }))
    }

    /// Writes bytes, with a lease unless that is 0.
    pub fn put(&self, name: &str, value: &[u8], lease: i64) {
        let value = BASE64_STANDARD.encode(value);
        let body = json!({"key": self.encoded(name), "value": value, "lease": lease.to_string()});
        self.call("/v3/kv/put", &body).expect("etcd takes the value");
    }

    /// Removes a key.
    pub fn delete(&self, name: &str) {
        self.call("/v3/kv/deleterange", &json!({"key": self.encoded(name)})).expect("etcd removes the key");
    }

    /// A new lease that nobody renews.
    pub fn grant(&self, ttl_s: u32) -> i64 {
        let answer = self.call("/v3/lease/grant", &json!({"TTL": ttl_s.to_string(), "ID": "0"}));
        number(&answer.expect("etcd grants a lease")["ID"])
    }

    /// The seconds a lease has left; `None` once it is gone.
    pub fn seconds_left(&self, lease: i64) -> Option<i64> {
        let answer = self.call("/v3/lease/timetolive", &json!({"ID": lease.to_string()}))?;
        Some(number(&answer["TTL"])).filter(|left| *left >= 0)
    }

    /// The time to live with which a lease was granted, in seconds; `None` once it is gone.
    pub fn granted_seconds(&self, lease: i64) -> Option<i64> {
        let answer = self.call("/v3/lease/timetolive", &json!({"ID": lease.to_string()}))?;
        Some(number(&answer["grantedTTL"])).filter(|granted| *granted > 0)
    }

    fn encoded(&self, name: &str) -> String {
        BASE64_STANDARD.encode(format!("{}{name}", self.prefix))
    }

    fn call(&self, path: &str, body: &Value) -> Option<Value> {
        let answer = http::request(self.port, "POST", path, &body.to_string(), PATIENCE)?;
        (answer.status == 200).then(|| answer.json())
    }
}

/// The gateway writes 64-bit numbers as text and leaves zeros out.
fn number(value: &Value) -> i64 {
    value.as_str().map_or_else(|| value.as_i64().unwrap_or(0), |text| text.parse().expect("a number from etcd"))
}
