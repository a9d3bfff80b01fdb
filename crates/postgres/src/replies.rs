//! How long ago standbys answered. `pg_stat_replication.reply_time` is the standby's clock, which may be wrong by any
//! amount; only that it changed is a fact, and when that was seen.

use pgherd_types::Instant;
use std::collections::BTreeMap;

/// By walsender: the time in its last answer, and when that was seen first.
#[derive(Debug, Default)]
pub(crate) struct Replies(BTreeMap<u32, (String, Instant)>);

impl Replies {
    /// Takes in one look; the answer is in milliseconds, for those whose answers are known.
    pub fn look(&mut self, seen: impl Iterator<Item = (u32, Option<String>)>, at: Instant) -> BTreeMap<u32, u64> {
        let kept = |(pid, reply): (u32, Option<String>)| {
            let reply = reply?;
            let before = self.0.get(&pid).filter(|(last, _)| *last == reply);
            Some((pid, before.cloned().unwrap_or((reply, at))))
        };
        let now: BTreeMap<_, _> = seen.filter_map(kept).collect();
        self.0 = now;
        let ago = |since: Instant| at.as_millis().saturating_sub(since.as_millis());
        self.0.iter().map(|(pid, (_, since))| (*pid, ago(*since))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_from_when_it_was_seen_whatever_the_standbys_clock_says() {
        let mut replies = Replies::default();
        let mut look = |pid: u32, reply: Option<&str>, at: u64| {
            replies.look([(pid, reply.map(str::to_owned))].into_iter(), Instant::from_millis(at)).get(&pid).copied()
        };
        assert_eq!(look(7, Some("1999-01-01"), 1000), Some(0));
        assert_eq!(look(7, Some("1999-01-01"), 4000), Some(3000));
        assert_eq!(look(7, Some("1998-01-01"), 5000), Some(0));
        assert_eq!(look(8, Some("1998-01-01"), 6000), Some(0));
        assert_eq!(look(7, Some("1998-01-01"), 7000), Some(0), "a new process of the same number");
        assert_eq!(look(7, None, 8000), None);
    }
}
