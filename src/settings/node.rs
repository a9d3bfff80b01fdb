//! Everything a node needs to know to run, as plain data.

use super::bootstrap::{self, Bootstrap};
use super::ctl::{self, Ctl};
use super::error::SettingsError;
use super::etcd3::{self, Etcd3};
use super::log::{self, Log};
use super::postgresql::{self, Postgresql};
use super::restapi::{self, RestApi};
use super::section::{Reading, Section};
use super::{events, tags, watchdog};
use pgherd_actors::events::Webhook;
use pgherd_dcs::EtcdApi;
use pgherd_types::{MemberName, Tags};
use pgherd_watchdog::WatchdogOptions;
use serde_json::{Map, Value};

/// One node's settings.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeSettings {
    /// The cluster's name.
    pub scope: String,
    /// This member's name.
    pub name: MemberName,
    /// Under which path the cluster's keys live: begins with `/`, does not end with it.
    pub namespace: String,
    /// The API server.
    pub restapi: RestApi,
    /// How other members' API servers are spoken to.
    pub ctl: Ctl,
    /// The DCS: etcd, by the section `etcd3` or `etcd`.
    pub etcd3: Etcd3,
    /// How a new cluster is made.
    pub bootstrap: Bootstrap,
    /// The PostgreSQL server.
    pub postgresql: Postgresql,
    /// This member's tags.
    pub tags: Tags,
    /// The log.
    pub log: Log,
    /// The watchdog device.
    pub watchdog: WatchdogOptions,
    /// Where else what happens is told.
    pub webhooks: Vec<Webhook>,
}

/// Keys of other stores: a node with only such a section cannot run yet.
pub(super) const OTHER_STORES: &[&str] = &["consul", "zookeeper", "exhibitor", "kubernetes", "raft"];

/// Reads the whole tree.
pub fn read(reading: &Reading, map: &Map<String, Value>) -> Result<NodeSettings, SettingsError> {
    let root = Section::root(reading, map);
    let scope = key_part(&root, "scope")?;
    let name = key_part(&root, "name")?;
    if name == "__patroni_strict_sync_replica_placeholder__" {
        return Err(root.error("name", "this name is reserved"));
    }
    let section = stores(&root)?.unwrap_or(EtcdApi::V3);
    if section == EtcdApi::V2 {
        parts_of_a_path(&root, &[("scope", &scope), ("name", &name)])?;
    }
    let settings = NodeSettings {
        scope,
        name: MemberName(name),
        namespace: namespace(&root)?,
        restapi: restapi::read(root.section("restapi")?)?,
        ctl: ctl(&root)?,
        etcd3: etcd3::read(root.section(etcd3::name(section))?, section)?,
        bootstrap: bootstrap::read(root.section("bootstrap")?)?,
        postgresql: postgresql::read(root.section("postgresql")?)?,
        tags: tags::read(root.section("tags")?)?,
        log: log::read(root.section("log")?)?,
        watchdog: watchdog::read(root.section("watchdog")?)?,
        webhooks: events::read(root.section("events")?)?,
    };
    root.without_effect_yet(&["thread_pool_size", "thread_stack_size", "citus"]);
    root.finish();
    Ok(settings)
}

/// What a command needs that works on a cluster from outside.
#[derive(Clone, PartialEq, Debug)]
pub struct ClientSettings {
    /// The cluster, unless the command names one.
    pub scope: Option<String>,
    /// Under which path the keys of clusters live.
    pub namespace: String,
    /// The DCS, if one is named.
    pub etcd3: Option<Etcd3>,
    /// For the members' REST APIs.
    pub ctl: Ctl,
}

/// Reads only what such a command needs.
pub fn read_client(reading: &Reading, map: &Map<String, Value>) -> Result<ClientSettings, SettingsError> {
    let root = Section::root(reading, map);
    let etcd3 = match stores(&root)? {
        Some(api) => Some(etcd3::read(root.section(etcd3::name(api))?, api)?),
        None => None,
    };
    let ctl = ctl::read(&root.section("ctl")?, &root.section("restapi")?)?;
    Ok(ClientSettings { scope: root.text("scope")?, namespace: namespace(&root)?, etcd3, ctl })
}

/// A name that becomes one part of a DCS key.
fn key_part(root: &Section, key: &str) -> Result<String, SettingsError> {
    let text = root.required_text(key)?;
    if text.contains('/') || text.chars().any(char::is_control) {
        return Err(root.error(key, "must not contain `/` or control characters: it becomes part of a key in etcd"));
    }
    Ok(text)
}

fn namespace(root: &Section) -> Result<String, SettingsError> {
    let text = root.text("namespace")?.unwrap_or_else(|| "/service".to_owned());
    let trimmed = text.trim_matches('/');
    Ok(if trimmed.is_empty() { String::new() } else { format!("/{trimmed}") })
}

/// Which of both sections there is. A file for another store must not start a node that knows nobody.
fn stores(root: &Section) -> Result<Option<EtcdApi>, SettingsError> {
    let section = match (root.raw("etcd3").is_some(), root.raw("etcd").is_some()) {
        (true, true) => {
            return Err(root.error("etcd", "there is a section etcd3 too; keep one: etcd3, or etcd for its old v2 API"));
        }
        (true, false) => Some(EtcdApi::V3),
        (false, true) => Some(EtcdApi::V2),
        (false, false) => None,
    };
    for store in OTHER_STORES.iter().filter(|store| root.raw(store).is_some()) {
        let what = "this store is not supported yet; use etcd3";
        match section {
            None => return Err(root.error(store, what)),
            Some(api) => root.warn(store, &format!("ignored because {} is there too: {what}", etcd3::name(api))),
        }
    }
    Ok(section)
}

/// etcd's v2 API hides keys that begin with `_`, and `.` and `..` are no names in a path.
fn parts_of_a_path(root: &Section, parts: &[(&str, &str)]) -> Result<(), SettingsError> {
    for (key, part) in parts {
        if part.starts_with('_') || [".", ".."].contains(part) {
            return Err(
                root.error(key, "must not begin with `_` or be `.` or `..`: etcd's v2 API would not show such a key")
            );
        }
    }
    Ok(())
}

fn ctl(root: &Section) -> Result<Ctl, SettingsError> {
    let section = root.section("ctl")?;
    let ctl = ctl::read(&section, &root.section("restapi")?)?;
    section.finish();
    Ok(ctl)
}
