//! The adapter for etcd v3 through its JSON gateway (docs/dcs-layout.md). One file a subject: `wire` builds requests and
//! reads answers, `client` finds an endpoint that answers in time (`endpoints`: in which order; `session`: with which
//! token), `settle` carries a guarded write through lost answers, `kv` names each write's guard, `lease`, `reading` and
//! `watch` do the rest; `survey` looks at etcd itself, and `srv` finds it by DNS.

pub(crate) mod client;
pub(crate) mod endpoint;
pub(crate) mod endpoints;
pub(crate) mod etcd_error;
pub(crate) mod failure;
mod kv;
mod lease;
pub(crate) mod pools;
mod reading;
pub(crate) mod request;
pub(crate) mod session;
pub(crate) mod settle;
mod srv;
mod survey;
mod version;
pub(crate) mod watch;
pub(crate) mod wire;

#[cfg(test)]
mod golden_tests;

use crate::layout::Layout;
use crate::options::EtcdOptions;
use crate::port::{Answer, Dcs, Reading, Watch, WatchEnded};
use client::Client;
pub use endpoint::Endpoint;
use pgherd_types::{DcsSurvey, DcsWrite, Instant, LeaseGrant, LeaseId, Refused, StatusKey, SyncGuard};
use reading::Known;
use std::cell::RefCell;
use std::time::Duration;
use survey::Moves;

/// The adapter. Make it on the thread that uses it.
pub struct Etcd3 {
    client: Client,
    layout: Layout,
    known: RefCell<Known>,
    moves: Moves,
}

impl Etcd3 {
    /// Connects to nothing yet.
    pub fn new(options: &EtcdOptions) -> Self {
        let layout = Layout::new(&options.namespace, &options.scope, options.member.clone());
        Self { client: Client::new(options.server.clone()), layout, known: RefCell::default(), moves: Moves::default() }
    }
}

impl Dcs for Etcd3 {
    fn read(&self, deadline: Instant) -> Answer<'_, Result<Reading, Refused>> {
        Box::pin(self.read_prefix(deadline))
    }
    fn grant(&self, ttl: Duration, deadline: Instant) -> Answer<'_, Result<LeaseGrant, Refused>> {
        Box::pin(self.grant_lease(ttl, deadline))
    }
    fn renew(&self, lease: LeaseId, prove_leader: bool, deadline: Instant) -> Answer<'_, Result<LeaseGrant, Refused>> {
        Box::pin(self.renew_lease(lease, prove_leader, deadline))
    }
    fn move_keys(
        &self,
        from: LeaseId,
        to: LeaseId,
        prove_leader: bool,
        deadline: Instant,
    ) -> Answer<'_, Result<(), Refused>> {
        Box::pin(self.move_our_keys(from, to, prove_leader, deadline))
    }
    fn revoke(&self, lease: LeaseId, deadline: Instant) -> Answer<'_, ()> {
        Box::pin(self.revoke_lease(lease, deadline))
    }
    fn acquire(&self, lease: LeaseId, sync: SyncGuard, deadline: Instant) -> Answer<'_, Result<(), Refused>> {
        Box::pin(async move {
            match self.acquire_leader(lease, sync, deadline).await {
                Ok(()) => Ok(()),
                Err(why) => Err(self.confirmed(why, lease, deadline).await),
            }
        })
    }
    fn release(&self, lease: LeaseId, status: Option<StatusKey>, deadline: Instant) -> Answer<'_, Result<(), Refused>> {
        Box::pin(self.release_leader(lease, status, deadline))
    }
    fn write(&self, lease: Option<LeaseId>, write: DcsWrite, deadline: Instant) -> Answer<'_, Result<(), Refused>> {
        Box::pin(async move {
            match (self.guarded_write(lease, write, deadline).await, lease) {
                (Err(why), Some(lease)) => Err(self.confirmed(why, lease, deadline).await),
                (answer, _) => answer,
            }
        })
    }
    fn remove_all(&self, deadline: Instant) -> Answer<'_, Result<(), Refused>> {
        Box::pin(self.remove_prefix(deadline))
    }
    fn watch(&self, after: Option<i64>, deadline: Instant) -> Answer<'_, Result<Box<dyn Watch>, WatchEnded>> {
        Box::pin(self.open_watch(after, deadline))
    }
    fn survey(&self, leading: bool, deadline: Instant) -> Answer<'_, Result<DcsSurvey, Refused>> {
        Box::pin(self.look_around(leading, deadline))
    }
    fn login_refused(&self) -> Option<String> {
        self.client.login_refused()
    }
    fn revision_seen(&self) -> i64 {
        self.client.revision_seen()
    }
}
