//! The coordinator: the only caller of the kernel in production, and the owner of its view.
//!
//! Every handler is one line: a turn. A turn applies the fact, decides, has the decision judged, tells the fence,
//! publishes, sets the alarm and sends. It never waits: no disk, no SQL, no HTTP on this thread; answers to what it
//! sends come back as facts.

mod config;
mod dispatch;
mod explain;
mod publish;
mod requests;
mod slot_words;
mod sync_words;

pub use config::{ConfigTree, LocalPolicy};
pub use dispatch::Links;

use crate::fence_keeper::FenceHandle;
use crate::metrics::Metrics;
use actix::prelude::*;
use arc_swap::ArcSwap;
use pgherd_clock::Stopwatch;
use pgherd_kernel::{Decision, Observation, Reason, View, decide, invariants};
use pgherd_protocol::coordinator::*;
use pgherd_protocol::events::Told;
use pgherd_protocol::postgres_monitor::LookNow;
use pgherd_protocol::postgres_operator::{ConsumersWaitFor, KeepRows};
use pgherd_types::{Instant, NodeStatus, Now};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Every status line in maintenance mode begins so (spec/ha.md 1).
const PAUSE: &str = "PAUSE: ";

/// See the module.
pub struct Coordinator {
    view: View,
    scope: String,
    key_prefix: String,
    links: Links,
    fence: FenceHandle,
    status: Arc<ArcSwap<NodeStatus>>,
    config: ConfigTree,
    waiting: requests::Waiting,
    alarm: Option<SpawnHandle>,
    said: Option<(String, Instant)>,
    dcs_last_seen: pgherd_types::WallTime,
    dcs_survey: pgherd_types::DcsSurvey,
    done: Option<oneshot::Sender<()>>,
    leads_standbys: bool,
    keeps_rows: Option<KeepRows>,
    waited_slots: Option<ConsumersWaitFor>,
    slots_told: slot_words::Told,
    sync_told: sync_words::Told,
    metrics: Metrics,
}

/// What a coordinator is made of.
pub struct CoordinatorParts {
    /// The view to begin with.
    pub view: View,
    /// The cluster's name.
    pub scope: String,
    /// Where its keys are in the DCS, for commands that are shown to people: `/service/demo/`.
    pub key_prefix: String,
    /// Where commands go.
    pub links: Links,
    /// The fence.
    pub fence: FenceHandle,
    /// Where the status is published.
    pub status: Arc<ArcSwap<NodeStatus>>,
    /// The dynamic configuration.
    pub config: ConfigTree,
    /// Told when everything is left in order and the process may end.
    pub done: oneshot::Sender<()>,
}

impl Coordinator {
    /// A coordinator that begins to turn when it is started.
    pub fn new(parts: CoordinatorParts) -> Self {
        let CoordinatorParts { view, scope, key_prefix, links, fence, status, config, done } = parts;
        let dcs_last_seen = pgherd_types::WallTime(0);
        Self {
            view,
            scope,
            key_prefix,
            links,
            fence,
            status,
            config,
            waiting: requests::Waiting::default(),
            alarm: None,
            said: None,
            dcs_last_seen,
            dcs_survey: pgherd_types::DcsSurvey::default(),
            done: Some(done),
            leads_standbys: false,
            keeps_rows: None,
            waited_slots: None,
            slots_told: slot_words::Told::default(),
            sync_told: sync_words::Told::default(),
            metrics: Metrics::default(),
        }
    }

    /// A fact: apply it and decide.
    fn turn(&mut self, fact: Observation, ctx: &mut Context<Self>) {
        let (now, turn) = (pgherd_clock::now(), Stopwatch::start());
        self.before(&fact, now);
        // what it changed shows in the next look
        if matches!(fact, Observation::SyncAligned { .. }) || self.changed_slots(&fact) {
            crate::tell::tell(&self.links.look, LookNow);
        }
        self.view.apply(fact, now);
        self.configure(ctx);
        self.act(now, ctx);
        self.metrics.turned(turn.elapsed());
    }

    /// Slots were changed, and not only asked about.
    fn changed_slots(&self, fact: &Observation) -> bool {
        let asked = self.view.asked.slots.as_ref().map(|(_, ask)| &ask.what);
        let changes = asked.is_some_and(|target| !(target.changes.is_empty() && target.claim.is_empty()));
        changes && matches!(fact, Observation::SlotsAligned { report: Some(_), .. })
    }

    fn before(&mut self, fact: &Observation, now: Now) {
        self.metrics.fact(fact, &self.view, now);
        match fact {
            Observation::Cluster { .. } | Observation::LeaseRenewed { .. } => self.dcs_last_seen = now.wall,
            Observation::OperationFinished { end: pgherd_types::OperationEnd::Failed(why), .. } => {
                let what = self.view.operation.as_ref().map_or("operation", |running| running.operation.name());
                log::error!("{what} failed: {why}");
                self.links.events.tell(Told::Happened("operation.failed", json!({"operation": what, "why": why})));
            }
            _ => {}
        }
    }

    /// A changed `config` key changes settings before it changes decisions.
    fn configure(&mut self, ctx: &mut Context<Self>) {
        let Some(cluster) = self.view.cluster.get().cloned() else { return };
        if let Some(settings) = self.config.observe(&cluster, &self.view.settings) {
            self.links.configure(&settings, self.config.text(), ctx);
            self.view.apply(Observation::Settings(settings), pgherd_clock::now());
        }
    }

    fn act(&mut self, now: Now, ctx: &mut Context<Self>) {
        let decision = self.judged(decide(&self.view, now), now);
        self.metrics.decided(&decision);
        self.view.dispatched(&decision, now);
        self.fence.paused(self.view.settings.pause);
        self.fence.order(self.view.fence_order(now.mono), self.view.promise());
        self.say(&decision.because, now.mono);
        self.publish(&decision, now);
        self.set_alarm(decision.decide_again_at, now.mono, ctx);
        self.dispatch(decision, now, ctx);
    }

    fn judged(&mut self, decision: Decision, now: Now) -> Decision {
        match invariants::check(&self.view, &decision, now) {
            Ok(()) => decision,
            Err(breach) => {
                self.metrics.breach();
                log::error!(target: "critical", "invariant {} would be broken by {}; doing the safe thing instead", breach.id, breach.what);
                debug_assert!(false, "invariant {}: {}", breach.id, breach.what);
                invariants::safe_instead(&self.view, decision, &breach)
            }
        }
    }

    /// One status line whenever the reason changes, and at least every `loop_wait`.
    fn say(&mut self, because: &Reason, now: Instant) {
        let text = self.words(because);
        let subject = match because {
            Reason::ShuttingDown { .. } => text.clone(), // each step is said
            _ => because.id(),
        };
        let loop_wait = self.view.settings.loop_wait;
        if self.said.as_ref().is_some_and(|(said, at)| *said == subject && now.since(*at) < loop_wait) {
            return;
        }
        log::log!(severity(because), "{text}");
        self.said = Some((subject, now));
    }

    /// The reason in words; the kernel does not know where the keys are.
    fn words(&self, because: &Reason) -> String {
        let text = because.to_string().replace("<namespace>/<scope>/", &self.key_prefix);
        let prefix = if self.view.settings.pause && !text.starts_with(PAUSE) { PAUSE } else { "" };
        format!("{prefix}{text}")
    }

    fn set_alarm(&mut self, at: Instant, now: Instant, ctx: &mut Context<Self>) {
        if let Some(alarm) = self.alarm.take() {
            ctx.cancel_future(alarm);
        }
        // timers stand still while the machine is suspended, the boot clock does not: wake at least once a second
        // where that matters is the fence thread's business; here the usual wait is enough
        let wait = now.until(at).max(Duration::from_millis(1));
        self.alarm = Some(ctx.run_later(wait, |coordinator, ctx| coordinator.act(pgherd_clock::now(), ctx)));
    }

    fn finish(&mut self) {
        self.fence.forget();
        if let Some(done) = self.done.take() {
            let _ = done.send(());
        }
    }
}

fn severity(because: &Reason) -> log::Level {
    match because {
        Reason::Diverged(_)
        | Reason::ForeignData { .. }
        | Reason::NameTaken { .. }
        | Reason::DataUnusable { .. }
        | Reason::InitializeIsGarbage => log::Level::Error,
        Reason::FencedLeaseRanOut
        | Reason::FencedLockLost
        | Reason::FencedWithoutLock { .. }
        | Reason::OrphanedBackends
        | Reason::LeaderWithForeignInitialize { .. }
        | Reason::LeaderKeyWithoutMember { .. }
        | Reason::LeaderKeyWithoutLease { .. }
        | Reason::DcsNotAccessible
        | Reason::LeaderHoldsWithoutDcs { .. }
        | Reason::TakingVanishedKeyAgain
        | Reason::TakingLapsedKeyAgain
        | Reason::ManualRequestCleared { done: false, .. }
        | Reason::HandoverGivenUp { .. }
        | Reason::WatchdogUnusable
        | Reason::UnresponsiveMakesRoom
        | Reason::StartTimedOut
        | Reason::StartTimedOutAlone
        | Reason::StartFailedReleasing { .. }
        | Reason::WaitingBeforeRetry { .. }
        | Reason::TimelineBehind { .. } => log::Level::Warn,
        _ => log::Level::Info,
    }
}

impl Actor for Coordinator {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(crate::tell::MAILBOX_CAPACITY);
        self.act(pgherd_clock::now(), ctx);
    }
}

/// Whoever must know the present position asks here.
impl Handler<LookNow> for Coordinator {
    type Result = ();
    fn handle(&mut self, look: LookNow, _: &mut Self::Context) {
        crate::tell::tell(&self.links.look, look);
    }
}

/// Nothing is decided by it; it is shown with the next turn.
impl Handler<DcsSurveyed> for Coordinator {
    type Result = ();
    fn handle(&mut self, DcsSurveyed(survey): DcsSurveyed, ctx: &mut Self::Context) {
        self.dcs_survey = survey;
        self.act(pgherd_clock::now(), ctx);
    }
}

macro_rules! facts {
    ($($message:ident => |$m:ident| $fact:expr;)*) => {$(
        impl Handler<$message> for Coordinator {
            type Result = ();
            fn handle(&mut self, $m: $message, ctx: &mut Self::Context) {
                self.turn($fact, ctx);
            }
        }
    )*};
}

facts! {
    ClusterObserved => |m| Observation::Cluster { cluster: m.cluster, read_at: m.read_at };
    DcsLost => |m| Observation::DcsLost { since: m.since };
    PostgresObserved => |m| Observation::Postgres(m.0);
    OperationFinished => |m| Observation::OperationFinished { id: m.id, end: m.end };
    PeersProbed => |m| Observation::Peers { round: m.round, reports: m.reports };
    SlotsAligned => |m| Observation::SlotsAligned { round: m.round, report: m.result.ok() };
    SyncAligned => |m| Observation::SyncAligned { round: m.round, ok: m.result.is_ok() };
    LocalChanged => |m| Observation::Tags(m.tags);
    FailsafeAsked => |m| Observation::FailsafeAsked { round: m.round, asked_at: m.asked_at, refused: m.refused };
    WatchdogChecked => |m| Observation::WatchdogFailed(m.failed);
    SettingsChanged => |m| Observation::Settings(m.0);
    ShutdownRequested => |_m| Observation::ShutdownRequested;
}
