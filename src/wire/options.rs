//! One node's settings as the options of each package.

use crate::settings::{DatabaseLogin, NodeSettings};
use pgherd_actors::wiring::Me;
use pgherd_dcs::EtcdOptions;
use pgherd_postgres::{Credentials, PostgresOptions};
use pgherd_tls::VerifyClient;
use pgherd_web::{AccessOptions, ApiOptions, BasicLogin, ListenerTls};

/// For the coordinator.
pub fn me(settings: &NodeSettings) -> Me {
    let postgres = &settings.postgresql;
    Me {
        name: settings.name.clone(),
        conn_url: format!("postgres://{}/{}", postgres.connect_address, postgres.database),
        api_url: settings.restapi.api_url(),
        proxy_url: postgres.proxy_address.as_ref().map(|address| format!("postgres://{address}/{}", postgres.database)),
        tags: settings.tags.clone(),
        can_bootstrap: settings.bootstrap.present,
        custom_bootstrap: settings.bootstrap.method.is_some(),
        can_restore: settings.postgresql.replica_methods.iter().any(|method| method.no_leader),
    }
}

/// For the DCS watcher.
pub fn etcd(settings: &NodeSettings) -> Result<EtcdOptions, String> {
    Ok(EtcdOptions {
        server: settings.etcd3.server()?.shared(),
        namespace: settings.namespace.clone(),
        scope: settings.scope.clone(),
        member: settings.name.clone(),
        api: settings.etcd3.api,
    })
}

/// For the API server.
pub fn api(settings: &NodeSettings, tls: Option<ListenerTls>) -> ApiOptions {
    let listen = &settings.restapi.listen;
    let headers = settings.restapi.headers.clone();
    let defaults = ApiOptions::default();
    ApiOptions {
        host: listen.host.clone(),
        port: listen.port,
        access: access(settings),
        headers,
        tls,
        backlog: settings.restapi.request_queue_size.unwrap_or(defaults.backlog),
        ..defaults
    }
}

/// Who may change something through the API.
pub fn access(settings: &NodeSettings) -> AccessOptions {
    let restapi = &settings.restapi;
    let login = restapi.authentication.as_ref();
    AccessOptions {
        login: login.map(|login| BasicLogin::new(&login.username, login.password.expose())),
        allowlist: restapi.allowlist.clone(),
        allowlist_include_members: restapi.allowlist_include_members,
        certificate: restapi.tls.as_ref().is_some_and(|tls| tls.verify_client != VerifyClient::None),
    }
}

/// For everything that touches PostgreSQL.
pub fn postgres(settings: &NodeSettings) -> PostgresOptions {
    let from = &settings.postgresql;
    PostgresOptions {
        bin_dir: from.bin_dir.clone(),
        bin_name: from.files.bin_name.clone(),
        config_dir: from.files.config_dir.clone(),
        config_base_name: from.files.config_base_name.clone(),
        custom_conf: from.files.custom_conf.clone(),
        listen_hosts: from.listen_addresses.clone(),
        listen_port: from.port,
        connect_host: from.connect_address.host.clone(),
        connect_port: from.connect_address.port,
        database: from.database.clone(),
        pgpass: Some(from.pgpass.clone()),
        superuser: credentials(&from.superuser),
        replication: credentials(&from.replication),
        rewind: (from.rewind != from.superuser).then(|| credentials(&from.rewind)),
        parameters: from.parameters.iter().cloned().collect(),
        pg_hba: from.pg_hba.clone().unwrap_or_default(),
        pg_ident: from.pg_ident.clone().unwrap_or_default(),
        recovery_conf: from.recovery_conf.as_ref().map(|pairs| pairs.iter().cloned().collect()),
        overlays: from.overlays.clone(),
        initdb: pairs(&settings.bootstrap.initdb),
        basebackup: pairs(&from.basebackup),
        create_replica_methods: from.create_replica_methods.clone(),
        replica_methods: from.replica_methods.clone(),
        rewind_options: pairs(&from.rewind_options),
        bootstrap_pg_hba: settings.bootstrap.pg_hba.clone(),
        bootstrap_tool: settings.bootstrap.method.clone(),
        post_bootstrap: settings.bootstrap.post_bootstrap.clone(),
        bootstrap_users: settings.bootstrap.users.iter().map(|user| user.name.clone()).collect(),
        bootstrap_dcs: settings.bootstrap.dcs.clone(),
        use_unix_socket: from.use_unix_socket,
        use_unix_socket_repl: from.use_unix_socket_repl,
        krbsrvname: from.krbsrvname.clone(),
        ctl_timeout: from.pg_ctl_timeout,
        scripts: from.scripts.clone(),
        ..PostgresOptions::new(settings.name.clone(), &settings.scope, &from.data_dir)
    }
}

fn credentials(login: &DatabaseLogin) -> Credentials {
    Credentials {
        username: Some(login.username.clone()),
        password: login.password.as_ref().map(|secret| secret.expose().to_owned()),
        extra: login.extra.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
    }
}

/// `--name=value` and `--name` as pairs.
fn pairs(options: &[String]) -> Vec<(String, Option<String>)> {
    let pair = |option: &String| {
        let bare = option.trim_start_matches('-');
        match bare.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (bare.to_owned(), None),
        }
    };
    options.iter().map(pair).collect()
}
