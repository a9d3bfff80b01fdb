//! Finds an endpoint that answers, before one overall deadline. The endpoint that answered last is asked first; one
//! that refuses is passed over at once; one that is silent costs a short patience, after which the next is asked too
//! and the first usable answer counts. When all are silent they are asked again: a member that waits for a leader that
//! is gone does so for seconds, and answers a later request at once. Every request is safe to be delivered more than
//! once (see `settle`).

use super::endpoint::Endpoint;
use super::endpoints::Endpoints;
use super::failure::Failure;
use super::pools::Pools;
use super::session::Session;
use super::wire::Header;
use crate::options::{EtcdServer, SharedServer};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::TokioResolver;
use pgherd_clock::{boottime, left_until};
use pgherd_types::Instant;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Bounds of the patience with a silent endpoint before the next one is asked too.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(150), Duration::from_millis(300));
/// The same when all were asked: two times around, and after that.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(1));
/// So many copies of a request may go out.
const COPIES_MAX: usize = 12;

/// A usable answer.
pub(crate) struct Reply<T = Vec<u8>> {
    pub body: T,
    /// Another copy of the request went out before this answer's.
    pub maybe_done_before: bool,
}

pub(crate) struct Client {
    server: SharedServer,
    pub in_force: RefCell<Arc<EtcdServer>>,
    pub endpoints: Endpoints,
    pub pools: RefCell<Rc<Pools>>,
    pub session: Session,
    pub api: Cell<&'static str>,
    pub resolver: RefCell<Option<TokioResolver>>,
    revision: Cell<i64>,
    /// Which cluster of etcd answers; 0 before the first answer.
    cluster: Cell<u64>,
    /// Another one that answered since that one did.
    stranger: Cell<u64>,
    answered_once: Cell<bool>,
}

impl Client {
    pub fn new(server: SharedServer) -> Self {
        let in_force = server.load_full();
        let endpoints = Endpoints::default();
        endpoints.configure(&in_force.endpoints);
        Self {
            pools: RefCell::new(Rc::new(Pools::new(&in_force))),
            server,
            in_force: RefCell::new(in_force),
            endpoints,
            session: Session::default(),
            api: Cell::new("/v3"),
            resolver: RefCell::default(),
            revision: Cell::new(0),
            cluster: Cell::new(0),
            stranger: Cell::new(0),
            answered_once: Cell::new(false),
        }
    }

    pub fn revision_seen(&self) -> i64 {
        self.revision.get()
    }
    /// Why nothing can ever be answered, if etcd itself says so and never answered anything else.
    pub fn login_refused(&self) -> Option<String> {
        self.session.why_refused().filter(|_| !self.answered_once.get())
    }

    /// What is in force; takes over what was put into the shared place.
    pub fn settings(&self) -> Arc<EtcdServer> {
        let wanted = self.server.load_full();
        let before = self.in_force.borrow().clone();
        if Arc::ptr_eq(&wanted, &before) {
            return wanted;
        }
        let named_anew = wanted.endpoints != before.endpoints || wanted.srv != before.srv;
        if named_anew || wanted.discover != before.discover {
            self.endpoints.configure(&wanted.endpoints);
        }
        if wanted.login != before.login {
            self.session.forget();
        }
        self.pools.replace(Rc::new(Pools::new(&wanted)));
        self.in_force.replace(wanted.clone());
        wanted
    }

    /// One round: the endpoints are asked in turn until one gives a usable answer (a lone one on two connections).
    pub async fn call(&self, path: &str, body: &str, deadline: Instant) -> Result<Reply, Failure> {
        self.ask(path, async |at| self.attempt(at, path, body).await, deadline).await
    }

    /// The same with any kind of request; `path` is for messages.
    pub async fn ask<T>(
        &self,
        path: &str,
        attempt: impl AsyncFn(&Rc<Endpoint>) -> Result<T, Failure>,
        deadline: Instant,
    ) -> Result<Reply<T>, Failure> {
        self.ready(deadline).await.map_err(Failure::unsent)?;
        let budget = left_until(deadline);
        if budget.is_zero() {
            return Err(Failure::unsent(format!("no time was left for {path}")));
        }
        let asked = Asked { endpoints: &self.endpoints, waiting: RefCell::default() };
        match tokio::time::timeout(budget, self.round(&attempt, budget, &asked)).await {
            Ok(result) => result,
            Err(_) => {
                let names = self.endpoints.names();
                Err(Failure::unsure(format!("no answer to {path} within {budget:?} from {names}")))
            }
        }
    }

    /// Takes over the settings; there is an endpoint then.
    pub async fn ready(&self, deadline: Instant) -> Result<(), String> {
        self.settings();
        if self.endpoints.is_empty() {
            self.look_up(deadline).await?;
        }
        match self.endpoints.is_empty() {
            true => Err("no etcd endpoint is configured; set etcd3.hosts".to_owned()),
            false => Ok(()),
        }
    }

    /// What etcd's members say of where they are reached.
    pub fn take_advertised<'a>(&self, urls: impl Iterator<Item = &'a String>) {
        let settings = self.settings();
        if !settings.discover {
            return;
        }
        let advertised = urls.filter_map(|url| Endpoint::advertised(url));
        let advertised = advertised.filter(|endpoint| settings.tls.is_some() || !endpoint.is_tls());
        // An address that leads everybody to himself is of use only to whom it was given.
        let own_only = settings.endpoints.iter().all(|endpoint| !endpoint.is_loopback());
        let usable: BTreeSet<_> = advertised.filter(|endpoint| !(own_only && endpoint.is_loopback())).collect();
        if self.endpoints.discovered(usable) {
            log::info!("etcd is reached at {}", self.endpoints.names());
        }
    }

    /// The same at one endpoint only.
    pub async fn call_at(
        &self,
        at: &Rc<Endpoint>,
        path: &str,
        body: &str,
        deadline: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let answer = tokio::time::timeout(left_until(deadline), self.attempt(at, path, body)).await;
        answer.unwrap_or_else(|_| Err(Failure::unsure(format!("no answer to {path} from {at}"))))
    }

    async fn round<T>(
        &self,
        attempt: &impl AsyncFn(&Rc<Endpoint>) -> Result<T, Failure>,
        budget: Duration,
        asked: &Asked<'_>,
    ) -> Result<Reply<T>, Failure> {
        let mut order = self.endpoints.order(boottime());
        if order.len() == 1 {
            order.push(order[0].clone());
        }
        let share = budget / u32::try_from(order.len()).unwrap_or(u32::MAX);
        let patience = share.clamp(PATIENCE.0, PATIENCE.1);
        let mut under_way = FuturesUnordered::new();
        let (mut copies, mut round) = (0, Round::default());
        loop {
            let next = &order[copies % order.len()];
            asked.asks(next);
            under_way.push(async move { (next, attempt(next).await) });
            copies += 1;
            // until it is time to ask the next one
            loop {
                let all_asked = copies >= order.len();
                let patience = match copies / order.len() {
                    0 => patience,
                    1 | 2 => AGAIN.0,
                    _ => AGAIN.1,
                };
                let answer = tokio::select! {
                    answer = under_way.next() => answer,
                    () = tokio::time::sleep(patience), if copies < COPIES_MAX => break,
                };
                match answer {
                    Some((endpoint, Ok(body))) => {
                        asked.was_answered(endpoint);
                        return Ok(Reply {
                            body,
                            maybe_done_before: round.maybe_done || copies > round.whys.len() + 1,
                        });
                    }
                    Some((endpoint, Err(Failure::NoAnswer { why, maybe_done }))) => {
                        asked.failed(endpoint);
                        round.failed(why, maybe_done);
                        if !all_asked {
                            break;
                        }
                    }
                    Some((_, Err(explicit))) => return Err(explicit),
                    None => {
                        self.accept_stranger();
                        return Err(round.nobody());
                    }
                }
            }
        }
    }

    /// Answers of two clusters must not be mixed.
    pub fn note(&self, at: &Rc<Endpoint>, header: &Header) -> Result<(), Failure> {
        match (self.cluster.get(), header.cluster_id) {
            (_, 0) => {}
            (0, cluster) => self.cluster.set(cluster),
            (known, cluster) if known != cluster => {
                self.stranger.set(cluster);
                return Err(Failure::unsure(format!(
                    "{at} belongs to another cluster of etcd ({cluster:x}) than the one that answered before ({known:x})"
                )));
            }
            _ => self.stranger.set(0),
        }
        self.answered_once.set(true);
        if header.revision > 0 {
            self.revision.set(header.revision);
        }
        self.endpoints.answered(at, header.member_id);
        Ok(())
    }

    /// Every endpoint has answered, and none for the cluster that was known: it was replaced, by a backup perhaps.
    fn accept_stranger(&self) {
        let stranger = self.stranger.take();
        if stranger != 0 {
            let known = self.cluster.replace(stranger);
            log::warn!(
                "etcd's cluster {known:x} answers nowhere any more, {stranger:x} does in its place: going on with that \
                 (was etcd made anew, or restored from a backup?)"
            );
        }
    }
}

/// What became of the endpoints that were asked in one round.
#[derive(Default)]
struct Round {
    whys: Vec<String>,
    maybe_done: bool,
}

impl Round {
    fn failed(&mut self, why: String, maybe_done: bool) {
        self.whys.push(why);
        self.maybe_done |= maybe_done;
    }
    fn nobody(mut self) -> Failure {
        self.whys.dedup();
        Failure::NoAnswer { why: self.whys.join("; "), maybe_done: self.maybe_done }
    }
}

/// Who was asked and has not answered: when nobody waits any longer, those count as failed.
struct Asked<'a> {
    endpoints: &'a Endpoints,
    waiting: RefCell<Vec<(Rc<Endpoint>, Instant)>>,
}

impl Asked<'_> {
    fn asks(&self, endpoint: &Rc<Endpoint>) {
        self.waiting.borrow_mut().push((endpoint.clone(), boottime()));
    }
    fn was_answered(&self, endpoint: &Rc<Endpoint>) {
        self.waiting.borrow_mut().retain(|(e, _)| e != endpoint);
    }
    fn failed(&self, endpoint: &Rc<Endpoint>) {
        self.was_answered(endpoint);
        self.endpoints.failed(endpoint, boottime());
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let now = boottime();
        for (endpoint, since) in self.waiting.take() {
            if now.since(since) >= PATIENCE.0 {
                self.endpoints.failed(&endpoint, now);
            }
        }
    }
}
