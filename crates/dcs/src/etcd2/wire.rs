//! Requests to the v2 API and its answers: forms out, JSON back. A key is one path, its value text, and a condition is on
//! that key alone. **An index of 0 as a condition is none at all for etcd, so it is never sent.**

use crate::etcd3::etcd_error::EtcdError;
use awc::http::Method;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What etcd says in numbers.
pub(super) mod code {
    pub const KEY_NOT_FOUND: u64 = 100;
    pub const COMPARE_FAILED: u64 = 101;
    pub const KEY_EXISTS: u64 = 105;
    pub const UNAUTHORIZED: u64 = 110;
    /// From here on etcd could not do what it was asked: in the middle of an election, for instance.
    pub const TROUBLE_FROM: u64 = 300;
    pub const INDEX_CLEARED: u64 = 401;

    /// Is it about the key or the condition, and so an answer?
    pub fn is_answer(code: u64) -> bool {
        matches!(code, KEY_NOT_FOUND | COMPARE_FAILED | KEY_EXISTS)
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub method: Method,
    /// Without scheme and host, percent-encoded.
    pub path: String,
    /// In the body of a PUT, else in the URL.
    pub parameters: Vec<(&'static str, String)>,
}

/// How a PUT or DELETE is guarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Guard {
    /// The key does not exist.
    Absent,
    /// The key was last changed at this index.
    At(i64),
}

impl Guard {
    /// As the key was seen.
    pub fn of(node: Option<&Node>) -> Self {
        node.map_or(Self::Absent, |node| Self::At(node.modified))
    }
}

impl Request {
    fn key(method: Method, key: &str, parameters: Vec<(&'static str, String)>) -> Self {
        Self { method, path: format!("/v2/keys{}", encoded(key)), parameters }
    }
    /// Everything below this key, linearizably.
    pub fn read(key: &str) -> Self {
        Self::key(Method::GET, key, vec![("recursive", "true".into()), ("quorum", "true".into())])
    }
    /// A new value whatever is there, with a creation of its own. For the one key that only we write.
    pub fn set(key: &str, value: &str, ttl_s: u64) -> Self {
        Self::key(Method::PUT, key, vec![("value", value.to_owned()), ("ttl", ttl_s.to_string())])
    }
    /// A new value. Without a time to live the key stays for ever.
    pub fn put(key: &str, value: &str, ttl_s: Option<u64>, guard: Guard) -> Self {
        let mut parameters = vec![("value", value.to_owned())];
        parameters.extend(ttl_s.map(|ttl_s| ("ttl", ttl_s.to_string())));
        parameters.push(match guard {
            Guard::Absent => ("prevExist", "false".into()),
            Guard::At(index) => ("prevIndex", index.max(1).to_string()),
        });
        Self::key(Method::PUT, key, parameters)
    }
    /// The same value for some more time; nobody who watches is told.
    pub fn refresh(key: &str, ttl_s: u64, index: i64) -> Self {
        let parameters = vec![
            ("refresh", "true".to_owned()),
            ("ttl", ttl_s.to_string()),
            ("prevExist", "true".to_owned()),
            ("prevIndex", index.max(1).to_string()),
        ];
        Self::key(Method::PUT, key, parameters)
    }
    /// Only as it was seen.
    pub fn delete(key: &str, index: i64) -> Self {
        Self::key(Method::DELETE, key, vec![("prevIndex", index.max(1).to_string())])
    }
    /// All of it.
    pub fn delete_all(key: &str) -> Self {
        Self::key(Method::DELETE, key, vec![("recursive", "true".into()), ("dir", "true".into())])
    }
    /// The next change below this key: after that index, or after now.
    pub fn wait(key: &str, after: Option<i64>) -> Self {
        let mut parameters = vec![("wait", "true".to_owned()), ("recursive", "true".to_owned())];
        parameters.extend(after.map(|index| ("waitIndex", (index + 1).to_string())));
        Self::key(Method::GET, key, parameters)
    }
    /// Something else that can be read.
    pub fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), parameters: Vec::new() }
    }
}

/// A path as it may stand in a URL.
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.trim_end_matches('/').bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => text.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => text.push(byte.into()),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// A key with its value, or a directory with what is in it.
#[derive(Deserialize, Default, Clone, PartialEq, Eq, Debug)]
#[serde(default)]
pub(super) struct Node {
    pub key: String,
    pub dir: bool,
    pub value: String,
    pub nodes: Vec<Node>,
    /// Stays the same while the key is renewed or changed with a condition.
    #[serde(rename = "createdIndex")]
    pub created: i64,
    /// Every write raises it, a renewal too.
    #[serde(rename = "modifiedIndex")]
    pub modified: i64,
    /// Seconds that are left; `None`: it stays for ever.
    pub ttl: Option<i64>,
}

/// What was asked for, and etcd's index then.
#[derive(Clone, Default, PartialEq, Debug)]
pub(super) struct Snapshot {
    pub index: i64,
    /// By their full names.
    pub keys: BTreeMap<String, Node>,
}

impl Snapshot {
    pub fn of(index: i64, root: Option<Node>) -> Self {
        let mut keys = BTreeMap::new();
        let mut left: Vec<Node> = root.into_iter().collect();
        while let Some(mut node) = left.pop() {
            left.append(&mut node.nodes);
            if !node.dir {
                keys.insert(node.key.clone(), node);
            }
        }
        Self { index, keys }
    }
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.keys.get(key)
    }
}

/// What etcd answered, be it that the key is not there or not as it should be.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Answered {
    /// etcd's index.
    pub index: i64,
    /// The number of the error.
    pub refusal: Option<u64>,
    pub body: Vec<u8>,
}

impl Answered {
    /// The node that was read or written.
    pub fn node(&self) -> Option<Node> {
        #[derive(Deserialize)]
        struct Reply {
            node: Node,
        }
        let reply: Reply = serde_json::from_slice(&self.body).ok()?;
        (reply.node.modified > 0 && self.refusal.is_none()).then_some(reply.node)
    }
}

/// An error in etcd's own words.
pub(super) fn error_of(body: &[u8]) -> Option<EtcdError> {
    #[derive(Deserialize)]
    struct Reply {
        #[serde(rename = "errorCode", default)]
        code: u64,
        message: String,
        #[serde(default)]
        cause: String,
    }
    let reply: Reply = serde_json::from_slice(body).ok()?;
    let message = match reply.cause.is_empty() {
        true => reply.message,
        false => format!("{} ({})", reply.message, reply.cause),
    };
    Some(EtcdError { code: reply.code, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_never_left_out() {
        let of = |request: Request| {
            let parameters: Vec<_> = request.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {} {}", request.method, request.path, parameters.join("&"))
        };
        assert_eq!(
            of(Request::put("/service/main/leader", "a", Some(31), Guard::Absent)),
            "PUT /v2/keys/service/main/leader value=a&ttl=31&prevExist=false"
        );
        assert_eq!(of(Request::put("/s/k", "", None, Guard::At(7))), "PUT /v2/keys/s/k value=&prevIndex=7");
        for request in
            [Request::put("/s/k", "x", None, Guard::At(0)), Request::refresh("/s/k", 31, 0), Request::delete("/s/k", 0)]
        {
            assert!(of(request.clone()).ends_with("prevIndex=1"), "0 would be no condition: {request:?}");
        }
        assert_eq!(
            of(Request::wait("/s/", Some(7))),
            "GET /v2/keys/s wait=true&recursive=true&waitIndex=8",
            "what comes after"
        );
        assert_eq!(of(Request::read("/s/m n?ä/")), "GET /v2/keys/s/m%20n%3F%C3%A4 recursive=true&quorum=true");
    }

    /// Bodies as etcd 3.4.23 sends them.
    #[test]
    fn answers_and_errors_are_understood() {
        let body = br#"{"action":"get","node":{"key":"/service/main","dir":true,"nodes":[{"key":"/service/main/leader",
            "value":"a","expiration":"2026-11-26T07:24:28.492630775Z","ttl":40,"modifiedIndex":7,"createdIndex":5},
            {"key":"/service/main/members","dir":true,"nodes":[{"key":"/service/main/members/a","value":"{}",
            "modifiedIndex":8,"createdIndex":8}],"modifiedIndex":4,"createdIndex":4}],"modifiedIndex":4,"createdIndex":4}}"#;
        let snapshot = Snapshot::of(9, Answered { index: 9, refusal: None, body: body.to_vec() }.node());
        assert_eq!(
            snapshot.keys.keys().map(String::as_str).collect::<Vec<_>>(),
            ["/service/main/leader", "/service/main/members/a"]
        );
        let leader = snapshot.get("/service/main/leader").unwrap();
        assert_eq!((leader.value.as_str(), leader.created, leader.modified, leader.ttl), ("a", 5, 7, Some(40)));
        assert_eq!(snapshot.get("/service/main/members/a").unwrap().ttl, None);
        let error = error_of(br#"{"errorCode":101,"message":"Compare failed","cause":"[4 != 5]","index":5}"#).unwrap();
        assert_eq!((error.code, error.message.as_str()), (code::COMPARE_FAILED, "Compare failed ([4 != 5])"));
        assert_eq!(error_of(br#"{"message":"Insufficient credentials"}"#).map(|e| e.code), Some(0));
        for body in ["404 page not found", "", "{}", "[]", "{\"node\":{}}"] {
            assert_eq!(error_of(body.as_bytes()), None, "{body}");
            assert_eq!(Answered { index: 1, refusal: None, body: body.into() }.node(), None, "{body}");
        }
    }
}
