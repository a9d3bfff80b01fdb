//! Commands for the peer prober.

use actix::Message;
use pgherd_types::PeerToAsk;

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
