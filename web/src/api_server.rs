//! The actor that owns the listening sockets and the HTTP worker threads.

use crate::auth::{Access, AccessOptions, SharedAccess};
use crate::connection::{self, ListenerTls, SharedTls};
use crate::headers::{AllHeaders, SharedHeaders};
use crate::listener::bind_sockets;
use crate::operations::State;
use crate::operations::background::Background;
use crate::requests::SharedRequests;
use crate::{PublishedStatus, routes, worker};
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, SpawnHandle,
    WrapFuture,
};
use actix_http::HttpService;
use actix_server::{Server, ServerBuilder, ServerHandle};
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::{App, web};
use arc_swap::{ArcSwap, ArcSwapOption};
use pgherd_protocol::events::EventFeed;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// Where to listen, and the limits.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// Name or address; empty or `*` means every address.
    pub host: String,
    /// The port; 0 lets the system choose.
    pub port: u16,
    /// Threads that answer.
    pub workers: usize,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// How long a client may take to send the head of a request, before its connection is cut.
    pub client_request_timeout: Duration,
    /// Connections for each worker; more must wait.
    pub max_connections: usize,
    /// Connections that may wait to be taken.
    pub backlog: u32,
    /// Without it the API is served over plain HTTP.
    pub tls: Option<ListenerTls>,
    /// How long an orderly stop waits for requests that are being answered.
    pub stop_timeout_s: u64,
    /// Who may change something.
    pub access: AccessOptions,
    /// What every answer has beside its own.
    pub headers: AllHeaders,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 8008,
            // nothing in a handler blocks, and each thread has a clock of its own that ticks
            workers: 1,
            keep_alive: Duration::from_secs(30),
            client_request_timeout: Duration::from_secs(5),
            // more than may follow the events (1200): they must not keep health checks out
            max_connections: 2000,
            backlog: 1024,
            tls: None,
            stop_timeout_s: 2,
            access: AccessOptions::default(),
            headers: AllHeaders::default(),
        }
    }
}

/// The actor. It is made with its sockets already bound, so that an address in use is known before the node begins to work.
pub struct ApiServer {
    addresses: Vec<SocketAddr>,
    server: Option<Server>,
    handle: ServerHandle,
    access: SharedAccess,
    headers: SharedHeaders,
    tls: SharedTls,
    feed: EventFeed,
    access_wanted: AccessOptions,
    names_looked_up: Option<SpawnHandle>,
}

/// Other rules are in force from now on; names in them are looked up anew.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct ChangeAccess(pub AccessOptions);

/// Other headers are added from now on.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct ChangeHeaders(pub AllHeaders);

/// New connections are served with these certificates from now on; those that are open stay as they are. The listener was
/// opened with TLS: it is neither turned on nor off.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct ChangeTls(pub ListenerTls);

/// Stop listening, finish what is being answered, close the connections.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct StopServing;

impl ApiServer {
    /// Binds the sockets. Needs a running actix system; nothing is answered before the actor is started. `requests` may be
    /// filled in later.
    pub fn bind(
        options: &ApiOptions,
        status: PublishedStatus,
        feed: EventFeed,
        requests: SharedRequests,
    ) -> io::Result<Self> {
        let access = Arc::new(ArcSwap::from_pointee(Access::without_names(&options.access)));
        let headers = SharedHeaders::from(ArcSwap::from_pointee(options.headers.clone()));
        let shared = (access.clone(), headers.clone(), feed.clone());
        let state = State { status, requests, access, feed, headers, background: Background::default() };
        Self::bind_app(options, shared, move |app| routes::configure(app, state.clone()))
    }

    fn bind_app(
        options: &ApiOptions,
        (access, headers, feed): (SharedAccess, SharedHeaders, EventFeed),
        app: impl Fn(&mut web::ServiceConfig) + Send + Clone + 'static,
    ) -> io::Result<Self> {
        let tls = SharedTls::from(ArcSwapOption::from_pointee(options.tls.clone()));
        let server = Server::build()
            .workers(options.workers)
            .max_concurrent_connections(options.max_connections)
            .shutdown_timeout(options.stop_timeout_s)
            .disable_signals();
        let explain = |e: io::Error| {
            io::Error::new(
                e.kind(),
                format!("cannot listen on {}:{} for the REST API: {e}", options.host, options.port),
            )
        };
        let listeners = bind_sockets(&options.host, options.port, options.backlog).map_err(explain)?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>().map_err(explain)?;
        let serve = |server, listener| serve_on(server, listener, (options, tls.clone()), app.clone());
        let server = listeners.into_iter().try_fold(server, serve).map_err(explain)?.run();
        Ok(Self {
            addresses,
            handle: server.handle(),
            server: Some(server),
            access,
            headers,
            tls,
            feed,
            access_wanted: options.access.clone(),
            names_looked_up: None,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Until the names are known, they let nobody in.
    fn look_up_names(&mut self, ctx: &mut Context<Self>) {
        let looked_up = Access::with_names(self.access_wanted.clone()).into_actor(self);
        let stored = looked_up.map(|access, server, _| server.access.store(Arc::new(access)));
        let before = self.names_looked_up.replace(ctx.spawn(stored));
        before.map(|before| ctx.cancel_future(before));
    }
}

impl Actor for ApiServer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(server) = self.server.take() else { return };
        let how = if self.tls.load().is_some() { " with TLS" } else { "" };
        log::info!("REST API listens on {}{how}", list(&self.addresses));
        ctx.spawn(server.into_actor(self).map(|ended, _, ctx| {
            if let Err(e) = ended {
                log::error!(target: "critical", "the REST API ended: {e}; restart the agent");
            }
            ctx.stop();
        }));
        self.look_up_names(ctx);
    }
}

impl Handler<ChangeAccess> for ApiServer {
    type Result = ();

    fn handle(&mut self, ChangeAccess(wanted): ChangeAccess, ctx: &mut Self::Context) {
        self.access.store(Arc::new(Access::without_names(&wanted)));
        self.access_wanted = wanted;
        self.look_up_names(ctx);
    }
}

impl Handler<ChangeHeaders> for ApiServer {
    type Result = ();

    fn handle(&mut self, ChangeHeaders(headers): ChangeHeaders, _: &mut Self::Context) {
        self.headers.store(Arc::new(headers));
    }
}

impl Handler<ChangeTls> for ApiServer {
    type Result = ();

    fn handle(&mut self, ChangeTls(tls): ChangeTls, _: &mut Self::Context) {
        if self.tls.load().is_some() {
            self.tls.store(Some(Arc::new(tls)));
        }
    }
}

impl Handler<StopServing> for ApiServer {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopServing, _: &mut Self::Context) -> Self::Result {
        self.feed.close(); // or those who follow would keep it from ending
        Box::pin(self.handle.stop(true))
    }
}

/// Connections of this socket are served. HTTP/1.1 and nothing else: `HttpServer` would offer HTTP/2 with TLS, too.
fn serve_on(
    server: ServerBuilder,
    listener: TcpListener,
    (options, tls): (&ApiOptions, SharedTls),
    app: impl Fn(&mut web::ServiceConfig) + Send + Clone + 'static,
) -> io::Result<ServerBuilder> {
    let address = listener.local_addr()?;
    let (keep_alive, head_patience) = (options.keep_alive, options.client_request_timeout);
    let stopping = server.graceful_shutdown_signal();
    server.listen(format!("api-{address}"), listener, move || {
        worker::mark_http_worker();
        let (tls, stopping) = (tls.clone(), stopping.clone());
        let app = App::new().configure(app.clone()).into_factory().map_err(|e: actix_web::Error| e.error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(keep_alive)
            .client_request_timeout(head_patience)
            .client_disconnect_timeout(DISCONNECT_PATIENCE)
            .local_addr(address)
            .on_connect_ext(connection::remember)
            .h1(map_config(app, |_| AppConfig::default()));
        fn_service(move |tcp| connection::open(tcp, tls.load_full())).and_then(http)
    })
}

/// So long a client may take to close its side.
const DISCONNECT_PATIENCE: Duration = Duration::from_secs(1);

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "api_server_tests.rs"]
mod tests;
