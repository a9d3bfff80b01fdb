//! `explore --seeds N [--from S] [--mutant NAME]` runs many seeds, adds up what happened, and fails when something that
//! must happen never did. `explore --seed X [--mutant NAME]` replays one aloud. `--like NAME` runs the healthy kernel
//! under the faults that are chosen for that mutant.

use pgherd_sim::explore::{Summary, explore_on_all_cores, never_happened, run};
use pgherd_sim::mutants::{self, Planted};
use pgherd_sim::scenario::Setup;

/// So few seeds need not show everything.
const SEEDS_THAT_SHOW_EVERYTHING: u64 = 5000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let number =
        |name: &str| value(name).map(|text| text.parse::<u64>().unwrap_or_else(|_| wrong(&format!("{name} {text}"))));
    let planted = value("--mutant").map(|name| planted(name));
    let like = value("--like").map(|name| self::planted(name));
    let setup = |seed| match (planted, like) {
        (Some(planted), _) => planted.setup(seed),
        (None, Some(planted)) => planted.healthy(seed),
        (None, None) => Setup::draw(seed),
    };
    if let Some(seed) = number("--seed") {
        let world = run(setup(seed), true);
        println!("seed {seed}: {}", world.failure.as_deref().unwrap_or("passed"));
        std::process::exit(i32::from(world.failure.is_some()));
    }
    let (from, seeds) = (number("--from").unwrap_or(1), number("--seeds").unwrap_or(1000));
    let began = std::time::Instant::now();
    let summary = explore_on_all_cores(from..from + seeds, number("--failures").unwrap_or(5) as usize, setup);
    print(&summary, began.elapsed());
    let missing = if seeds < SEEDS_THAT_SHOW_EVERYTHING || planted.or(like).is_some() {
        Vec::new()
    } else {
        never_happened(&summary)
    };
    for what in &missing {
        println!("NEVER HAPPENED: {what}");
    }
    std::process::exit(i32::from(!summary.failures.is_empty() || !missing.is_empty()));
}

fn wrong(what: &str) -> ! {
    eprintln!(
        "explore: cannot use {what}\nusage: explore --seeds N [--from S] [--failures N] [--mutant NAME | --like NAME] | --seed X [..]"
    );
    std::process::exit(2)
}

fn planted(name: &str) -> Planted {
    let found = mutants::ALL.iter().find(|(known, _)| *known == name);
    found.map_or_else(|| wrong(&format!("--mutant {name}")), |(_, planted)| *planted)
}

fn print(summary: &Summary, took: std::time::Duration) {
    for (what, n) in &summary.counts {
        println!("{n:>10}  {what}");
    }
    println!(
        "{} runs, {} events, {} turns, {} commits, longest wait for a primary after the heal {:.1} s ({:.1} s beyond ttl + 2 x loop_wait), in {:.1} s",
        summary.runs,
        summary.events,
        summary.turns,
        summary.commits,
        summary.healed_after_max as f64 / 1000.0,
        summary.healed_late_max.unwrap_or_default() as f64 / 1000.0,
        took.as_secs_f64()
    );
    for (seed, failure) in &summary.failures {
        println!(
            "FAILED seed {seed} {failure}\n  replay: cargo run -p pgherd-sim --bin explore -- --seed {seed} (and --mutant or --like as now)"
        );
    }
}
