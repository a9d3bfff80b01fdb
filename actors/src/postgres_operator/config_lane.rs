//! Putting configurations in force, one at a time, also while an operation runs: the operator owns all of PostgreSQL's
//! configuration files, so nobody else's change can get lost. Of the requests that wait only the newest counts.

use super::PostgresOperator;
use actix::prelude::*;
use pgherd_postgres::{apply_dynamic, observe, reload_config};
use pgherd_protocol::callbacks::Reloaded;
use pgherd_protocol::coordinator::PostgresObserved;
use pgherd_protocol::postgres_operator::{ConfigChanged, ConsumersWaitFor, KeepRows, LeadStandbyCluster, ReloadConfig};
use std::sync::Arc;

/// What is being done, and what waits for its end.
#[derive(Default)]
pub(super) struct ConfigLane {
    busy: bool,
    dynamic: Option<String>,
    /// The configuration in force is put in force again: something else that the files say has changed. Which one that is
    /// shows only when its turn comes, as another one may be on its way.
    again: bool,
    reload: bool,
}

/// What is done in one turn.
struct Turn {
    dynamic: Option<String>,
    again: bool,
    reload: bool,
}

impl ConfigLane {
    /// What comes next.
    fn next(&mut self) -> Option<Turn> {
        let (again, reload) = (std::mem::take(&mut self.again), std::mem::take(&mut self.reload));
        let dynamic = self.dynamic.take();
        (dynamic.is_some() || again || reload).then_some(Turn { dynamic, again, reload })
    }
}

impl PostgresOperator {
    fn go_on_with_config(&mut self, ctx: &mut Context<Self>) {
        if self.config.busy {
            return;
        }
        let Some(Turn { dynamic, again, reload }) = self.config.next() else { return };
        self.config.busy = true;
        let (server, observed) = (self.server.clone(), self.observed.clone());
        let work = async move {
            let mut told = false;
            if let Some(dynamic) = dynamic.or_else(|| again.then(|| server.dynamic())) {
                told |= apply_dynamic(&server, dynamic).await.unwrap_or_else(|e| {
                    log::error!("Exception when setting dynamic_configuration: {e}; the last good one stays in force");
                    false
                });
            }
            if reload {
                told |= reload_config(&server).await.unwrap_or_else(|e| {
                    log::error!("the configuration could not be reloaded: {e}");
                    false
                });
            }
            // What waits for a restart is known from now on.
            let look = observe(&server).await;
            let _ = observed.send(PostgresObserved(Arc::new(look.state))).await;
            told
        };
        ctx.spawn(work.into_actor(self).map(|told, operator, ctx| {
            if told {
                log::info!("configuration files were written and PostgreSQL reads them");
                operator.reloaded.iter().for_each(|to| crate::tell::tell(to, Reloaded));
            }
            operator.config.busy = false;
            operator.go_on_with_config(ctx);
        }));
    }
}

impl Handler<ConfigChanged> for PostgresOperator {
    type Result = ();
    fn handle(&mut self, ConfigChanged(text): ConfigChanged, ctx: &mut Self::Context) {
        self.config.dynamic = Some(text);
        self.go_on_with_config(ctx);
    }
}

impl Handler<LeadStandbyCluster> for PostgresOperator {
    type Result = ();
    fn handle(&mut self, LeadStandbyCluster(leads): LeadStandbyCluster, ctx: &mut Self::Context) {
        self.server.set_leads_standby_cluster(leads);
        self.config.again = true;
        self.go_on_with_config(ctx);
    }
}

impl Handler<KeepRows> for PostgresOperator {
    type Result = ();
    fn handle(&mut self, KeepRows { rows, copies }: KeepRows, ctx: &mut Self::Context) {
        self.server.set_keeps_rows(rows, copies);
        self.config.again = true;
        self.go_on_with_config(ctx);
    }
}

impl Handler<ConsumersWaitFor> for PostgresOperator {
    type Result = ();
    fn handle(&mut self, ConsumersWaitFor(slots): ConsumersWaitFor, ctx: &mut Self::Context) {
        self.server.set_waited_slots(slots);
        self.config.again = true;
        self.go_on_with_config(ctx);
    }
}

impl Handler<ReloadConfig> for PostgresOperator {
    type Result = ();
    fn handle(&mut self, _: ReloadConfig, ctx: &mut Self::Context) {
        self.config.reload = true;
        self.go_on_with_config(ctx);
    }
}
