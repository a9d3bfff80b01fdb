//! The adapter for etcd v3 through its JSON gateway (docs/dcs-layout.md). One file a subject: `wire` builds requests and
//! reads answers, `client` finds an endpoint that answers in time, `settle` carries a guarded write through lost
//! answers, `kv` names each write's guard, `lease` and `watch` do the rest.

mod client;
mod kv;
mod lease;
mod settle;
mod watch;
mod wire;

use crate::layout::Layout;
use crate::port::{Answer, Dcs, Reading, Watch, WatchEnded};
use client::Client;
pub use client::Endpoint;
use pgherd_types::{DcsWrite, Instant, LeaseGrant, LeaseId, MemberName, Refused, StatusKey, SyncGuard};
use std::time::Duration;

/// Where etcd is and which cluster is ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EtcdOptions {
    /// The members to ask, in this order at first.
    pub endpoints: Vec<Endpoint>,
    /// First part of every key.
    pub namespace: String,
    /// The cluster's name, second part of every key.
    pub scope: String,
    /// This member's name.
    pub member: MemberName,
}

/// The adapter. Make it on the thread that uses it.
pub struct Etcd3 {
    client: Client,
    layout: Layout,
}

impl Etcd3 {
    /// Connects to nothing yet.
    pub fn new(options: &EtcdOptions) -> Self {
        let layout = Layout::new(&options.namespace, &options.scope, options.member.clone());
        Self { client: Client::new(&options.endpoints), layout }
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
        Box::pin(self.acquire_leader(lease, sync, deadline))
    }
    fn release(&self, lease: LeaseId, status: Option<StatusKey>, deadline: Instant) -> Answer<'_, Result<(), Refused>> {
        Box::pin(self.release_leader(lease, status, deadline))
    }
    fn write(&self, lease: Option<LeaseId>, write: DcsWrite, deadline: Instant) -> Answer<'_, Result<(), Refused>> {
        Box::pin(self.guarded_write(lease, write, deadline))
    }
    fn remove_all(&self, deadline: Instant) -> Answer<'_, Result<(), Refused>> {
        Box::pin(self.remove_prefix(deadline))
    }
    fn watch(&self, after: Option<i64>, deadline: Instant) -> Answer<'_, Result<Box<dyn Watch>, WatchEnded>> {
        Box::pin(self.open_watch(after, deadline))
    }
    fn revision_seen(&self) -> i64 {
        self.client.revision_seen()
    }
}
