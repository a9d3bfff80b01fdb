//! The owner of the settings file: reads it again when asked (SIGHUP, `POST /reload`), puts in force what can change
//! while the node runs, and says what cannot. A file with a mistake changes nothing.

use super::options;
use crate::logging;
use crate::settings::{self, NodeSettings, Source};
use actix::prelude::*;
use pgherd_actors::wiring::SharedLogin;
use pgherd_postgres::Postgres;
use pgherd_protocol::coordinator::LocalChanged;
use pgherd_protocol::node::ReloadRequested;
use pgherd_protocol::postgres_operator::ReloadConfig;
use pgherd_web::{ChangeAccess, ChangeHeaders};
use std::sync::Arc;

/// See the module.
pub struct SettingsOwner {
    source: Source,
    /// As they were when the node started: what needs a restart is told by the difference from these.
    opened: NodeSettings,
    postgres: Arc<Postgres>,
    reload_config: Recipient<ReloadConfig>,
    tags: Option<Recipient<LocalChanged>>,
    api: Option<(Recipient<ChangeAccess>, Recipient<ChangeHeaders>)>,
    peer_login: Option<SharedLogin>,
}

impl SettingsOwner {
    /// An owner of what was read from there. PostgreSQL's part goes to its operator, the tags to the coordinator.
    pub fn new(
        source: Source,
        opened: NodeSettings,
        postgres: Arc<Postgres>,
        reload_config: Recipient<ReloadConfig>,
        tags: Option<Recipient<LocalChanged>>,
    ) -> Self {
        Self { source, opened, postgres, reload_config, tags, api: None, peer_login: None }
    }

    /// The rules who may change something go there, and the headers of answers.
    pub fn with_api(self, access: Recipient<ChangeAccess>, headers: Recipient<ChangeHeaders>) -> Self {
        Self { api: Some((access, headers)), ..self }
    }

    /// The login at other members' APIs is kept there.
    pub fn with_peers(self, login: SharedLogin) -> Self {
        Self { peer_login: Some(login), ..self }
    }

    /// True if they are in force.
    fn take(&mut self, loaded: Result<settings::Loaded, String>) -> bool {
        let taken = loaded.and_then(|loaded| {
            loaded.warnings.iter().for_each(|warning| log::warn!("{warning}"));
            let waiting = self.postgres.take_local(options::postgres(&loaded.settings));
            Ok((waiting.map_err(|e| e.to_string())?, loaded.settings))
        });
        let (mut waiting, new) = match taken {
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
        if let Some((access, headers)) = &self.api {
            access.do_send(ChangeAccess(options::access(&new)));
            headers.do_send(ChangeHeaders(new.restapi.headers.clone()));
        }
        if let Some(login) = &self.peer_login {
            login.store(options::peer_login(&new).map(Arc::new));
        }
        if let Some(coordinator) = &self.tags {
            coordinator.do_send(LocalChanged { tags: new.tags });
        }
        self.reload_config.do_send(ReloadConfig);
        log::info!("the settings were read again");
        true
    }

    /// What changed and is not PostgreSQL's.
    fn waiting_for_restart(&self, new: &NodeSettings) -> impl Iterator<Item = &'static str> {
        let old = &self.opened;
        let proxy = |settings: &NodeSettings| settings.postgresql.proxy_address.clone();
        [
            ("namespace", old.namespace != new.namespace),
            ("restapi.listen", old.restapi.listen != new.restapi.listen),
            ("restapi.connect_address", old.restapi.connect_address != new.restapi.connect_address),
            ("etcd3", old.etcd3 != new.etcd3),
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
        let load = move || source.load().map_err(|e| e.to_string());
        let work = async move { tokio::task::spawn_blocking(load).await.unwrap_or_else(|e| Err(e.to_string())) };
        AtomicResponse::new(Box::pin(work.into_actor(self).map(|loaded, owner, _| owner.take(loaded))))
    }
}
