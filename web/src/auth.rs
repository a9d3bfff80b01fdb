//! Who may change something: an allowlist of addresses, client certificates, and basic auth. GET, HEAD and OPTIONS are never restricted.
//! Everything is checked before the body of a request is read.

use crate::answer::Answer;
use actix_web::http::{StatusCode, Uri};
use arc_swap::ArcSwap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ctutils::CtEq;
use futures_util::future::join_all;
use ipnet::IpNet;
use pgherd_types::Cluster;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long the look-up of a name may take while settings are read.
const NAME_PATIENCE: Duration = Duration::from_secs(5);
/// How long the look-up of the members' names may take while a client waits.
const MEMBERS_PATIENCE: Duration = Duration::from_secs(2);

/// The settings.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccessOptions {
    /// Needed for every change.
    pub login: Option<BasicLogin>,
    /// Networks, addresses and names from which changes may come; empty: from everywhere.
    pub allowlist: Vec<String>,
    /// Changes may come from the members of the cluster.
    pub allowlist_include_members: bool,
    /// Changes need a client certificate that was verified.
    pub certificate: bool,
}

/// A name and a password, as the header that a client must send.
#[derive(Clone, PartialEq, Eq)]
pub struct BasicLogin(String);

impl BasicLogin {
    /// Of this user.
    pub fn new(username: &str, password: &str) -> Self {
        Self(format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}"))))
    }
    /// Takes as long for a header that is nearly right as for one that is all wrong.
    fn is(&self, header: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(header).to_bool()
    }
}

impl fmt::Debug for BasicLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denied {
    /// The client's address is not on the list.
    Address,
    /// No client certificate was shown.
    NoCertificate,
    /// No credentials were sent.
    NoCredentials,
    /// The wrong ones were.
    WrongCredentials,
}

impl Denied {
    /// For the client.
    pub fn answer(self) -> Answer {
        let unauthorized = |text: &str| {
            Answer::text(StatusCode::UNAUTHORIZED, text)
                .with_header("WWW-Authenticate", r#"Basic realm="Patroni""#.to_owned())
        };
        match self {
            Self::Address => Answer::text(StatusCode::FORBIDDEN, "Access is denied"),
            Self::NoCertificate => Answer::text(StatusCode::FORBIDDEN, "client certificate required"),
            Self::NoCredentials => unauthorized("no auth header received"),
            Self::WrongCredentials => unauthorized("not authenticated"),
        }
    }
}

/// The rules in force, with the names of the allowlist looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    login: Option<BasicLogin>,
    /// `None` without an allowlist; an empty one, whose items are all wrong, lets nobody in.
    networks: Option<Vec<IpNet>>,
    include_members: bool,
    certificate: bool,
}

/// Who wants to change something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'a> {
    /// Where the connection comes from.
    pub address: Option<IpAddr>,
    /// It showed a client certificate that was verified.
    pub verified: bool,
    /// The header of this name.
    pub authorization: Option<&'a [u8]>,
}

/// The rules as they are at the moment.
pub type SharedAccess = Arc<ArcSwap<Access>>;

impl Access {
    /// The rules without the names, which are still to be looked up.
    pub fn without_names(options: &AccessOptions) -> Self {
        let networks = options.allowlist.iter().filter_map(|item| network(item)).collect();
        Self {
            login: options.login.clone(),
            networks: (!options.allowlist.is_empty()).then_some(networks),
            include_members: options.allowlist_include_members,
            certificate: options.certificate,
        }
    }

    /// The rules with all names looked up. What cannot be used is reported and left out.
    pub async fn with_names(options: AccessOptions) -> Self {
        let mut access = Self::without_names(&options);
        let Some(networks) = &mut access.networks else { return access };
        let names = options.allowlist.iter().filter(|item| network(item).is_none());
        for (name, found) in join_all(names.map(|name| async move { (name, look_up(name).await) })).await {
            match found {
                Ok(addresses) => networks.extend(addresses.into_iter().map(IpNet::from)),
                Err(why) => log::error!("restapi.allowlist: {name} is left out: {why}"),
            }
        }
        if networks.is_empty() {
            log::error!("restapi.allowlist: no item can be used, so nobody may change anything through the REST API");
        }
        access
    }

    /// May this request change something?
    pub async fn check(&self, caller: Caller<'_>, members: Members<'_>) -> Result<(), Denied> {
        if !self.allows_address(caller.address, members).await {
            return Err(Denied::Address);
        }
        if self.certificate && !caller.verified {
            return Err(Denied::NoCertificate);
        }
        match (&self.login, caller.authorization) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(Denied::NoCredentials),
            (Some(login), Some(header)) if login.is(header) => Ok(()),
            (Some(_), Some(_)) => Err(Denied::WrongCredentials),
        }
    }

    async fn allows_address(&self, from: Option<IpAddr>, members: Members<'_>) -> bool {
        let counted = match members {
            Members::Count(cluster) if self.include_members => Some(cluster),
            Members::Count(_) | Members::Ignore => None,
        };
        if self.networks.is_none() && counted.is_none() {
            return true;
        }
        // A socket for both families shows IPv4 clients as ::ffff:a.b.c.d.
        let Some(from) = from.map(|from| from.to_canonical()) else { return false };
        if self.networks.iter().flatten().any(|network| network.contains(&from)) {
            return true;
        }
        match counted.flatten() {
            Some(cluster) => is_member(cluster, from).await,
            None => false,
        }
    }
}

/// Do the members of the cluster count among those who may change something, if the settings say so?
#[derive(Clone, Copy, Debug)]
pub enum Members<'a> {
    /// Yes: those of the cluster as last read, if it ever was.
    Count(Option<&'a Cluster>),
    /// No: the request must work where nothing is known of the cluster.
    Ignore,
}

/// A network (bits beyond its prefix do not matter) or an address; `None` for a name.
fn network(item: &str) -> Option<IpNet> {
    let item = item.trim();
    match item.parse::<IpAddr>() {
        Ok(address) => Some(address.to_canonical().into()),
        Err(_) => item.parse().ok(),
    }
}

async fn look_up(name: &str) -> Result<Vec<IpAddr>, String> {
    let name = name.trim();
    if name.is_empty() || name.contains(['/', ' ']) {
        return Err("it is neither a network, nor an address, nor a name".to_owned());
    }
    let found = tokio::time::timeout(NAME_PATIENCE, tokio::net::lookup_host((name, 0))).await;
    match found {
        Ok(Ok(addresses)) => Ok(addresses.map(|address| address.ip().to_canonical()).collect()),
        Ok(Err(e)) => Err(format!("its address cannot be found: {e}; reload when it can")),
        Err(_) => Err(format!("its address was not found within {NAME_PATIENCE:?}; reload when it can be")),
    }
}

/// Is it the address of a member's API? Addresses are compared first, then names are looked up.
async fn is_member(cluster: &Cluster, from: IpAddr) -> bool {
    let urls = cluster.members.values().filter_map(|member| member.doc.api_url.as_deref());
    let hosts: Vec<String> = urls.filter_map(host).collect();
    let (addresses, names): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|host| host.parse::<IpAddr>().is_ok());
    if addresses.iter().any(|host| host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical() == from)) {
        return true;
    }
    let looked_up = join_all(names.iter().map(|name| look_up(name)));
    let found = tokio::time::timeout(MEMBERS_PATIENCE, looked_up).await.unwrap_or_default();
    found.into_iter().flatten().flatten().any(|address| address == from)
}

fn host(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    Some(uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned())
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
