//! What operators and other members ask of this node: judged by the kernel, applied as facts, answered when they end.

use super::Coordinator;
use actix::prelude::*;
use pgherd_kernel::{Observation, failsafe, wishes};
use pgherd_protocol::coordinator::{FailsafeAnswer, RequestFailsafe, RequestWish};
use pgherd_types::{RequestId, Wish, WishEnd};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::oneshot;

/// Beyond the kernel's own limit for a restart; then whoever asked is told that it goes on.
const GRACE: Duration = Duration::from_secs(90);

/// Wishes that will be answered when they end.
#[derive(Default)]
pub(super) struct Waiting {
    last: u64,
    open: BTreeMap<RequestId, oneshot::Sender<WishEnd>>,
}

impl Waiting {
    fn next(&mut self) -> RequestId {
        self.last += 1;
        RequestId(self.last)
    }
    /// These ended.
    pub(super) fn answer(&mut self, ends: Vec<(RequestId, WishEnd)>) {
        for (id, end) in ends {
            if let Some(asker) = self.open.remove(&id) {
                let _ = asker.send(end);
            }
        }
    }
}

impl Handler<RequestWish> for Coordinator {
    type Result = ResponseFuture<WishEnd>;

    fn handle(&mut self, RequestWish(wish): RequestWish, ctx: &mut Self::Context) -> Self::Result {
        let now = pgherd_clock::now();
        if let Err(end) = wishes::judge(&self.view, &wish, now.mono) {
            return Box::pin(async { end });
        }
        let id = self.waiting.next();
        log::info!("an operator asks: {wish:?}");
        let (at_once, allowed) = match &wish {
            Wish::Restart(wish) => (None, wish.timeout.unwrap_or(self.view.start_timeout()) + GRACE),
            Wish::ScheduleRestart(_) => (Some(WishEnd::Scheduled), Duration::ZERO),
            Wish::CancelRestart | Wish::Reinitialize { .. } => (Some(WishEnd::Done), Duration::ZERO),
        };
        let (asker, answer) = oneshot::channel();
        if at_once.is_none() {
            self.waiting.open.insert(id, asker);
        }
        self.turn(Observation::Wished { id, wish }, ctx);
        Box::pin(async move {
            match at_once {
                Some(end) => end,
                None => match tokio::time::timeout(allowed, answer).await {
                    Ok(Ok(end)) => end,
                    Ok(Err(_)) => WishEnd::Failed("the agent ends".to_owned()),
                    Err(_) => WishEnd::StillStarting,
                },
            }
        })
    }
}

impl Handler<RequestFailsafe> for Coordinator {
    type Result = MessageResult<RequestFailsafe>;

    fn handle(&mut self, asked: RequestFailsafe, ctx: &mut Self::Context) -> Self::Result {
        if !self.view.settings.failsafe_mode {
            return MessageResult(FailsafeAnswer::Off);
        }
        let now = pgherd_clock::boottime();
        let running = self.view.postgres.get().and_then(|postgres| postgres.running());
        let position = running.map(|running| running.position()).unwrap_or_default();
        if !failsafe::may_promise(&self.view, now) {
            return MessageResult(FailsafeAnswer::Leading);
        }
        self.turn(Observation::FailsafePromised { to: asked.name, slots: asked.slots }, ctx);
        MessageResult(FailsafeAnswer::Accepted { position })
    }
}
