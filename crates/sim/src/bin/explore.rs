//! `explore --seeds N [--from S] [--seed X] [--mutant NAME]`: run many seeds, or replay one aloud.

use pgherd_kernel::view::Mutant;
use pgherd_sim::explore::{Summary, explore, run};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let number = |name: &str| value(name).and_then(|text| text.parse::<u64>().ok());
    let mutant = value("--mutant").map(|name| mutant(name));
    if let Some(seed) = number("--seed") {
        let world = run(seed, mutant, true);
        println!("seed {seed}: {}", world.failure.as_deref().unwrap_or("passed"));
        std::process::exit(i32::from(world.failure.is_some()));
    }
    let (from, seeds) = (number("--from").unwrap_or(1), number("--seeds").unwrap_or(1000));
    let began = std::time::Instant::now();
    let summary = explore(from, seeds, mutant, number("--failures").unwrap_or(5) as usize);
    print(&summary, began.elapsed());
    std::process::exit(i32::from(!summary.failures.is_empty()));
}

fn mutant(name: &str) -> Mutant {
    match name {
        "NoMargin" => Mutant::NoMargin,
        "PromoteWithoutLock" => Mutant::PromoteWithoutLock,
        "LateCommandNotDropped" => Mutant::LateCommandNotDropped,
        "KeepaliveWithoutTtl" => Mutant::KeepaliveWithoutTtl,
        other => {
            eprintln!("no such mutant: {other}");
            std::process::exit(2)
        }
    }
}

fn print(summary: &Summary, took: std::time::Duration) {
    for (what, n) in &summary.counts {
        println!("{n:>10}  {what}");
    }
    println!(
        "{} runs, {} events, {} turns, {} commits, longest wait for a primary after the heal {:.1} s, in {:.1} s",
        summary.runs,
        summary.events,
        summary.turns,
        summary.commits,
        summary.healed_after_max as f64 / 1000.0,
        took.as_secs_f64()
    );
    for (seed, failure) in &summary.failures {
        println!("FAILED seed {seed} {failure}\n  replay: cargo run -p pgherd-sim --bin explore -- --seed {seed}");
    }
}
