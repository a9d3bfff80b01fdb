//! The PostgreSQL monitor: looks at the server on its own schedule, when asked, and at once when its process or one of
//! its walsenders ends. At most one look runs at a time; whoever asks meanwhile gets another one behind it.

use crate::walsender_watch::{Change, WalsenderWatch};
use actix::prelude::*;
use pgherd_postgres::{Look, PidFd, Postgres, Postmaster, find_wal_end, needs_wal_end, observe};
use pgherd_protocol::coordinator::PostgresObserved;
use pgherd_protocol::postgres_monitor::{ChangeSchedule, LookNow};
use pgherd_types::{DataDirectory, PostgresState, Server};
use std::sync::Arc;
use std::time::Duration;

/// A server that does not answer is looked at this often.
const WHILE_NOT_RUNNING: Duration = Duration::from_secs(1);

/// A look has deadlines for everything but the disk. One that takes longer hangs there, and that is reported too.
const HUNG_AFTER: Duration = Duration::from_secs(20);

/// See the module.
pub struct PostgresMonitor {
    server: Arc<Postgres>,
    observed: Recipient<PostgresObserved>,
    every: Duration,
    looking: bool,
    asked_again: bool,
    next_look: Option<SpawnHandle>,
    watched: Option<Watched>,
    walsenders: WalsenderWatch,
    finding_wal_end: bool,
    hung: Option<SpawnHandle>,
    last_data: Option<DataDirectory>,
}

/// Process number and start time of a postmaster, and what waits for its end; nothing where that cannot be watched.
struct Watched {
    postmaster: (i32, u64),
    watch: Option<SpawnHandle>,
}

impl PostgresMonitor {
    /// A monitor that reports there, and looks at least this often (`loop_wait`).
    pub fn new(server: Arc<Postgres>, observed: Recipient<PostgresObserved>, every: Duration) -> Self {
        let (looking, asked_again, finding_wal_end) = (false, false, false);
        Self {
            server,
            observed,
            every,
            looking,
            asked_again,
            next_look: None,
            watched: None,
            walsenders: WalsenderWatch::default(),
            finding_wal_end,
            hung: None,
            last_data: None,
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.looking, true) {
            self.asked_again = true;
            return;
        }
        let server = self.server.clone();
        let look = async move { observe(&server).await };
        ctx.spawn(look.into_actor(self).map(|look, monitor, ctx| monitor.looked(look, ctx)));
        self.hung = Some(ctx.run_interval(HUNG_AFTER, |monitor, _| monitor.report_hung()));
    }

    /// No second look is begun while one hangs: each would hold another thread.
    fn report_hung(&self) {
        let now = pgherd_clock::now();
        let why =
            format!("a look at PostgreSQL hangs for more than {} s; is the storage in order?", HUNG_AFTER.as_secs());
        log::error!("{why}");
        let data = self.last_data.clone().unwrap_or_else(|| DataDirectory::Unusable(why.clone()));
        let state = PostgresState {
            looked_at: now.mono,
            wall: now.wall,
            data,
            server: Server::Unresponsive(why),
            progress: None,
        };
        crate::tell::tell(&self.observed, PostgresObserved(Arc::new(state)));
    }

    fn looked(&mut self, Look { state, postmaster }: Look, ctx: &mut Context<Self>) {
        self.looking = false;
        if let Some(alarm) = self.hung.take() {
            ctx.cancel_future(alarm);
        }
        self.last_data = Some(state.data.clone());
        self.watch(postmaster, ctx);
        self.watch_walsenders(&state, ctx);
        self.find_wal_end(&state, ctx);
        self.schedule(&state, ctx);
        crate::tell::tell(&self.observed, PostgresObserved(Arc::new(state)));
        if std::mem::take(&mut self.asked_again) {
            self.look(ctx);
        }
    }

    fn schedule(&mut self, state: &PostgresState, ctx: &mut Context<Self>) {
        let usual = matches!(state.server, Server::Running(_));
        let pause = if usual { self.every } else { self.every.min(WHILE_NOT_RUNNING) };
        let next = ctx.run_later(pause, |monitor, ctx| monitor.look(ctx));
        if let Some(old) = self.next_look.replace(next) {
            ctx.cancel_future(old);
        }
    }

    /// Every postmaster is watched, an adopted one too.
    fn watch(&mut self, postmaster: Option<Postmaster>, ctx: &mut Context<Self>) {
        let wanted = postmaster.map(|p| (p.pid, p.start_ticks));
        if wanted == self.watched.as_ref().map(|w| w.postmaster) {
            return;
        }
        if let Some(old) = self.watched.take().and_then(|watched| watched.watch) {
            ctx.cancel_future(old);
        }
        let Some(postmaster) = wanted else { return };
        let watch = PidFd::of(postmaster.0, postmaster.1).map(|fd| {
            let end = fd.exited().into_actor(self).map(|end, monitor, ctx| match end {
                Ok(()) => {
                    monitor.watched = None;
                    monitor.look(ctx);
                }
                Err(e) => {
                    log::error!("PostgreSQL's process cannot be watched, its end is seen at the next look only: {e}");
                }
            });
            ctx.spawn(end)
        });
        self.asked_again |= watch.is_none(); // it has ended since the look
        self.watched = Some(Watched { postmaster, watch });
    }

    /// The loss of a standby is seen at once.
    fn watch_walsenders(&mut self, state: &PostgresState, ctx: &mut Context<Self>) {
        let Change { begun, given_up, look_again } = self.walsenders.looked(state.running());
        for handle in given_up {
            ctx.cancel_future(handle);
        }
        for (pid, fd) in begun {
            let end = fd.exited().into_actor(self).map(move |end, monitor, ctx| match end {
                Ok(()) => {
                    monitor.walsenders.ended(pid);
                    monitor.look(ctx);
                }
                Err(e) => log::warn!("walsender {pid} cannot be watched, its end is seen at the next look only: {e}"),
            });
            self.walsenders.watches(pid, ctx.spawn(end));
        }
        self.asked_again |= look_again;
    }

    /// It may take long, so the state is reported without it first.
    fn find_wal_end(&mut self, state: &PostgresState, ctx: &mut Context<Self>) {
        let Some(control) = state.control().filter(|_| !self.finding_wal_end && needs_wal_end(&self.server, state))
        else {
            return;
        };
        self.finding_wal_end = true;
        let (server, control) = (self.server.clone(), control.clone());
        let work = tokio::task::spawn_blocking(move || find_wal_end(&server, &control));
        ctx.spawn(work.into_actor(self).map(|_, monitor, ctx| {
            monitor.finding_wal_end = false;
            monitor.look(ctx);
        }));
    }
}

impl Actor for PostgresMonitor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(crate::tell::MAILBOX_CAPACITY);
        self.look(ctx);
    }
}

impl Handler<LookNow> for PostgresMonitor {
    type Result = ();
    fn handle(&mut self, _: LookNow, ctx: &mut Self::Context) {
        self.look(ctx);
    }
}

impl Handler<ChangeSchedule> for PostgresMonitor {
    type Result = ();
    fn handle(&mut self, ChangeSchedule { every }: ChangeSchedule, ctx: &mut Self::Context) {
        if std::mem::replace(&mut self.every, every) != every {
            self.look(ctx);
        }
    }
}
