//! The simulator's model of etcd says what etcd says: random calls of two nodes go to both, and after each of them the answers
//! are the same, and so is what is read. (What is only here is left out: revisions and the numbers of leases.)

mod common;

use common::*;
use pgherd_dcs::{Dcs, Etcd3};
use pgherd_sim::etcd::{Etcd as Model, Reply, Request};
use pgherd_sim::rng::Rng;
use pgherd_testkit::etcd::Etcd;
use pgherd_types::{
    Cluster, DcsWrite, FailoverKey, HistoryRow, Initialize, LeaseId, Lsn, MemberDoc, Refused, SyncGuard, SyncName,
    SyncNames, SyncSeen, SyncWrite, SystemId, Timeline,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const CALLS: u64 = 400;
const NAMES: [&str; 2] = ["a", "b"];

/// A lease here and there, and whose it is.
#[derive(Copy, Clone)]
struct Pair {
    model: LeaseId,
    real: LeaseId,
    node: usize,
}

struct Both {
    rng: Rng,
    model: Model,
    real: [Etcd3; 2],
    leases: Vec<Pair>,
    /// The latest readings there are, by which requests are guarded.
    seen: (Arc<Cluster>, Cluster),
    happened: BTreeSet<String>,
}

impl Both {
    async fn new(seed: u64, etcd: &Etcd) -> Self {
        let real = NAMES.map(|name| node(name, &[etcd.url()]));
        let read = real[0].read(soon()).await.unwrap().cluster;
        let mut model = Model::default();
        model.cluster.revision = read.revision;
        let seen = (model.read(), read);
        Self { rng: Rng::new(seed), model, real, leases: Vec::new(), seen, happened: BTreeSet::new() }
    }

    fn of_model(&mut self, node: usize, request: Request) -> Result<(), Refused> {
        match self.model.serve(node, &NAMES[node].into(), &request, 0) {
            Reply::Yes | Reply::Ttl(_) => Ok(()),
            Reply::No => Err(Refused::Compare),
            Reply::Absent => Err(Refused::Absent),
            Reply::LeaseGone | Reply::NoTtl => Err(Refused::LeaseGone),
            reply @ (Reply::Granted(..) | Reply::All(_)) => panic!("{reply:?}"),
        }
    }

    async fn grant(&mut self, node: usize) {
        let real = lease_of(&self.real[node]).await;
        let granted = self.model.serve(node, &NAMES[node].into(), &Request::Grant(60_000), 0);
        let Reply::Granted(model, _) = granted else { panic!("{granted:?}") };
        self.leases.push(Pair { model, real, node });
    }

    async fn renew(&mut self, lease: Pair, prove: bool) -> (Result<(), Refused>, Result<(), Refused>) {
        let mut model = self.of_model(lease.node, Request::KeepAlive(lease.model));
        if prove && model.is_ok() {
            model = self.of_model(lease.node, Request::CompareLeader(lease.model));
        }
        (model, self.real[lease.node].renew(lease.real, prove, soon()).await.map(drop))
    }

    async fn acquire(&mut self, lease: Pair) -> (Result<(), Refused>, Result<(), Refused>) {
        let (model, real) = match self.rng.below(3) {
            0 => (SyncGuard::Unguarded, SyncGuard::Unguarded),
            1 => (SyncGuard::At(None), SyncGuard::At(None)),
            _ => (SyncGuard::At(self.seen.0.sync.revision()), SyncGuard::At(self.seen.1.sync.revision())),
        };
        // the adapter takes its own copy for done
        let model = match self.model.leader_on(lease.model) {
            true => Ok(()),
            false => self.of_model(lease.node, Request::CreateLeader(lease.model, model)),
        };
        (model, self.real[lease.node].acquire(lease.real, real, soon()).await)
    }

    async fn write(&mut self, lease: Pair) -> (DcsWrite, Result<(), Refused>, Result<(), Refused>) {
        let (seen_model, seen_real) = (self.seen.0.clone(), self.seen.1.clone());
        let kind = self.rng.below(KINDS);
        let number = self.rng.range(1, 5);
        let model = made(kind, number, lease.node, &seen_model);
        let real = made(kind, number, lease.node, &seen_real);
        let of_model = self.of_model(lease.node, Request::Write(Some(lease.model), Arc::new(model.clone())));
        (model, of_model, self.real[lease.node].write(Some(lease.real), real, soon()).await)
    }

    /// The lease lapses, as far as keys can tell.
    async fn end(&mut self, lease: Pair) {
        self.model.revoke(lease.model.0);
        self.real[lease.node].revoke(lease.real, soon()).await;
    }

    fn compared(&self, cluster: &Cluster, of: fn(&Pair) -> LeaseId) -> Cluster {
        let number = |lease: Option<LeaseId>| {
            lease.map(|lease| LeaseId(self.leases.iter().position(|pair| of(pair) == lease).unwrap_or(99) as i64))
        };
        let mut cluster = Cluster { revision: 0, ..cluster.clone() };
        if let Some(leader) = &mut cluster.leader {
            leader.lease = number(leader.lease);
        }
        if let Some(Initialize::InProgress { lease }) = &mut cluster.initialize {
            *lease = number(*lease);
        }
        cluster.members.values_mut().for_each(|member| member.lease = number(member.lease));
        if let Some(config) = &mut cluster.config {
            config.mod_revision = 0;
        }
        if let Some(failover) = &mut cluster.failover {
            failover.mod_revision = 0;
        }
        if let SyncSeen::Valid(sync) = &mut cluster.sync {
            sync.mod_revision = 0;
        }
        cluster
    }

    async fn step(&mut self) -> String {
        let node = self.rng.below(2) as usize;
        let own: Vec<_> = self.leases.iter().copied().filter(|pair| pair.node == node).collect();
        if own.is_empty() || self.rng.permille(30) {
            self.grant(node).await;
            return "grant".into();
        }
        // the latest one mostly
        let latest = own.len() as u64 - 1;
        let lease = own[(latest - self.rng.below(2).min(latest)) as usize];
        let (what, model, real) = match self.rng.below(100) {
            0..3 => {
                self.end(lease).await;
                return "revoke".into();
            }
            3..15 => {
                let prove = self.rng.permille(700);
                let (model, real) = self.renew(lease, prove).await;
                (format!("renew {prove}"), model, real)
            }
            15..30 => {
                let (model, real) = self.acquire(lease).await;
                ("acquire".into(), model, real)
            }
            30..35 => {
                let wanted = self.rng.permille(500).then(|| status(8));
                let model = self.of_model(lease.node, Request::Release(lease.model, wanted.clone()));
                ("release".into(), model, self.real[lease.node].release(lease.real, wanted, soon()).await)
            }
            _ => {
                let (write, model, real) = self.write(lease).await;
                (format!("{write:?}"), model, real)
            }
        };
        assert_eq!(model, real, "model and etcd about {what} by {}", NAMES[node]);
        let kind = what.split([' ', '(', '{']).next().unwrap_or_default();
        self.happened.insert(format!("{kind} {}", if real.is_ok() { "done" } else { "refused" }));
        what
    }
}

const KINDS: u64 = 15;

/// A write whose guards fit that reading.
fn made(kind: u64, number: u64, node: usize, seen: &Cluster) -> DcsWrite {
    let id = SystemId(7_000_000_000_000_000_000 + number);
    let text = format!("{{\"ttl\":{}}}", 30 + number);
    let failover_at = seen.failover.as_ref().map_or(0, |key| key.mod_revision);
    match kind {
        0 => DcsWrite::ClaimInitialize,
        1 => DcsWrite::FinishInitialize(id),
        2 => DcsWrite::DropInitialize,
        3 => DcsWrite::AdoptInitialize(id),
        4 => DcsWrite::Member(Box::new(MemberDoc { state: format!("running {number}"), ..MemberDoc::default() })),
        5 => DcsWrite::Status(status(number)),
        6 => DcsWrite::History(vec![HistoryRow {
            timeline: Timeline(number as u32),
            switch_lsn: Lsn(number),
            reason: "no recovery target specified".into(),
            at: None,
            new_leader: None,
        }]),
        7 => DcsWrite::ReserveTimeline { timeline: Timeline(number as u32), seen: seen.timeline_reserved },
        9 if seen.config.is_some() || number == 5 => {
            DcsWrite::ReplaceConfig { text, seen: seen.config.as_ref().map_or(0, |key| key.mod_revision) }
        }
        8 | 9 => DcsWrite::Config(text),
        10 => {
            let request = FailoverKey { candidate: Some(NAMES[node].into()), ..FailoverKey::default() };
            DcsWrite::AskFailover { request, seen: (number > 2).then_some(failover_at) }
        }
        11 => DcsWrite::ClearFailover { seen: failover_at },
        12 => {
            let standbys = [SyncName::from(NAMES[1 - node])].into_iter().collect::<SyncNames>();
            let (leader, quorum) = (NAMES[node].into(), number as u32);
            DcsWrite::Sync(SyncWrite { leader, quorum, standbys, seen: seen.sync.revision() })
        }
        13 => DcsWrite::DropSync { seen: seen.sync.revision().unwrap_or(1) },
        _ => DcsWrite::Failsafe(BTreeMap::from([(NAMES[node].into(), format!("http://h{number}/patroni"))])),
    }
}

#[actix_rt::test]
async fn the_simulators_model_and_etcd_say_the_same() {
    let etcd = Etcd::start();
    let mut happened = BTreeSet::new();
    for seed in 0..4 {
        etcd.ctl(&["del", "--prefix", "/service/main/"]);
        let mut both = Both::new(seed, &etcd).await;
        let mut trace = Vec::new();
        for _ in 0..CALLS {
            trace.push(both.step().await);
            let (model, real) = (both.model.read(), both.real[0].read(soon()).await.unwrap().cluster);
            let compared = (both.compared(&model, |pair| pair.model), both.compared(&real, |pair| pair.real));
            assert_eq!(compared.0, compared.1, "seed {seed}, after {:?}", &trace[trace.len().saturating_sub(8)..]);
            // an old reading now and then: then guards do not fit
            if both.rng.permille(800) {
                both.seen = (model, real);
            }
        }
        happened.extend(both.happened);
    }
    let kinds: BTreeSet<_> = happened.iter().filter_map(|text| text.split(' ').next()).collect();
    for kind in kinds {
        for end in ["done", "refused"] {
            let what = format!("{kind} {end}");
            assert!(happened.contains(&what), "never seen: {what}; seen: {happened:?}");
        }
    }
}
