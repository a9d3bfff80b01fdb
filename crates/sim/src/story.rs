//! Stories: a few commands, a line of dashes, and what is expected to happen.
//!
//! ```text
//! nodes 3
//! settings 30 10 10
//! failsafe
//! rewind
//! consumers wait
//! sync on
//! synchronous 2
//! strict
//! seed 7
//! at 40 NodeDeath leader for 60
//! until 150
//! ----
//! ```

use crate::faults::{Fault, Planned, Whom};
use crate::scenario::{Setup, settings};
use crate::trace::Trace;
use crate::world::World;
use pgherd_types::SyncMode;

/// The line between commands and transcript.
pub const LINE: &str = "----";

/// Tell a story: its commands, and the transcript of running them.
pub fn tell(text: &str) -> Result<String, String> {
    let commands = text.split(LINE).next().unwrap_or_default();
    let mut world = World::new(parse(commands)?, Trace { keep: true, ..Trace::default() });
    world.run();
    let outcome = world.failure.as_deref().unwrap_or("nothing was violated");
    let commits = world.ledger.commits;
    Ok(format!("{commands}{LINE}\n{}\n{commits} commits acknowledged; {outcome}\n", world.trace.lines.join("\n")))
}

fn parse(commands: &str) -> Result<Setup, String> {
    let mut setup = Setup { faults: Vec::new(), mishaps: false, ..Setup::asynchronous(1) };
    setup.settings = settings(30, 10, 10);
    (setup.nodes, setup.write_every, setup.write_bytes, setup.heal_at) = (3, 500, 200, 0);
    for line in commands.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        command(&mut setup, line).ok_or_else(|| format!("cannot understand: {line}"))?;
    }
    Ok(setup)
}

fn command(setup: &mut Setup, line: &str) -> Option<()> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |text: &str| text.parse::<u64>().ok();
    match words.as_slice() {
        ["nodes", n] => setup.nodes = number(n)? as usize,
        ["seed", n] => setup.seed = number(n)?,
        ["settings", ttl, loop_wait, retry_timeout] => {
            setup.settings = settings(number(ttl)?, number(loop_wait)?, number(retry_timeout)?);
        }
        ["failsafe"] => setup.settings.failsafe_mode = true,
        ["sync", mode] => {
            setup.settings.sync.mode = match *mode {
                "on" => SyncMode::On,
                "quorum" => SyncMode::Quorum,
                _ => return None,
            };
        }
        ["strict"] => setup.settings.sync.strict = true,
        ["synchronous", n] => setup.settings.sync.node_count = number(n)? as u32,
        ["consumers", "wait"] => *setup = setup.clone().with_consumers_that_wait(),
        ["rewind"] => setup.settings.rewind.use_pg_rewind = true,
        ["until", at] => setup.end_at = number(at)? * 1000,
        ["at", at, fault, whom, "for", lasts] => {
            let (at, lasts) = (number(at)? * 1000, number(lasts)? * 1000);
            let fault = Fault::named(fault)?;
            setup.faults.push(Planned { at, fault, whom: who(whom)?, lasts: Some(lasts) });
            setup.heal_at = setup.heal_at.max(at + lasts);
        }
        _ => return None,
    }
    Some(())
}

fn who(word: &str) -> Option<Whom> {
    match word.strip_prefix('n') {
        None if word == "leader" => Some(Whom::Leader),
        None => None,
        Some(number) => Some(Whom::Node(number.parse::<usize>().ok()?.checked_sub(1)?)),
    }
}
