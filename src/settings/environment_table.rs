//! Which environment variable leads to which key.

/// How a variable's text is read.
#[derive(Clone, Copy)]
pub enum Kind {
    /// As it is.
    Text,
    /// A whole number.
    Int,
    /// True or false.
    Bool,
    /// `a,b` or a YAML list.
    List,
    /// `k: v` or a YAML map.
    Map,
}
use Kind::{Bool, Int, List, Text};

/// Variables `<prefix><name>` set `<path>.<name in lower case>`.
pub struct Group {
    /// Begins the variables' names.
    pub prefix: &'static str,
    /// Where they lead.
    pub path: &'static [&'static str],
    /// The rest of the names, and how the texts are read.
    pub names: &'static [(&'static str, Kind)],
}

const LOGIN: &[(&str, Kind)] = &[("USERNAME", Text), ("PASSWORD", Text)];
const DATABASE_LOGIN: &[(&str, Kind)] = &[
    ("USERNAME", Text),
    ("PASSWORD", Text),
    ("SSLMODE", Text),
    ("SSLCERT", Text),
    ("SSLKEY", Text),
    ("SSLPASSWORD", Text),
    ("SSLROOTCERT", Text),
    ("SSLCRL", Text),
    ("SSLCRLDIR", Text),
    ("GSSENCMODE", Text),
    ("CHANNEL_BINDING", Text),
    ("SSLNEGOTIATION", Text),
];
const ETCD: &[(&str, Kind)] = &[
    ("HOST", Text),
    ("HOSTS", List),
    ("URL", Text),
    ("PROTOCOL", Text),
    ("USERNAME", Text),
    ("PASSWORD", Text),
    ("PROXY", Text),
    ("SRV", Text),
    ("SRV_SUFFIX", Text),
    ("USE_PROXIES", Bool),
    ("CACERT", Text),
    ("CERT", Text),
    ("KEY", Text),
];

/// All names that lead to a key.
pub const TABLE: &[Group] = &[
    Group {
        prefix: "PATRONI_",
        path: &[],
        names: &[
            ("NAME", Text),
            ("SCOPE", Text),
            ("NAMESPACE", Text),
            ("THREAD_POOL_SIZE", Text),
            ("THREAD_STACK_SIZE", Text),
        ],
    },
    Group {
        prefix: "PATRONI_LOG_",
        path: &["log"],
        names: &[
            ("TYPE", Text),
            ("LEVEL", Text),
            ("TRACEBACK_LEVEL", Text),
            ("FORMAT", Text),
            ("DATEFORMAT", Text),
            ("STATIC_FIELDS", Kind::Map),
            ("MAX_QUEUE_SIZE", Int),
            ("DIR", Text),
            ("MODE", Text),
            ("FILE_SIZE", Int),
            ("FILE_NUM", Int),
            ("LOGGERS", Kind::Map),
            ("DEDUPLICATE_HEARTBEAT_LOGS", Bool),
        ],
    },
    Group {
        prefix: "PATRONI_RESTAPI_",
        path: &["restapi"],
        names: &[
            ("LISTEN", Text),
            ("CONNECT_ADDRESS", Text),
            ("CERTFILE", Text),
            ("KEYFILE", Text),
            ("KEYFILE_PASSWORD", Text),
            ("CAFILE", Text),
            ("CIPHERS", Text),
            ("VERIFY_CLIENT", Text),
            ("HTTP_EXTRA_HEADERS", Kind::Map),
            ("HTTPS_EXTRA_HEADERS", Kind::Map),
            ("ALLOWLIST", List),
            ("ALLOWLIST_INCLUDE_MEMBERS", Bool),
            ("REQUEST_QUEUE_SIZE", Int),
            ("SERVER_TOKENS", Text),
        ],
    },
    Group { prefix: "PATRONI_RESTAPI_", path: &["restapi", "authentication"], names: LOGIN },
    Group { prefix: "PATRONI_CTL_", path: &["ctl", "authentication"], names: LOGIN },
    Group {
        prefix: "PATRONI_CTL_",
        path: &["ctl"],
        names: &[
            ("INSECURE", Bool),
            ("CACERT", Text),
            ("CERTFILE", Text),
            ("KEYFILE", Text),
            ("KEYFILE_PASSWORD", Text),
        ],
    },
    Group {
        prefix: "PATRONI_POSTGRESQL_",
        path: &["postgresql"],
        names: &[
            ("LISTEN", Text),
            ("CONNECT_ADDRESS", Text),
            ("PROXY_ADDRESS", Text),
            ("CONFIG_DIR", Text),
            ("DATA_DIR", Text),
            ("PGPASS", Text),
            ("BIN_DIR", Text),
        ],
    },
    Group {
        prefix: "PATRONI_POSTGRESQL_BIN_",
        path: &["postgresql", "bin_name"],
        names: &[
            ("PG_CTL", Text),
            ("INITDB", Text),
            ("PG_CONTROLDATA", Text),
            ("PG_BASEBACKUP", Text),
            ("POSTGRES", Text),
            ("PG_ISREADY", Text),
            ("PG_REWIND", Text),
        ],
    },
    Group { prefix: "PATRONI_SUPERUSER_", path: &["postgresql", "authentication", "superuser"], names: DATABASE_LOGIN },
    Group {
        prefix: "PATRONI_REPLICATION_",
        path: &["postgresql", "authentication", "replication"],
        names: DATABASE_LOGIN,
    },
    Group { prefix: "PATRONI_REWIND_", path: &["postgresql", "authentication", "rewind"], names: DATABASE_LOGIN },
    Group { prefix: "PATRONI_ETCD3_", path: &["etcd3"], names: ETCD },
    Group { prefix: "PATRONI_ETCD_", path: &["etcd"], names: ETCD },
];

/// Older names of `log` keys.
pub const OLD_NAMES: &[(&str, &str)] =
    &[("PATRONI_LOGLEVEL", "level"), ("PATRONI_LOGFORMAT", "format"), ("PATRONI_LOG_DATEFMT", "dateformat")];

/// Sections of other stores: their variables make the section exist, and that is answered with a clear error.
pub const OTHER_STORES: &[&str] = &["consul", "zookeeper", "exhibitor", "kubernetes", "raft", "citus"];
