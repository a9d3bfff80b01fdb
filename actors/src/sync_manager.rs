//! The sync-replication manager: makes PostgreSQL wait for standbys as ordered, one order after the other.

use crate::slot_manager::in_time;
use actix::prelude::*;
use pgherd_postgres::{Postgres, apply_sync};
use pgherd_protocol::coordinator::SyncAligned;
use pgherd_protocol::sync_manager::AlignSync;
use std::sync::Arc;

/// See the module.
pub struct SyncManager {
    server: Arc<Postgres>,
    aligned: Recipient<SyncAligned>,
}

impl SyncManager {
    /// A sync manager of this server that reports there.
    pub fn new(server: Arc<Postgres>, aligned: Recipient<SyncAligned>) -> Self {
        Self { server, aligned }
    }
}

impl Actor for SyncManager {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(crate::tell::MAILBOX_CAPACITY);
    }
}

impl Handler<AlignSync> for SyncManager {
    type Result = ();
    fn handle(&mut self, AlignSync { round, apply, fence }: AlignSync, ctx: &mut Self::Context) {
        let (server, aligned) = (self.server.clone(), self.aligned.clone());
        let work = async move {
            let result = match in_time(fence) {
                true => apply_sync(&server, &apply, || in_time(fence)).await,
                false => Err("the order for synchronous replication arrived after its fence".to_owned()),
            };
            if let Err(why) = &result {
                log::warn!("synchronous replication was not changed: {why}");
            }
            let _ = aligned.send(SyncAligned { round, result }).await;
        };
        // The next order waits in the mailbox: this actor has nothing else to do.
        ctx.wait(work.into_actor(self));
    }
}
