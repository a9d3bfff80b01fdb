//! The actor that owns the listening sockets and the HTTP worker threads.

use crate::auth::{Access, AccessOptions, SharedAccess};
use crate::headers::{ExtraHeaders, SharedHeaders};
use crate::operations::State;
use crate::operations::background::Background;
use crate::requests::SharedRequests;
use crate::{PublishedStatus, routes, worker};
use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, SpawnHandle,
    WrapFuture,
};
use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpServer, web};
use arc_swap::ArcSwap;
use pgherd_protocol::events::EventFeed;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// Where to listen, and the limits.
#[derive(Clone, PartialEq, Eq, Debug)]
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
    /// How long an orderly stop waits for requests that are being answered.
    pub stop_timeout_s: u64,
    /// Who may change something.
    pub access: AccessOptions,
    /// What every answer has beside its own.
    pub headers: ExtraHeaders,
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
            max_connections: 1000,
            stop_timeout_s: 2,
            access: AccessOptions::default(),
            headers: ExtraHeaders::default(),
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
pub struct ChangeHeaders(pub ExtraHeaders);

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
        let server = HttpServer::new(move || {
            worker::mark_http_worker();
            App::new().configure(app.clone())
        })
        .workers(options.workers)
        .max_connections(options.max_connections)
        .keep_alive(options.keep_alive)
        .client_request_timeout(options.client_request_timeout)
        .client_disconnect_timeout(Duration::from_secs(1))
        .shutdown_timeout(options.stop_timeout_s)
        .disable_signals();

        let explain = |e: io::Error| {
            io::Error::new(
                e.kind(),
                format!("cannot listen on {}:{} for the REST API: {e}", options.host, options.port),
            )
        };
        let listeners = bind_sockets(&options.host, options.port).map_err(explain)?;
        let server = listeners.into_iter().try_fold(server, HttpServer::listen).map_err(explain)?;
        let addresses = server.addrs();
        let server = server.run();
        Ok(Self {
            addresses,
            handle: server.handle(),
            server: Some(server),
            access,
            headers,
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
        log::info!("REST API listens on {}", list(&self.addresses));
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

impl Handler<StopServing> for ApiServer {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopServing, _: &mut Self::Context) -> Self::Result {
        self.feed.close(); // or those who follow would keep it from ending
        Box::pin(self.handle.stop(true))
    }
}

/// One socket for each address the host has. One that this machine does not have (IPv6 may be switched off) is left out
/// if another works; one in use is an error, or half of the clients would reach somebody else.
fn bind_sockets(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    let mut bound = Vec::new();
    let mut left_out = None;
    for address in resolve(host, port)? {
        match TcpListener::bind(address) {
            Ok(listener) => {
                bound.push(listener);
                // The IPv6 wildcard takes IPv4 clients too.
                if address.ip() == Ipv6Addr::UNSPECIFIED {
                    break;
                }
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported) => {
                left_out = Some(e)
            }
            Err(e) if e.raw_os_error() == Some(EAFNOSUPPORT) => left_out = Some(e),
            Err(e) => return Err(e),
        }
    }
    match left_out {
        Some(e) if bound.is_empty() => Err(e),
        _ => Ok(bound),
    }
}

/// "Address family not supported": a kernel without IPv6.
const EAFNOSUPPORT: i32 = 97;

fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if matches!(host, "" | "*" | "::") {
        return Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]);
    }
    Ok((host, port).to_socket_addrs()?.collect())
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "api_server_tests.rs"]
mod tests;
