//! etcd found by the SRV records of a domain.

mod common;

use common::*;
use pgherd_dcs::{Dcs, EtcdServer, Srv};
use pgherd_testkit::dns::NameServer;
use pgherd_testkit::etcd::Etcd;
use pgherd_types::Refused;

fn by_dns(dns: &NameServer, suffix: Option<&str>) -> EtcdServer {
    let suffix = suffix.map(str::to_owned);
    let srv = Srv { domain: "db.test".into(), suffix, name_server: Some(dns.address()) };
    EtcdServer { srv: Some(srv), ..EtcdServer::default() }
}

#[actix_rt::test]
async fn names_that_appear_late_are_found_and_stay_in_force_without_dns() {
    let (etcd, dns) = (Etcd::start(), NameServer::start());
    let a = node_at("a", by_dns(&dns, None));
    let Err(Refused::Unreachable(why)) = a.read(soon()).await else { panic!("there is nothing yet") };
    assert!(why.contains("db.test has no SRV record of etcd"), "{why}");
    let order = ["_etcd-client-ssl", "_etcd-client", "_etcd-ssl", "_etcd", "_etcd-server-ssl", "_etcd-server"];
    assert_eq!(dns.asked(), order.map(|name| format!("{name}._tcp.db.test")));

    // the second one comes first in the answer, but the first one is preferred
    dns.set("_etcd-client._tcp.db.test", &[etcd.port(), 1]);
    let found = eventually(PATIENCE, "etcd is found", async || a.read(soon()).await.ok()).await;
    assert!(found.cluster.revision > 0);
    script(&a, &node_at("b", by_dns(&dns, None))).await;

    dns.silence(true);
    let asked = dns.asked().len();
    eventually(PATIENCE, "DNS is asked again, and is away", async || {
        assert_eq!(a.survey(false, soon()).await.expect("a look at etcd").members, 1);
        (dns.asked().len() > asked).then_some(())
    })
    .await;
    a.read(soon()).await.expect("etcd is where it was");
}

#[actix_rt::test]
async fn an_etcd_that_moved_is_found_again() {
    let (mut old, new, dns) = (Etcd::start(), Etcd::start(), NameServer::start());
    dns.set("_etcd-client-pg._tcp.db.test", &[old.port()]);
    let a = node_at("a", by_dns(&dns, Some("pg")));
    a.survey(false, soon()).await.expect("a look at etcd");
    old.kill();
    dns.set("_etcd-client-pg._tcp.db.test", &[new.port()]);
    eventually(PATIENCE, "etcd is found elsewhere", async || a.survey(false, soon()).await.ok()).await;
    a.read(soon()).await.expect("etcd answers");
}

#[actix_rt::test]
async fn members_are_asked_where_they_listen_for_clients() {
    let (etcd, dns) = (Etcd::start(), NameServer::start());
    let (_, members) = etcd.call("/v3/cluster/member/list", "{}").expect("the members");
    let members: serde_json::Value = serde_json::from_str(&members).expect("JSON");
    let peer = members["members"][0]["peerURLs"][0].as_str().expect("a URL");
    let (_, port) = peer.rsplit_once(':').expect("a port");
    dns.set("_etcd-server._tcp.db.test", &[port.parse().expect("a number")]);
    let a = node_at("a", by_dns(&dns, None));
    a.read(soon()).await.expect("etcd is found by its peers");
}
