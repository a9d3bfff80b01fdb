//! The adapter for etcd's v2 API (docs/dcs-layout.md, docs/decisions/2026-11-26-etcd-v2.md). It has no leases and no
//! transactions, so a lease is our own number for the keys that this process keeps alive (`held`, and `tag` for those who
//! only read), and a guard is the index of the key that is written. One file a subject: `wire` builds requests and
//! reads answers, `request` sends them, `settle` carries one through lost answers, `lease` keeps keys alive, `leader` takes
//! and releases the leader key, `kv` names each other write's guard; `reading`, `watch` and `survey` do the rest.

mod held;
mod kv;
mod leader;
mod lease;
mod reading;
mod request;
mod settle;
mod survey;
mod tag;
mod watch;
mod wire;

use crate::etcd3::client::Client;
use crate::layout::Layout;
use crate::options::EtcdOptions;
use crate::port::{Answer, Dcs, Reading, Watch, WatchEnded};
use held::Held;
use pgherd_types::{DcsSurvey, DcsWrite, Instant, LeaseGrant, LeaseId, Refused, StatusKey, SyncGuard};
use reading::Known;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

/// The adapter. Make it on the thread that uses it.
pub struct Etcd2 {
    client: Client,
    layout: Layout,
    held: RefCell<BTreeMap<LeaseId, Held>>,
    /// So many requests for the leader key are under way.
    acquiring: Cell<u32>,
    known: RefCell<Known>,
}

impl Etcd2 {
    /// Connects to nothing yet.
    pub fn new(options: &EtcdOptions) -> Self {
        Self {
            layout: Layout::new(&options.namespace, &options.scope, options.member.clone()),
            client: Client::new(options.server.clone()),
            held: RefCell::default(),
            acquiring: Cell::new(0),
            known: RefCell::default(),
        }
    }
}

impl Dcs for Etcd2 {
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
    fn survey(&self, _leading: bool, deadline: Instant) -> Answer<'_, Result<DcsSurvey, Refused>> {
        Box::pin(self.look_around(deadline))
    }
    fn login_refused(&self) -> Option<String> {
        self.client.login_refused()
    }
    fn revision_seen(&self) -> i64 {
        self.client.revision_seen()
    }
}
