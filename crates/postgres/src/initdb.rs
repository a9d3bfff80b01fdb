//! Running `initdb` (spec/bootstrap-and-replicas.md 2.1).

use crate::basebackup::argument;
use crate::control::OperationControl;
use crate::error::{OperationError, Outcome};
use crate::flush;
use crate::interrupted;
use crate::server::Postgres;
use crate::state_dir::write_private;
use std::fs;
use std::path::Path;

/// Options that are ours to set.
const FORBIDDEN: [&str; 7] = ["pgdata", "nosync", "no-sync", "pwfile", "pwprompt", "sync-only", "version"];

/// Makes an empty cluster whose superuser has this password. `true`: it must still be flushed.
pub(crate) fn run(server: &Postgres, staging: &Path, password: &str, control: &OperationControl) -> Outcome<bool> {
    let options = server.current();
    if let Some((name, _)) = options.initdb.iter().find(|(name, _)| FORBIDDEN.contains(&name.as_str())) {
        return Err(OperationError::failed(format!("option {name} is not allowed in bootstrap.initdb; remove it")));
    }
    let mut command = options.command("initdb");
    command.args(options.initdb.iter().map(argument));
    let flushes = flush::is_ours(&options.initdb);
    if flushes {
        command.arg(flush::NO_SYNC);
    }
    command.arg(format!("--username={}", options.user_of(&options.superuser)));
    let secret = server.state.path().join("pwfile");
    write_private(&secret, &format!("{password}\n"), options.run_as)?;
    command.arg("--pwfile").arg(&secret).arg("--pgdata").arg(staging);
    let log = server.state.path().join("initdb.log");
    let note = |pid| interrupted::note(server, "bootstrap", Some(pid));
    let said = options.run_long("initdb", command, &log, control, note);
    let _ = fs::remove_file(&secret);
    let said = said?;
    if !said.success {
        return Err(OperationError::failed(format!("initdb failed: {}", said.quote())));
    }
    Ok(flushes)
}
