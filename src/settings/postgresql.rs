//! `postgresql`: the server this node runs.

use super::address::{HostPort, host_port};
use super::bootstrap::{UNUSABLE_COMMAND, options};
use super::error::SettingsError;
use super::restapi::connect_address;
use super::secret::Secret;
use super::section::Section;
use super::server_files::{self, ServerFiles};
use pgherd_actors::wiring::LocalPolicy;
use pgherd_postgres::{CallbackCommands, LocalScripts, Overlay, ReplicaMethod, RoleClass, command_words};
use pgherd_types::CallbackAction;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How to log in to PostgreSQL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatabaseLogin {
    /// The role.
    pub username: String,
    /// Its password; `None` when PostgreSQL asks for none.
    pub password: Option<Secret>,
    /// Further connection keywords with their values.
    pub extra: Vec<(&'static str, String)>,
}

/// The server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Postgresql {
    /// `listen_addresses`, as PostgreSQL wants it.
    pub listen_addresses: String,
    /// `port`.
    pub port: u16,
    /// How others reach it.
    pub connect_address: HostPort,
    /// The data directory, absolute.
    pub data_dir: PathBuf,
    /// Where the programs are; `None` searches the PATH.
    pub bin_dir: Option<PathBuf>,
    /// Names and places that differ from the usual ones.
    pub files: ServerFiles,
    /// How clients reach it through a connection pooler.
    pub proxy_address: Option<HostPort>,
    /// The password file the agent writes for replication.
    pub pgpass: PathBuf,
    /// The database the agent connects to.
    pub database: String,
    /// The superuser.
    pub superuser: DatabaseLogin,
    /// The role standbys stream as.
    pub replication: DatabaseLogin,
    /// The role pg_rewind uses; by default the superuser.
    pub rewind: DatabaseLogin,
    /// PostgreSQL settings, in order; `on` and `off` for true and false.
    pub parameters: Vec<(String, String)>,
    /// The whole `pg_hba.conf`; `None` leaves the file alone.
    pub pg_hba: Option<Vec<String>>,
    /// The whole `pg_ident.conf`; `None` leaves the file alone.
    pub pg_ident: Option<Vec<String>>,
    /// Recovery settings of standbys (`restore_command`, …); `None` leaves them to the dynamic configuration.
    pub recovery_conf: Option<Vec<(String, String)>>,
    /// What counts only while the server has a role.
    pub overlays: BTreeMap<RoleClass, Overlay>,
    /// Options for pg_basebackup, `--name` or `--name=value`.
    pub basebackup: Vec<String>,
    /// The ways to make a replica, in order; empty leaves them to the dynamic configuration.
    pub create_replica_methods: Vec<String>,
    /// Those of them that are programs, and others that the dynamic configuration may name.
    pub replica_methods: Vec<ReplicaMethod>,
    /// Options for pg_rewind, in the same form.
    pub rewind_options: Vec<String>,
    /// What may be done with diverged data here; what is not said is left to the dynamic configuration.
    pub policy: LocalPolicy,
    /// The agent connects through the unix socket.
    pub use_unix_socket: bool,
    /// The agent's replication connections go through it, too.
    pub use_unix_socket_repl: bool,
    /// Kerberos service name of the servers.
    pub krbsrvname: Option<String>,
    /// How long a start or stop may take before it is reported as late.
    pub pg_ctl_timeout: Duration,
    /// The scripts that it calls.
    pub scripts: LocalScripts,
}

/// Options of pg_basebackup that the agent sets itself.
const BASEBACKUP_OWN: &[&str] = &[
    "pgdata",
    "format",
    "wal-method",
    "xlog-method",
    "gzip",
    "compress",
    "version",
    "dbname",
    "host",
    "port",
    "username",
    "password",
];

/// Options of pg_rewind that the agent sets itself, or that would make it do something else.
const REWIND_OWN: &[&str] = &[
    "target-pgdata",
    "source-pgdata",
    "source-server",
    "write-recovery-conf",
    "dry-run",
    "restore-target-wal",
    "config-file",
    "no-ensure-shutdown",
    "version",
    "help",
];

/// How PostgreSQL's own programs and standbys connect; the agent's connections to its own server use none of it.
const CONNECTION_KEYWORDS: &[&str] = &[
    "sslmode",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "gssencmode",
    "channel_binding",
    "sslnegotiation",
];

/// Reads the section.
pub fn read(section: Section) -> Result<Postgresql, SettingsError> {
    let (listen_addresses, first) = listen(&section)?;
    let data_dir = absolute(&section, "data_dir", section.required_text("data_dir")?)?;
    let logins = section.section("authentication")?;
    let superuser = login(&logins, "superuser")?.ok_or_else(|| logins.missing("superuser"))?;
    let named = match section.texts("create_replica_methods")? {
        None => section.texts("create_replica_method")?,
        named => named,
    };
    let create_replica_methods = named.unwrap_or_default();
    let postgresql = Postgresql {
        listen_addresses,
        port: first.port,
        connect_address: connect_address(&section, &first, Some(5432))?,
        data_dir,
        bin_dir: section
            .text("bin_dir")?
            .filter(|d| !d.is_empty())
            .map(|d| absolute(&section, "bin_dir", d))
            .transpose()?,
        files: server_files::read(&section)?,
        proxy_address: proxy_address(&section)?,
        pgpass: pgpass(&section)?,
        database: section.text("database")?.unwrap_or_else(|| "postgres".to_owned()),
        replication: login(&logins, "replication")?.ok_or_else(|| logins.missing("replication"))?,
        rewind: login(&logins, "rewind")?.unwrap_or_else(|| superuser.clone()),
        superuser,
        parameters: section.parameters("parameters")?,
        pg_hba: section.texts("pg_hba")?,
        pg_ident: section.texts("pg_ident")?,
        recovery_conf: match section.raw("recovery_conf") {
            None => None,
            Some(_) => Some(section.parameters("recovery_conf")?),
        },
        overlays: server_files::overlays(&section)?,
        basebackup: options(&section, "basebackup", BASEBACKUP_OWN)?,
        replica_methods: replica_methods(&section, &create_replica_methods)?,
        create_replica_methods,
        rewind_options: options(&section, "rewind", REWIND_OWN)?,
        policy: LocalPolicy {
            use_pg_rewind: section.flag("use_pg_rewind")?,
            replace_on_failure: section.flag("remove_data_directory_on_rewind_failure")?,
            replace_on_divergence: section.flag("remove_data_directory_on_diverged_timelines")?,
        },
        use_unix_socket: section.flag("use_unix_socket")?.unwrap_or(false),
        use_unix_socket_repl: section.flag("use_unix_socket_repl")?.unwrap_or(false),
        krbsrvname: section.text("krbsrvname")?.filter(|name| !name.is_empty()),
        pg_ctl_timeout: seconds(&section, "pg_ctl_timeout")?.unwrap_or(Duration::from_secs(60)),
        scripts: scripts(&section)?,
    };
    if section.raw("use_slots").is_some() {
        section.warn("use_slots", "has no effect here: it is a dynamic setting (bootstrap.dcs.postgresql.use_slots)");
    }
    logins.finish();
    section.finish();
    Ok(postgresql)
}

/// The sections of the methods in the list, and every other map that names a command.
fn replica_methods(section: &Section, listed: &[String]) -> Result<Vec<ReplicaMethod>, SettingsError> {
    let is_method = |value: &serde_json::Value| value.get("command").is_some();
    let others = section.entries().filter(|(_, value)| is_method(value)).map(|(name, _)| name);
    let mut methods: Vec<ReplicaMethod> = Vec::new();
    for name in listed.iter().chain(others).filter(|name| *name != "basebackup") {
        if methods.iter().any(|method| method.name == *name) {
            continue;
        }
        let empty = serde_json::Map::new();
        let map = match section.raw(name) {
            None => &empty,
            Some(serde_json::Value::Object(map)) => map,
            Some(_) => return Err(section.error(name, "must be a map: the section of a replica method")),
        };
        let method = ReplicaMethod::from_section(name, map).map_err(|e| section.error(name, e))?;
        command_words(&method.command).ok_or_else(|| section.error(name, UNUSABLE_COMMAND))?;
        methods.push(method);
    }
    Ok(methods)
}

/// `h1,h2:port`: all the addresses, and the first with the port.
fn listen(section: &Section) -> Result<(String, HostPort), SettingsError> {
    let text = section.required_text("listen")?;
    let wrong = |what: String| section.error("listen", what);
    let (others, last) = text.rsplit_once(',').map_or((None, text.as_str()), |(o, l)| (Some(o), l));
    let last = host_port(last, Some(5432)).map_err(wrong)?;
    let mut hosts: Vec<String> = others.into_iter().flat_map(|o| o.split(',')).map(|h| h.trim().to_owned()).collect();
    hosts.push(last.host);
    for host in &mut hosts {
        *host = host.trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            *host = "*".to_owned();
        }
    }
    let first = HostPort { host: hosts.first().cloned().unwrap_or_default(), port: last.port };
    Ok((hosts.join(","), first))
}

fn proxy_address(section: &Section) -> Result<Option<HostPort>, SettingsError> {
    let key = "proxy_address";
    let Some(text) = section.text(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    host_port(&text, Some(5432)).map(Some).map_err(|what| section.error(key, what))
}

fn absolute(section: &Section, key: &str, path: String) -> Result<PathBuf, SettingsError> {
    std::path::absolute(path).map_err(|e| section.error(key, format!("cannot be made an absolute path: {e}")))
}

fn pgpass(section: &Section) -> Result<PathBuf, SettingsError> {
    match section.text("pgpass")? {
        Some(path) => absolute(section, "pgpass", path),
        None => std::env::home_dir()
            .map(|home| home.join("pgpass"))
            .ok_or_else(|| section.error("pgpass", "missing, but needed because this user has no home directory")),
    }
}

fn login(logins: &Section, who: &str) -> Result<Option<DatabaseLogin>, SettingsError> {
    let login = logins.section(who)?;
    if !login.exists() {
        return Ok(None);
    }
    let username = login.required_text("username")?;
    let password = login.text("password")?.map(Secret::new);
    let mut extra = Vec::new();
    for keyword in CONNECTION_KEYWORDS {
        extra.extend(login.text(keyword)?.map(|value| (*keyword, value)));
    }
    login.finish();
    Ok(Some(DatabaseLogin { username, password, extra }))
}

fn seconds(section: &Section, key: &str) -> Result<Option<Duration>, SettingsError> {
    match section.integer(key)? {
        None => Ok(None),
        Some(seconds @ 1..=86_400) => Ok(Some(Duration::from_secs(seconds.unsigned_abs()))),
        Some(_) => Err(section.error(key, "must be between 1 and 86400 seconds")),
    }
}

fn scripts(section: &Section) -> Result<LocalScripts, SettingsError> {
    Ok(LocalScripts {
        callbacks: callbacks(section)?,
        callback_timeout: seconds(section, "callback_timeout")?,
        pre_promote: command(section, "pre_promote")?,
        before_stop: command(section, "before_stop")?,
    })
}

fn callbacks(section: &Section) -> Result<Option<CallbackCommands>, SettingsError> {
    let callbacks = section.section("callbacks")?;
    let mut commands = CallbackCommands::new();
    for action in CallbackAction::ALL {
        let command = command(&callbacks, action.as_str())?.filter(|words| !words.is_empty());
        commands.extend(command.map(|words| (action, words)));
    }
    let there = callbacks.exists();
    callbacks.finish();
    Ok(there.then_some(commands))
}

/// A command line, split as a shell splits it but without anything else that a shell does; empty when there is none.
fn command(section: &Section, key: &str) -> Result<Option<Vec<String>>, SettingsError> {
    let Some(text) = section.text(key)? else { return Ok(None) };
    let words = shlex::split(&text).ok_or_else(|| section.error(key, "has a quote or a backslash without its end"))?;
    Ok(Some(words))
}
