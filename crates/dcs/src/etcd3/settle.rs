//! Carries a guarded write through lost answers. When it is not known whether a request took effect, or a comparison
//! failed (which may be our own earlier copy's doing), the key and the leader key are read back and judged: done,
//! refused, or try again with a guard that fits what was read.

use super::Etcd3;
use super::client::Reply;
use super::failure::Failure;
use super::wire::{Txn, TxnReply};
use crate::codec::KeyValue;
use pgherd_clock::left_until;
use pgherd_types::{Instant, LeaseId, Refused};
use std::time::Duration;

/// The key in question and the leader key, read at one revision.
#[derive(Default)]
pub(super) struct Seen {
    pub key: Option<KeyValue>,
    pub leader: Option<KeyValue>,
    /// A copy of our own request may have taken effect before this reading, or may yet.
    pub unsure: bool,
}

impl Seen {
    pub fn leader_on(&self, lease: LeaseId) -> bool {
        self.leader.as_ref().is_some_and(|kv| kv.lease == Some(lease))
    }
    pub fn key_on(&self, lease: LeaseId) -> bool {
        self.key.as_ref().is_some_and(|kv| kv.lease == Some(lease))
    }
    pub fn value(&self) -> Option<&[u8]> {
        self.key.as_ref().map(|kv| kv.value.as_slice())
    }
    /// 0 when it does not exist.
    pub fn mod_revision(&self) -> i64 {
        self.key.as_ref().map_or(0, |kv| kv.mod_revision)
    }
}

/// What to do after a look.
pub(super) enum Judgement {
    Done,
    Refuse(Refused),
    Try(Txn),
}

/// Rounds of look and try in which somebody else was always a moment faster.
const ROUNDS_MAX: u32 = 8;

impl Etcd3 {
    /// `first` is tried without a look; `None` looks first.
    pub(super) async fn settle(
        &self,
        key: &str,
        mut first: Option<Txn>,
        judge: impl Fn(&Seen) -> Judgement,
        deadline: Instant,
    ) -> Result<(), Refused> {
        let (mut unsure, mut pauses, mut rounds) = (false, Pauses::default(), 0);
        loop {
            let tried = match first.take() {
                Some(txn) => self.txn(&txn, deadline).await,
                None => match self.look(key, unsure, deadline).await.map(|seen| judge(&seen)) {
                    Ok(Judgement::Done) => return Ok(()),
                    Ok(Judgement::Refuse(why)) => return Err(why),
                    Ok(Judgement::Try(txn)) => self.txn(&txn, deadline).await,
                    Err(failure) => Err(failure),
                },
            };
            match tried {
                Ok((reply, _)) if reply.succeeded => return Ok(()),
                Ok((_, maybe_done_before)) => unsure |= maybe_done_before,
                Err(Failure::NoAnswer { why, maybe_done }) => {
                    unsure |= maybe_done;
                    if !pauses.pause_before(deadline).await {
                        return Err(Refused::Unreachable(why));
                    }
                    continue;
                }
                Err(explicit) => return Err(explicit.refused()),
            }
            rounds += 1;
            if rounds == ROUNDS_MAX {
                return Err(Refused::Compare);
            }
        }
    }

    /// The answer, and whether another copy of the request may have been carried out before.
    pub(super) async fn txn(&self, txn: &Txn, deadline: Instant) -> Result<(TxnReply, bool), Failure> {
        let reply = self.client.call("/kv/txn", &txn.body(), deadline).await?;
        let maybe_done_before = reply.maybe_done_before;
        Ok((parse(&reply)?, maybe_done_before))
    }

    pub(super) async fn look(&self, key: &str, unsure: bool, deadline: Instant) -> Result<Seen, Failure> {
        let txn = Txn::new().read(key).read(&self.layout.key("leader"));
        let (reply, _) = self.txn(&txn, deadline).await?;
        let mut reads = reply.reads();
        match (reads.next(), reads.next()) {
            (Some(key), Some(leader)) => Ok(Seen { key, leader, unsure }),
            _ => Err(Failure::NoAnswer {
                why: "etcd left reads out of a transaction's answer".into(),
                maybe_done: false,
            }),
        }
    }
}

/// An answer that is not what the API promises is no answer.
pub(super) fn parse<T: serde::de::DeserializeOwned>(reply: &Reply) -> Result<T, Failure> {
    serde_json::from_slice(&reply.body)
        .map_err(|e| Failure::NoAnswer { why: format!("etcd's answer makes no sense: {e}"), maybe_done: true })
}

/// Pauses between rounds: 50 ms, doubled up to 1 s.
#[derive(Default)]
pub(crate) struct Pauses(u32);

impl Pauses {
    /// False, at once, when the deadline comes first.
    pub async fn pause_before(&mut self, deadline: Instant) -> bool {
        let pause = Duration::from_millis((50 << self.0).min(1000));
        self.0 = (self.0 + 1).min(5);
        if left_until(deadline) <= pause {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}
