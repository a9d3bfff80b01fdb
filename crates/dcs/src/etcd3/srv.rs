//! Endpoints that DNS names: SRV records of a domain (RFC 2782), under the names that etcd's own tools use. What was found stays
//! in force while DNS does not answer.

use super::client::Client;
use super::endpoint::Endpoint;
use super::wire::MemberInfo;
use crate::options::Srv;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use pgherd_clock::{boottime, left_until};
use pgherd_types::Instant;
use std::time::Duration;

/// One question to one server.
const PATIENCE: Duration = Duration::from_secs(1);
/// All questions together, when the endpoints are known.
const LOOKUP: Duration = Duration::from_secs(2);
/// How long answers and refusals are believed at most, whatever DNS says.
const BELIEVED: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(30));
const MEMBERS_LIMIT_BYTES: usize = 1 << 20;

/// Where to ask, in this order; the first that has records counts.
const SERVICES: [Service; 6] = [
    Service { name: "_etcd-client-ssl", scheme: "https", of_peers: false },
    Service { name: "_etcd-client", scheme: "http", of_peers: false },
    Service { name: "_etcd-ssl", scheme: "https", of_peers: false },
    Service { name: "_etcd", scheme: "http", of_peers: false },
    Service { name: "_etcd-server-ssl", scheme: "https", of_peers: true },
    Service { name: "_etcd-server", scheme: "http", of_peers: true },
];

struct Service {
    name: &'static str,
    scheme: &'static str,
    /// Where the members listen for one another: they are asked where they listen for clients.
    of_peers: bool,
}

impl Client {
    /// Asks DNS which endpoints there are, if that is how they are found. A cache keeps it from being asked too often.
    pub async fn look_up(&self, deadline: Instant) -> Result<(), String> {
        let settings = self.settings();
        let Some(srv) = &settings.srv else { return Ok(()) };
        let answer = tokio::time::timeout(left_until(deadline), self.found_by(srv)).await;
        let found = answer.unwrap_or_else(|_| Err("no answer in time".to_owned())).map_err(|why| {
            // it may be asked elsewhere meanwhile
            self.resolver.take();
            format!("etcd is not found by DNS: {why}")
        })?;
        if self.endpoints.named(&found) {
            log::info!("DNS names etcd's endpoints for {}: {}", srv.domain, self.endpoints.names());
        }
        Ok(())
    }

    /// The same now and then. DNS may be away as long as the members are there.
    pub async fn look_up_again(&self, deadline: Instant) {
        if let Err(why) = self.look_up(boottime() + LOOKUP.min(left_until(deadline) / 2)).await {
            log::debug!("{why}; going on with {}", self.endpoints.names());
        }
    }

    async fn found_by(&self, srv: &Srv) -> Result<Vec<Endpoint>, String> {
        let known = self.resolver.borrow().clone();
        let resolver = match known {
            Some(resolver) => resolver,
            None => self.resolver.borrow_mut().insert(resolver(srv)?).clone(),
        };
        let mut unanswered = Vec::new();
        for service in &SERVICES {
            let name = srv.name(service.name);
            let found = match records(&resolver, &name, service.scheme).await {
                Ok(found) if service.of_peers => self.clients_of(&found).await,
                Ok(found) => found,
                Err(why) => {
                    unanswered.push(why);
                    continue;
                }
            };
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Err(match unanswered.first() {
            Some(why) => why.clone(),
            None => {
                format!("{} has no SRV record of etcd (tried {} to {})", srv.domain, SERVICES[0].name, SERVICES[5].name)
            }
        })
    }

    /// Where the members listen for clients, by the first one that says it.
    async fn clients_of(&self, peers: &[Endpoint]) -> Vec<Endpoint> {
        for peer in peers {
            let url = format!("{peer}/members");
            let request = self.pools.borrow().http.get(&url);
            let asked = async { request.send().await.ok()?.body().limit(MEMBERS_LIMIT_BYTES).await.ok() };
            let body = tokio::time::timeout(PATIENCE, asked).await.ok().flatten().unwrap_or_default();
            match serde_json::from_slice::<Vec<MemberInfo>>(&body) {
                Ok(members) => {
                    let urls = members.iter().flat_map(|member| &member.client_urls);
                    return urls.filter_map(|url| Endpoint::advertised(url)).collect();
                }
                Err(why) => log::debug!("{url} does not tell etcd's members: {why}"),
            }
        }
        Vec::new()
    }
}

/// Reads /etc/resolv.conf, unless a name server is given.
fn resolver(srv: &Srv) -> Result<TokioResolver, String> {
    let mut builder = match srv.name_server {
        None => TokioResolver::builder_tokio().map_err(|e| format!("/etc/resolv.conf cannot be used: {e}"))?,
        Some(address) => {
            let mut connection = ConnectionConfig::udp();
            connection.port = address.port();
            let server = NameServerConfig::new(address.ip(), true, vec![connection]);
            let config = ResolverConfig::from_name_servers(vec![server]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.timeout = PATIENCE;
    options.positive_max_ttl = Some(BELIEVED.0);
    options.negative_max_ttl = Some(BELIEVED.1);
    builder.build().map_err(|e| format!("/etc/resolv.conf cannot be used: {e}"))
}

/// In the order of their priorities. None is no error.
async fn records(resolver: &TokioResolver, name: &str, scheme: &str) -> Result<Vec<Endpoint>, String> {
    let answer = match resolver.srv_lookup(name).await {
        Ok(answer) => answer,
        Err(e) if e.is_no_records_found() || e.is_nx_domain() => return Ok(Vec::new()),
        Err(e) => return Err(format!("{name}: {e}")),
    };
    let mut records: Vec<_> = answer.answers().iter().filter_map(|record| service_of(&record.data)).collect();
    records.sort_by_key(|(priority, ..)| *priority);
    // the root alone says that there is no such service
    let named =
        records.iter().map(|(_, host, port)| (host.trim_end_matches('.'), port)).filter(|(host, _)| !host.is_empty());
    Ok(named.filter_map(|(host, port)| format!("{scheme}://{host}:{port}").parse().ok()).collect())
}

fn service_of(data: &RData) -> Option<(u16, String, u16)> {
    match data {
        RData::SRV(srv) => Some((srv.priority, srv.target.to_utf8(), srv.port)),
        _ => None,
    }
}
