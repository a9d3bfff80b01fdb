//! Joins the packages into a running node: settings become each package's options, in the order that keeps PostgreSQL
//! fenced from the first moment on.

mod options;
mod settings_owner;
mod tls;

use crate::settings::{NodeSettings, Source};
use crate::{reaper, service_manager};
use actix::{Actor, Recipient};
use arc_swap::ArcSwap;
use pgherd_actors::events::{Webhook, tell_webhook};
use pgherd_actors::fence_keeper::Watch;
use pgherd_actors::start_up;
use pgherd_actors::wiring::{self, NodeParts, NodeRequests, RunningNode, SharedPeers};
use pgherd_dcs::SharedServer;
use pgherd_postgres::{Postgres, PostgresOptions, ServerConfig, cached_dynamic};
use pgherd_protocol::callbacks::FinishCallbacks;
use pgherd_protocol::coordinator::ShutdownRequested;
use pgherd_protocol::events::{EventFeed, EventSink};
use pgherd_protocol::node::ReloadRequested;
use pgherd_tls::ClientConfig;
use pgherd_types::NodeStatus;
use pgherd_watchdog::Watchdog;
use pgherd_web::{ApiServer, Requests, SharedRequests, StopServing};
use settings_owner::{ApiWays, SettingsOwner};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tls::Certificates;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The guard process is the same program, even if its file was replaced meanwhile.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// How long the guard process may take to go when everything is left in order.
const GUARD_PATIENCE: Duration = Duration::from_secs(1);
/// How long callback scripts may go on after PostgreSQL was stopped and the leader key released.
const SCRIPTS_PATIENCE: Duration = Duration::from_secs(30);

/// Runs the node until it is asked to stop.
pub fn run(source: Source, settings: NodeSettings) -> ExitCode {
    log::info!("pgherd {} starts as {} of {}", pgherd_types::PRODUCT_VERSION, settings.name, settings.scope);
    match prepare_and_serve(source, settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            log::error!(target: crate::logging::CRITICAL, "{why}");
            ExitCode::FAILURE
        }
    }
}

fn prepare_and_serve(source: Source, settings: NodeSettings) -> Result<(), String> {
    let etcd = options::etcd(&settings)?;
    // what cannot work is found before anything is touched
    let certificates = Certificates::read(&settings)?;
    tls::warn(&settings);
    let webhooks =
        settings.webhooks.iter().map(|webhook| Ok((webhook.clone(), webhook.tls().map_err(|e| e.to_string())?)));
    let webhooks = webhooks.collect::<Result<Vec<_>, String>>().map_err(|e| format!("events.webhooks: {e}"))?;
    let etcd_server = etcd.server.clone();
    let postgres = with_cached_dynamic(options::postgres(&settings));
    let bootstrap_dcs = postgres.bootstrap_dcs.clone();
    let server = Postgres::open(postgres).map_err(|e| e.to_string())?;
    let status = Arc::new(ArcSwap::from_pointee(first_status(&settings)));
    let watch = Watch { watchdog: Watchdog::new(settings.watchdog.clone()), status: status.clone() };
    let inherited = start_up::inherit(&server, Path::new(THIS_PROGRAM), watch)?;
    let fence = inherited.fence.clone();
    let (events, feed) =
        pgherd_actors::events::start(server.state_dir().path(), &settings.scope, settings.name.as_str())
            .map_err(|e| format!("cannot start the thread that records events: {e}"))?;
    let peers = SharedPeers::from(ArcSwap::from_pointee(certificates.peers(&settings)));
    let parts = NodeParts {
        me: options::me(&settings),
        scope: settings.scope.clone(),
        etcd,
        postgres: Arc::new(server),
        inherited,
        bootstrap_dcs,
        policy: settings.postgresql.policy,
        peers: peers.clone(),
        status: status.clone(),
        events,
    };
    let api = Api { status, feed, peers, certificates, webhooks };
    actix::System::new().block_on(serve(parts, source, settings, api, etcd_server))?;
    if !fence.wait_for_guard(GUARD_PATIENCE) {
        log::warn!("the guard process has not gone yet; it ends by itself when nothing is left to guard");
    }
    log::info!("left in order");
    Ok(())
}

/// What the API shows, and how it is spoken.
struct Api {
    status: pgherd_web::PublishedStatus,
    feed: EventFeed,
    peers: SharedPeers,
    certificates: Certificates,
    webhooks: Vec<(Webhook, Option<Arc<ClientConfig>>)>,
}

async fn serve(
    parts: NodeParts,
    source: Source,
    settings: NodeSettings,
    Api { status, feed, peers, certificates, webhooks }: Api,
    etcd_server: SharedServer,
) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("cannot listen for signals: {e}");
    let mut term = signal(SignalKind::terminate()).map_err(failed)?;
    let mut int = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let (published, ways, recorded) = (status.clone(), SharedRequests::default(), parts.events.clone());
    let state_dir = parts.postgres.state_dir().path().to_owned();
    for (webhook, tls) in webhooks {
        actix_rt::spawn(tell_webhook(webhook, tls, feed.clone(), state_dir.clone()));
    }
    let api = options::api(&settings, certificates.listener());
    let api = ApiServer::bind(&api, status, feed, ways.clone()).map_err(|e| e.to_string())?.start();
    if reaper::is_needed() {
        actix_rt::spawn(reaper::run());
    }
    let postgres = parts.postgres.clone();
    let RunningNode { shutdown, mut done, refused, reload_config, requests, finish_callbacks, threads, local } =
        wiring::start(parts);
    let reload_config = reload_config.await.map_err(|_| "the actors of the node did not start".to_owned())?;
    let owner = SettingsOwner::new(source, (settings, certificates), postgres, reload_config, Some(local));
    let owner = owner.with_peers(peers).with_etcd(etcd_server).with_api(ApiWays::to(&api)).start();
    let _ = ways.set(ways_to(requests, owner.clone().recipient(), recorded));
    let informed = actix_rt::spawn(service_manager::keep_informed(published));
    let reloading = async {
        while hangup.recv().await.is_some() {
            let _ = owner.send(ReloadRequested).await;
        }
    };
    tokio::select! {
        () = either(&mut term, &mut int) => {}
        _ = &mut done => {}
        // PostgreSQL is left as it is; whatever may be writable is fenced by the guard when its lease runs out
        Ok(why) = refused => return Err(why),
        () = reloading => {}
    }
    log::info!("asked to stop: leaving in order");
    service_manager::stopping();
    shutdown.do_send(ShutdownRequested);
    let _ = done.await;
    let _ = finish_callbacks.send(FinishCallbacks { patience: SCRIPTS_PATIENCE }).await;
    let _ = api.send(StopServing).await;
    informed.abort();
    for thread in &threads {
        thread.stop();
    }
    Ok(())
}

/// From the API to the actors.
fn ways_to(requests: NodeRequests, reload: Recipient<ReloadRequested>, events: EventSink) -> Requests {
    Requests {
        failover: Some(requests.failover),
        cancel_switchover: Some(requests.cancel_switchover),
        config: Some(requests.config),
        wish: requests.wish,
        failsafe: requests.failsafe,
        look: Some(requests.look),
        explain: Some(requests.explain),
        reload: Some(reload),
        events: Some(events),
    }
}

async fn either(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Until the `config` key is read, what was last in force counts over `bootstrap.dcs`.
fn with_cached_dynamic(options: PostgresOptions) -> PostgresOptions {
    match cached_dynamic(&options.data_dir) {
        Some(text) if ServerConfig::merge(&options, &text).is_ok() => {
            PostgresOptions { bootstrap_dcs: text, ..options }
        }
        _ => options,
    }
}

/// What is said before the first turn: a name, and nothing else.
fn first_status(settings: &NodeSettings) -> NodeStatus {
    NodeStatus {
        name: settings.name.clone(),
        scope: settings.scope.clone(),
        tags: settings.tags.clone(),
        turned_at: pgherd_clock::boottime(),
        ..NodeStatus::default()
    }
}
