//! Where etcd is, how to get in, and which cluster is ours.

use crate::Endpoint;
use arc_swap::ArcSwap;
use pgherd_tls::{ClientConfig, ClientFiles, ClientMaterial, TlsError};
use pgherd_types::MemberName;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// What the adapter must know from the start.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// Where etcd is and how to get in; what is put there is in force from the next request on.
    pub server: SharedServer,
    /// First part of every key.
    pub namespace: String,
    /// The cluster's name, second part of every key.
    pub scope: String,
    /// This member's name.
    pub member: MemberName,
    /// How etcd is spoken to.
    pub api: EtcdApi,
}

/// How etcd is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EtcdApi {
    /// By the JSON gateway of its API v3.
    #[default]
    V3,
    /// By its old API v2.
    V2,
}

/// Can be exchanged while the node runs, from any thread.
pub type SharedServer = Arc<ArcSwap<EtcdServer>>;

/// Where etcd is and how to get in.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct EtcdServer {
    /// The members (or proxies) to ask, in this order at first.
    pub endpoints: Vec<Endpoint>,
    /// Ask DNS for them instead.
    pub srv: Option<Srv>,
    /// Ask those for the other members, again and again. Not for proxies.
    pub discover: bool,
    /// How endpoints with `https://` are spoken to.
    pub tls: Option<EtcdTls>,
    /// For etcd's authentication.
    pub login: Option<EtcdLogin>,
    /// Move etcd's leadership away from the host of a primary.
    pub move_leader: bool,
}

/// SRV records name the endpoints: `_etcd-client._tcp.<domain>`, or `_etcd-client-<suffix>._tcp.<domain>`, and the like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Srv {
    /// Whose records.
    pub domain: String,
    /// Tells several clusters of etcd in one domain apart.
    pub suffix: Option<String>,
    /// Asked instead of those that /etc/resolv.conf names.
    pub name_server: Option<SocketAddr>,
}

impl Srv {
    /// Absolute, as a search list must not be put upon it.
    pub(crate) fn name(&self, service: &str) -> String {
        let suffix = self.suffix.as_ref().map(|suffix| format!("-{suffix}")).unwrap_or_default();
        format!("{service}{suffix}._tcp.{}.", self.domain.trim_end_matches('.'))
    }
}

impl EtcdServer {
    /// For sharing.
    pub fn shared(self) -> SharedServer {
        Arc::new(ArcSwap::from_pointee(self))
    }
}

/// What was read from files; equal if these had the same content.
#[derive(Clone)]
pub struct EtcdTls {
    material: ClientMaterial,
    pub(crate) config: Arc<ClientConfig>,
}

impl EtcdTls {
    /// Blocks until the files are read; the error names the file and what is wrong with it.
    pub fn read(files: &ClientFiles) -> Result<Self, TlsError> {
        let material = files.read()?;
        let config = material.config()?;
        Ok(Self { material, config })
    }
}

impl PartialEq for EtcdTls {
    fn eq(&self, other: &Self) -> bool {
        self.material == other.material
    }
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EtcdTls")
    }
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdLogin {
    /// The name.
    pub username: String,
    /// The password; shown nowhere.
    pub password: String,
}

impl fmt::Debug for EtcdLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdLogin").field("username", &self.username).finish_non_exhaustive()
    }
}
