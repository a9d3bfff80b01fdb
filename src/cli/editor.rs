//! Lets a person edit a text: `$EDITOR`, else `editor`, else `vi`, on a file that only they can read.

use super::console::Stop;
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file that is removed when it is not needed any more.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The text as the person left it.
pub fn edit(variables: &HashMap<String, String>, scope: &str, text: &str) -> Result<String, Stop> {
    let unusable = |path: &Path, e: std::io::Error| Stop::Error(format!("cannot use {}: {e}", path.display()));
    let program = program(variables)?;
    let draft = create(variables, scope).map_err(|(path, e)| unusable(&path, e))?;
    let (draft, mut file) = (Draft(draft.0), draft.1);
    file.write_all(text.as_bytes()).map_err(|e| unusable(&draft.0, e))?;
    drop(file);
    // a shell, because the variable may hold options
    let status = Command::new("sh").arg("-c").arg(format!("{program} \"$1\"")).arg("sh").arg(&draft.0).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => {
            return Err(Stop::Error(format!("the editor {program} ended with {status}; nothing was changed")));
        }
        Err(e) => return Err(Stop::Error(format!("cannot run the editor {program}: {e}"))),
    }
    std::fs::read_to_string(&draft.0).map_err(|e| unusable(&draft.0, e))
}

fn program(variables: &HashMap<String, String>) -> Result<String, Stop> {
    if let Some(program) = variables.get("EDITOR").filter(|program| !program.trim().is_empty()) {
        return Ok(program.clone());
    }
    let path = variables.get("PATH").cloned().unwrap_or_default();
    let installed = |name: &&str| std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    let found = ["editor", "vi"].into_iter().find(installed).map(str::to_owned);
    found.ok_or_else(|| Stop::error("EDITOR environment variable is not set. editor or vi are not available"))
}

/// A new file with a name nobody has: never one that somebody put there before.
fn create(
    variables: &HashMap<String, String>,
    scope: &str,
) -> Result<(PathBuf, std::fs::File), (PathBuf, std::io::Error)> {
    let directory = variables.get("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    let scope: String = scope.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
    let now = pgherd_clock::boottime().as_millis();
    let path = directory.join(format!("{scope}-config-{}-{now}.yaml", std::process::id()));
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(file) => Ok((path, file)),
        Err(e) => Err((path, e)),
    }
}
