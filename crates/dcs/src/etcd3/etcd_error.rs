//! What etcd says in words: errors come in four shapes, and are judged by code and text, because HTTP status codes differ
//! between versions.

use serde_json::{Value, json};

const LEASE_NOT_FOUND: &str = "requested lease not found";

/// An error that etcd put into words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EtcdError {
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
    /// The token is missing, lapsed, or older than a change of users: log in and ask again.
    pub fn is_about_login(&self) -> bool {
        const TEXTS: [&str; 3] = ["invalid auth token", "user name is empty", "revision of auth store is old"];
        self.code == 16 || TEXTS.iter().any(|text| self.message.contains(text))
    }
    /// Some versions refuse transactions then even if they only read.
    pub fn no_space(&self) -> bool {
        self.message.contains("database space exceeded")
    }
    pub fn auth_is_off(&self) -> bool {
        self.message.contains("authentication is not enabled")
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
    /// The gateway is a client of its own server, and did not get through to it. Its words depend on where the connection
    /// broke, and on the version; the server's own words name it.
    pub fn is_the_gateways(&self) -> bool {
        const UNAVAILABLE: u64 = 14;
        self.code == UNAVAILABLE && !self.message.contains("etcdserver: ")
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
        let gateways = [
            r#"{"code":14,"message":"connection closed"}"#,
            r#"{"code":14,"message":"connection error: desc = \"error reading server preface: EOF\""}"#,
            r#"{"error":"write tcp 127.0.0.1:38776->127.0.0.1:20002: write: broken pipe","code":14}"#,
        ];
        assert!(gateways.iter().all(|body| error(body).is_the_gateways() && error(body).is_no_answer()));
        assert!(no_answer.iter().all(|body| !error(body).is_the_gateways()));
        assert!(error(final_word[3]).lease_gone() && !error(final_word[0]).lease_gone());
    }
}
