//! Real servers as most tests begin with them.

use pgherd_postgres::{OperationControl, PostgresOptions, clone_from, observe, start_primary, start_replica};
use pgherd_testkit::eventually::eventually;
use pgherd_testkit::postgres::{TestDir, TestPostgres, options};
use pgherd_types::RunningServer;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

pub const PATIENCE: Duration = Duration::from_secs(60);

/// Nobody cancels it.
pub fn free() -> OperationControl {
    OperationControl::new(None)
}

/// What a look says of it, once it runs.
pub async fn running(it: &TestPostgres) -> RunningServer {
    eventually(PATIENCE, "the server runs", async || observe(&it.server).await.state.running().cloned()).await
}

/// A new cluster.
pub async fn primary(dir: &TestDir, name: &str) -> TestPostgres {
    primary_with(options(name, dir.path())).await
}

/// The same with options of its own.
pub async fn primary_with(options: PostgresOptions) -> TestPostgres {
    let it = TestPostgres::bootstrapped(options).await.unwrap();
    start_primary(&it.server, &free()).unwrap();
    it
}

/// A copy that was started; it may not stream yet.
pub async fn standby(dir: &TestDir, name: &str, of: &TestPostgres) -> TestPostgres {
    standby_with(options(name, dir.path()), of).await
}

/// The same with options of its own.
pub async fn standby_with(options: PostgresOptions, of: &TestPostgres) -> TestPostgres {
    let name = options.name.to_string();
    let it = TestPostgres::open(options).unwrap();
    clone_from(&it.server, &of.upstream(), false, &free()).await.unwrap();
    of.sql(&format!("SELECT pg_create_physical_replication_slot('{name}')")).await.unwrap();
    start_replica(&it.server, Some(&of.upstream()), &free()).unwrap();
    it
}

/// A program of a user's with this body; `$dir` is the directory of the test, `$datadir` and `$conn` what it was told.
pub fn script(dir: &Path, name: &str, body: &str) -> String {
    let path = dir.join(name);
    let head =
        "for a in \"$@\"; do case \"$a\" in --datadir=*) datadir=${a#*=};; --connstring=*) conn=${a#*=};; esac; done";
    fs::write(&path, format!("#!/bin/sh\ndir={}\n{head}\n{body}\n", dir.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}
