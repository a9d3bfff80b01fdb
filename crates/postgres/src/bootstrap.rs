//! Making a new cluster and its roles. It is made beside the data directory by initdb, or in it by a program of the
//! user's (`custom_bootstrap.rs`); the roles and the user's script see it through a private server. A failed attempt is kept
//! for people to look into.

use crate::aside::keep_failed;
use crate::config_files::{self, Recovery};
use crate::conninfo::pair;
use crate::control::OperationControl;
use crate::custom_bootstrap;
use crate::error::{OperationError, Outcome, Tried};
use crate::exchange::Detour;
use crate::flush;
use crate::in_place;
use crate::initdb;
use crate::interrupted;
use crate::options::Credentials;
use crate::passfile;
use crate::private_server::PrivateServer;
use crate::roles::{self, Password};
use crate::server::Postgres;
use crate::sql::Session;
use crate::staging::{install, require_room};
use crate::state_dir::write_private;
use crate::tool::{Tool, one_time_password};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Who may log in to the private server at first.
pub(crate) struct FirstLogin {
    pub who: Credentials,
    /// It was made for this and goes in the end.
    pub temporary: bool,
    /// The new files must still be flushed; until then nothing needs to be.
    pub unflushed: bool,
}

/// Makes the cluster and its roles; ends with PostgreSQL stopped.
pub async fn bootstrap(server: &Postgres, control: &OperationControl) -> Outcome<()> {
    require_room(server, false)?;
    interrupted::discard_staging(server)?;
    if in_place::is_incomplete(&server.options.data_dir) {
        keep_failed(server, &server.place())?;
        in_place::forget(server)?;
    }
    interrupted::begin(server, "bootstrap")?;
    let staging = server.staging();
    let made = match make(server, &staging, control).await {
        Ok(()) => control.go_on().and_then(|()| install(server, &Detour::default())),
        Err(e) => Err(e),
    };
    if let Err(e) = &made {
        if matches!(e, OperationError::Failed(_)) && staging.exists() {
            keep_failed(server, &staging)?;
        }
        interrupted::discard_staging(server)?;
    }
    interrupted::finish(server)?;
    made
}

async fn make(server: &Postgres, staging: &Path, control: &OperationControl) -> Outcome<()> {
    let login = match &server.current().bootstrap_tool {
        Some(tool) => custom_bootstrap::run(server, tool, staging, control)?,
        None => by_initdb(server, staging, control)?,
    };
    config_files::write_at(server, staging, &server.config(), Recovery::Primary)?;
    append_bootstrap_hba(server, staging)?;
    control.go_on()?;
    let options = server.current();
    let superuser = options.user_of(&options.superuser);
    let first = options.user_of(&login.who);
    let private = PrivateServer::start(server, staging, &[&first, &superuser], !login.unflushed, control)?;
    set_up(server, &private, &login, &superuser, control).await?;
    private.stop()?;
    if login.unflushed { flush::data(staging) } else { Ok(()) }
}

fn by_initdb(server: &Postgres, staging: &Path, control: &OperationControl) -> Outcome<FirstLogin> {
    let mut who = server.current().superuser.clone();
    if who.password.is_none() {
        who.password = Some(one_time_password()?);
    }
    let unflushed = initdb::run(server, staging, who.password.as_deref().unwrap_or_default(), control)?;
    Ok(FirstLogin { who, temporary: false, unflushed })
}

/// Roles and the user's script, in the order of spec/bootstrap-and-replicas.md 2.3.
async fn set_up(
    server: &Postgres,
    private: &PrivateServer<'_>,
    login: &FirstLogin,
    superuser: &str,
    control: &OperationControl,
) -> Outcome<()> {
    let session = private.session(&login.who).await?;
    roles::begin_quietly(&session).await?;
    let configured = server.current().superuser.password.clone();
    let script_password = configured.clone().or_else(|| login.who.password.clone()).unwrap_or_default();
    // With a password that is only ours the superuser gets back what it had.
    let before = match (&configured, login.temporary) {
        (Some(_), _) => None,
        (None, true) => Some(roles::stored_password(&session, superuser).await?),
        (None, false) => Some(Password::None),
    };
    roles::make_superuser(&session, superuser, &script_password).await?;
    run_script(server, private, superuser, &script_password, control)?;
    roles::create(server, &session).await?;
    if let Some(before) = before {
        roles::set_password(&session, superuser, &before).await?;
    }
    if login.temporary {
        drop_temporary(&session, superuser, &login.who).await?;
    }
    Ok(())
}

async fn drop_temporary(session: &Session, superuser: &str, who: &Credentials) -> Outcome<()> {
    roles::drop_as(session, superuser, who.username.as_deref().unwrap_or_default()).await
}

/// `bootstrap.post_bootstrap`.
fn run_script(
    server: &Postgres,
    private: &PrivateServer<'_>,
    superuser: &str,
    password: &str,
    control: &OperationControl,
) -> Outcome<()> {
    let options = &server.options;
    let Some(command) = &options.post_bootstrap else { return Ok(()) };
    log::info!("running post_bootstrap");
    let host = private.socket_directory().display().to_string();
    let port = options.listen_port;
    let pgpass = server.state.path().join("pgpass.bootstrap");
    let who = Credentials { password: Some(password.to_owned()), ..Credentials::default() };
    passfile::write(&pgpass, &host, port, superuser, &who, options.run_as)?;
    let dsn = [
        pair("dbname", &options.database),
        pair("user", superuser),
        pair("host", &host),
        pair("port", &port.to_string()),
    ];
    let ran = Tool {
        what: "the post_bootstrap script".to_owned(),
        command,
        arguments: vec![dsn.join(" ")],
        env: vec![
            ("PGPASSFILE", pgpass.display().to_string()),
            ("PGOPTIONS", "-c synchronous_commit=local -c statement_timeout=0".to_owned()),
        ],
        operation: "bootstrap",
        log: "post_bootstrap.log".to_owned(),
    }
    .run(server, control);
    let _ = fs::remove_file(&pgpass);
    ran
}

/// `bootstrap.pg_hba` counts only when `postgresql.pg_hba` does not replace the whole file.
fn append_bootstrap_hba(server: &Postgres, staging: &Path) -> Outcome<()> {
    if !server.config().pg_hba.is_empty() || server.options.bootstrap_pg_hba.is_empty() {
        return Ok(());
    }
    let path = staging.join("pg_hba.conf");
    let old = match fs::read_to_string(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
        other => other.tried(|| format!("read {}", path.display()))?,
    };
    write_private(&path, &format!("{old}\n{}\n", server.options.bootstrap_pg_hba.join("\n")), server.options.run_as)
}
