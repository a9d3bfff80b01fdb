//! The certificates that the settings name, read and ready for use: those of the REST API, and those for questions to other
//! members. They are read when the node starts and each time the settings are read again; what cannot be used replaces nothing.

use crate::settings::NodeSettings;
use pgherd_actors::wiring::{PeerAccess, PeerLogin};
use pgherd_tls::{ClientConfig, ClientMaterial, ServerMaterial, TlsError, VerifyClient};
use pgherd_web::ListenerTls;
use std::sync::Arc;

/// See the module.
#[derive(Clone)]
pub struct Certificates {
    server: Option<(ServerMaterial, ListenerTls)>,
    client: Option<(ClientMaterial, Arc<ClientConfig>)>,
}

impl Certificates {
    /// Reads the files; the error names the section and the file.
    pub fn read(settings: &NodeSettings) -> Result<Self, String> {
        let of = |section: &'static str| move |e: TlsError| format!("{section}: {e}");
        let server = settings.restapi.tls.as_ref().map(|files| {
            let material = files.read()?;
            let tls = ListenerTls { config: material.config()?, verify_client: files.verify_client };
            Ok((material, tls))
        });
        let client = settings.ctl.tls.as_ref().map(|files| {
            let material = files.read()?;
            let config = material.config()?;
            Ok((material, config))
        });
        Ok(Self { server: server.transpose().map_err(of("restapi"))?, client: client.transpose().map_err(of("ctl"))? })
    }

    /// For the API server.
    pub fn listener(&self) -> Option<ListenerTls> {
        self.server.as_ref().map(|(_, tls)| tls.clone())
    }

    /// For questions to other members.
    pub fn peers(&self, settings: &NodeSettings) -> PeerAccess {
        let login = settings.ctl.login.as_ref();
        PeerAccess {
            login: login.map(|login| PeerLogin {
                username: login.username.clone(),
                password: login.password.expose().to_owned(),
            }),
            tls: self.client.as_ref().map(|(_, config)| config.clone()),
        }
    }

    /// Do the API server's files say something else than those?
    pub fn server_differs(&self, other: &Self) -> bool {
        let material = |of: &Self| of.server.as_ref().map(|(material, _)| material.clone());
        material(self) != material(other)
    }
}

/// What is allowed and will hardly work.
pub fn warn(settings: &NodeSettings) {
    let asked = settings.restapi.tls.as_ref().map_or(VerifyClient::None, |tls| tls.verify_client);
    let nameless = settings.ctl.tls.as_ref().is_none_or(|tls| tls.identity.is_none());
    match asked {
        VerifyClient::Required if nameless => log::warn!(
            "restapi.verify_client is required and ctl names no certfile: if other members have it like this, none can ask \
             another, and no failover can take place"
        ),
        VerifyClient::Optional if nameless => log::warn!(
            "restapi.verify_client is optional and ctl names no certfile: if other members have it like this, they refuse \
             each other's question in failsafe_mode"
        ),
        VerifyClient::None | VerifyClient::Optional | VerifyClient::Required => {}
    }
    if settings.ctl.tls.as_ref().is_some_and(|tls| tls.insecure) {
        log::warn!("ctl.insecure is set: other members are believed without looking at their certificates");
    }
}
