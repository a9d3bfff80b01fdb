//! Seeds, stories and planted bugs.

use pgherd_sim::explore::{explore, run};
use pgherd_sim::scenario::Setup;
use pgherd_sim::{mutants, story};
use std::path::{Path, PathBuf};

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

#[test]
fn two_thousand_seeds_hold_what_is_promised() {
    let summary = explore(1..2001, 3, Setup::draw);
    assert!(summary.failures.is_empty(), "{:#?}", summary.failures);
    assert!(summary.counts["happened:promotion"] > 500, "too little happened: {:#?}", summary.counts);
}

#[test]
fn seeds_that_once_failed_pass() {
    let text = std::fs::read_to_string(scenarios().join("seeds.txt")).unwrap();
    let mut count = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let seed = words[0].parse().unwrap();
        let setup = match words[1] {
            "like" => mutants::ALL.iter().find(|(name, _)| *name == words[2]).unwrap().1.healthy(seed),
            "sync" => Setup::without_slots(seed),
            "slots" => Setup::draw(seed),
            _ => Setup::asynchronous(seed),
        };
        assert_eq!(run(setup, false).failure, None, "{line}");
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 17, 400] {
        let once = || {
            let world = run(Setup::draw(seed), false);
            (world.events, world.turns, world.ledger.commits, world.trace.counts)
        };
        assert_eq!(once(), once());
    }
}

#[test]
fn every_planted_bug_is_found_and_the_healthy_kernel_passes_the_same_seeds() {
    for (name, planted) in mutants::ALL {
        let hunt = planted.hunt(3000);
        assert!(!hunt.failures.is_empty(), "{name} was not found in {} runs", hunt.runs);
        let healthy = explore(1..hunt.runs + 1, 1, |seed| planted.healthy(seed));
        assert!(healthy.failures.is_empty(), "{name}: without it {:?}", healthy.failures);
    }
}

/// `UPDATE_EXPECT=1` writes the transcripts anew.
#[test]
fn stories_go_as_told() {
    let mut stories: Vec<PathBuf> = std::fs::read_dir(scenarios())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt") && !path.ends_with("seeds.txt"))
        .collect();
    stories.sort();
    assert!(stories.len() >= 5);
    for path in stories {
        let expected = std::fs::read_to_string(&path).unwrap();
        let told = story::tell(&expected).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(told.ends_with("nothing was violated\n"), "{}:\n{told}", path.display());
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, told).unwrap();
        } else {
            assert_eq!(told, expected, "{} goes differently now", path.display());
        }
    }
}
