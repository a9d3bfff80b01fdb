//! The user's commands that PostgreSQL runs through a shell (`archive_command`, `restore_command`), and the settings they
//! stand in, while no server runs. They get what PostgreSQL gives them: the data directory as working directory, paths
//! relative to it.

use crate::config_place::ConfigPlace;
use crate::control::OperationControl;
use crate::error::{OperationError, Outcome};
use crate::programs::Said;
use crate::server::Postgres;
use std::process::Command;
use std::time::Duration;

/// `postgres -C` reads a few files.
const SETTING_PATIENCE: Duration = Duration::from_secs(10);
/// For `%r`, the oldest file that must be kept: none may be removed.
const OLDEST_FILE: &str = "000000010000000000000001";

/// The value that a setting has in the configuration files of the data directory.
pub(crate) fn setting(server: &Postgres, name: &str) -> Outcome<String> {
    let arguments = |c: &mut Command| {
        c.arg("-D").arg(&server.options.data_dir).args(["-C", name]).arg(ConfigPlace::of(server).main_argument());
    };
    let said = server.options.run_short("postgres", arguments, SETTING_PATIENCE)?;
    if !said.success {
        return Err(OperationError::failed(format!("could not read the setting {name}: {}", said.quote())));
    }
    Ok(said.stdout.trim_end_matches('\n').to_owned())
}

/// Runs such a command for one WAL file.
pub(crate) fn run(
    server: &Postgres,
    command: &str,
    path: &str,
    file: &str,
    patience: Duration,
    control: &OperationControl,
) -> Outcome<Said> {
    let mut shell = server.options.dressed(Command::new("sh"));
    shell.arg("-c").arg(filled(command, path, file)).current_dir(&server.options.data_dir);
    let log = server.state.path().join("rewind-command.log");
    server.options.run_within(patience, "sh", shell, &log, control, |pid| crate::rewind_marker::note(server, pid))
}

/// Puts path and file name into a command; `%%` is a percent sign.
fn filled(command: &str, path: &str, file: &str) -> String {
    let mut text = String::with_capacity(command.len() + path.len() + file.len());
    let mut rest = command.chars();
    while let Some(c) = rest.next() {
        match (c, rest.clone().next()) {
            ('%', Some('p')) => text.push_str(path),
            ('%', Some('f')) => text.push_str(file),
            ('%', Some('r')) => text.push_str(OLDEST_FILE),
            ('%', Some('%')) => text.push('%'),
            (other, _) => {
                text.push(other);
                continue;
            }
        }
        rest.next();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::filled;

    #[test]
    fn placeholders_are_filled_as_postgresql_does() {
        for (command, wanted) in [
            ("cp %p /a/%f", "cp pg_wal/X /a/X"),
            ("date +%%s; x %r", "date +%s; x 000000010000000000000001"),
            ("%%p %q %", "%p %q %"),
            ("", ""),
        ] {
            assert_eq!(filled(command, "pg_wal/X", "X"), wanted);
        }
    }
}
