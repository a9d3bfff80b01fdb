//! What the tests of the adapter share.
#![allow(dead_code, unused_imports)]

mod script;

pub use pgherd_clock::boottime;
use pgherd_dcs::{Dcs, Etcd2, Etcd3, EtcdApi, EtcdOptions, EtcdServer, SharedServer};
use pgherd_testkit::etcd::Etcd;
pub use pgherd_testkit::eventually::eventually;
use pgherd_types::{Instant, LeaseId, Lsn, StatusKey, SyncGuard};
use std::time::Duration;

pub use script::script;

pub const PATIENCE: Duration = Duration::from_secs(30);
pub const TTL: Duration = Duration::from_secs(60);

pub fn soon() -> Instant {
    boottime() + PATIENCE
}

pub fn in_ms(ms: u64) -> Instant {
    boottime() + Duration::from_millis(ms)
}

/// Nothing but these endpoints.
pub fn server(urls: &[String]) -> EtcdServer {
    EtcdServer { endpoints: urls.iter().map(|url| url.parse().unwrap()).collect(), ..EtcdServer::default() }
}

pub fn node(name: &str, urls: &[String]) -> Etcd3 {
    node_at(name, server(urls))
}

pub fn node_at(name: &str, server: EtcdServer) -> Etcd3 {
    shared_node(name, server.shared())
}

pub fn shared_node(name: &str, server: SharedServer) -> Etcd3 {
    Etcd3::new(&options(name, server, EtcdApi::V3))
}

/// A member that speaks the v2 API.
pub fn node2(name: &str, urls: &[String]) -> Etcd2 {
    node2_at(name, server(urls).shared())
}

pub fn node2_at(name: &str, server: SharedServer) -> Etcd2 {
    Etcd2::new(&options(name, server, EtcdApi::V2))
}

fn options(name: &str, server: SharedServer, api: EtcdApi) -> EtcdOptions {
    EtcdOptions { server, namespace: "service".into(), scope: "main".into(), member: name.into(), api }
}

pub fn key(name: &str) -> String {
    format!("/service/main/{name}")
}

pub async fn lease_of(node: &Etcd3) -> LeaseId {
    node.grant(TTL, soon()).await.unwrap().lease
}

pub async fn leader(name: &str, etcd: &Etcd) -> (Etcd3, LeaseId) {
    let node = node(name, &[etcd.url()]);
    let lease = lease_of(&node).await;
    node.acquire(lease, SyncGuard::At(None), soon()).await.unwrap();
    (node, lease)
}

pub fn status(optime: u64) -> StatusKey {
    StatusKey { optime: Lsn(optime), ..StatusKey::default() }
}
