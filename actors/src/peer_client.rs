//! How other members' REST APIs are spoken to: with which login, and whom to trust. Both can change while the node runs; the
//! next request goes by what is in force then.

use arc_swap::ArcSwap;
use pgherd_tls::ClientConfig;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

/// How members log in at each other's API; never shown.
#[derive(Clone)]
pub struct PeerLogin {
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
}

/// See the module.
#[derive(Clone, Default)]
pub struct PeerAccess {
    /// The login.
    pub login: Option<PeerLogin>,
    /// Who is trusted; without it no member can be asked over https.
    pub tls: Option<Arc<ClientConfig>>,
}

/// What is in force; the owner of the settings changes it.
pub type SharedPeers = Arc<ArcSwap<PeerAccess>>;

/// A client for questions to other members; it belongs to the thread that makes it.
pub struct PeerClient {
    access: SharedPeers,
    made: RefCell<(Arc<PeerAccess>, awc::Client)>,
}

impl PeerClient {
    /// One that goes by these.
    pub fn new(access: SharedPeers) -> Self {
        let now = access.load_full();
        let client = client(&now);
        Self { access, made: RefCell::new((now, client)) }
    }

    /// The login in force.
    pub fn login(&self) -> Option<PeerLogin> {
        self.access.load().login.clone()
    }

    /// The client in force, if it can reach such a URL.
    pub fn reaching(&self, url: &str) -> Result<awc::Client, String> {
        let now = self.access.load_full();
        if url.starts_with("https:") && now.tls.is_none() {
            return Err("nothing is known of whom to trust over https: set ctl.cacert or restapi.cafile".to_owned());
        }
        let mut made = self.made.borrow_mut();
        if !Arc::ptr_eq(&made.0, &now) {
            let client = client(&now);
            *made = (now, client);
        }
        Ok(made.1.clone())
    }
}

fn client(access: &PeerAccess) -> awc::Client {
    // one connection per question: a pooled one may lead into the void after a partition
    let connector = awc::Connector::new().conn_keep_alive(Duration::ZERO);
    let connector = match &access.tls {
        Some(config) => connector.rustls_0_23(config.clone()),
        None => connector,
    };
    awc::Client::builder().connector(connector).disable_redirects().finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_tls::ClientFiles;

    #[actix_rt::test]
    async fn the_next_request_goes_by_what_is_in_force() {
        let shared = SharedPeers::default();
        let client = PeerClient::new(shared.clone());
        assert!(client.reaching("http://a/patroni").is_ok());
        assert!(client.reaching("https://a/patroni").is_err_and(|why| why.contains("ctl.cacert")));
        let files = ClientFiles { insecure: true, ..ClientFiles::default() };
        let tls = Some(files.read().unwrap().config().unwrap());
        let login = Some(PeerLogin { username: "u".into(), password: "p".into() });
        shared.store(Arc::new(PeerAccess { login, tls }));
        assert!(client.reaching("https://a/patroni").is_ok());
        assert_eq!(client.login().map(|login| login.username).as_deref(), Some("u"));
    }
}
