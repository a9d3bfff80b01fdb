//! The HTTP clients: one for requests, one for streams.

use crate::options::EtcdServer;
use pgherd_types::PRODUCT_VERSION;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) struct Pools {
    pub http: awc::Client,
    pub streams: awc::Client,
}

impl Pools {
    /// No limit on connections: a renewal must not wait for those that a silent endpoint holds. The callers' deadlines
    /// bound their number. Streams get their own pool.
    pub fn new(server: &EtcdServer) -> Self {
        let connector = || {
            let connector = awc::Connector::new().timeout(CONNECT_TIMEOUT).limit(0);
            match &server.tls {
                Some(tls) => connector.rustls_0_23(tls.config.clone()),
                None => connector,
            }
        };
        let client = || {
            awc::Client::builder()
                .disable_timeout()
                .disable_redirects()
                .add_default_header(("User-Agent", format!("pgherd/{PRODUCT_VERSION}")))
                .add_default_header(("Content-Type", "application/json"))
                .connector(connector())
                .finish()
        };
        Self { http: client(), streams: client() }
    }
}
