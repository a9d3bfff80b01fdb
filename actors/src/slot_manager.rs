//! The slot manager: makes the replication slots as ordered, one order after the other.

use actix::prelude::*;
use pgherd_postgres::{Postgres, align_slots};
use pgherd_protocol::coordinator::SlotsAligned;
use pgherd_protocol::slot_manager::AlignSlots;
use pgherd_types::Instant;
use std::sync::Arc;

/// See the module.
pub struct SlotManager {
    server: Arc<Postgres>,
    aligned: Recipient<SlotsAligned>,
}

impl SlotManager {
    /// A slot manager of this server that reports there.
    pub fn new(server: Arc<Postgres>, aligned: Recipient<SlotsAligned>) -> Self {
        Self { server, aligned }
    }
}

impl Actor for SlotManager {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(crate::tell::MAILBOX_CAPACITY);
    }
}

impl Handler<AlignSlots> for SlotManager {
    type Result = ();
    fn handle(&mut self, AlignSlots { round, target, fence }: AlignSlots, ctx: &mut Self::Context) {
        let (server, aligned) = (self.server.clone(), self.aligned.clone());
        let work = async move {
            let result = match in_time(fence) {
                true => align_slots(&server, &target, || in_time(fence)).await,
                false => Err("the order to align slots arrived after its fence".to_owned()),
            };
            if let Err(why) = &result {
                log::warn!("slots were not aligned: {why}");
            }
            let _ = aligned.send(SlotsAligned { round, result }).await;
        };
        // The next order waits in the mailbox: this actor has nothing else to do.
        ctx.wait(work.into_actor(self));
    }
}

/// Has the fence not passed?
pub(crate) fn in_time(fence: Option<Instant>) -> bool {
    fence.is_none_or(|until| pgherd_clock::boottime() < until)
}
