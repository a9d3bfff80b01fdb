//! The `sync` key: who is synchronous with whom (spec/dcs-etcd3.md 2.6). It decides who may lead, so nothing in it is
//! guessed: a value with one doubtful field is garbage as a whole.

use super::{TEXT_LIMIT_BYTES, json, whole};
use pgherd_types::{MemberName, SyncKey, SyncName, SyncNames, SyncSeen};
use serde_json::{Map, Value};

/// Reads the key; the text says what is wrong with a value that cannot be understood.
pub fn decode_sync(value: &[u8], mod_revision: i64) -> (SyncSeen, Option<String>) {
    match fields(value) {
        Ok(key) => (SyncSeen::Valid(SyncKey { mod_revision, ..key }), None),
        Err(why) => {
            let what = format!("{why}; nobody may lead but the members of the last key that could be read");
            (SyncSeen::Garbage { mod_revision }, Some(what))
        }
    }
}

fn fields(value: &[u8]) -> Result<SyncKey, String> {
    let Value::Object(fields) = json(value)? else { return Err("not an object".to_owned()) };
    let get = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let leader = get("leader").map(|leader| name("leader", leader)).transpose()?;
    let quorum = match get("quorum") {
        None => 0, // versions before 4.0 wrote none
        Some(quorum) => whole(quorum).and_then(|q| u32::try_from(q).ok()).ok_or("quorum is not a number of members")?,
    };
    let standbys = match get("sync_standby") {
        None => SyncNames::new(),
        Some(Value::String(list)) => {
            list.split(',').map(str::trim).filter(|n| !n.is_empty()).map(SyncName::from).collect()
        }
        Some(_) => return Err("sync_standby is not a list of names".to_owned()),
    };
    Ok(SyncKey { mod_revision: 0, leader: leader.flatten(), quorum, standbys })
}

/// An empty name is none.
fn name(field: &str, value: &Value) -> Result<Option<MemberName>, String> {
    match value.as_str().map(str::trim).filter(|name| name.len() <= TEXT_LIMIT_BYTES) {
        Some(name) => Ok(Some(name).filter(|name| !name.is_empty()).map(MemberName::from)),
        None => Err(format!("{field} is not a member name")),
    }
}

/// Patroni's form: `{"leader":"n0","quorum":0,"sync_standby":"n1,n2"}`, nobody as `null`.
pub fn encode_sync(leader: Option<&MemberName>, quorum: u32, standbys: &SyncNames) -> Vec<u8> {
    let mut names: Vec<&str> = standbys.iter().map(SyncName::as_str).collect();
    names.sort_unstable();
    let mut fields = Map::new();
    fields.insert("leader".into(), leader.map(|name| name.0.clone()).into());
    fields.insert("quorum".into(), quorum.into());
    fields.insert("sync_standby".into(), (!names.is_empty()).then(|| names.join(",")).into());
    Value::Object(fields).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(leader: Option<&str>, quorum: u32, standbys: &[&str]) -> SyncKey {
        let standbys = standbys.iter().map(|name| SyncName::from(*name)).collect();
        SyncKey { mod_revision: 7, leader: leader.map(MemberName::from), quorum, standbys }
    }

    #[test]
    fn to_the_byte_and_back() {
        for (text, key) in [
            (r#"{"leader":"n0","quorum":0,"sync_standby":null}"#, key(Some("n0"), 0, &[])),
            (r#"{"leader":"n0","quorum":0,"sync_standby":"n2"}"#, key(Some("n0"), 0, &["n2"])),
            (r#"{"leader":"n0","quorum":1,"sync_standby":"n1,n2"}"#, key(Some("n0"), 1, &["n2", "n1"])),
            (r#"{"leader":null,"quorum":0,"sync_standby":null}"#, key(None, 0, &[])),
            (r#"{"leader":"a \"b\"","quorum":2,"sync_standby":"B,a"}"#, key(Some("a \"b\""), 2, &["a", "B"])),
        ] {
            let written = encode_sync(key.leader.as_ref(), key.quorum, &key.standbys);
            assert_eq!(String::from_utf8(written).unwrap(), text);
            assert_eq!(decode_sync(text.as_bytes(), 7), (SyncSeen::Valid(key), None), "{text}");
        }
    }

    #[test]
    fn what_others_and_older_versions_write() {
        for (text, expected) in [
            (r#"{}"#, key(None, 0, &[])),
            (r#"{"leader":""}"#, key(None, 0, &[])),
            (r#"{"leader":"a","sync_standby":null}"#, key(Some("a"), 0, &[])),
            (r#"{"leader": "a", "sync_standby": " b ,, c,", "more": [1]}"#, key(Some("a"), 0, &["b", "c"])),
            (r#"{"sync_standby":"b","quorum":null,"leader":"a"}"#, key(Some("a"), 0, &["b"])),
            (r#"{"leader":"a","quorum":"1","sync_standby":"b,c,B"}"#, key(Some("a"), 1, &["b", "c"])),
        ] {
            assert_eq!(decode_sync(text.as_bytes(), 7), (SyncSeen::Valid(expected), None), "{text}");
        }
    }

    #[test]
    fn a_doubtful_field_spoils_the_key() {
        for text in [
            "",
            "x",
            "[]",
            "null",
            "\u{0}",
            r#"{"leader":7}"#,
            r#"{"leader":["a"]}"#,
            r#"{"leader":"a","quorum":-1}"#,
            r#"{"leader":"a","quorum":1.5}"#,
            r#"{"leader":"a","quorum":true}"#,
            r#"{"leader":"a","quorum":99999999999}"#,
            r#"{"leader":"a","sync_standby":["b"]}"#,
            r#"{"leader":"a","sync_standby":{"b":1}}"#,
            r#"{"leader":"a","sync_standby":"b""#,
        ] {
            let (seen, what) = decode_sync(text.as_bytes(), 7);
            assert_eq!(seen, SyncSeen::Garbage { mod_revision: 7 }, "{text}");
            assert!(what.unwrap().contains("nobody may lead but"), "{text}");
        }
        assert_eq!(decode_sync(&[b'"', 0xff, b'"'], 7).0, SyncSeen::Garbage { mod_revision: 7 });
    }
}
