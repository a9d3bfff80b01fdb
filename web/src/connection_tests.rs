//! The real server with TLS on a free port: handshakes, deadlines, client certificates, and new certificates while old
//! connections stay.

use crate::api_server::{ApiOptions, ApiServer, ChangeTls};
use crate::auth::AccessOptions;
use crate::connection::ListenerTls;
use crate::headers::{AllHeaders, ExtraHeaders, ServerTokens};
use crate::requests::SharedRequests;
use crate::status::tests::primary;
use actix::Actor;
use arc_swap::ArcSwap;
use pgherd_protocol::events::EventFeed;
use pgherd_tls::{ClientFiles, IdentityFiles, ServerFiles, VerifyClient};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const PATIENCE: Duration = Duration::from_secs(30);

/// Authorities and what they signed, in a directory that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pgherd-web-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    fn authority(&self, name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(self.path(name), authority.pem()).unwrap();
        authority
    }
    /// Certificate and key in one file.
    fn signed(&self, file: &str, authority: &CertifiedIssuer<'static, KeyPair>) -> IdentityFiles {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, authority).unwrap();
        std::fs::write(self.path(file), format!("{}{}", certificate.pem(), key.serialize_pem())).unwrap();
        IdentityFiles { certificate: self.path(file), key: None, password: None }
    }
    fn listener(&self, identity: IdentityFiles, verify_client: VerifyClient) -> ListenerTls {
        let files = ServerFiles { identity, authorities: Some(self.path("clients.crt")), verify_client, ciphers: None };
        ListenerTls { config: files.read().unwrap().config().unwrap(), verify_client }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(tls: ListenerTls) -> (actix::Addr<ApiServer>, SocketAddr) {
    let now = pgherd_clock::boottime();
    let mut status = primary();
    status.turned_at = now;
    status.leader_until = Some(now + PATIENCE * 4);
    let certificate = tls.verify_client != VerifyClient::None;
    let pair = |value: &str| [("X-Sealed".to_owned(), value.to_owned())];
    let of = |value: &str| ExtraHeaders::new(&pair(value), ServerTokens::Original).unwrap();
    let options = ApiOptions {
        host: "127.0.0.1".into(),
        port: 0,
        tls: Some(tls),
        access: AccessOptions { certificate, ..AccessOptions::default() },
        headers: AllHeaders { every: of("no"), encrypted: of("yes") },
        ..ApiOptions::default()
    };
    let status = Arc::new(ArcSwap::from_pointee(status));
    let server = ApiServer::bind(&options, status, EventFeed::default(), SharedRequests::default()).unwrap();
    let address = server.addresses()[0];
    (server.start(), address)
}

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

async fn connect(address: SocketAddr, files: &ClientFiles) -> std::io::Result<Stream> {
    let config = files.read().unwrap().config().unwrap();
    let tcp = TcpStream::connect(address).await?;
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    timeout(PATIENCE, TlsConnector::from(config).connect(name, tcp)).await.expect("a handshake in time")
}

/// One request on a connection that stays: the head of the answer.
async fn ask(stream: &mut Stream, request: &str) -> std::io::Result<String> {
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        let mut bytes = [0; 8192];
        match timeout(PATIENCE, stream.read(&mut bytes)).await.expect("an answer in time")? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(&bytes[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn ask_once(address: SocketAddr, files: &ClientFiles, request: &str) -> std::io::Result<String> {
    ask(&mut connect(address, files).await?, request).await
}

#[actix_rt::test]
async fn health_is_told_over_http_1_1_alone() {
    let place = Place::new("health");
    let authority = place.authority("ca.crt");
    let (_server, address) = start(place.listener(place.signed("server.pem", &authority), VerifyClient::None));
    let trusting = ClientFiles { authorities: Some(place.path("ca.crt")), ..ClientFiles::default() };
    let mut stream = connect(address, &trusting).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    for _ in 0..2 {
        let head = ask(&mut stream, "HEAD /primary").await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("x-sealed: yes"), "{head}");
    }
    // nobody asks for a certificate, so nobody needs one
    assert!(ask(&mut stream, "DELETE /switchover").await.unwrap().starts_with("HTTP/1.1 503"));
    place.authority("other.crt");
    let doubting = ClientFiles { authorities: Some(place.path("other.crt")), ..ClientFiles::default() };
    assert!(connect(address, &doubting).await.unwrap_err().to_string().contains("UnknownIssuer"));
    let careless = ClientFiles { insecure: true, ..doubting };
    assert!(ask_once(address, &careless, "GET /primary").await.unwrap().starts_with("HTTP/1.1 200"));
    // plain HTTP gets no answer and does no harm
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /primary HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("an end");
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[actix_rt::test]
async fn silent_clients_are_cut_and_health_stays_answered() {
    let place = Place::new("silent");
    let authority = place.authority("ca.crt");
    let (_server, address) = start(place.listener(place.signed("server.pem", &authority), VerifyClient::None));
    let trusting = ClientFiles { authorities: Some(place.path("ca.crt")), ..ClientFiles::default() };
    let mut silent = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            // the beginning of a handshake
            stream.write_all(&[22, 3, 1, 2, 0]).await.unwrap();
        }
        silent.push(stream);
    }
    assert!(ask_once(address, &trusting, "GET /primary").await.unwrap().starts_with("HTTP/1.1 200"));
    for mut stream in silent {
        let mut bytes = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the server cuts silent clients");
    }
}

#[actix_rt::test]
async fn who_changes_something_shows_a_certificate() {
    let place = Place::new("clients");
    let (authority, clients, strangers) =
        (place.authority("ca.crt"), place.authority("clients.crt"), place.authority("strangers.crt"));
    let of = |identity| ClientFiles { authorities: Some(place.path("ca.crt")), identity, insecure: false };
    let (nobody, known) = (of(None), of(Some(place.signed("known.pem", &clients))));
    let stranger = of(Some(place.signed("stranger.pem", &strangers)));
    let change = "DELETE /switchover";
    let answer = async |address, files: &ClientFiles, request: &str| match ask_once(address, files, request).await {
        Ok(head) => head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0),
        Err(_) => 0_u16,
    };
    // what is allowed is answered 503: nobody is there to do it
    for (mode, to_read, to_change) in
        [(VerifyClient::Optional, [200, 200, 0], [403, 503, 0]), (VerifyClient::Required, [0, 200, 0], [0, 503, 0])]
    {
        let (_server, address) = start(place.listener(place.signed("server.pem", &authority), mode));
        for (at, files) in [&nobody, &known, &stranger].into_iter().enumerate() {
            assert_eq!(answer(address, files, "GET /primary").await, to_read[at], "{mode:?} {at}");
            assert_eq!(answer(address, files, change).await, to_change[at], "{mode:?} {at}");
        }
    }
}

#[actix_rt::test]
async fn new_certificates_are_for_new_connections() {
    let place = Place::new("reload");
    let (old, new) = (place.authority("old.crt"), place.authority("new.crt"));
    let (server, address) = start(place.listener(place.signed("old.pem", &old), VerifyClient::None));
    let trusting = |name: &str| ClientFiles { authorities: Some(place.path(name)), ..ClientFiles::default() };
    let mut stays = connect(address, &trusting("old.crt")).await.unwrap();
    assert!(connect(address, &trusting("new.crt")).await.is_err());
    server.send(ChangeTls(place.listener(place.signed("new.pem", &new), VerifyClient::None))).await.unwrap();
    assert!(connect(address, &trusting("old.crt")).await.is_err());
    assert!(ask_once(address, &trusting("new.crt"), "GET /primary").await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(ask(&mut stays, "HEAD /primary").await.unwrap().starts_with("HTTP/1.1 200"), "nobody was cut off");
}
