//! The request desk: takes operators' requests about the whole cluster, checks them against the cluster as it was last
//! read and against what its members say, writes the key that asks for them, and waits for what becomes of it. It decides
//! nothing: leader and candidates act on the key. One file a task: `failover` (with `await_leader`), `config` (with `merge`).

mod await_leader;
mod config;
mod failover;
mod merge;

use crate::peer_client::{PeerClient, SharedPeers};
use crate::tell::MAILBOX_CAPACITY;
use actix::prelude::*;
use arc_swap::ArcSwap;
use pgherd_clock::boottime;
use pgherd_protocol::dcs_watcher::WriteKey;
use pgherd_protocol::request_desk::{Reply, RequestCancelSwitchover, RequestConfig, RequestFailover};
use pgherd_types::{Cluster, DcsWrite, NodeStatus, Refused};
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// More requests at a time are turned away: each of them waits for seconds, and nobody means them all.
const AT_ONCE_MAX: usize = 16;
/// The published status is looked at so often while something is awaited.
const POLL: Duration = Duration::from_millis(50);
/// Beyond the deadline of a write, which the DCS watcher keeps.
const SLACK: Duration = Duration::from_secs(1);

/// Who writes to the DCS; filled in when it runs.
pub type SharedWriter = Arc<OnceLock<Recipient<WriteKey>>>;

/// See the module.
pub struct RequestDesk {
    desk: Rc<Desk>,
}

impl RequestDesk {
    /// A desk that sees that status. Make it on the thread it runs on.
    pub fn new(status: Arc<ArcSwap<NodeStatus>>, writer: SharedWriter, peers: SharedPeers) -> Self {
        let places = Semaphore::new(AT_ONCE_MAX);
        Self { desk: Rc::new(Desk { status, writer, client: Rc::new(PeerClient::new(peers)), places }) }
    }
}

impl Actor for RequestDesk {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
    }
}

impl Handler<RequestFailover> for RequestDesk {
    type Result = ResponseFuture<Reply>;
    fn handle(&mut self, request: RequestFailover, _: &mut Self::Context) -> Self::Result {
        let desk = self.desk.clone();
        Box::pin(async move { desk.one_of_few(failover::perform(&desk, request)).await })
    }
}

impl Handler<RequestCancelSwitchover> for RequestDesk {
    type Result = ResponseFuture<Reply>;
    fn handle(&mut self, _: RequestCancelSwitchover, _: &mut Self::Context) -> Self::Result {
        let desk = self.desk.clone();
        Box::pin(async move { desk.one_of_few(failover::cancel(&desk)).await })
    }
}

impl Handler<RequestConfig> for RequestDesk {
    type Result = ResponseFuture<Reply>;
    fn handle(&mut self, request: RequestConfig, _: &mut Self::Context) -> Self::Result {
        let desk = self.desk.clone();
        Box::pin(async move { desk.one_of_few(config::perform(&desk, request)).await })
    }
}

/// What all requests share.
struct Desk {
    status: Arc<ArcSwap<NodeStatus>>,
    writer: SharedWriter,
    client: Rc<PeerClient>,
    places: Semaphore,
}

impl Desk {
    async fn one_of_few(&self, work: impl Future<Output = Result<Reply, Reply>>) -> Reply {
        match self.places.try_acquire() {
            Ok(_place) => work.await.unwrap_or_else(|refused| refused),
            Err(_) => Reply::new(503, format!("{AT_ONCE_MAX} requests are being worked on already: try again later")),
        }
    }

    /// The cluster as last read, if the DCS still answers.
    fn cluster(&self) -> Result<(Arc<NodeStatus>, Arc<Cluster>), Reply> {
        let status = self.status.load_full();
        match (&status.cluster, status.dcs_lost_since) {
            (Some((cluster, _)), None) => Ok((status.clone(), cluster.clone())),
            (None, _) => Err(Reply::new(503, "the cluster has not been read from the DCS yet")),
            (Some(_), Some(_)) => Err(Reply::new(503, "the DCS does not answer: nothing was changed")),
        }
    }

    async fn write(&self, write: DcsWrite) -> Result<(), Refused> {
        let unreachable = |why: &str| Refused::Unreachable(why.to_owned());
        let to = self.writer.get().ok_or_else(|| unreachable("the agent is still starting"))?;
        let patience = self.status.load().settings.retry_timeout;
        let command = WriteKey { write, deadline: boottime() + patience };
        match tokio::time::timeout(patience + SLACK, to.send(command)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unreachable("the DCS watcher has ended")),
            Err(_) => Err(unreachable("the DCS watcher did not answer in time")),
        }
    }
}
