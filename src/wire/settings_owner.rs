//! The owner of the settings file: reads it again when asked (SIGHUP, `POST /reload`), puts in force what can change
//! while the node runs, and says what cannot. A file with a mistake changes nothing.

use super::options;
use super::tls::{self, Certificates};
use crate::logging;
use crate::settings::{self, NodeSettings, Source};
use actix::prelude::*;
use pgherd_actors::wiring::SharedPeers;
use pgherd_dcs::{EtcdServer, SharedServer};
use pgherd_postgres::Postgres;
use pgherd_protocol::coordinator::LocalChanged;
use pgherd_protocol::node::ReloadRequested;
use pgherd_protocol::postgres_operator::ReloadConfig;
use pgherd_web::{ApiServer, ChangeAccess, ChangeHeaders, ChangeTls};
use std::sync::Arc;

/// See the module.
pub struct SettingsOwner {
    source: Source,
    /// As they were when the node started: what needs a restart is told by the difference from these.
    opened: NodeSettings,
    postgres: Arc<Postgres>,
    reload_config: Recipient<ReloadConfig>,
    tags: Option<Recipient<LocalChanged>>,
    certificates: Certificates,
    api: Option<ApiWays>,
    peers: Option<SharedPeers>,
    etcd_server: Option<SharedServer>,
}

/// To the API server.
pub struct ApiWays {
    access: Recipient<ChangeAccess>,
    headers: Recipient<ChangeHeaders>,
    tls: Recipient<ChangeTls>,
}

impl ApiWays {
    /// This one.
    pub fn to(api: &Addr<ApiServer>) -> Self {
        let (access, headers, tls) = (api.clone().recipient(), api.clone().recipient(), api.clone().recipient());
        Self { access, headers, tls }
    }
}

/// Settings, the certificates they name, and how etcd is reached.
type Read = (settings::Loaded, Certificates, EtcdServer);

impl SettingsOwner {
    /// An owner of what was read from there. PostgreSQL's part goes to its operator, the tags to the coordinator.
    pub fn new(
        source: Source,
        (opened, certificates): (NodeSettings, Certificates),
        postgres: Arc<Postgres>,
        reload_config: Recipient<ReloadConfig>,
        tags: Option<Recipient<LocalChanged>>,
    ) -> Self {
        let (api, peers, etcd_server) = (None, None, None);
        Self { source, opened, postgres, reload_config, tags, certificates, api, peers, etcd_server }
    }

    /// The rules who may change something go there, the headers of answers and the certificates.
    pub fn with_api(self, api: ApiWays) -> Self {
        Self { api: Some(api), ..self }
    }

    /// How other members' APIs are spoken to is kept there.
    pub fn with_peers(self, peers: SharedPeers) -> Self {
        Self { peers: Some(peers), ..self }
    }

    /// Where etcd is and how to get in is kept there.
    pub fn with_etcd(self, server: SharedServer) -> Self {
        Self { etcd_server: Some(server), ..self }
    }

    /// True if they are in force.
    fn take(&mut self, read: Result<Read, String>) -> bool {
        let taken = read.and_then(|(loaded, certificates, etcd)| {
            loaded.warnings.iter().for_each(|warning| log::warn!("{warning}"));
            let waiting = self.postgres.take_local(options::postgres(&loaded.settings));
            Ok((waiting.map_err(|e| e.to_string())?, loaded.settings, certificates, etcd))
        });
        let (mut waiting, new, certificates, etcd) = match taken {
            Ok(taken) => taken,
            Err(why) => {
                log::error!("the settings were read again and cannot be used, those in force stay: {why}");
                return false;
            }
        };
        waiting.extend(self.waiting_for_restart(&new));
        for key in waiting {
            log::warn!("{key} was changed in the settings and needs a restart of the agent");
        }
        logging::set_level(new.log.level);
        if let Some(api) = &self.api {
            api.access.do_send(ChangeAccess(options::access(&new)));
            api.headers.do_send(ChangeHeaders(new.restapi.headers.clone()));
        }
        self.take_certificates(certificates, &new);
        if let Some(server) = &self.etcd_server
            && self.opened.etcd3.api == new.etcd3.api
            && **server.load() != etcd
        {
            server.store(Arc::new(etcd));
            log::info!("etcd is asked at {} from now on", new.etcd3.names());
        }
        if let Some(coordinator) = &self.tags {
            coordinator.do_send(LocalChanged { tags: new.tags });
        }
        self.reload_config.do_send(ReloadConfig);
        log::info!("the settings were read again");
        true
    }

    /// New connections go by them; those that are open stay.
    fn take_certificates(&mut self, certificates: Certificates, new: &NodeSettings) {
        if let (Some(api), Some(tls)) = (&self.api, certificates.listener())
            && certificates.server_differs(&self.certificates)
        {
            api.tls.do_send(ChangeTls(tls));
            log::info!("REST API: new connections are served with the certificates as they are now");
        }
        tls::warn(new);
        if let Some(peers) = &self.peers {
            peers.store(Arc::new(certificates.peers(new)));
        }
        self.certificates = certificates;
    }

    /// What changed and is not PostgreSQL's.
    fn waiting_for_restart(&self, new: &NodeSettings) -> impl Iterator<Item = &'static str> {
        let old = &self.opened;
        let proxy = |settings: &NodeSettings| settings.postgresql.proxy_address.clone();
        [
            ("etcd or etcd3", old.etcd3.api != new.etcd3.api),
            ("namespace", old.namespace != new.namespace),
            ("restapi.listen", old.restapi.listen != new.restapi.listen),
            ("restapi.connect_address", old.restapi.connect_address != new.restapi.connect_address),
            ("restapi.certfile", old.restapi.tls.is_some() != new.restapi.tls.is_some()),
            ("restapi.request_queue_size", old.restapi.request_queue_size != new.restapi.request_queue_size),
            ("watchdog", old.watchdog != new.watchdog),
            ("events", old.webhooks != new.webhooks),
            ("postgresql.use_pg_rewind or remove_data_directory_on_…", old.postgresql.policy != new.postgresql.policy),
            ("postgresql.proxy_address", proxy(old) != proxy(new)),
            ("tags", self.tags.is_none() && old.tags != new.tags),
        ]
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| key)
    }
}

impl Actor for SettingsOwner {
    type Context = Context<Self>;
}

impl Handler<ReloadRequested> for SettingsOwner {
    type Result = AtomicResponse<Self, bool>;
    fn handle(&mut self, _: ReloadRequested, _: &mut Self::Context) -> Self::Result {
        let source = self.source.clone();
        let load = move || {
            let loaded = source.load().map_err(|e| e.to_string())?;
            let certificates = Certificates::read(&loaded.settings)?;
            let etcd = loaded.settings.etcd3.server()?;
            Ok((loaded, certificates, etcd))
        };
        let work = async move { tokio::task::spawn_blocking(load).await.unwrap_or_else(|e| Err(e.to_string())) };
        AtomicResponse::new(Box::pin(work.into_actor(self).map(|loaded, owner, _| owner.take(loaded))))
    }
}
