//! The DCS watcher: owns the lease, the request connections and the reading of the cluster, and serves the
//! coordinator's DCS commands. Every command runs as a future of its own, so a renewal never queues behind anything.
//! Run it on an arbiter of its own. One file a task: `lease_desk` (commands), `reader` (the cluster to the
//! coordinator), `watch_link` (hints when to read), `surveyor` (the store itself).

mod lease_desk;
mod reader;
mod surveyor;
mod watch_link;

use crate::tell::MAILBOX_CAPACITY;
use actix::prelude::*;
use lease_desk::LeaseDesk;
use pgherd_dcs::{Dcs, EtcdOptions};
use pgherd_protocol::coordinator::{ClusterObserved, DcsLost, DcsSurveyed};
use pgherd_protocol::dcs_watcher::{
    AcquireLease, ChangeTimes, KeysChanged, LinkLost, ReleaseLease, RenewLease, Renewed, WriteKey,
};
use pgherd_types::{LeaseGrant, LeaseId, Refused};
use reader::Reader;
use std::rc::Rc;
use surveyor::{Listeners, Surveyor};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use watch_link::WatchLink;

/// What the watcher must know from the start.
#[derive(Clone, Debug)]
pub struct WatcherOptions {
    /// Where etcd is and which cluster is ours.
    pub etcd: EtcdOptions,
    /// Time to live, loop and retry times, until `ChangeTimes` says otherwise.
    pub times: ChangeTimes,
    /// The recorded lease of a previous run of this agent, to go on with.
    pub adopt_lease: Option<Adopted>,
}

/// A lease of a previous run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Adopted {
    /// Its number.
    pub id: LeaseId,
    /// The time to live it was asked with, if that was recorded.
    pub asked_ttl_ms: Option<u64>,
}

/// The actor.
pub struct DcsWatcher {
    dcs: Rc<dyn Dcs>,
    desk: Rc<LeaseDesk>,
    reader: Rc<Reader>,
    survey: Option<Listeners>,
    tasks: Vec<JoinHandle<()>>,
}

impl DcsWatcher {
    /// A watcher that reports there. Make it on the thread it runs on.
    pub fn new(options: &WatcherOptions, observed: Recipient<ClusterObserved>, lost: Recipient<DcsLost>) -> Self {
        Self::with_dcs(pgherd_dcs::open(&options.etcd), options.times, options.adopt_lease, observed, lost)
    }

    /// The same over any DCS.
    pub fn with_dcs(
        dcs: Rc<dyn Dcs>,
        times: ChangeTimes,
        adopt_lease: Option<Adopted>,
        observed: Recipient<ClusterObserved>,
        lost: Recipient<DcsLost>,
    ) -> Self {
        let reader = Rc::new(Reader::new(dcs.clone(), times, observed, lost));
        let desk = Rc::new(LeaseDesk::new(dcs.clone(), times.ttl, adopt_lease, reader.clone()));
        Self { dcs, desk, reader, survey: None, tasks: Vec::new() }
    }

    /// What is found out about the store itself goes there; and if it refuses our user or password from the beginning, why.
    pub fn telling(mut self, surveyed: Recipient<DcsSurveyed>, refused: oneshot::Sender<String>) -> Self {
        self.survey = Some(Listeners { surveyed, refused: Some(refused) });
        self
    }
}

impl Actor for DcsWatcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        let hints = ctx.address();
        let link = WatchLink::new(self.dcs.clone(), hints.clone().recipient(), hints.recipient(), self.reader.deaf());
        self.tasks = vec![actix_rt::spawn(self.reader.clone().run()), actix_rt::spawn(link.run())];
        if let Some(listeners) = self.survey.take() {
            let surveyor = Surveyor::new(self.dcs.clone(), self.desk.clone(), listeners);
            self.tasks.push(actix_rt::spawn(surveyor.run()));
        }
    }
}

impl Drop for DcsWatcher {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Handler<RenewLease> for DcsWatcher {
    type Result = ResponseFuture<Result<Renewed, Refused>>;
    fn handle(&mut self, message: RenewLease, _: &mut Self::Context) -> Self::Result {
        let desk = self.desk.clone();
        let RenewLease { prove_leader, new_ttl, deadline } = message;
        Box::pin(async move { desk.renew(prove_leader, new_ttl, deadline).await })
    }
}

impl Handler<AcquireLease> for DcsWatcher {
    type Result = ResponseFuture<Result<LeaseGrant, Refused>>;
    fn handle(&mut self, AcquireLease { sync, deadline }: AcquireLease, _: &mut Self::Context) -> Self::Result {
        let desk = self.desk.clone();
        Box::pin(async move { desk.acquire(sync, deadline).await })
    }
}

impl Handler<ReleaseLease> for DcsWatcher {
    type Result = ResponseFuture<Result<(), Refused>>;
    fn handle(&mut self, ReleaseLease { status, deadline }: ReleaseLease, _: &mut Self::Context) -> Self::Result {
        let desk = self.desk.clone();
        Box::pin(async move { desk.release(status, deadline).await })
    }
}

impl Handler<WriteKey> for DcsWatcher {
    type Result = ResponseFuture<Result<(), Refused>>;
    fn handle(&mut self, WriteKey { write, deadline }: WriteKey, _: &mut Self::Context) -> Self::Result {
        let desk = self.desk.clone();
        Box::pin(async move { desk.write(write, deadline).await })
    }
}

impl Handler<ChangeTimes> for DcsWatcher {
    type Result = ();
    fn handle(&mut self, times: ChangeTimes, _: &mut Self::Context) {
        self.desk.change_ttl(times.ttl);
        self.reader.change_times(times);
    }
}

impl Handler<KeysChanged> for DcsWatcher {
    type Result = ();
    fn handle(&mut self, KeysChanged { revision, opened }: KeysChanged, _: &mut Self::Context) {
        if opened {
            self.reader.want_anyhow();
        } else {
            self.reader.want(revision);
        }
    }
}

impl Handler<LinkLost> for DcsWatcher {
    type Result = ();
    fn handle(&mut self, LinkLost { why }: LinkLost, _: &mut Self::Context) {
        log::debug!("the watch on the DCS ended: {why}");
        self.reader.want_anyhow();
    }
}
