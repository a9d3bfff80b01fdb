//! Reading everything under the prefix, linearizably, at little cost: once the keys are known, etcd is asked only for those
//! that were changed since, and for the number of all. What was removed shows in the number: the keys known before
//! together with the changed ones are as many as there are now only if none of them is gone.

use super::Etcd3;
use super::failure::Failure;
use super::settle::parse;
use super::wire::{RangeReply, one_body, range_body, range_since_body};
use crate::codec::{self, KeyValue};
use crate::port::Reading;
use pgherd_types::{Instant, Refused};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What decides who may do what: a change there is read twice before it is believed, because an answer may have been
/// mutilated on its way and still be JSON. The others change all the time, and less hangs on them.
const ORDINARY: [&[u8]; 3] = [b"members/", b"status", b"optime/"];
/// So often until two readings in a row agree.
const READINGS_MAX: u32 = 8;

/// All keys are read again after so many readings of changes, whatever these say.
const CHANGES_IN_A_ROW: u32 = 60;

/// What the last reading found.
#[derive(Default, Clone)]
pub(super) struct Known {
    revision: i64,
    keys: Rc<BTreeMap<Vec<u8>, KeyValue>>,
    changes_in_a_row: u32,
}

impl Known {
    fn all(revision: i64, keys: Vec<KeyValue>) -> Self {
        let keys = keys.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
        Self { revision, keys: Rc::new(keys), changes_in_a_row: 0 }
    }
    /// Do both say the same of the keys on which much hangs?
    fn agrees(&self, other: &Self, prefix: &[u8]) -> bool {
        let weighty = |known: &Self| -> Vec<KeyValue> {
            let ordinary =
                |key: &[u8]| key.strip_prefix(prefix).is_some_and(|k| ORDINARY.iter().any(|o| k.starts_with(o)));
            known.keys.values().filter(|kv| !ordinary(&kv.key)).cloned().collect()
        };
        Rc::ptr_eq(&self.keys, &other.keys) || weighty(self) == weighty(other)
    }
    /// With the keys changed since; `None` if that does not add up: some are gone, or the store went back.
    fn with(&self, revision: i64, changed: Vec<KeyValue>, count: i64) -> Option<Self> {
        if revision < self.revision || changed.iter().any(|kv| kv.mod_revision <= self.revision) {
            return None;
        }
        let mut keys = self.keys.clone();
        if !changed.is_empty() {
            Rc::make_mut(&mut keys).extend(changed.into_iter().map(|kv| (kv.key.clone(), kv)));
        }
        let whole = usize::try_from(count) == Ok(keys.len());
        whole.then(|| Self { revision, keys, changes_in_a_row: self.changes_in_a_row + 1 })
    }
}

impl Etcd3 {
    pub(super) async fn read_prefix(&self, deadline: Instant) -> Result<Reading, Refused> {
        let known = self.known.borrow().clone();
        let now = self.read_surely(&known, deadline).await.map_err(Failure::refused)?;
        if now.revision < known.revision {
            log::warn!(
                "etcd is back at revision {}, after {} was read: it was restored from a backup, and what was written since \
                 then is lost there",
                now.revision,
                known.revision
            );
        }
        self.known.replace(now.clone());
        let keys: Vec<_> = now.keys.values().cloned().collect();
        let changed_at = keys.iter().map(|kv| kv.mod_revision).max().unwrap_or(0);
        let (cluster, complaints) = codec::cluster(&self.layout, now.revision, &keys);
        Ok(Reading { cluster, changed_at, complaints })
    }

    async fn read_surely(&self, known: &Known, deadline: Instant) -> Result<Known, Failure> {
        let mut last = self.read_keys(known, deadline).await?;
        if known.revision == 0 || last.agrees(known, self.layout.prefix().as_bytes()) {
            return Ok(last);
        }
        for _ in 1..READINGS_MAX {
            let again = self.read_keys(known, deadline).await?;
            if again.agrees(&last, self.layout.prefix().as_bytes()) {
                return Ok(again);
            }
            last = again;
        }
        Err(Failure::unsure(
            "readings in a row contradict each other; does something between here and etcd change answers?",
        ))
    }

    async fn read_keys(&self, known: &Known, deadline: Instant) -> Result<Known, Failure> {
        if known.revision > 0 && known.changes_in_a_row < CHANGES_IN_A_ROW {
            let body = range_since_body(self.layout.prefix(), &self.layout.range_end(), known.revision);
            let reply = self.range(&body, deadline).await?;
            let (revision, count) = (reply.header.revision, reply.count);
            if let Some(now) = known.with(revision, reply.keys(), count) {
                return Ok(now);
            }
        }
        let reply = self.range(&range_body(self.layout.prefix(), &self.layout.range_end()), deadline).await?;
        let (revision, count) = (reply.header.revision, reply.count);
        let keys = reply.keys();
        if usize::try_from(count) != Ok(keys.len()) {
            return Err(Failure::unsure(format!("etcd says that there are {count} keys and sends {}", keys.len())));
        }
        Ok(Known::all(revision, keys))
    }

    /// One key, linearizably.
    pub(super) async fn read_one(&self, key: &str, deadline: Instant) -> Result<Option<KeyValue>, Failure> {
        Ok(self.range(&one_body(key), deadline).await?.keys().pop())
    }

    /// A range is linearizable unless asked otherwise.
    async fn range(&self, body: &str, deadline: Instant) -> Result<RangeReply, Failure> {
        let reply: RangeReply = parse(&self.client.call("/kv/range", body, deadline).await?)?;
        match reply.header.revision {
            0 => Err(Failure::unsure("etcd answered a range without a revision")),
            _ => Ok(reply),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &str, mod_revision: i64) -> KeyValue {
        KeyValue { key: key.into(), mod_revision, create_revision: mod_revision, ..KeyValue::default() }
    }

    fn names(known: Option<Known>) -> Option<String> {
        let names =
            |known: &Known| known.keys.keys().map(|k| String::from_utf8_lossy(k).into_owned()).collect::<String>();
        known.map(|known| names(&known))
    }

    #[test]
    fn changes_are_put_upon_what_is_known_only_if_that_makes_the_whole() {
        let known = Known::all(10, vec![kv("a", 3), kv("b", 10)]);
        assert_eq!(names(known.with(10, vec![], 2)), Some("ab".into()), "nothing changed");
        assert_eq!(names(known.with(12, vec![kv("b", 11), kv("c", 12)], 3)), Some("abc".into()));
        assert_eq!(names(known.with(12, vec![], 1)), None, "one is gone");
        assert_eq!(names(known.with(12, vec![kv("c", 12)], 2)), None, "one is gone and another one new");
        assert_eq!(names(known.with(9, vec![], 2)), None, "the store went back");
        assert_eq!(names(known.with(12, vec![kv("b", 10)], 2)), None, "not what was asked for");
        let noise = known.with(12, vec![kv("/x/members/a", 11), kv("/x/status", 12)], 4).unwrap();
        assert!(noise.agrees(&known, b"/x/") && !noise.agrees(&known, b"/y/"));
        assert!(!known.with(12, vec![kv("/x/leader", 12)], 3).unwrap().agrees(&known, b"/x/"));
        let again = known.with(12, vec![kv("b", 11)], 2).unwrap();
        assert_eq!((again.revision, again.keys[&b"b"[..]].mod_revision, again.changes_in_a_row), (12, 11, 1));
    }
}
