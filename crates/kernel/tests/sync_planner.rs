//! Proof of the planner of synchronous replication: every state of a primary (node 0) and up to four standbys.
//!
//! A commit is the set of standbys that have it. For each state the checker takes **every** commit that can exist in
//! it: all that PostgreSQL could acknowledge now, and all that an earlier configuration could have left behind, as far
//! as neither the key in force nor a proof says otherwise. A key is safe if nobody it lets win lacks one of them; who
//! wins is counted out, set by set. One step from every state is enough: an interruption, a restart or another leader
//! finds a state that is counted through as well.

use pgherd_kernel::sync::state::{Awaited, Promise, State, Step, Waits};
use pgherd_kernel::sync::{priority, quorum};
use std::collections::BTreeSet;

#[path = "sync_planner/model.rs"]
mod model;
#[path = "sync_planner/promotion.rs"]
mod promotion;
#[path = "sync_planner/timelines.rs"]
mod timelines;
#[path = "sync_planner/views.rs"]
mod views;
#[path = "sync_planner/whole.rs"]
mod whole;
#[path = "sync_planner/world.rs"]
mod world;

use model::Model;

type World = State<u8>;

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Mode {
    On,
    Quorum,
}

/// A planted fault.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// A standby is removed from PostgreSQL before it is removed from the key.
    NamesFirstWhenRemoving,
    /// A standby is added to the key before it is added to PostgreSQL.
    KeyFirstWhenAdding,
    /// PostgreSQL waits for fewer before the key asks for more votes.
    LowerBeforeRaise,
    /// The key asks for fewer votes before PostgreSQL waits for more.
    VotesBeforeNumber,
    /// Whoever streams counts as proven.
    NoProof,
    /// PostgreSQL waits for more of more before the key asks for more votes.
    GrowsAtOnce,
    /// Number and names of PostgreSQL change at once.
    AtOnce,
    /// A broken promise is mended in PostgreSQL, so that the key looks true.
    Whitewash,
}

fn step(mode: Mode, mutant: Mutant, s: &World) -> Step<u8> {
    let next = match mode {
        Mode::On => priority::next,
        Mode::Quorum => quorum::next,
    };
    let kept = s.promise.leader == Some(s.me) && s.holds();
    let last = match mode {
        Mode::On => Waits::of(s.picked.len(), s.picked.clone()),
        Mode::Quorum => Waits::of(s.wanted.min(s.active.len()), s.active.clone()),
    };
    match (mutant, next(s)) {
        (Mutant::NoProof, _) => {
            let all = s.waits.names.intersection(&s.active).copied().collect();
            next(&State { proven: all, ..s.clone() })
        }
        (Mutant::NamesFirstWhenRemoving, Step::Promise { voters, .. })
            if kept && voters.is_subset(&s.promise.voters) && voters != s.promise.voters && s.waits != last =>
        {
            Step::Waits(last)
        }
        (Mutant::KeyFirstWhenAdding, Step::Waits(waits)) if kept && waits.names.is_superset(&s.promise.voters) => {
            Step::Promise { quorum: s.promise.quorum, voters: waits.names }
        }
        (Mutant::LowerBeforeRaise, Step::Promise { quorum, .. })
            if kept && quorum > s.promise.quorum && last.number < s.waits.number =>
        {
            Step::Waits(last)
        }
        (Mutant::VotesBeforeNumber, Step::Waits(waits)) if kept && !waits.blocked && waits.number > s.waits.number => {
            Step::Promise { quorum: waits.names.len() - waits.number, voters: waits.names }
        }
        (Mutant::GrowsAtOnce, Step::Promise { quorum, .. })
            if kept && quorum > s.promise.quorum && last.may_lack(&s.promised()) <= s.promise.quorum =>
        {
            Step::Waits(last)
        }
        (Mutant::AtOnce, Step::Waits(_)) if kept && last.may_lack(&s.promised()) <= s.promise.quorum => {
            Step::Waits(last)
        }
        (Mutant::Whitewash, Step::Promise { .. }) if !kept => {
            Step::Waits(Waits::of(s.promise.voters.len(), s.promise.voters.clone()))
        }
        (_, step) => step,
    }
}

/// Does the step endanger a commit?
fn danger(model: &Model, s: &World, step: &Step<u8>) -> Option<&'static str> {
    let kept = model.kept(s);
    match step {
        Step::Promise { quorum, voters } => {
            let key = Promise { leader: Some(s.me), quorum: *quorum, voters: voters.clone() };
            (model.commits(s) & model.lost_under(&key) != 0).then_some("the key lets one win who may lack a commit")
        }
        Step::Waits(_) if !kept => Some("a broken promise is covered up"),
        Step::Waits(waits) => ((model.acknowledged(waits) | model.meanwhile(s, waits)) & model.lost_under(&s.promise)
            != 0)
            .then_some("PostgreSQL would acknowledge what one who may win lacks"),
        Step::Done => (!kept).then_some("done with a broken promise"),
        Step::Await(_) => None,
    }
}

fn first_danger(mode: Mode, mutant: Mutant) -> Option<String> {
    let model = Model::new();
    let mut fault = None;
    let mut seen = 0_u64;
    model::every_state(mode == Mode::On, |s| {
        seen += 1;
        let step = step(mode, mutant, s);
        fault = danger(&model, s, &step).map(|what| format!("{what}: {step:?} in {s:?}"));
        fault.is_none()
    });
    println!("{mode:?} {mutant:?}: {seen} states");
    assert!(fault.is_some() || seen > 500_000, "hardly anything was looked at: {seen}");
    fault
}

#[test]
fn no_step_from_any_state_endangers_a_commit() {
    for mode in [Mode::On, Mode::Quorum] {
        assert_eq!(first_danger(mode, Mutant::None), None);
    }
}

#[test]
fn planted_faults_are_found() {
    for (mode, mutant) in [
        (Mode::On, Mutant::NamesFirstWhenRemoving),
        (Mode::On, Mutant::KeyFirstWhenAdding),
        (Mode::On, Mutant::NoProof),
        (Mode::On, Mutant::AtOnce),
        (Mode::On, Mutant::Whitewash),
        (Mode::Quorum, Mutant::NamesFirstWhenRemoving),
        (Mode::Quorum, Mutant::KeyFirstWhenAdding),
        (Mode::Quorum, Mutant::LowerBeforeRaise),
        (Mode::Quorum, Mutant::VotesBeforeNumber),
        (Mode::Quorum, Mutant::GrowsAtOnce),
        (Mode::Quorum, Mutant::AtOnce),
        (Mode::Quorum, Mutant::NoProof),
        (Mode::Quorum, Mutant::Whitewash),
    ] {
        let fault = first_danger(mode, mutant);
        println!("{fault:?}");
        assert!(fault.is_some(), "{mutant:?} in mode {mode:?} was not found");
    }
}

/// Is this where the mode wants to be?
fn settled(mode: Mode, s: &World) -> bool {
    let chosen = if mode == Mode::On { &s.picked } else { &s.active };
    let number = if mode == Mode::On { chosen.len() } else { s.wanted.min(chosen.len()) };
    s.promise == Promise { leader: Some(s.me), quorum: chosen.len() - number, voters: chosen.clone() }
        && s.waits == Waits::of(number, chosen.clone())
}

/// Carries steps out, standbys proving themselves whenever that is waited for: how many steps it took.
fn run(mode: Mode, s: &mut World) -> Result<usize, String> {
    let begin = s.clone();
    for count in 0..16 {
        match step(mode, Mutant::None, s) {
            Step::Promise { quorum, voters } => {
                let key = Promise { leader: Some(s.me), quorum, voters };
                assert_ne!(key, s.promise, "a write that changes nothing, from {begin:?}");
                s.promise = key;
            }
            Step::Waits(waits) => {
                assert_ne!(waits, s.waits, "a change that changes nothing, from {begin:?}");
                s.waits = waits;
                s.proven.clear();
            }
            Step::Await(Awaited::Proof) => {
                let alive: BTreeSet<u8> = s.waits.names.intersection(&s.active).copied().collect();
                if s.proven == alive {
                    return Err(format!("waits for a proof that is there: {s:?} from {begin:?}"));
                }
                s.proven = alive;
            }
            Step::Await(Awaited::Reconnect) if s.patient => s.patient = false,
            Step::Await(Awaited::Standby) if s.strict => return Ok(count),
            Step::Done if settled(mode, s) => return Ok(count),
            other @ (Step::Await(Awaited::Reconnect | Awaited::Standby) | Step::Done) => {
                return Err(format!("ends with {other:?} in {s:?} from {begin:?}"));
            }
        }
    }
    Err(format!("does not end: {begin:?}"))
}

#[test]
fn every_state_gets_where_it_should_in_a_few_steps() {
    for (mode, limit) in [(Mode::On, 9), (Mode::Quorum, 9)] {
        let (mut longest, mut runs) = (0, 0_u64);
        model::every_state(mode == Mode::On, |s| {
            let nobody = if mode == Mode::On { s.picked.is_empty() } else { s.active.is_empty() };
            // a change of PostgreSQL forgets proofs; being strict is about nobody being there; one foreign leader will do
            let same = !s.proven.is_empty() || (s.strict && !nobody) || s.promise.leader == Some(4);
            if !same {
                let mut s = s.clone();
                longest = longest.max(run(mode, &mut s).unwrap());
                assert!(settled(mode, &s) || (s.strict && nobody), "{s:?}");
                runs += 1;
            }
            true
        });
        println!("{mode:?}: at most {longest} steps, {runs} runs");
        assert!(longest <= limit && runs > 100_000, "{longest} steps, {runs} runs");
    }
}
