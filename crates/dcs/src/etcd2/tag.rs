//! What makes the keys of one process known to be its own: etcd v2 has no leases, so a member's document says in a field of
//! ours which process wrote it, and which creation of the leader key that process was confirmed to own. Others pass the
//! field over.

use pgherd_types::LeaseId;
use serde_json::{Value, json};

const FIELD: &str = "pgherd_lease";

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tag {
    pub lease: LeaseId,
    /// The promised time to live.
    pub ttl_s: u64,
    /// Index of the leader key's creation.
    pub leader: Option<i64>,
}

impl Tag {
    pub fn of(document: &str) -> Option<Self> {
        let document: Value = serde_json::from_str(document).ok()?;
        let field = document.get(FIELD)?;
        let id = i64::from_str_radix(field.get("id")?.as_str()?, 16).ok().filter(|id| *id > 0)?;
        let ttl_s = field.get("ttl")?.as_u64().filter(|ttl_s| (1..=86_400).contains(ttl_s))?;
        Some(Self { lease: LeaseId(id), ttl_s, leader: field.get("leader").and_then(Value::as_i64) })
    }
    /// The document with this tag.
    pub fn on(&self, document: &str) -> String {
        let mut tagged: Value = serde_json::from_str(document).unwrap_or_default();
        if !tagged.is_object() {
            tagged = json!({});
        }
        let mut field = json!({"id": format!("{:x}", self.lease.0), "ttl": self.ttl_s});
        if let Some(created) = self.leader {
            field["leader"] = created.into();
        }
        tagged[FIELD] = field;
        tagged.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_comes_back_and_rubbish_is_none() {
        for leader in [None, Some(17)] {
            let tag = Tag { lease: LeaseId(0x7fff_ffff_ffff_ffff), ttl_s: 30, leader };
            let text = tag.on(r#"{"state":"running","role":"replica"}"#);
            assert!(text.starts_with(r#"{"state":"running","role":"replica","pgherd_lease":"#), "{text}");
            assert_eq!(Tag::of(&text), Some(tag));
            let later = Tag { lease: LeaseId(5), ..tag };
            assert_eq!(Tag::of(&later.on(&text)), Some(later), "the newer one counts");
        }
        for text in ["", "[]", "{}", "x", r#"{"pgherd_lease":7}"#, r#"{"pgherd_lease":{"id":"0","ttl":30}}"#] {
            assert_eq!(Tag::of(text), None, "{text}");
        }
    }
}
