//! Shows a long text on a terminal: by `$PAGER`, else `less`, else `more`.

use super::console::Stop;
use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

const NONE: &str = "No pager could be found. Either set PAGER environment variable with your pager or install either \
                    \"less\" or \"more\" in your PATH.";

/// Shows the text and waits until the person has seen enough.
pub fn show(variables: &HashMap<String, String>, text: &str) -> Result<(), Stop> {
    let program = program(variables).ok_or_else(|| Stop::error(NONE))?;
    let failed = |e: std::io::Error| Stop::Error(format!("cannot run the pager {program}: {e}"));
    // a shell, because the variable may hold options; less ends by itself if all fits, and passes colours on
    let mut pager = Command::new("sh");
    pager.args(["-c", &program]).env("LESS", "FRX").stdin(Stdio::piped());
    let mut running = pager.spawn().map_err(failed)?;
    if let Some(mut input) = running.stdin.take() {
        let _ = input.write_all(text.as_bytes()); // a person who leaves early breaks the pipe, and that is no failure
    }
    running.wait().map(drop).map_err(failed)
}

fn program(variables: &HashMap<String, String>) -> Option<String> {
    if let Some(program) = variables.get("PAGER").filter(|program| !program.trim().is_empty()) {
        return Some(program.clone());
    }
    let path = variables.get("PATH").cloned().unwrap_or_default();
    let installed = |name: &&str| std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    ["less", "more"].into_iter().find(installed).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_pager_gets_the_text() {
        let seen = std::env::temp_dir().join(format!("pgherd-pager-{}", std::process::id()));
        let pager = format!("cat > '{}'", seen.display());
        let variables = HashMap::from([("PAGER".to_owned(), pager)]);
        show(&variables, "-a: 1\n+a: 2\n").unwrap();
        assert_eq!(std::fs::read_to_string(&seen).unwrap(), "-a: 1\n+a: 2\n");
        std::fs::remove_file(&seen).unwrap();
        show(&HashMap::from([("PAGER".to_owned(), "true".to_owned())]), &"x".repeat(1 << 20)).unwrap();
    }

    #[test]
    fn without_any_it_says_so() {
        let nowhere = HashMap::from([("PATH".to_owned(), "/nowhere".to_owned())]);
        let Err(Stop::Error(why)) = show(&nowhere, "x") else { panic!("there is a pager") };
        assert!(why.starts_with("No pager could be found."), "{why}");
    }
}
