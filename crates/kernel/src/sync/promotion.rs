//! What a node that holds the leader key does to be a synchronous primary from its first commit on
//! (spec/sync-and-quorum.md 8). Names first, then the key, then the promotion.
//!
//! The key names the new primary **before** it is one, in mode `quorum` too, where Patroni writes it a cycle later: the
//! comparison with the revision the race was judged by stops a second racer, and an old leader that comes back no longer
//! finds a key that lets it win alone. It is safe because this node has won by the key that is replaced, so it has every
//! acknowledged commit; of the others, the new key vouches for exactly what the old one did; and PostgreSQL waits
//! for as many of them as that takes.

use super::plan::{SyncStep, Waiting, key_write, names_of, promise, settle_doubt, switched_off};
use super::state::{Promise, Waits};
use super::view::SyncView;
use pgherd_types::{StandbyNames, SyncMode, SyncNames};

/// The next step before a promotion; [`SyncStep::Nothing`]: promote. `view.names` is what this standby's PostgreSQL
/// says of itself, that is what it will wait for. A refused write postpones the promotion until the race was judged
/// again.
pub fn before_promotion(view: &SyncView) -> SyncStep {
    if view.settings.mode == SyncMode::Off {
        return switched_off(view);
    }
    let Some(names) = &view.names else { return SyncStep::Wait(Waiting::Names) };
    let (want, quorum, voters) = first_of_a_reign(view);
    if *names != want {
        return SyncStep::SetNames(want);
    }
    let key = Promise { leader: Some(view.me.clone()), quorum, voters };
    if promise(view) != key {
        return SyncStep::WriteKey(key_write(view, quorum, key.voters));
    }
    settle_doubt(view).unwrap_or(SyncStep::Nothing)
}

/// Whom PostgreSQL waits for until standbys have connected, and what the key says.
fn first_of_a_reign(view: &SyncView) -> (StandbyNames, usize, SyncNames) {
    let mode = view.settings.mode;
    let old = promise(view);
    let others: SyncNames = old.voters.iter().chain(&old.leader).filter(|name| **name != view.me).cloned().collect();
    // one voter less, this node, but also one node less that a commit waits for
    let number = others.len().saturating_sub(old.quorum);
    match (mode, view.settings.strict) {
        (SyncMode::Quorum, _) if number > 0 => (names_of(mode, Waits::of(number, others.clone())), old.quorum, others),
        (SyncMode::On | SyncMode::Off, true) if number > 0 && old.quorum == 0 => {
            (names_of(mode, Waits::of(number, others.clone())), 0, others)
        }
        // nobody is vouched for
        (_, true) => (names_of(mode, Waits::blocked()), 0, SyncNames::new()),
        (_, false) => (StandbyNames::none(), 0, SyncNames::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{key, view};
    use super::*;
    use pgherd_types::{SyncName, SyncSeen};

    /// Carries the steps out and lists them.
    fn play(mut view: SyncView) -> Vec<String> {
        let mut steps = Vec::new();
        for _ in 0..5 {
            match before_promotion(&view) {
                SyncStep::WriteKey(write) => {
                    assert_eq!(write.seen, view.key.revision());
                    let names: Vec<&str> = write.standbys.iter().map(SyncName::as_str).collect();
                    steps.push(format!("key {} {} {}", write.leader, write.quorum, names.join(",")));
                    view.key = key(9, write.leader.as_str(), write.quorum, &names);
                }
                SyncStep::SetNames(names) => {
                    steps.push(format!("names {names}"));
                    view.names = Some(names);
                }
                SyncStep::DeleteKey { seen } => {
                    steps.push(format!("delete {seen}"));
                    view.key = SyncSeen::Absent;
                }
                SyncStep::SetUserNames => {
                    steps.push("user".to_owned());
                    view.names = Some(view.user_names.clone());
                }
                SyncStep::Nothing => return steps,
                other @ (SyncStep::Wait(_) | SyncStep::ForceWal) => panic!("{other:?}"),
            }
        }
        panic!("does not end: {steps:?}")
    }

    fn promoted(mode: SyncMode, strict: bool, key: SyncSeen) -> Vec<String> {
        let mut view = view("b", mode);
        (view.settings.strict, view.key, view.names) = (strict, key, Some(StandbyNames::read("old")));
        play(view)
    }

    #[test]
    fn quorum() {
        let of = |key| promoted(SyncMode::Quorum, false, key);
        assert_eq!(of(key(4, "a", 1, &["b", "c"])), ["names ANY 1 (a,c)", "key b 1 a,c"]);
        assert_eq!(of(key(4, "a", 0, &["b"])), ["names ANY 1 (a)", "key b 0 a"]);
        assert_eq!(of(key(4, "a", 1, &["c", "d"])), ["names ANY 2 (a,c,d)", "key b 1 a,c,d"], "not a voter");
        assert_eq!(of(key(4, "b", 1, &["a", "c"])), ["names ANY 1 (a,c)"], "once more");
        assert_eq!(of(key(4, "a", 3, &["b", "c"])), ["names ", "key b 0 "], "nobody is vouched for");
        assert_eq!(of(SyncSeen::Absent), ["names ", "key b 0 "]);
        assert_eq!(of(SyncSeen::Garbage { mod_revision: 4 }), ["names ", "key b 0 "]);
    }

    #[test]
    fn priority() {
        assert_eq!(promoted(SyncMode::On, false, key(4, "a", 0, &["b", "c"])), ["names ", "key b 0 "]);
        assert_eq!(promoted(SyncMode::On, true, key(4, "a", 0, &["b", "c"])), ["names 2 (a,c)", "key b 0 a,c"]);
        let blocked = format!("names {}", pgherd_types::sync::PLACEHOLDER);
        assert_eq!(promoted(SyncMode::On, true, key(4, "b", 0, &[])), [blocked.as_str()]);
        // a key of quorum mode vouches for none of them alone
        assert_eq!(promoted(SyncMode::On, true, key(4, "a", 1, &["b", "c"])), [blocked.as_str(), "key b 0 "]);
    }

    #[test]
    fn off() {
        assert_eq!(promoted(SyncMode::Off, false, key(4, "a", 0, &["b"])), ["delete 4", "user"]);
    }
}
