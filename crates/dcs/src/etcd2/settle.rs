//! Carries one guarded request through lost answers. When it is not known whether it took effect, or its condition failed
//! (which may be our own earlier copy's doing), everything is read back and judged: done, refused, or try again with
//! a condition that fits what was read. A refusal counts only if two looks in a row say the same.

use super::Etcd2;
use super::request::{ask, refused};
use super::wire::{Node, Request, Snapshot, code};
use crate::etcd3::failure::Failure;
use crate::etcd3::settle::Pauses;
use pgherd_clock::boottime;
use pgherd_types::{Instant, LeaseId, Refused};

/// All keys at one index.
pub(super) struct Seen<'a> {
    etcd: &'a Etcd2,
    pub snapshot: &'a Snapshot,
    /// A copy of our own request may have taken effect before this look, or may yet.
    pub unsure: bool,
}

impl<'a> Seen<'a> {
    pub fn of(etcd: &'a Etcd2, snapshot: &'a Snapshot) -> Self {
        Self { etcd, snapshot, unsure: false }
    }
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        self.snapshot.get(key)
    }
    pub fn leader(&self) -> Option<&'a Node> {
        self.get(&self.etcd.layout.key("leader"))
    }
    /// Our name's key, whoever wrote it.
    pub fn member(&self) -> Option<&'a Node> {
        self.get(&self.etcd.layout.my_member())
    }
    /// The leader key, if it is the one that was confirmed on this lease.
    pub fn led_on(&self, lease: LeaseId) -> Option<&'a Node> {
        self.leader().filter(|node| self.etcd.leads(lease, node))
    }
}

/// What to do after a look.
pub(super) enum Judgement {
    Done,
    Refuse(Refused),
    Try(Request),
}

/// How it ended well.
pub(super) struct Settled {
    /// What was written; `None` if a look found it done.
    pub node: Option<Node>,
    /// Before the request left, or the look, that was answered.
    pub sent_at: Instant,
}

/// Rounds of look and try in which somebody else was always a moment faster.
const ROUNDS_MAX: u32 = 8;

impl Etcd2 {
    /// `first` is tried without a look; `None` looks first.
    pub(super) async fn settle(
        &self,
        mut first: Option<Request>,
        judge: impl Fn(&Seen<'_>) -> Judgement,
        deadline: Instant,
    ) -> Result<Settled, Refused> {
        let (mut unsure, mut pauses, mut rounds, mut refusal) = (false, Pauses::default(), 0, None);
        loop {
            let looked_at = boottime();
            let request = match first.take() {
                Some(request) => Ok(Judgement::Try(request)),
                None => {
                    self.look(deadline).await.map(|snapshot| judge(&Seen { etcd: self, snapshot: &snapshot, unsure }))
                }
            };
            let sent_at = boottime();
            let tried = match request {
                Ok(Judgement::Done) => return Ok(Settled { node: None, sent_at: looked_at }),
                Ok(Judgement::Refuse(why)) if refusal.as_ref() == Some(&why) => return Err(why),
                Ok(Judgement::Refuse(why)) => {
                    refusal = Some(why);
                    rounds += 1;
                    if rounds < ROUNDS_MAX {
                        continue;
                    }
                    Err(Failure::unsure("etcd's answers contradict each other"))
                }
                Ok(Judgement::Try(request)) => {
                    refusal = None;
                    ask(&self.client, &request, deadline).await
                }
                Err(failure) => Err(failure),
            };
            match tried {
                // an earlier copy of this very request may be what made its condition fail
                Ok(reply) if reply.body.refusal.is_some() => unsure |= reply.maybe_done_before,
                Ok(reply) => match reply.body.node() {
                    Some(node) => return Ok(Settled { node: Some(node), sent_at }),
                    None => unsure = true,
                },
                Err(Failure::NoAnswer { why, maybe_done }) => {
                    unsure |= maybe_done;
                    if !pauses.pause_before(deadline).await {
                        return Err(refused(Failure::NoAnswer { why, maybe_done }));
                    }
                    continue;
                }
                Err(explicit) => return Err(refused(explicit)),
            }
            rounds += 1;
            if rounds >= ROUNDS_MAX {
                return Err(Refused::Unreachable("somebody else changed the key each time it was tried".into()));
            }
        }
    }

    /// Everything under the prefix.
    pub(super) async fn look(&self, deadline: Instant) -> Result<Snapshot, Failure> {
        let request = Request::read(self.layout.prefix());
        let answered = ask(&self.client, &request, deadline).await?.body;
        match answered.refusal {
            Some(code::KEY_NOT_FOUND) => Ok(Snapshot::of(answered.index, None)),
            _ => match answered.node() {
                Some(root) => Ok(Snapshot::of(answered.index, Some(root))),
                None => Err(Failure::unsure("etcd's answer to a reading makes no sense")),
            },
        }
    }
}
