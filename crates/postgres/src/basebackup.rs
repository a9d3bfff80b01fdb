//! Cloning another member with `pg_basebackup`.

use crate::config_files::{self, Recovery};
use crate::control::OperationControl;
use crate::error::{OperationError, Outcome};
use crate::interrupted;
use crate::options::Credentials;
use crate::passfile;
use crate::server::Postgres;
use crate::staging::make_data_directory;
use crate::state_dir::write_private;
use pgherd_types::Upstream;
use std::path::Path;

/// Options that would change where or how the copy arrives.
const FORBIDDEN: [&str; 10] =
    ["pgdata", "format", "wal-method", "gzip", "version", "dbname", "host", "port", "username", "password"];

/// Copies the member; ends with PostgreSQL stopped and set up as its standby.
pub async fn clone_from(server: &Postgres, from: &Upstream, replace: bool, control: &OperationControl) -> Outcome<()> {
    if replace {
        return Err(OperationError::failed("data that are there cannot be replaced"));
    }
    make_data_directory(server, "clone", async |staging| {
        copy(server, from, &staging, control)?;
        config_files::clean_auto_conf(server, &staging)?;
        config_files::set_standby_signal(server, &staging, true)?;
        config_files::write_at(server, &staging, &server.config(), Recovery::Standby(Some(from))).map(drop)
    })
    .await
}

fn copy(server: &Postgres, from: &Upstream, staging: &Path, control: &OperationControl) -> Outcome<()> {
    let options = &server.current();
    let user = options.user_of(&options.replication);
    let pgpass = server.state.path().join("pgpass.clone");
    let service = server.state.path().join("service.clone");
    let mut command = options.command("pg_basebackup");
    command.arg("--pgdata").arg(staging).args(["-X", "stream", "--no-password", "--dbname", "service=clone"]);
    command.args(user_options(&options.basebackup));
    write_private(
        &service,
        &service_file("clone", from, &user, &options.database, &options.replication, &[]),
        options.run_as,
    )?;
    command.env("PGSERVICEFILE", &service);
    if passfile::write(&pgpass, &from.host, from.port, &user, &options.replication, options.run_as)? {
        command.env("PGPASSFILE", &pgpass);
    }
    let log = server.state.path().join("basebackup.log");
    let note = |pid| interrupted::note(server, "clone", Some(pid));
    let said = options.run_long("pg_basebackup", command, &log, control, note);
    for file in [&pgpass, &service] {
        let _ = std::fs::remove_file(file);
    }
    let said = said?;
    if said.success {
        return Ok(());
    }
    let source = format!("{} ({}:{})", from.member, from.host, from.port);
    Err(OperationError::failed(format!("pg_basebackup from {source} failed: {}", said.quote())))
}

/// A connection described in a file, because its options may hold a secret (`sslpassword`). It does not have our own
/// application_name: a copy's WAL stream must not count as this member's standby.
pub(crate) fn service_file(
    name: &str,
    from: &Upstream,
    user: &str,
    database: &str,
    who: &Credentials,
    more: &[(&str, &str)],
) -> String {
    let port = from.port.to_string();
    let fixed = [("host", from.host.as_str()), ("port", &port), ("user", user), ("dbname", database)];
    let extra = who.extra.iter().map(|(keyword, value)| (keyword.as_str(), value.as_str()));
    let line = |(keyword, value): (&str, &str)| format!("{keyword}={}\n", value.replace('\n', " "));
    let lines = fixed.into_iter().chain(more.iter().copied()).chain(extra);
    format!("[{name}]\n{}", lines.map(line).collect::<String>())
}

/// The user's options without the forbidden ones; a fast checkpoint unless the user says otherwise.
fn user_options(options: &[(String, Option<String>)]) -> Vec<String> {
    let allowed = |(name, _): &&(String, Option<String>)| {
        let allowed = !FORBIDDEN.contains(&name.as_str());
        if !allowed {
            log::warn!("option {name} of postgresql.basebackup is not allowed and ignored");
        }
        allowed
    };
    let mut arguments: Vec<String> = options.iter().filter(allowed).map(argument).collect();
    if !options.iter().any(|(name, _)| name == "checkpoint") {
        arguments.push("--checkpoint=fast".to_owned());
    }
    arguments
}

/// `--name` or `--name=value`; a value that is quoted as a whole loses its quotes.
pub(crate) fn argument((name, value): &(String, Option<String>)) -> String {
    let Some(value) = value else { return format!("--{name}") };
    let unquoted = ['\'', '"'].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
    format!("--{name}={}", unquoted.unwrap_or(value))
}
