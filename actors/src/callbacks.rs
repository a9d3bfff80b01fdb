//! Calls the user's scripts (`postgresql.callbacks`) with `<action> <role> <scope>`. Which and when is derived from what
//! the coordinator publishes (`transitions`); scripts never hold up a decision, and their exit codes are only logged.
//!
//! Two lanes, one script at a time in each (`lane`): `on_reload` has its own. A script that takes longer than the
//! time limit is killed with its descendants.

mod announce;
mod lane;
mod transitions;

pub use announce::Announce;
pub use transitions::{Event, Seen, transitions};

use actix::prelude::*;
use lane::Lane;
use pgherd_postgres::{Postgres, ScriptEnd, run_script};
use pgherd_protocol::callbacks::{FinishCallbacks, Reloaded, StatusPublished};
use pgherd_types::{CallbackAction, Role};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a killed script may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
pub struct Callbacks {
    server: Arc<Postgres>,
    seen: Seen,
    /// The role of the last report, for `on_reload`.
    role: Role,
    lanes: [OneByOne; 2],
    /// Those who wait until there is nothing to do.
    awaiting_end: Vec<oneshot::Sender<()>>,
}

/// A lane and the string by which its running script is held.
#[derive(Default)]
struct OneByOne {
    lane: Lane,
    give_up: Arc<AtomicBool>,
}

/// Number of the lane.
const fn lane_of(action: CallbackAction) -> usize {
    match action {
        CallbackAction::OnReload => 1,
        CallbackAction::OnStart | CallbackAction::OnStop | CallbackAction::OnRestart | CallbackAction::OnRoleChange => {
            0
        }
    }
}

/// The script that ran in this lane has ended.
#[derive(Message)]
#[rtype(result = "()")]
struct ScriptEnded {
    lane: usize,
}

impl Callbacks {
    /// Calls the scripts of this server's settings.
    pub fn new(server: Arc<Postgres>) -> Self {
        let (seen, role) = (Seen::default(), Role::default());
        Self { server, seen, role, lanes: Default::default(), awaiting_end: Vec::new() }
    }

    fn call(&mut self, event: Event, ctx: &mut Context<Self>) {
        if !self.server.scripts().callbacks.contains_key(&event.action) {
            return;
        }
        let number = lane_of(event.action);
        let lane = &mut self.lanes[number];
        if lane.lane.add(event) {
            lane.give_up.store(true, Ordering::SeqCst);
        }
        self.start_next(number, ctx);
    }

    fn start_next(&mut self, number: usize, ctx: &mut Context<Self>) {
        let lane = &mut self.lanes[number];
        let Some(event) = lane.lane.start_next() else { return };
        lane.give_up = Arc::default();
        let (server, give_up, ended) = (self.server.clone(), lane.give_up.clone(), ctx.address());
        let work = move || {
            run(&server, &event, &give_up);
            // one message for each script: the mailbox cannot overflow from it, and it must not be lost
            ended.do_send(ScriptEnded { lane: number });
        };
        let thread = std::thread::Builder::new().name("callback".to_owned()).stack_size(256 << 10);
        if let Err(e) = thread.spawn(work) {
            log::error!("cannot start a thread for a callback script, which is not called: {e}");
            ctx.notify(ScriptEnded { lane: number });
        }
    }

    /// Answers when nothing runs and nothing waits; false if that took longer.
    fn idle(&mut self, patience: Duration) -> impl Future<Output = bool> + use<> {
        let (idle, told) = oneshot::channel();
        self.awaiting_end.push(idle);
        self.tell_if_idle();
        async move { tokio::time::timeout(patience, told).await.is_ok() }
    }

    fn give_all_up(&mut self) {
        for lane in &mut self.lanes {
            lane.lane.forget_waiting();
            lane.give_up.store(true, Ordering::SeqCst);
        }
    }

    fn tell_if_idle(&mut self) {
        if self.lanes.iter().all(|lane| lane.lane.is_idle()) {
            for waiting in self.awaiting_end.drain(..) {
                let _ = waiting.send(());
            }
        }
    }
}

/// On a thread of its own.
fn run(server: &Postgres, event: &Event, give_up: &AtomicBool) {
    let (options, scripts) = (server.current(), server.scripts());
    let Some(command) = scripts.callbacks.get(&event.action) else { return };
    let (action, role) = (event.action.as_str(), event.role.as_str());
    let arrange = |script: &mut std::process::Command| {
        script.args([action, role, &options.scope]);
        if let Some(previous) = event.previous {
            script.env("PGHERD_PREVIOUS_ROLE", previous.as_str());
        }
        if let Some(timeline) = event.timeline {
            script.env("PGHERD_TIMELINE", timeline.to_string());
        }
    };
    log::info!("callback {action} {role}: calling {}", command[0]);
    let go_on = || !give_up.load(Ordering::SeqCst);
    match run_script(&options, command, arrange, scripts.callback_timeout, go_on) {
        ScriptEnd::Exited(0) => log::info!("callback {action} {role} is done"),
        ScriptEnd::GivenUp => log::warn!("callback {action} {role} was killed: it was not to go on"),
        end => log::warn!("callback {action} {role}: the script {end}"),
    }
}

impl Actor for Callbacks {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(crate::tell::MAILBOX_CAPACITY);
    }
}

impl Handler<StatusPublished> for Callbacks {
    type Result = ();
    fn handle(&mut self, StatusPublished(report): StatusPublished, ctx: &mut Self::Context) {
        let next = self.seen.then(&report);
        let events = transitions(&self.seen, &next);
        (self.seen, self.role) = (next, report.role);
        events.into_iter().for_each(|event| self.call(event, ctx));
    }
}

impl Handler<Reloaded> for Callbacks {
    type Result = ();
    fn handle(&mut self, _: Reloaded, ctx: &mut Self::Context) {
        let role = if self.role == Role::Promoted { Role::Primary } else { self.role };
        self.call(Event { action: CallbackAction::OnReload, role, previous: None, timeline: None }, ctx);
    }
}

impl Handler<ScriptEnded> for Callbacks {
    type Result = ();
    fn handle(&mut self, ScriptEnded { lane }: ScriptEnded, ctx: &mut Self::Context) {
        self.lanes[lane].lane.ended();
        self.start_next(lane, ctx);
        self.tell_if_idle();
    }
}

impl Handler<FinishCallbacks> for Callbacks {
    type Result = ResponseActFuture<Self, ()>;
    fn handle(&mut self, FinishCallbacks { patience }: FinishCallbacks, _: &mut Self::Context) -> Self::Result {
        let first = self.idle(patience).into_actor(self);
        Box::pin(first.then(|in_time, callbacks, _| {
            if !in_time {
                log::warn!("the agent ends: callback scripts that are still running are killed");
                callbacks.give_all_up();
            }
            callbacks.idle(KILL_PATIENCE).into_actor(callbacks).map(|_, _, _| ())
        }))
    }
}
