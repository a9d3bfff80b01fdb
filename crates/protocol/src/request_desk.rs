//! Requests about the whole cluster, for the request desk: it checks them against the cluster as it is, writes the key
//! that asks for them, and waits for what becomes of it. Texts and codes are those of spec/rest-api.md 9 and 10.

use actix::Message;
use pgherd_types::{MemberName, WallTime};
use serde_json::{Map, Value};

/// An answer for the one who asked: an HTTP status and its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// HTTP status.
    pub code: u16,
    /// The body.
    pub text: String,
}

impl Reply {
    /// This status with this text.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// A moment as it was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moment {
    /// When.
    pub at: WallTime,
    /// ISO 8601 with a zone.
    pub text: String,
}

/// Hand the lead over: with a leader a switchover, without a failover.
#[derive(Message, Clone, PartialEq, Eq, Debug)]
#[rtype(result = "Reply")]
pub struct RequestFailover {
    /// The endpoint that was called: `switchover` or `failover`; the word in the answers.
    pub action: &'static str,
    /// Who leads and should not.
    pub leader: Option<MemberName>,
    /// Who should.
    pub candidate: Option<MemberName>,
    /// When; at once without one.
    pub scheduled_at: Option<Moment>,
}

/// Forget the scheduled switchover.
#[derive(Message, Clone, Copy, PartialEq, Eq, Debug)]
#[rtype(result = "Reply")]
pub struct RequestCancelSwitchover;

/// Change the dynamic configuration. The answer's text is the new document.
#[derive(Message, Clone, PartialEq, Debug)]
#[rtype(result = "Reply")]
pub enum RequestConfig {
    /// Merge into it: null removes a key.
    Patch(Map<String, Value>),
    /// Put this in its place.
    Replace(Map<String, Value>),
}
