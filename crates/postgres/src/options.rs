//! What the server is made from: the local part of the configuration, composed by the binary from its settings file.

use crate::custom_bootstrap::BootstrapMethod;
use crate::methods::ReplicaMethod;
use crate::role_overlay::{Overlay, RoleClass};
use crate::room;
use crate::script_settings::LocalScripts;
use pgherd_types::MemberName;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A login role and how to connect with it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Role name; `None` means the name of the operating system's user, as libpq does.
    pub username: Option<String>,
    /// Its password; `None` when it needs none.
    pub password: Option<String>,
    /// Further libpq keywords (`sslmode`, `sslcert`, …) with their values.
    pub extra: BTreeMap<String, String>,
}

/// Passwords never reach a log.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The local configuration of one server.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// This member.
    pub name: MemberName,
    /// Its cluster; becomes `cluster_name`.
    pub scope: String,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Where PostgreSQL's programs are; `None` searches `PATH`.
    pub bin_dir: Option<PathBuf>,
    /// Programs that have another name than PostgreSQL gives them: its name, theirs.
    pub bin_name: BTreeMap<String, String>,
    /// Where the configuration files are; `None` is the data directory.
    pub config_dir: Option<PathBuf>,
    /// The main configuration file without `.conf`.
    pub config_base_name: String,
    /// A file of the user's that is included instead of the one initdb made.
    pub custom_conf: Option<String>,
    /// Hosts of `postgresql.listen`, separated by commas.
    pub listen_hosts: String,
    /// Port of `postgresql.listen`.
    pub listen_port: u16,
    /// Host other members reach this server at.
    pub connect_host: String,
    /// Port other members reach this server at.
    pub connect_port: u16,
    /// Database for the agent's own connections.
    pub database: String,
    /// Password file for replication; `None` keeps it in the state directory.
    pub pgpass: Option<PathBuf>,
    /// The superuser.
    pub superuser: Credentials,
    /// The role standbys stream with.
    pub replication: Credentials,
    /// The role for rewinding, if it is another one than the superuser.
    pub rewind: Option<Credentials>,
    /// `postgresql.parameters`, as text.
    pub parameters: BTreeMap<String, String>,
    /// `postgresql.pg_hba`; empty leaves the file to the user.
    pub pg_hba: Vec<String>,
    /// `postgresql.pg_ident`; empty leaves the file to the user.
    pub pg_ident: Vec<String>,
    /// `postgresql.recovery_conf`, if it is in the local configuration.
    pub recovery_conf: Option<BTreeMap<String, String>>,
    /// `parameters_<role>`, `pg_hba_<role>` and `pg_ident_<role>` of the local configuration.
    pub overlays: BTreeMap<RoleClass, Overlay>,
    /// `bootstrap.initdb`: option and value.
    pub initdb: Vec<(String, Option<String>)>,
    /// `postgresql.basebackup`: option and value.
    pub basebackup: Vec<(String, Option<String>)>,
    /// `postgresql.create_replica_methods`; empty leaves it to the dynamic configuration.
    pub create_replica_methods: Vec<String>,
    /// The sections of those methods that are programs.
    pub replica_methods: Vec<ReplicaMethod>,
    /// How many bytes are free where this path is.
    pub free_bytes: fn(&Path) -> std::io::Result<u64>,
    /// `postgresql.rewind`: option and value, for pg_rewind.
    pub rewind_options: Vec<(String, Option<String>)>,
    /// `bootstrap.pg_hba`.
    pub bootstrap_pg_hba: Vec<String>,
    /// The program that makes a new cluster; `None` for initdb.
    pub bootstrap_tool: Option<BootstrapMethod>,
    /// `bootstrap.post_bootstrap`: a command line.
    pub post_bootstrap: Option<String>,
    /// Names in `bootstrap.users`: not supported any more, only reported.
    pub bootstrap_users: Vec<String>,
    /// `bootstrap.dcs` as JSON text: the dynamic configuration until the `config` key is read.
    pub bootstrap_dcs: String,
    /// Connect through the Unix socket instead of TCP.
    pub use_unix_socket: bool,
    /// The same for the agent's own replication connections.
    pub use_unix_socket_repl: bool,
    /// Kerberos service name of the servers.
    pub krbsrvname: Option<String>,
    /// How long to wait for a standby to accept connections, and for an orderly stop before it becomes immediate.
    pub ctl_timeout: Duration,
    /// The user's scripts, as far as the local configuration names them.
    pub scripts: LocalScripts,
    /// User and group id for PostgreSQL's programs when the caller is root (tests); otherwise `None`.
    pub run_as: Option<(u32, u32)>,
}

impl PostgresOptions {
    /// Options with the product's defaults for everything that has one.
    pub fn new(name: MemberName, scope: &str, data_dir: &Path) -> Self {
        Self {
            name,
            scope: scope.to_owned(),
            data_dir: data_dir.to_owned(),
            bin_dir: None,
            bin_name: BTreeMap::new(),
            config_dir: None,
            config_base_name: "postgresql".to_owned(),
            custom_conf: None,
            listen_hosts: "127.0.0.1".to_owned(),
            listen_port: 5432,
            connect_host: "127.0.0.1".to_owned(),
            connect_port: 5432,
            database: "postgres".to_owned(),
            pgpass: None,
            superuser: Credentials::default(),
            replication: Credentials::default(),
            rewind: None,
            parameters: BTreeMap::new(),
            pg_hba: Vec::new(),
            pg_ident: Vec::new(),
            recovery_conf: None,
            overlays: BTreeMap::new(),
            initdb: Vec::new(),
            basebackup: Vec::new(),
            create_replica_methods: Vec::new(),
            replica_methods: Vec::new(),
            free_bytes: room::free_bytes,
            rewind_options: Vec::new(),
            bootstrap_pg_hba: Vec::new(),
            bootstrap_tool: None,
            post_bootstrap: None,
            bootstrap_users: Vec::new(),
            bootstrap_dcs: "{}".to_owned(),
            use_unix_socket: false,
            use_unix_socket_repl: false,
            krbsrvname: None,
            ctl_timeout: Duration::from_secs(60),
            scripts: LocalScripts::default(),
            run_as: None,
        }
    }

    /// The role name of these credentials, by libpq's rule when it is not given.
    pub fn user_of(&self, credentials: &Credentials) -> String {
        credentials.username.clone().unwrap_or_else(|| self.os_user())
    }

    fn os_user(&self) -> String {
        let uid = self.run_as.map_or_else(|| rustix::process::geteuid().as_raw(), |(uid, _)| uid);
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name_of = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            (fields.nth(1)?.parse::<u32>().ok()? == uid).then_some(name)
        };
        passwd.lines().find_map(name_of).unwrap_or_else(|| "postgres".to_owned())
    }

    /// The host to reach our own server at over TCP (spec/postgres-control.md 2).
    pub fn local_tcp_host(&self) -> String {
        let hosts: Vec<&str> = self.listen_hosts.split(',').map(str::trim).collect();
        let local = |h: &&str| matches!(*h, "*" | "localhost" | "0.0.0.0" | "127.0.0.1");
        if hosts.iter().any(local) { "localhost".to_owned() } else { hosts.first().unwrap_or(&"localhost").to_string() }
    }
}
