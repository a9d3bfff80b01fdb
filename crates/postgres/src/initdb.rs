//! Making a new cluster and its roles. The server that makes the roles listens on no network address and on a socket in
//! a directory only its own user can enter, so no client reaches it.

use crate::basebackup::argument;
use crate::config_files::{self, Recovery};
use crate::control::OperationControl;
use crate::error::{OperationError, Outcome, Tried};
use crate::interrupted;
use crate::kill::Killer;
use crate::process::Alive;
use crate::roles;
use crate::server::{KILL_PATIENCE, Postgres};
use crate::sql::{Address, STATEMENT_PATIENCE, Session};
use crate::staging::make_data_directory;
use crate::start::{STEP, spawn, wait_until_ready};
use crate::state_dir::{give_to, write_private};
use rustix::process::Signal;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Options that are ours to set.
const FORBIDDEN: [&str; 6] = ["pgdata", "nosync", "no-sync", "pwfile", "sync-only", "version"];
/// A new cluster starts and stops within moments.
const PRIVATE_SERVER_PATIENCE: Duration = Duration::from_secs(60);
/// The longest path of a Unix socket.
const SOCKET_PATH_MAX: usize = 107;

/// Makes the cluster and its roles; ends with PostgreSQL stopped.
pub async fn bootstrap(server: &Postgres, control: &OperationControl) -> Outcome<()> {
    make_data_directory(server, "bootstrap", async |staging| {
        run_initdb(server, &staging, control)?;
        config_files::write_at(server, &staging, &server.config(), Recovery::Primary)?;
        append_bootstrap_hba(server, &staging)?;
        let made = make_roles(server, &staging, control).await;
        Killer::new(&staging).kill_all(KILL_PATIENCE).tried(|| "end the private server".to_owned())?;
        made
    })
    .await
}

fn run_initdb(server: &Postgres, staging: &Path, control: &OperationControl) -> Outcome<()> {
    let options = &server.options;
    if let Some((name, _)) = options.initdb.iter().find(|(name, _)| FORBIDDEN.contains(&name.as_str())) {
        return Err(OperationError::failed(format!("option {name} is not allowed in bootstrap.initdb; remove it")));
    }
    let mut command = options.command("initdb");
    command.args(options.initdb.iter().map(argument));
    if let Some(user) = &options.superuser.username {
        command.arg(format!("--username={user}"));
    }
    let secret = server.state.path().join("pwfile");
    if let Some(password) = &options.superuser.password {
        write_private(&secret, &format!("{password}\n"), options.run_as)?;
        command.arg("--pwfile").arg(&secret);
    }
    command.arg("--pgdata").arg(staging);
    let log = server.state.path().join("initdb.log");
    let said =
        options.run_long("initdb", command, &log, control, |pid| interrupted::note(server, "bootstrap", Some(pid)));
    let _ = fs::remove_file(&secret);
    let said = said?;
    if said.success { Ok(()) } else { Err(OperationError::failed(format!("initdb failed: {}", said.quote()))) }
}

/// `bootstrap.pg_hba` counts only when `postgresql.pg_hba` does not replace the whole file.
fn append_bootstrap_hba(server: &Postgres, staging: &Path) -> Outcome<()> {
    if !server.config().pg_hba.is_empty() || server.options.bootstrap_pg_hba.is_empty() {
        return Ok(());
    }
    let path = staging.join("pg_hba.conf");
    let old = fs::read_to_string(&path).tried(|| format!("read {}", path.display()))?;
    write_private(&path, &format!("{old}\n{}\n", server.options.bootstrap_pg_hba.join("\n")), server.options.run_as)
}

async fn make_roles(server: &Postgres, staging: &Path, control: &OperationControl) -> Outcome<()> {
    control.go_on()?;
    let sockets = PrivateDir::new(server)?;
    let hba = server.state.path().join("bootstrap_hba.conf");
    write_private(&hba, "local all all trust\n", server.options.run_as)?;
    let text = |path: &Path| path.display().to_string();
    let (hba_text, ident, directory) = (text(&hba), text(&staging.join("pg_ident.conf")), text(&sockets.0));
    let private = [
        ("listen_addresses", ""),
        ("unix_socket_directories", directory.as_str()),
        ("unix_socket_permissions", "0700"),
        ("hba_file", hba_text.as_str()),
        ("ident_file", ident.as_str()),
        ("archive_mode", "off"),
        ("synchronous_standby_names", ""),
    ];
    let spawned = spawn(server, staging, &server.config().controlled, &private)?;
    wait_until_ready(server, staging, &spawned, Some(PRIVATE_SERVER_PATIENCE), || control.go_on())?;
    let address = Address::Socket(Some(sockets.0.clone()), server.options.listen_port);
    let session = Session::open(&server.current(), &address, STATEMENT_PATIENCE)
        .await
        .tried(|| "connect to the new cluster".to_owned())?;
    roles::create(server, &session).await?;
    drop(session);
    let _ = fs::remove_file(&hba);
    stop_in_order(staging)
}

fn stop_in_order(staging: &Path) -> Outcome<()> {
    let begun = Instant::now();
    Killer::new(staging).signal_postmaster(Signal::INT);
    while crate::process::alive(staging) != Alive::Nothing {
        if begun.elapsed() > PRIVATE_SERVER_PATIENCE {
            return Err(OperationError::failed("the new cluster could not be stopped"));
        }
        std::thread::sleep(STEP);
    }
    Ok(())
}

/// A directory for the socket: the state directory, or a new one in the temporary directory if the path is too long.
struct PrivateDir(PathBuf, bool);

impl PrivateDir {
    fn new(server: &Postgres) -> Outcome<Self> {
        let state = server.state.path().to_owned();
        if state.as_os_str().len() + "/.s.PGSQL.65535.lock".len() < SOCKET_PATH_MAX {
            return Ok(Self(state, false));
        }
        let path = std::env::temp_dir().join(format!(
            "pgherd-{}-{}",
            std::process::id(),
            pgherd_clock::boottime().as_millis()
        ));
        DirBuilder::new().mode(0o700).create(&path).tried(|| format!("create {}", path.display()))?;
        give_to(&path, server.options.run_as)?;
        Ok(Self(path, true))
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        if self.1 {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
