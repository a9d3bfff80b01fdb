//! Reading everything under the prefix, linearizably. There are no readings of changes: each brings all keys.

use super::Etcd2;
use super::lease::foreign;
use super::request::refused;
use super::tag::Tag;
use super::wire::{Node, Snapshot};
use crate::codec::{self, KeyValue};
use crate::etcd3::failure::Failure;
use crate::port::Reading;
use pgherd_types::{Instant, LeaseId, Refused};
use std::collections::BTreeMap;

/// What decides who may do what: a change there is read twice before it is believed, because an answer may have been
/// mutilated on its way and still be JSON. The others change all the time, and less hangs on them.
const ORDINARY: [&str; 3] = ["members/", "status", "optime/"];
/// So often until two readings in a row agree.
const READINGS_MAX: u32 = 8;

/// What the last reading found.
#[derive(Default)]
pub(super) struct Known {
    index: i64,
    keys: BTreeMap<String, Change>,
}

/// A key's value, and the index at which it was first seen: a renewal raises a key's index, but is no change.
#[derive(Clone, PartialEq, Debug)]
struct Change {
    value: String,
    created: i64,
    at: i64,
}

impl Known {
    fn and(&self, snapshot: &Snapshot) -> Self {
        let change = |(key, node): (&String, &Node)| {
            let before = self.keys.get(key).filter(|c| c.value == node.value && c.created == node.created);
            let at = before.map_or(node.modified, |change| change.at);
            (key.clone(), Change { value: node.value.clone(), created: node.created, at })
        };
        Self { index: snapshot.index, keys: snapshot.keys.iter().map(change).collect() }
    }
    /// Do both say the same of the keys on which much hangs?
    fn agrees(&self, other: &Self, prefix: &str) -> bool {
        let weighty = |known: &Self| -> Vec<(String, Change)> {
            let ordinary =
                |key: &str| key.strip_prefix(prefix).is_some_and(|k| ORDINARY.iter().any(|o| k.starts_with(o)));
            known.keys.iter().filter(|(key, _)| !ordinary(key)).map(|(key, c)| (key.clone(), c.clone())).collect()
        };
        weighty(self) == weighty(other)
    }
    fn changed_at(&self) -> i64 {
        self.keys.values().map(|change| change.at).max().unwrap_or(0)
    }
}

impl Etcd2 {
    pub(super) async fn read_prefix(&self, deadline: Instant) -> Result<Reading, Refused> {
        let (snapshot, now) = self.read_surely(deadline).await.map_err(refused)?;
        let before = self.known.borrow().index;
        if now.index < before {
            log::warn!(
                "etcd is back at index {}, after {before} was read: it was restored from a backup, and what was written \
                 since then is lost there",
                now.index
            );
        }
        let keys: Vec<KeyValue> = snapshot.keys.iter().map(|(key, node)| self.plain(key, node, &snapshot)).collect();
        let (cluster, complaints) = codec::cluster(&self.layout, snapshot.index, &keys);
        let changed_at = now.changed_at();
        self.known.replace(now);
        Ok(Reading { cluster, changed_at, complaints })
    }

    async fn read_surely(&self, deadline: Instant) -> Result<(Snapshot, Known), Failure> {
        let mut last = self.read_once(deadline).await?;
        {
            let known = self.known.borrow();
            if known.index == 0 || last.1.agrees(&known, self.layout.prefix()) {
                return Ok(last);
            }
        }
        for _ in 1..READINGS_MAX {
            let again = self.read_once(deadline).await?;
            if again.1.agrees(&last.1, self.layout.prefix()) {
                return Ok(again);
            }
            last = again;
        }
        Err(Failure::unsure(
            "readings in a row contradict each other; does something between here and etcd change answers?",
        ))
    }

    async fn read_once(&self, deadline: Instant) -> Result<(Snapshot, Known), Failure> {
        let snapshot = self.look(deadline).await?;
        let known = self.known.borrow().and(&snapshot);
        Ok((snapshot, known))
    }

    fn plain(&self, key: &str, node: &Node, snapshot: &Snapshot) -> KeyValue {
        KeyValue {
            key: key.as_bytes().to_vec(),
            value: node.value.as_bytes().to_vec(),
            create_revision: node.created,
            mod_revision: node.modified,
            lease: self.lease_of(key, node, snapshot),
        }
    }

    /// Whose a key is: ours if it was confirmed here, another process's by the tag that it left; else nobody knows, but it
    /// lapses. Keys that never do have no lease.
    fn lease_of(&self, key: &str, node: &Node, snapshot: &Snapshot) -> Option<LeaseId> {
        let lease = match key.strip_prefix(self.layout.prefix())? {
            "leader" => self.lease_of_leader(node).or_else(|| {
                let member = snapshot.get(&self.layout.key(&format!("members/{}", node.value)))?;
                let tag = Tag::of(&member.value)?;
                (tag.leader == Some(node.created)).then_some(tag.lease)
            }),
            "initialize" => {
                let held = self.held.borrow();
                held.iter().find(|(_, held)| held.claim == Some(node.created)).map(|(lease, _)| *lease)
            }
            name if name.starts_with("members/") => Tag::of(&node.value).map(|tag| tag.lease),
            _ => return None,
        };
        lease.filter(|_| node.ttl.is_some()).or_else(|| foreign(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(index: i64, keys: &[(&str, &str, i64, i64)]) -> Snapshot {
        let node = |(key, value, created, modified): &(&str, &str, i64, i64)| {
            let (value, created, modified) = ((*value).to_owned(), *created, *modified);
            ((*key).to_owned(), Node { value, created, modified, ..Node::default() })
        };
        Snapshot { index, keys: keys.iter().map(node).collect() }
    }

    #[test]
    fn a_renewal_is_no_change() {
        let first = Known::default().and(&snapshot(9, &[("/x/leader", "a", 3, 5), ("/x/config", "{}", 4, 4)]));
        assert_eq!(first.changed_at(), 5);
        let renewed = first.and(&snapshot(12, &[("/x/leader", "a", 3, 11), ("/x/config", "{}", 4, 4)]));
        assert_eq!(renewed.changed_at(), 5);
        assert!(renewed.agrees(&first, "/x/"));
        let taken = renewed.and(&snapshot(20, &[("/x/leader", "a", 19, 19), ("/x/config", "{}", 4, 4)]));
        assert_eq!(taken.changed_at(), 19, "it is another creation");
        assert!(!taken.agrees(&renewed, "/x/"));
        let noise = [("/x/leader", "a", 19, 22), ("/x/config", "{}", 4, 4), ("/x/status", "1", 21, 21)];
        assert!(taken.and(&snapshot(22, &noise)).agrees(&taken, "/x/"));
        assert_eq!(Known::default().and(&snapshot(9, &[])).changed_at(), 0);
    }
}
