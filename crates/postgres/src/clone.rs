//! Making a replica: the configured ways are tried in their order, and whatever becomes of them, existing data go only
//! when they were to be replaced and new ones are there.

use crate::basebackup;
use crate::config_backup;
use crate::config_files::{self, Recovery};
use crate::conninfo::pair;
use crate::control::OperationControl;
use crate::error::{OperationError, Outcome};
use crate::exchange::{Detour, detour};
use crate::in_place;
use crate::interrupted;
use crate::methods::{ReplicaMethod, Way};
use crate::passfile;
use crate::room;
use crate::server::Postgres;
use crate::staging::{install, is_vacant, require_room};
use crate::tool::{Tool, file_name};
use crate::wal_gap;
use pgherd_types::Upstream;
use std::path::Path;

/// Copies the member; ends with PostgreSQL stopped and set up as its standby. Data that are there are an error, unless
/// they are to be replaced: then they stay until the copy is complete.
pub async fn clone_from(server: &Postgres, from: &Upstream, replace: bool, control: &OperationControl) -> Outcome<()> {
    make(server, Some(from), server.ways(), replace, control).await
}

/// The same with pg_basebackup, whatever is configured.
pub async fn clone_by_basebackup(
    server: &Postgres,
    from: &Upstream,
    replace: bool,
    control: &OperationControl,
) -> Outcome<()> {
    make(server, Some(from), vec![Way::Basebackup], replace, control).await
}

/// Makes a replica without a source; ends with PostgreSQL stopped and set up as a standby of nobody.
pub async fn restore(server: &Postgres, control: &OperationControl) -> Outcome<()> {
    let ways: Vec<Way> = server.ways().into_iter().filter(Way::needs_no_source).collect();
    if ways.is_empty() {
        return Err(OperationError::failed(
            "no method in postgresql.create_replica_methods works without a leader (no_leader: true)",
        ));
    }
    make(server, None, ways, false, control).await
}

async fn make(
    server: &Postgres,
    from: Option<&Upstream>,
    ways: Vec<Way>,
    replace: bool,
    control: &OperationControl,
) -> Outcome<()> {
    require_room(server, replace)?;
    interrupted::discard_staging(server)?;
    interrupted::begin(server, "clone")?;
    let made = try_in_order(server, from, &ways, control).await;
    interrupted::finish(server)?;
    made
}

async fn try_in_order(
    server: &Postgres,
    from: Option<&Upstream>,
    ways: &[Way],
    control: &OperationControl,
) -> Outcome<()> {
    let mut failures = Vec::new();
    for way in ways {
        control.go_on()?;
        let made = match (way, from) {
            (Way::Basebackup, Some(from)) => by_basebackup(server, from, control).await,
            (Way::Basebackup, None) => continue,
            (Way::Tool(method), from) => by_tool(server, method, from, control).await,
        };
        match made {
            Ok(()) => {
                log::info!("replica has been created using {}", way.name());
                return Ok(());
            }
            Err(OperationError::Failed(why)) => {
                log::error!("no replica could be created using {}: {why}", way.name());
                failures.push(why);
            }
            Err(given_up) => return Err(given_up),
        }
    }
    Err(OperationError::Failed(failures.join("; ")))
}

/// The copy is made beside the data directory, which is exchanged for it at the end.
async fn by_basebackup(server: &Postgres, from: &Upstream, control: &OperationControl) -> Outcome<()> {
    room::make(server, from).await?;
    let (place, staging) = (server.place(), server.staging());
    let options = &server.current().basebackup;
    let detour = match is_vacant(server)? && !in_place::is_incomplete(&server.options.data_dir) {
        true => Detour { options: options.clone(), made: Vec::new() },
        false => detour(&place, options)?,
    };
    detour.clear()?;
    let made = basebackup::copy(server, from, &staging, &detour.options, control)
        .and_then(|()| set_up(server, &staging, Some(from)))
        .and_then(|()| control.go_on())
        .and_then(|()| install(server, &detour));
    if made.is_err() {
        interrupted::discard_staging(server)?;
        detour.clear()?;
    }
    made
}

/// A program of the user's works in the data directory itself.
async fn by_tool(
    server: &Postgres,
    method: &ReplicaMethod,
    from: Option<&Upstream>,
    control: &OperationControl,
) -> Outcome<()> {
    if let Some(from) = from.filter(|_| !method.keep_data) {
        room::make(server, from).await?;
    }
    let work = in_place::begin(server, method.keep_data, false)?;
    let made = run(server, method, from, control)
        .and_then(|()| in_place::require_data(&server.options.data_dir, &method.name))
        .and_then(|()| set_up(server, &server.options.data_dir, from));
    if let (Ok(()), Some(from)) = (&made, from) {
        wal_gap::warn(server, &server.options.data_dir, from).await;
    }
    match made {
        Ok(()) => work.succeeded(server),
        Err(e) => work.failed(server).and(Err(e)),
    }
}

fn run(server: &Postgres, method: &ReplicaMethod, from: Option<&Upstream>, control: &OperationControl) -> Outcome<()> {
    let options = &server.current();
    let user = options.user_of(&options.replication);
    let pgpass = server.state.path().join(format!("pgpass.{}", file_name(&method.name)));
    let mut env = Vec::new();
    if let Some(from) = from
        && passfile::write(&pgpass, &from.host, from.port, &user, &options.replication, options.run_as)?
    {
        env.push(("PGPASSFILE", pgpass.display().to_string()));
    }
    let connstring = from.map(|from| connstring(server, from, &user)).unwrap_or_default();
    let ran = Tool {
        what: format!("the replica method {}", method.name),
        command: &method.command,
        arguments: method.all_arguments(options, &connstring),
        env,
        operation: "clone",
        log: format!("replica_method.{}.log", file_name(&method.name)),
    }
    .run(server, control);
    let _ = std::fs::remove_file(&pgpass);
    ran
}

/// How a program reaches the source. Arguments can be seen by everybody, so it holds no secret.
fn connstring(server: &Postgres, from: &Upstream, user: &str) -> String {
    let mut parts = vec![
        pair("dbname", &server.options.database),
        pair("user", user),
        pair("host", &from.host),
        pair("port", &from.port.to_string()),
    ];
    let mut extra = server.current().replication.extra.clone();
    extra.remove("sslpassword");
    for keyword in ["sslmode", "gssencmode", "channel_binding"] {
        extra.entry(keyword.to_owned()).or_insert_with(|| "prefer".to_owned());
    }
    parts.extend(extra.iter().map(|(keyword, value)| pair(keyword, value)));
    parts.join(" ")
}

/// A copy becomes a standby of its source, or of nobody.
fn set_up(server: &Postgres, dir: &Path, from: Option<&Upstream>) -> Outcome<()> {
    // Of the server it was copied from; the last would end the standby's life at once.
    for leftover in ["postmaster.pid", "postmaster.opts", "recovery.signal", "promote"] {
        let _ = std::fs::remove_file(dir.join(leftover));
    }
    config_backup::restore(server, dir)?;
    config_files::clean_auto_conf(server, dir)?;
    config_files::set_standby_signal(server, dir, true)?;
    config_files::write_at(server, dir, &server.config(), Recovery::Standby(from)).map(drop)
}
