//! etcd over TLS, with and without certificates of its clients, and the traps that lie there.

mod common;

use common::*;
use pgherd_dcs::{Dcs, EtcdLogin, EtcdServer, EtcdTls};
use pgherd_testkit::authority::{Authority, Usage, write};
use pgherd_testkit::etcd::{self, Etcd, EtcdSetup};
use pgherd_testkit::postgres::TestDir;
use pgherd_tls::{ClientFiles, IdentityFiles};
use pgherd_types::Refused;
use std::path::{Path, PathBuf};

type Files = (PathBuf, PathBuf);

/// An authority, and what it signs, as files in a directory.
struct Signer<'a> {
    authority: Authority,
    directory: &'a Path,
}

impl<'a> Signer<'a> {
    fn new(directory: &'a TestDir) -> Self {
        Self { authority: Authority::new(), directory: directory.path() }
    }
    fn file(&self) -> PathBuf {
        write(self.directory, "ca.pem", &self.authority.pem())
    }
    fn signs(&self, name: &str, usage: Usage, common_name: Option<&str>) -> Files {
        let (certificate, key) = self.authority.sign(usage, common_name);
        let file = |ending: &str, text| write(self.directory, &format!("{name}.{ending}"), text);
        (file("pem", &certificate), file("key", &key))
    }
}

fn reached(etcd: &Etcd, authority: Option<PathBuf>, own: Option<&Files>) -> EtcdServer {
    let identity = own.map(|(certificate, key)| IdentityFiles {
        certificate: certificate.clone(),
        key: Some(key.clone()),
        password: None,
    });
    let files = ClientFiles { authorities: authority, identity, insecure: false };
    EtcdServer { tls: Some(EtcdTls::read(&files).expect("files")), ..server(&[etcd.url()]) }
}

fn start(authority: &Signer, server: Files, client: Option<Files>) -> Etcd {
    start_with(EtcdSetup::members(1), authority, server, client)
}

fn start_with(setup: EtcdSetup, authority: &Signer, server: Files, client: Option<Files>) -> Etcd {
    let tls = etcd::EtcdTls { authority: authority.file(), server, client };
    Etcd::start_setup(&EtcdSetup { tls: Some(tls), ..setup }).remove(0)
}

async fn why(server: EtcdServer) -> String {
    match node_at("a", server).read(in_ms(2000)).await {
        Err(Refused::Unreachable(why) | Refused::Denied(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[actix_rt::test]
async fn a_server_is_verified_and_may_ask_for_a_certificate() {
    let directory = TestDir::new();
    let authority = Signer::new(&directory);
    let client = authority.signs("client", Usage::Client, None);
    let server = authority.signs("server", Usage::Both, Some("etcd"));
    let mut etcd = start(&authority, server.clone(), Some(client.clone()));
    let a = node_at("a", reached(&etcd, Some(authority.file()), Some(&client)));
    script(&a, &node_at("b", reached(&etcd, Some(authority.file()), Some(&client)))).await;
    assert_eq!(a.survey(true, soon()).await.unwrap().members, 1);

    let without = why(reached(&etcd, Some(authority.file()), None)).await;
    assert!(without.contains("etcd3.cert"), "{without}");
    let foreign = why(reached(&etcd, None, Some(&client))).await;
    assert!(foreign.contains("etcd3.cacert"), "{foreign}");

    // a password on top of that: the client's certificate must not have a CommonName
    etcd.enable_auth("secret of root", &[("agent", "secret of agent", "/service/main/")]);
    let login = Some(EtcdLogin { username: "agent".into(), password: "secret of agent".into() });
    let with =
        |files: &Files| EtcdServer { login: login.clone(), ..reached(&etcd, Some(authority.file()), Some(files)) };
    node_at("a", with(&client)).read(soon()).await.expect("a certificate without a CommonName and a password");
    let named = authority.signs("named", Usage::Client, Some("agent"));
    let refused = why(with(&named)).await;
    assert!(refused.contains("CommonName") && refused.contains("issue one without"), "{refused}");
}

#[actix_rt::test]
async fn the_old_api_is_spoken_over_tls_with_certificates_of_clients() {
    let directory = TestDir::new();
    let authority = Signer::new(&directory);
    let client = authority.signs("client", Usage::Client, None);
    let server = authority.signs("server", Usage::Both, None);
    let etcd = start_with(EtcdSetup::members(1).with_v2(), &authority, server, Some(client.clone()));
    let at = |name: &str, own: Option<&Files>| node2_at(name, reached(&etcd, Some(authority.file()), own).shared());
    script(&at("a", Some(&client)), &at("b", Some(&client))).await;
    let without = at("a", None).read(in_ms(2000)).await;
    let Err(Refused::Unreachable(why)) = without else { panic!("{without:?}") };
    assert!(why.contains("etcd.cert"), "{why}");
}

#[actix_rt::test]
async fn certificates_are_exchanged_while_it_runs() {
    let (one, other) = (TestDir::new(), TestDir::new());
    let authority = Signer::new(&one);
    let etcd = start(&authority, authority.signs("server", Usage::Server, None), None);
    let stranger = Signer::new(&other);
    let shared = reached(&etcd, Some(stranger.file()), None).shared();
    let a = shared_node("a", shared.clone());
    assert!(matches!(a.read(in_ms(1000)).await, Err(Refused::Unreachable(_))));
    let right = reached(&etcd, Some(authority.file()), None);
    assert_ne!(**shared.load(), right);
    assert_eq!(right, reached(&etcd, Some(authority.file()), None), "the same files say the same");
    shared.store(std::sync::Arc::new(right));
    a.read(soon()).await.expect("the right authority is in force");
    script(&a, &node_at("b", reached(&etcd, Some(authority.file()), None))).await;
}

#[actix_rt::test]
async fn a_servers_certificate_that_is_not_for_clients_is_named() {
    let directory = TestDir::new();
    let authority = Signer::new(&directory);
    let client = authority.signs("client", Usage::Client, None);
    let etcd = start(&authority, authority.signs("server", Usage::Server, None), Some(client.clone()));
    let why = why(reached(&etcd, Some(authority.file()), Some(&client))).await;
    assert!(why.contains("clientAuth"), "{why}");
}
