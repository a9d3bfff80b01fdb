//! Makes all actors and ties them together: the only file that names every one of them.

use crate::callbacks::{Announce, Callbacks};
pub use crate::coordinator::LocalPolicy;
use crate::coordinator::{ConfigTree, Coordinator, CoordinatorParts, Links};
use crate::dcs_watcher::{Adopted, DcsWatcher, WatcherOptions};
pub use crate::peer_client::{PeerAccess, PeerLogin, SharedPeers};
use crate::peer_prober::PeerProber;
use crate::postgres_monitor::PostgresMonitor;
use crate::postgres_operator::PostgresOperator;
use crate::request_desk::{RequestDesk, SharedWriter};
use crate::slot_manager::SlotManager;
use crate::start_up::Inherited;
use crate::sync_manager::SyncManager;
use actix::prelude::*;
use arc_swap::ArcSwap;
use pgherd_dcs::{EtcdOptions, Layout};
pub use pgherd_kernel::Me;
use pgherd_kernel::View;
use pgherd_postgres::Postgres;
use pgherd_protocol::callbacks::FinishCallbacks;
use pgherd_protocol::coordinator::{LocalChanged, RequestFailsafe, RequestWish, ShutdownRequested};
use pgherd_protocol::dcs_watcher::ChangeTimes;
use pgherd_protocol::events::EventSink;
use pgherd_protocol::explain::RequestExplanation;
use pgherd_protocol::postgres_monitor::LookNow;
use pgherd_protocol::postgres_operator::ReloadConfig;
use pgherd_protocol::request_desk::{RequestCancelSwitchover, RequestConfig, RequestFailover};
use pgherd_types::{LeaseGrant, NodeStatus, Settings};
use std::sync::Arc;
use tokio::sync::oneshot;

/// What a node is made of.
pub struct NodeParts {
    /// Who it is.
    pub me: Me,
    /// Its cluster's name.
    pub scope: String,
    /// Where etcd is.
    pub etcd: EtcdOptions,
    /// Its server.
    pub postgres: Arc<Postgres>,
    /// What its predecessor left.
    pub inherited: Inherited,
    /// The dynamic configuration until the `config` key is read, as JSON text: the cached one, or `bootstrap.dcs`.
    pub bootstrap_dcs: String,
    /// What the local settings say of diverged data.
    pub policy: LocalPolicy,
    /// How members speak to each other's API.
    pub peers: SharedPeers,
    /// Where the status is published.
    pub status: Arc<ArcSwap<NodeStatus>>,
    /// Where what happens is recorded.
    pub events: EventSink,
}

/// A node at work.
pub struct RunningNode {
    /// Told when the local configuration changed.
    pub local: Recipient<LocalChanged>,
    /// Asks it to leave in order.
    pub shutdown: Recipient<ShutdownRequested>,
    /// Answers when it has left.
    pub done: oneshot::Receiver<()>,
    /// Answers, with the reason, if the DCS refuses this node's user or password from the beginning.
    pub refused: oneshot::Receiver<String>,
    /// Answers with whom to tell that PostgreSQL's files are to be written and read again.
    pub reload_config: oneshot::Receiver<Recipient<ReloadConfig>>,
    /// Whom operators and peers ask.
    pub requests: NodeRequests,
    /// Waits for the user's scripts, after that.
    pub finish_callbacks: Recipient<FinishCallbacks>,
    /// The threads of the actors; they end with this value.
    pub threads: Vec<Arbiter>,
}

/// Who handles which request; `None` where nobody does.
pub struct NodeRequests {
    /// Switchover and failover.
    pub failover: Recipient<RequestFailover>,
    /// The end of a scheduled switchover.
    pub cancel_switchover: Recipient<RequestCancelSwitchover>,
    /// The dynamic configuration.
    pub config: Recipient<RequestConfig>,
    /// A look at PostgreSQL.
    pub look: Recipient<LookNow>,
    /// Restart and new copy.
    pub wish: Option<Recipient<RequestWish>>,
    /// Why?
    pub explain: Recipient<RequestExplanation>,
    /// May a primary go on without the DCS?
    pub failsafe: Option<Recipient<RequestFailsafe>>,
}

/// Start every actor. Needs a running actix system.
pub fn start(parts: NodeParts) -> RunningNode {
    let (brain, dcs, postgres) = (Arbiter::new(), Arbiter::new(), Arbiter::new());
    let (dcs_thread, postgres_thread) = (dcs.handle(), postgres.handle());
    let (left, done) = oneshot::channel();
    let (operator_known, reload_config) = oneshot::channel();
    let (refuses, refused) = oneshot::channel();
    let (writer, status) = (SharedWriter::default(), parts.status.clone());
    let desk_writer = writer.clone();
    let peers = parts.peers.clone();
    let desk = RequestDesk::start_in_arbiter(&dcs_thread, move |_| RequestDesk::new(status, desk_writer, peers));
    let server = parts.postgres.clone();
    let callbacks = Callbacks::start_in_arbiter(&postgres_thread, move |_| Callbacks::new(server));
    let finish_callbacks = callbacks.clone().recipient();
    let coordinator = Coordinator::start_in_arbiter(&brain.handle(), move |ctx| {
        let settings = parts.policy.over(first_settings(&parts.bootstrap_dcs, parts.inherited.paused));
        let threads = (&dcs_thread, &postgres_thread);
        let links = links(&parts, &settings, ctx.address(), (operator_known, refuses), callbacks, threads);
        let _ = writer.set(links.write.clone());
        parts.inherited.fence.tell_watchdog(ctx.address().recipient());
        let now = pgherd_clock::boottime();
        Coordinator::new(CoordinatorParts {
            view: View::new(parts.me, settings, parts.inherited.promise, now),
            key_prefix: Layout::new(&parts.etcd.namespace, &parts.scope, parts.etcd.member).prefix().to_owned(),
            scope: parts.scope,
            links,
            fence: parts.inherited.fence,
            status: parts.status,
            config: ConfigTree::new(parts.bootstrap_dcs, parts.policy),
            done: left,
        })
    });
    let requests = NodeRequests {
        failover: desk.clone().recipient(),
        cancel_switchover: desk.clone().recipient(),
        config: desk.recipient(),
        look: coordinator.clone().recipient(),
        explain: coordinator.clone().recipient(),
        wish: Some(coordinator.clone().recipient()),
        failsafe: Some(coordinator.clone().recipient()),
    };
    let (local, threads) = (coordinator.clone().recipient(), vec![brain, dcs, postgres]);
    let shutdown = coordinator.recipient();
    RunningNode { local, shutdown, done, refused, reload_config, requests, finish_callbacks, threads }
}

/// Until the `config` key is read, the local section counts; but maintenance mode goes on that was on.
fn first_settings(bootstrap_dcs: &str, paused: bool) -> Settings {
    let defaults = Settings::default();
    let read = crate::dynamic_settings::read(bootstrap_dcs, &defaults, true);
    let settings = read.map_or(defaults, |checked| checked.settings);
    Settings { pause: settings.pause || paused, ..settings }
}

fn links(
    parts: &NodeParts,
    settings: &Settings,
    coordinator: Addr<Coordinator>,
    (operator_known, refuses): (oneshot::Sender<Recipient<ReloadConfig>>, oneshot::Sender<String>),
    callbacks: Addr<Callbacks>,
    (dcs_thread, postgres_thread): (&ArbiterHandle, &ArbiterHandle),
) -> Links {
    let Settings { ttl, loop_wait, retry_timeout, .. } = *settings;
    let options = WatcherOptions {
        etcd: parts.etcd.clone(),
        times: ChangeTimes { ttl, loop_wait, retry_timeout },
        adopt_lease: parts
            .inherited
            .promise
            .map(|LeaseGrant { lease, asked_ttl_ms, .. }| Adopted { id: lease, asked_ttl_ms }),
    };
    let (observed, lost) = (coordinator.clone().recipient(), coordinator.clone().recipient());
    let (probed, agreed) = (coordinator.clone().recipient(), coordinator.clone().recipient());
    let surveyed = coordinator.clone().recipient();
    let watcher = DcsWatcher::start_in_arbiter(dcs_thread, move |_| {
        DcsWatcher::new(&options, observed, lost).telling(surveyed, refuses)
    });
    let peers = parts.peers.clone();
    let prober = PeerProber::start_in_arbiter(dcs_thread, move |_| PeerProber::new(probed, agreed, peers));

    let server = || parts.postgres.clone();
    let (looked, looked_after) = (coordinator.clone().recipient(), coordinator.clone().recipient());
    let (finished, aligned) = (coordinator.clone().recipient(), coordinator.clone().recipient());
    let sync_aligned = coordinator.recipient();
    let (one, two, three, four) = (server(), server(), server(), server());
    let monitor =
        PostgresMonitor::start_in_arbiter(postgres_thread, move |_| PostgresMonitor::new(one, looked, loop_wait));
    let (guarded, watchdog) = (parts.inherited.fence.guarded(), parts.inherited.fence.watchdog_gate());
    let reloaded = callbacks.clone().recipient();
    let operator = PostgresOperator::start_in_arbiter(postgres_thread, move |_| {
        PostgresOperator::new(two, looked_after, finished)
            .guarded_by(guarded)
            .watched_by(watchdog)
            .telling_reloads(reloaded)
    });
    // Nobody waits for it any more when the node is already leaving.
    let _ = operator_known.send(operator.clone().recipient());
    let slots = SlotManager::start_in_arbiter(postgres_thread, move |_| SlotManager::new(three, aligned));
    let sync = SyncManager::start_in_arbiter(postgres_thread, move |_| SyncManager::new(four, sync_aligned));
    Links {
        renew: watcher.clone().recipient(),
        acquire: watcher.clone().recipient(),
        release: watcher.clone().recipient(),
        write: watcher.clone().recipient(),
        times: watcher.recipient(),
        probe: prober.clone().recipient(),
        failsafe: prober.recipient(),
        look: monitor.clone().recipient(),
        schedule: monitor.recipient(),
        start: operator.clone().recipient(),
        cancel: operator.clone().recipient(),
        extend: operator.clone().recipient(),
        config: operator.clone().recipient(),
        lead_standby_cluster: operator.clone().recipient(),
        keep_rows: operator.clone().recipient(),
        waited_slots: operator.recipient(),
        slots: slots.recipient(),
        sync: sync.recipient(),
        callbacks: Announce::new(callbacks.recipient()),
        events: parts.events.clone(),
    }
}
