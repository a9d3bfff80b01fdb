//! A server for ourselves while a new cluster is made: it listens on no network address, on a socket in a directory that
//! only its own user can enter, and lets in nobody but two roles by password.

use crate::control::OperationControl;
use crate::control_data::major_version;
use crate::error::{OperationError, Outcome, Tried};
use crate::kill::Killer;
use crate::options::Credentials;
use crate::process::{Alive, PidFileStatus, alive};
use crate::server::{KILL_PATIENCE, Postgres};
use crate::sql::{Address, STATEMENT_PATIENCE, Session, identifier};
use crate::start::{STEP, Spawned, spawn, wait_for};
use crate::state_dir::{give_to, write_private};
use rustix::process::Signal;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A server that has nothing to recover starts, and any stops, within moments.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest path of a Unix socket.
const SOCKET_PATH_MAX: usize = 107;

/// See the module. Killed when dropped.
pub(crate) struct PrivateServer<'a> {
    server: &'a Postgres,
    dir: PathBuf,
    sockets: PrivateDir,
    hba: PathBuf,
}

impl<'a> PrivateServer<'a> {
    /// Starts it and waits until it accepts connections of these roles. Without `fsync` whoever asks flushes its data
    /// after its end.
    pub fn start(
        server: &'a Postgres,
        dir: &Path,
        roles: &[&str],
        fsync: bool,
        control: &OperationControl,
    ) -> Outcome<Self> {
        // Before 14 a password may have been stored the old way; `md5` takes the new way, too.
        let method = if major_version(dir).is_some_and(|v| v >= 14) { "scram-sha-256" } else { "md5" };
        let more: &[(&str, &str)] = if fsync { &[] } else { &[("fsync", "off")] };
        let line = |role: &&str| format!("local all {} {method}\n", identifier(role));
        let (it, spawned) = Self::spawn(server, dir, &roles.iter().map(line).collect::<String>(), more)?;
        let both = [PidFileStatus::Ready, PidFileStatus::Standby];
        wait_for(server, dir, &spawned, &both, Some(PATIENCE), || control.go_on())?;
        Ok(it)
    }

    /// Lets a server recover to its end, and stops it; nobody can connect.
    pub fn recover(server: &'a Postgres, dir: &Path, control: &OperationControl) -> Outcome<()> {
        // Without connections during recovery no parameter needs to be as large as it was where the backup was made;
        // and nobody could end a pause.
        let more = [("hot_standby", "off"), ("recovery_target_action", "promote")];
        let (it, spawned) = Self::spawn(server, dir, "local all all reject\n", &more)?;
        wait_for(server, dir, &spawned, &[PidFileStatus::Ready], None, || control.go_on())?;
        it.stop()
    }

    fn spawn(server: &'a Postgres, dir: &Path, hba: &str, more: &[(&str, &str)]) -> Outcome<(Self, Spawned)> {
        let sockets = PrivateDir::new(server)?;
        let files = ["bootstrap_hba.conf", "bootstrap_ident.conf"].map(|name| server.state.path().join(name));
        write_private(&files[0], hba, server.options.run_as)?;
        write_private(&files[1], "", server.options.run_as)?;
        let text = |path: &Path| path.display().to_string();
        let (hba, ident, directory) = (text(&files[0]), text(&files[1]), text(&sockets.0));
        let mut all = vec![
            ("listen_addresses", ""),
            ("unix_socket_directories", directory.as_str()),
            ("unix_socket_permissions", "0700"),
            ("hba_file", hba.as_str()),
            ("ident_file", ident.as_str()),
            ("archive_mode", "off"),
            ("synchronous_standby_names", ""),
        ];
        all.extend(more);
        let [hba, _] = files;
        let it = Self { server, dir: dir.to_owned(), sockets, hba };
        let spawned = spawn(server, dir, &server.config().controlled, &all)?;
        Ok((it, spawned))
    }

    /// Where its socket is.
    pub fn socket_directory(&self) -> &Path {
        &self.sockets.0
    }

    /// Connects.
    pub async fn session(&self, login: &Credentials) -> Outcome<Session> {
        let mut options = self.server.options.clone();
        options.superuser = login.clone();
        let address = Address::Socket(Some(self.sockets.0.clone()), options.listen_port);
        let session = Session::open(&options, &address, STATEMENT_PATIENCE).await;
        session.tried(|| "connect to the new cluster".to_owned())
    }

    /// Stops it in order.
    pub fn stop(self) -> Outcome<()> {
        let begun = Instant::now();
        Killer::new(&self.dir).signal_postmaster(Signal::INT);
        while alive(&self.dir) != Alive::Nothing {
            if begun.elapsed() > PATIENCE {
                return Err(OperationError::failed("the new cluster could not be stopped"));
            }
            std::thread::sleep(STEP);
        }
        Ok(())
    }
}

impl Drop for PrivateServer<'_> {
    fn drop(&mut self) {
        if let Err(e) = Killer::new(&self.dir).kill_all(KILL_PATIENCE) {
            log::error!("the private server could not be ended: {e}");
        }
        let _ = fs::remove_file(&self.hba);
        let _ = fs::remove_file(self.hba.with_file_name("bootstrap_ident.conf"));
    }
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
