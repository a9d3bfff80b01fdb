//! What becomes of a request that was written to the `failover` key: a new leader, a request put aside, or nothing in
//! time. Only the published status is looked at; the DCS watcher keeps it fresh.

use super::POLL;
use arc_swap::ArcSwap;
use pgherd_protocol::request_desk::{Reply, RequestFailover};
use pgherd_types::{Cluster, FailoverKey, Instant, MemberName, NodeStatus};
use std::time::Duration;

/// The reasons of a leader that does not hand over what it was asked to.
const WHY_PUT_ASIDE: &[&str] = &["ManualRequestCleared", "HandoverGivenUp"];

/// What was asked for, and how things were then.
pub(super) struct Awaited {
    switchover: bool,
    asked: FailoverKey,
    leader_before: Option<MemberName>,
    revision_before: i64,
    written_at: Option<Instant>,
    key_was_seen: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Seen {
    NewLeader(MemberName),
    PutAside,
    Nothing,
}

impl Awaited {
    /// Compared with the cluster as it is before the key is written.
    pub(super) fn from_now(request: &RequestFailover, asked: FailoverKey, cluster: &Cluster) -> Self {
        Self {
            switchover: request.action == "switchover",
            asked,
            leader_before: cluster.leader.as_ref().map(|leader| leader.name.clone()),
            revision_before: cluster.failover.as_ref().map_or(0, |key| key.mod_revision),
            written_at: None,
            key_was_seen: false,
        }
    }

    /// The write was confirmed at that time.
    pub(super) fn written(self, at: Instant) -> Self {
        Self { written_at: Some(at), ..self }
    }

    fn look(&mut self, cluster: &Cluster, read_at: Instant) -> Seen {
        let leader = cluster.leader.as_ref().map(|leader| &leader.name);
        if let Some(leader) = leader.filter(|leader| Some(*leader) != self.leader_before.as_ref()) {
            return Seen::NewLeader(leader.clone());
        }
        let key = cluster.failover.as_ref().filter(|key| key.mod_revision > self.revision_before);
        if key.is_some_and(|key| self.is_ours(key)) {
            self.key_was_seen = true;
            return Seen::Nothing;
        }
        // A reading from before the write says nothing of what became of it.
        let knows_the_write = self.key_was_seen || self.written_at.is_some_and(|at| read_at >= at);
        // While nobody leads, the key may be gone because the next leader is about to come.
        if key.is_some() && knows_the_write && leader.is_some() { Seen::PutAside } else { Seen::Nothing }
    }

    fn is_ours(&self, key: &FailoverKey) -> bool {
        (&key.leader, &key.candidate) == (&self.asked.leader, &self.asked.candidate)
    }

    fn succeeded(&self, leader: &MemberName) -> Reply {
        let done = if self.switchover { "switched over" } else { "failed over" };
        match self.asked.candidate.as_ref().filter(|candidate| *candidate != leader) {
            None => Reply::new(200, format!("Successfully {done} to \"{}\"", leader.as_str())),
            Some(candidate) => {
                let begin = if self.switchover { "Switched" } else { "Failed" };
                let (to, asked) = (leader.as_str(), candidate.as_str());
                Reply::new(200, format!("{begin} over to \"{to}\" instead of \"{asked}\""))
            }
        }
    }

    /// With the leader's reason, if this node leads and has given one. Tools read success out of some words.
    fn failed(&self, reason: Option<&str>) -> Reply {
        let reason = reason.filter(|text| !["switched over", "failed over"].iter().any(|word| text.contains(word)));
        let because = reason.map(|text| format!(": {text}")).unwrap_or_default();
        Reply::new(503, format!("{} failed{because}", self.name()))
    }

    fn unknown(&self, patience: Duration) -> Reply {
        let (name, seconds) = (self.name(), patience.as_secs());
        let text = format!("{name} status unknown after {seconds} seconds; operation may still be in progress");
        Reply::new(503, text)
    }

    fn name(&self) -> &'static str {
        if self.switchover { "Switchover" } else { "Failover" }
    }
}

/// Waits for it, no longer than that.
pub(super) async fn outcome(status: &ArcSwap<NodeStatus>, mut awaited: Awaited, patience: Duration) -> Reply {
    let give_up = tokio::time::Instant::now() + patience;
    let mut reason = None;
    loop {
        let now = status.load_full();
        if let Some((cluster, read_at)) = &now.cluster {
            match awaited.look(cluster, *read_at) {
                Seen::NewLeader(leader) => return awaited.succeeded(&leader),
                Seen::PutAside => return awaited.failed(reason.as_deref()),
                Seen::Nothing => {}
            }
        }
        if now.leader_until.is_some() && WHY_PUT_ASIDE.contains(&now.reason.id.as_str()) {
            reason = Some(now.reason.text.clone());
        }
        if tokio::time::Instant::now() >= give_up {
            return awaited.unknown(patience);
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
#[path = "await_leader_tests.rs"]
mod tests;
