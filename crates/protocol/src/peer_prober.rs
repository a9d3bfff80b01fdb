//! Commands for the peer prober.

use actix::Message;
use pgherd_types::{Lsn, MemberName, PeerToAsk};
use std::collections::BTreeMap;
use std::time::Duration;

/// Ask these members for their status, all at once; the answer is `PeersProbed`, when the last one has answered or
/// its patience ended.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct ProbePeers {
    /// Comes back with the answer.
    pub round: u64,
    /// Whom.
    pub peers: Vec<PeerToAsk>,
}

/// Ask these members, all at once, whether this primary may go on without the DCS; the answer is `FailsafeAsked`.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct AskFailsafe {
    /// Comes back with the answer.
    pub round: u64,
    /// Name and API of each.
    pub members: BTreeMap<MemberName, String>,
    /// This node.
    pub me: MemberName,
    /// Where its PostgreSQL is.
    pub conn_url: String,
    /// Where its API is.
    pub api_url: String,
    /// How far the consumers of its slots are.
    pub slots: BTreeMap<String, Lsn>,
    /// How long to wait for an answer.
    pub patience: Duration,
}
