//! PostgreSQL does not start with a parameter it does not know or a value it does not take. The server program itself
//! is asked, with a configuration file of just these parameters: it knows its own limits better than any table, and it
//! answers whether a server runs or not. What is out of range becomes the nearest value in it, what it rejects is left
//! out, each with one warning. Names with a dot belong to extensions; the program takes them as they are.

use crate::config_files::render;
use crate::error::Outcome;
use crate::server::Postgres;
use crate::units;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// The program may stop at the first mistake of a kind.
const ROUNDS: usize = 10;

/// What the program says of one parameter.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Objection {
    /// It is not known, or the value makes no sense.
    Refused(String),
    /// The value is beyond this limit.
    Beyond { limit: String, why: String },
}

/// The parameters without those the server would refuse. They are given in a file, because they may hold secrets.
pub(crate) fn usable(server: &Postgres, wanted: &BTreeMap<String, String>) -> Outcome<BTreeMap<String, String>> {
    let mut usable = wanted.clone();
    for _ in 0..ROUNDS {
        let objections = objections_to(server, &usable)?;
        if objections.is_empty() {
            break;
        }
        for (name, objection) in objections {
            match objection {
                // A limit that is refused too would be tried for ever.
                Objection::Beyond { limit, why } if usable.get(&name) != Some(&limit) => {
                    log::warn!("parameter {name} becomes {limit}: {why}");
                    usable.insert(name, limit);
                }
                Objection::Beyond { why, .. } | Objection::Refused(why) => {
                    log::warn!("parameter {name} is left out: {why}");
                    usable.remove(&name);
                }
            }
        }
    }
    Ok(usable)
}

fn objections_to(server: &Postgres, parameters: &BTreeMap<String, String>) -> Outcome<BTreeMap<String, Objection>> {
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
    Ok(objections(&said.stderr).filter(|(name, _)| known.contains(name.as_str())).collect())
}

/// `… LOG:  unrecognized configuration parameter "x" in file …`, `… LOG:  invalid value for parameter "x": …`,
/// `… LOG:  1 kB is outside the valid range for parameter "x" (64 .. 2147483647)`.
fn objections(stderr: &str) -> impl Iterator<Item = (String, Objection)> {
    stderr.lines().filter_map(|line| {
        let (_, message) = line.split_once(":  ")?;
        let (_, rest) = message.split_once("parameter \"")?;
        let (name, rest) = rest.split_once('"')?;
        let why = message.split(" in file ").next().unwrap_or(message).to_owned();
        let objection = match nearest(message, rest) {
            Some(limit) => Objection::Beyond { limit, why },
            None => Objection::Refused(why),
        };
        Some((name.to_lowercase(), objection))
    })
}

/// The limit that a value in the program's words is beyond; both are in the parameter's own unit.
fn nearest(message: &str, rest: &str) -> Option<String> {
    let (value, _) = message.split_once(" is outside the valid range")?;
    let (min, max) = rest.trim().strip_prefix('(')?.strip_suffix(')')?.split_once(" .. ")?;
    // Without the unit, which may be "8kB".
    let value = value.split(' ').next()?;
    let below = units::parse(value, "")? < units::parse(min, "")?;
    Some(if below { min } else { max }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_name_the_parameter_and_its_limits() {
        let text = "2026-01-01 GMT [1] LOG:  unrecognized configuration parameter \"nonsense\" in file \"/x\" line 1\n\
            2026-01-01 GMT [1] LOG:  invalid value for parameter \"TimeZone\": \"Mars\"\n\
            2026-01-01 GMT [1] HINT:  Valid units for this parameter are \"B\", \"kB\".\n\
            2026-01-01 GMT [1] LOG:  1 8kB is outside the valid range for parameter \"shared_buffers\" (16 .. 1073741823)\n\
            2026-01-01 GMT [1] LOG:  7.5 is outside the valid range for parameter \"seq_page_cost\" (0 .. 1)\n\
            2026-01-01 GMT [1] FATAL:  configuration file \"/x\" contains errors\n";
        let found: Vec<(String, Option<String>)> = objections(text)
            .map(|(name, objection)| match objection {
                Objection::Refused(_) => (name, None),
                Objection::Beyond { limit, .. } => (name, Some(limit)),
            })
            .collect();
        let wanted =
            [("nonsense", None), ("timezone", None), ("shared_buffers", Some("16")), ("seq_page_cost", Some("1"))];
        assert_eq!(found, wanted.map(|(name, limit)| (name.to_owned(), limit.map(str::to_owned))));
    }
}
