//! The sync-replication manager: performs one step at a time on `synchronous_standby_names`.

use crate::slot_manager::in_time;
use actix::prelude::*;
use pgherd_postgres::{Postgres, align_sync_names};
use pgherd_protocol::sync_manager::AlignSync;
use std::sync::Arc;

/// See the module.
pub struct SyncManager {
    server: Arc<Postgres>,
}

impl SyncManager {
    /// A sync manager of this server.
    pub fn new(server: Arc<Postgres>) -> Self {
        Self { server }
    }
}

impl Actor for SyncManager {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(crate::tell::MAILBOX_CAPACITY);
    }
}

impl Handler<AlignSync> for SyncManager {
    type Result = AtomicResponse<Self, Result<(), String>>;
    fn handle(&mut self, AlignSync { fence }: AlignSync, _: &mut Self::Context) -> Self::Result {
        let server = self.server.clone();
        let work = async move {
            match in_time(fence) {
                true => align_sync_names(&server).await,
                false => Err("the order to align synchronous replication arrived after its fence".to_owned()),
            }
        };
        AtomicResponse::new(Box::pin(work.into_actor(self)))
    }
}
