//! PostgreSQL does not start with a parameter it does not know or a value it does not take. The server program itself
//! is asked, with a configuration file of just these parameters, and what it rejects is left out with a warning.

use crate::config_files::render;
use crate::error::Outcome;
use crate::server::Postgres;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// The program may stop at the first mistake of a kind.
const ROUNDS: usize = 10;

/// The parameters without those the server would refuse. They are given in a file, because they may hold secrets.
pub(crate) fn usable(server: &Postgres, wanted: &BTreeMap<String, String>) -> Outcome<BTreeMap<String, String>> {
    let mut usable = wanted.clone();
    for _ in 0..ROUNDS {
        let refused = refused(server, &usable)?;
        if refused.is_empty() {
            break;
        }
        for (name, why) in &refused {
            log::warn!("parameter {name} is left out: {why}");
            usable.remove(name);
        }
    }
    Ok(usable)
}

fn refused(server: &Postgres, parameters: &BTreeMap<String, String>) -> Outcome<BTreeMap<String, String>> {
    let file = server.state.path().join("parameters.check");
    server.state.write(&file, &render(parameters))?;
    let arguments = |c: &mut std::process::Command| {
        c.args(["-C", "port", "-D"]).arg(server.state.path()).arg(format!("--config-file={}", file.display()));
    };
    let said = server.options.run_short("postgres", arguments, PATIENCE);
    let _ = std::fs::remove_file(&file);
    let said = said?;
    if said.success {
        return Ok(BTreeMap::new());
    }
    let known: BTreeSet<&str> = parameters.keys().map(String::as_str).collect();
    Ok(rejections(&said.stderr).filter(|(name, _)| known.contains(name.as_str())).collect())
}

/// `… LOG:  unrecognized configuration parameter "x" in file …`, `… LOG:  invalid value for parameter "x": …`.
fn rejections(stderr: &str) -> impl Iterator<Item = (String, String)> {
    stderr.lines().filter_map(|line| {
        let (_, message) = line.split_once(":  ")?;
        let (_, rest) = message.split_once("parameter \"")?;
        let name = rest.split('"').next()?.to_lowercase();
        let why = message.split(" in file ").next().unwrap_or(message);
        Some((name, why.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_servers_words_name_the_parameter() {
        let text = "2026-01-01 GMT [1] LOG:  unrecognized configuration parameter \"nonsense\" in file \"/x\" line 1\n\
            2026-01-01 GMT [1] LOG:  invalid value for parameter \"work_mem\": \"lots\"\n\
            2026-01-01 GMT [1] HINT:  Valid units for this parameter are \"B\", \"kB\".\n\
            2026-01-01 GMT [1] FATAL:  configuration file \"/x\" contains errors\n";
        let names: Vec<String> = super::rejections(text).map(|(name, _)| name).collect();
        assert_eq!(names, ["nonsense", "work_mem"]);
    }
}
