//! Copying another member with `pg_basebackup`, and how far it has come.

use crate::control::OperationControl;
use crate::error::{OperationError, Outcome};
use crate::flush;
use crate::interrupted;
use crate::options::Credentials;
use crate::passfile;
use crate::server::Postgres;
use crate::state_dir::write_private;
use pgherd_types::{Progress, Upstream};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// Options that would change where or how the copy arrives.
const FORBIDDEN: [&str; 11] = [
    "pgdata",
    "format",
    "wal-method",
    "xlog-method",
    "gzip",
    "version",
    "dbname",
    "host",
    "port",
    "username",
    "password",
];
/// The last lines of the program's messages are enough to see how far it is.
const TAIL_BYTES: u64 = 400;

impl Postgres {
    /// How far the copy or the rewind that is being made has come; `None` when none is being made, or it does not say.
    pub fn progress(&self) -> Option<Progress> {
        let log = self.copying.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let file = File::open(log).ok()?;
        let from = file.metadata().ok()?.len().saturating_sub(TAIL_BYTES);
        let mut text = vec![0; usize::try_from(TAIL_BYTES).unwrap_or(0)];
        let read = file.read_at(&mut text, from).ok()?;
        progress_in(&String::from_utf8_lossy(&text[..read]))
    }
    /// A program that says how far it is writes its messages there; `None` when it has ended.
    pub(crate) fn set_copying(&self, log: Option<PathBuf>) {
        *self.copying.lock().unwrap_or_else(PoisonError::into_inner) = log;
    }
}

/// The last line of the form `  123/456 kB (26%), 0/1 tablespace`, or of pg_rewind `  123/456 kB (26%) copied`.
fn progress_in(text: &str) -> Option<Progress> {
    let amounts = |line: &str| {
        let (done, total) = line.split_once(" kB (")?.0.trim().split_once('/')?;
        let (done, total) = (done.parse::<u64>().ok()?, total.parse::<u64>().ok()?);
        Some(Progress { done_bytes: done * 1024, total_bytes: Some(total * 1024).filter(|t| *t > 0) })
    };
    text.lines().rev().find_map(amounts)
}

/// Copies the member into an empty directory.
pub(crate) fn copy(
    server: &Postgres,
    from: &Upstream,
    into: &Path,
    options: &[(String, Option<String>)],
    control: &OperationControl,
) -> Outcome<()> {
    let settings = server.current();
    let user = settings.user_of(&settings.replication);
    let pgpass = server.state.path().join("pgpass.clone");
    let service = server.state.path().join("service.clone");
    let mut command = settings.command("pg_basebackup");
    command.arg("--pgdata").arg(into).args([
        "-X",
        "stream",
        "--progress",
        "--no-password",
        "--dbname",
        "service=clone",
    ]);
    command.args(allowed(options));
    let flushes = flush::is_ours(options);
    if flushes {
        command.arg(flush::NO_SYNC);
    }
    write_private(
        &service,
        &service_file("clone", from, &user, &settings.database, &settings.replication, &[]),
        settings.run_as,
    )?;
    command.env("PGSERVICEFILE", &service);
    if passfile::write(&pgpass, &from.host, from.port, &user, &settings.replication, settings.run_as)? {
        command.env("PGPASSFILE", &pgpass);
    }
    let log = server.state.path().join("basebackup.log");
    server.set_copying(Some(log.clone()));
    let note = |pid| interrupted::note(server, "clone", Some(pid));
    let said = settings.run_long("pg_basebackup", command, &log, control, note);
    server.set_copying(None);
    for file in [&pgpass, &service] {
        let _ = std::fs::remove_file(file);
    }
    let mut said = said?;
    if said.success {
        return if flushes { flush::copy(server, into) } else { Ok(()) };
    }
    said.stderr = said.stderr.lines().filter(|line| progress_in(line).is_none()).collect::<Vec<_>>().join("\n");
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
fn allowed(options: &[(String, Option<String>)]) -> Vec<String> {
    let is_allowed = |(name, value): &&(String, Option<String>)| {
        let on_server = value.as_deref().is_some_and(|v| v.starts_with("server"));
        let allowed = !FORBIDDEN.contains(&name.as_str()) && (name != "compress" || on_server);
        if !allowed {
            log::warn!("option {name} of postgresql.basebackup is not allowed and ignored");
        }
        allowed
    };
    let mut arguments: Vec<String> = options.iter().filter(is_allowed).map(argument).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_prints_is_progress() {
        let text =
            "waiting for checkpoint\n    1/23456 kB (0%), 0/1 tablespace\n 2048/23456 kB (8%), 0/1 tablespace\npg_base";
        let progress = Progress { done_bytes: 2 << 20, total_bytes: Some(23456 * 1024) };
        assert_eq!(progress_in(text), Some(progress));
        assert_eq!(progress_in("7/0 kB (100%)").unwrap().total_bytes, None);
        assert_eq!(progress_in("no progress"), None);
        let rewind = "pg_rewind: need to copy 22 MB (total source directory size is 40 MB)\n    0/23456 kB (0%) copied\n 2048/23456 kB (8%) copied\n";
        assert_eq!(progress_in(rewind), Some(progress));
    }

    #[test]
    fn options_that_lead_the_copy_astray_are_left_out() {
        let option = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        let options = [
            option("pgdata", Some("/x")),
            option("compress", Some("9")),
            option("max-rate", Some("'100M'")),
            option("verbose", None),
        ];
        assert_eq!(allowed(&options), ["--max-rate=100M", "--verbose", "--checkpoint=fast"]);
        let options = [option("checkpoint", Some("spread")), option("compress", Some("server-gzip"))];
        assert_eq!(allowed(&options), ["--checkpoint=spread", "--compress=server-gzip"]);
    }
}
