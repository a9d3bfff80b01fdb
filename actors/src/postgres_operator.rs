//! The PostgreSQL operator: runs one long operation at a time, on a thread of its own with a runtime of its own, so
//! that neither a slow disk nor a busy arbiter holds it up; configurations are put in force beside it. It says at once whether it began; at the end it reports a new
//! look at PostgreSQL and then how the operation ended. It decides nothing.

mod config_lane;
mod perform;

use actix::prelude::*;
use config_lane::ConfigLane;
use perform::perform;
use pgherd_postgres::{GuardedUntil, OperationControl, Postgres, WatchdogGate, observe};
use pgherd_protocol::callbacks::Reloaded;
use pgherd_protocol::coordinator::{OperationFinished, PostgresObserved};
use pgherd_protocol::postgres_operator::{Busy, CancelOperation, ExtendFence, StartOperation};
use pgherd_types::{Operation, OperationEnd, OperationId, StopMode};
use std::sync::Arc;

/// See the module.
pub struct PostgresOperator {
    server: Arc<Postgres>,
    observed: Recipient<PostgresObserved>,
    finished: Recipient<OperationFinished>,
    /// Says whether the guard process is armed; `None` where there is none.
    guarded: Option<GuardedUntil>,
    /// Says whether the watchdog is armed; `None` where it need not be.
    watchdog: Option<WatchdogGate>,
    running: Option<Running>,
    /// Who is told of a reload.
    reloaded: Option<Recipient<Reloaded>>,
    config: ConfigLane,
}

struct Running {
    id: OperationId,
    stops: bool,
    control: Arc<OperationControl>,
}

impl PostgresOperator {
    /// An operator of this server that reports to these two.
    pub fn new(
        server: Arc<Postgres>,
        observed: Recipient<PostgresObserved>,
        finished: Recipient<OperationFinished>,
    ) -> Self {
        Self {
            server,
            observed,
            finished,
            guarded: None,
            watchdog: None,
            running: None,
            reloaded: None,
            config: ConfigLane::default(),
        }
    }

    /// What needs the lock needs an armed guard process, too.
    pub fn guarded_by(self, guarded: Option<GuardedUntil>) -> Self {
        Self { guarded, ..self }
    }

    /// And an armed watchdog, where that is required.
    pub fn watched_by(self, watchdog: Option<WatchdogGate>) -> Self {
        Self { watchdog, ..self }
    }

    /// This one is told of every reload.
    pub fn telling_reloads(self, to: Recipient<Reloaded>) -> Self {
        Self { reloaded: Some(to), ..self }
    }

    /// Asking for an immediate stop while PostgreSQL is being stopped ends the politeness of that stop.
    fn refuse(&self, running: &Running, asked: &Operation) -> Busy {
        if running.stops && matches!(asked, Operation::Stop { mode: StopMode::Immediate }) {
            running.control.hurry();
        }
        Busy(running.id)
    }

    fn begin(&mut self, StartOperation { id, operation, fence }: StartOperation, ctx: &mut Context<Self>) {
        // The fence of a leader is no limit to what anybody may do.
        let control = Arc::new(match (operation.needs_lock(), fence) {
            (true, None) => OperationControl::new(Some(pgherd_types::Instant::default())),
            (true, some) => {
                OperationControl::new(some).guarded_by(self.guarded.clone()).watched_by(self.watchdog.clone())
            }
            (false, _) => OperationControl::new(None),
        });
        let stops = matches!(operation, Operation::Stop { .. });
        self.running = Some(Running { id, stops, control: control.clone() });
        log::debug!("operation {} begins: {}", id.0, operation.name());
        let (server, observed, finished) = (self.server.clone(), self.observed.clone(), self.finished.clone());
        let work = async move {
            let end = until_its_end(&server, operation, control, &observed).await;
            let look = observe(&server).await;
            // Sent one after the other and not dropped when a mailbox is full: the coordinator waits for the second.
            let _ = observed.send(PostgresObserved(Arc::new(look.state))).await;
            (finished, OperationFinished { id, end })
        };
        ctx.spawn(work.into_actor(self).then(|(finished, message), operator, _| {
            log::debug!("operation {} ended: {:?}", message.id.0, message.end);
            operator.running = None;
            async move { _ = finished.send(message).await }.into_actor(operator)
        }));
    }
}

/// Runs it and reports a look whenever it says that there is something to see.
async fn until_its_end(
    server: &Arc<Postgres>,
    operation: Operation,
    control: Arc<OperationControl>,
    observed: &Recipient<PostgresObserved>,
) -> OperationEnd {
    let end = on_own_thread(server.clone(), operation, control.clone());
    tokio::pin!(end);
    loop {
        tokio::select! {
            end = &mut end => return end,
            () = control.progress() => {
                let look = observe(server).await;
                let _ = observed.send(PostgresObserved(Arc::new(look.state))).await;
            }
        }
    }
}

async fn on_own_thread(server: Arc<Postgres>, operation: Operation, control: Arc<OperationControl>) -> OperationEnd {
    let (done, end) = tokio::sync::oneshot::channel();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let end = match runtime {
            Ok(runtime) => runtime.block_on(perform(&server, &operation, &control)),
            Err(e) => OperationEnd::Failed(format!("could not make a runtime for {}: {e}", operation.name())),
        };
        let _ = done.send(end);
    };
    if let Err(e) = std::thread::Builder::new().name("operation".to_owned()).spawn(work) {
        return OperationEnd::Failed(format!("could not start a thread for an operation: {e}"));
    }
    end.await
        .unwrap_or_else(|_| OperationEnd::Failed("the thread of the operation ended early; see the log".to_owned()))
}

impl Actor for PostgresOperator {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(crate::tell::MAILBOX_CAPACITY);
    }
}

impl Handler<StartOperation> for PostgresOperator {
    type Result = Result<(), Busy>;
    fn handle(&mut self, message: StartOperation, ctx: &mut Self::Context) -> Self::Result {
        match &self.running {
            Some(running) => Err(self.refuse(running, &message.operation)),
            None => {
                self.begin(message, ctx);
                Ok(())
            }
        }
    }
}

impl Handler<ExtendFence> for PostgresOperator {
    type Result = ();
    fn handle(&mut self, ExtendFence(until): ExtendFence, _: &mut Self::Context) {
        if let Some(running) = &self.running {
            running.control.extend(until);
        }
    }
}

impl Handler<CancelOperation> for PostgresOperator {
    type Result = ();
    fn handle(&mut self, CancelOperation(id): CancelOperation, _: &mut Self::Context) {
        if let Some(running) = self.running.as_ref().filter(|running| running.id == id) {
            running.control.cancel();
        }
    }
}
