//! The lease: grant, and renewal with or without proof of the leader key.

use super::Etcd3;
use super::etcd_error::EtcdError;
use super::failure::Failure;
use super::settle::{Judgement, Pauses, Seen, parse};
use super::wire::{Framed, LeaseReply, Txn};
use crate::codec::KeyValue;
use pgherd_clock::boottime;
use pgherd_types::{Instant, LeaseGrant, LeaseId, Refused};
use serde_json::json;
use std::time::Duration;

const NONSENSE: &str = "a reading, which needs no lease, is answered as if the lease were gone; is that etcd?";

impl Etcd3 {
    /// A grant whose answer was lost leaves a lease behind that holds no key and lapses by itself.
    pub(super) async fn grant_lease(&self, ttl: Duration, deadline: Instant) -> Result<LeaseGrant, Refused> {
        let ttl_s = ttl.as_millis().div_ceil(1000).max(1).to_string();
        let body = json!({"TTL": ttl_s, "ID": "0"}).to_string();
        let mut pauses = Pauses::default();
        loop {
            let sent_at = boottime();
            match self.grant_once(&body, deadline).await {
                Ok((id, ttl_ms)) => {
                    let asked_ttl_ms = u64::try_from(ttl.as_millis()).ok();
                    return Ok(LeaseGrant { lease: LeaseId(id), sent_at, ttl_ms, asked_ttl_ms });
                }
                Err(Failure::NoAnswer { .. }) if pauses.pause_before(deadline).await => {}
                Err(failure) => return Err(failure.refused()),
            }
        }
    }

    async fn grant_once(&self, body: &str, deadline: Instant) -> Result<(i64, u64), Failure> {
        let reply = self.client.call("/lease/grant", body, deadline).await?;
        let reply: LeaseReply = parse(&reply)?;
        match u64::try_from(reply.ttl_s) {
            Ok(ttl_s) if reply.id != 0 && ttl_s > 0 => Ok((reply.id, ttl_s * 1000)),
            _ => Err(Failure::NoAnswer { why: "etcd granted a lease without id or ttl".into(), maybe_done: true }),
        }
    }

    pub(super) async fn renew_lease(
        &self,
        lease: LeaseId,
        prove_leader: bool,
        deadline: Instant,
    ) -> Result<LeaseGrant, Refused> {
        let mut pauses = Pauses::default();
        loop {
            // Before the round leaves, so that the promise is never counted from a later moment than etcd's.
            let sent_at = boottime();
            let renewed = match self.keepalive(lease, deadline).await {
                Ok(Some(ttl_ms)) => Ok(LeaseGrant { lease, sent_at, ttl_ms, asked_ttl_ms: None }),
                Ok(None) if prove_leader => Err(self.unknown_or_gone(lease, deadline).await),
                Ok(None) => return Err(Refused::LeaseGone),
                Err(failure) => Err(failure),
            };
            match renewed {
                Ok(grant) if prove_leader => return self.prove_leader(lease, deadline).await.map(|()| grant),
                Ok(grant) => return Ok(grant),
                Err(Failure::NoAnswer { .. }) if pauses.pause_before(deadline).await => {}
                Err(failure) => return Err(failure.refused()),
            }
        }
    }

    /// The granted time to live in milliseconds; `None` when the lease is gone.
    async fn keepalive(&self, lease: LeaseId, deadline: Instant) -> Result<Option<u64>, Failure> {
        let body = json!({"ID": lease.0.to_string()}).to_string();
        let reply = match self.client.call("/lease/keepalive", &body, deadline).await {
            Err(Failure::Explicit(e)) if e.lease_gone() => return Ok(None),
            other => other?,
        };
        let frame: Framed<LeaseReply> = parse(&reply)?;
        match frame {
            Framed { result: Some(reply), .. } => {
                Ok(u64::try_from(reply.ttl_s).ok().filter(|ttl_s| *ttl_s > 0).map(|ttl_s| ttl_s * 1000))
            }
            Framed { .. } => {
                Err(Failure::NoAnswer { why: "etcd answered a keepalive without a result".into(), maybe_done: true })
            }
        }
    }

    /// Asked about a lease that etcd says is gone. An etcd leader that was elected a moment ago may not know a fresh
    /// lease yet. If the leader key still hangs on it, it lives (keys go in the same step as their lease): that is a
    /// failure to try again, not a loss.
    async fn unknown_or_gone(&self, lease: LeaseId, deadline: Instant) -> Failure {
        match self.look(&self.layout.key("leader"), false, deadline).await {
            Ok(seen) if !seen.leader_on(lease) => Failure::Explicit(EtcdError::lease_not_found()),
            Ok(_) => Failure::NoAnswer {
                why: "etcd does not know the lease yet on which it has the leader key".into(),
                maybe_done: true,
            },
            Err(Failure::Explicit(e)) if e.lease_gone() => Failure::unsure(NONSENSE),
            Err(failure) => failure,
        }
    }

    /// The refusal of a request that needs the lease: it is gone only if none of our keys hangs on it any more.
    pub(super) async fn confirmed(&self, refused: Refused, lease: LeaseId, deadline: Instant) -> Refused {
        if refused != Refused::LeaseGone {
            return refused;
        }
        match self.look(&self.layout.my_member(), false, deadline).await {
            Ok(seen) if !seen.leader_on(lease) && !seen.key_on(lease) => refused,
            Ok(_) => Refused::Unreachable("etcd says that the lease is gone, on which it still has our keys".into()),
            Err(Failure::Explicit(e)) if e.lease_gone() => Refused::Unreachable(NONSENSE.into()),
            Err(failure) => failure.refused(),
        }
    }

    /// Carries our keys over to another lease in one step: the leader key, if it hangs on the old one, and the member key.
    /// Guarded by the leader key's revision too: a late copy of this request must not move a lock that was taken again.
    pub(super) async fn move_our_keys(
        &self,
        from: LeaseId,
        to: LeaseId,
        prove_leader: bool,
        deadline: Instant,
    ) -> Result<(), Refused> {
        let (leader_key, member_key) = (self.layout.key("leader"), self.layout.my_member());
        let judge = |seen: &Seen| {
            let leader = seen.leader.as_ref().filter(|_| seen.leader_on(from));
            let member = seen.key.as_ref().filter(|_| seen.key_on(from));
            if prove_leader && leader.is_none() && !seen.leader_on(to) {
                let absent = seen.leader.is_none();
                return Judgement::Refuse(if absent { Refused::Absent } else { Refused::Compare });
            }
            if leader.is_none() && member.is_none() {
                return Judgement::Done;
            }
            let mut txn = Txn::new();
            for (key, kv) in [(&leader_key, leader), (&member_key, member)] {
                if let Some(kv) = kv {
                    txn = txn.if_lease(key, from).if_modified(key, kv.mod_revision).put(key, &kv.value, Some(to));
                }
            }
            Judgement::Try(txn)
        };
        self.settle(&member_key, None, judge, deadline).await
    }

    /// What hangs on the lease goes with it. An answer that is lost does not matter: then it lapses by itself.
    pub(super) async fn revoke_lease(&self, lease: LeaseId, deadline: Instant) {
        let body = json!({"ID": lease.0.to_string()}).to_string();
        let _ = self.client.call("/lease/revoke", &body, deadline).await;
    }

    /// A refusal ends a lead, so it counts only when a second look says the same: an answer may have been mutilated on
    /// its way and still be JSON.
    async fn prove_leader(&self, lease: LeaseId, deadline: Instant) -> Result<(), Refused> {
        let mut pauses = Pauses::default();
        loop {
            let failure = match self.disproved(lease, deadline).await {
                Ok(None) => return Ok(()),
                Ok(Some(why)) => match self.leader_key(deadline).await {
                    Ok(leader) if disproof(leader.as_ref(), lease).as_ref() == Some(&why) => return Err(why),
                    Ok(_) => contradiction(),
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            match failure {
                Failure::NoAnswer { .. } if pauses.pause_before(deadline).await => {}
                failure => return Err(failure.refused()),
            }
        }
    }

    /// What speaks against it that the leader key hangs on the lease.
    async fn disproved(&self, lease: LeaseId, deadline: Instant) -> Result<Option<Refused>, Failure> {
        let key = self.layout.key("leader");
        match self.txn(&proof(&key, lease), deadline).await {
            Ok((reply, _)) if reply.succeeded => Ok(None),
            Ok((reply, _)) => {
                let why = disproof(reply.reads().next().flatten().as_ref(), lease);
                why.map(Some).ok_or_else(contradiction)
            }
            Err(Failure::Explicit(e)) if e.no_space() => {
                Ok(disproof(self.read_one(&key, deadline).await?.as_ref(), lease))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn leader_key(&self, deadline: Instant) -> Result<Option<KeyValue>, Failure> {
        let key = self.layout.key("leader");
        match self.look(&key, false, deadline).await {
            Ok(seen) => Ok(seen.leader),
            Err(Failure::Explicit(e)) if e.no_space() => self.read_one(&key, deadline).await,
            Err(failure) => Err(failure),
        }
    }
}

fn contradiction() -> Failure {
    Failure::unsure("etcd's answers contradict each other about the leader key")
}

/// What is to be said of a leader key that does not hang on the lease; `None` if it does.
fn disproof(leader: Option<&KeyValue>, lease: LeaseId) -> Option<Refused> {
    match leader {
        None => Some(Refused::Absent),
        Some(kv) if kv.lease == Some(lease) => None,
        Some(_) => Some(Refused::Compare),
    }
}

/// One read-only transaction: LEASE(`leader`) = ours. It reads the key as well, else a member without a majority would
/// answer it from memory.
fn proof(leader: &str, lease: LeaseId) -> Txn {
    Txn::new().if_lease(leader, lease).read(leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_linearizable() {
        let body: serde_json::Value = serde_json::from_str(&proof("/service/main/leader", LeaseId(7)).body()).unwrap();
        let key = "L3NlcnZpY2UvbWFpbi9sZWFkZXI=";
        assert_eq!(body["compare"], json!([{"target": "LEASE", "key": key, "lease": "7"}]));
        for branch in ["success", "failure"] {
            assert_eq!(body[branch], json!([{"request_range": {"key": key}}]), "and nothing makes it serializable");
        }
    }
}
