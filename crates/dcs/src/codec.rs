//! Keys and values to types and back. Whatever stands in a key - not JSON, not UTF-8, wrong types, too deep, too large,
//! numbers out of range - reading never fails: it takes the documented fallback and says what is wrong with the key.

mod cluster;
mod manual;
mod member;
mod scalars;
mod sync;

pub use cluster::{KeyValue, cluster};
pub use manual::{encode_failover, encode_failsafe, moment, operators_value};
pub use member::encode_member;
pub use scalars::{encode_history, encode_status, is_config_object, read_timeline};
pub use sync::{decode_sync, encode_sync};

use serde_json::Value;

/// Something under the prefix that cannot be understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Complaint {
    /// The full key, made printable.
    pub key: String,
    /// Its revision: the same garbage need not be reported twice.
    pub mod_revision: i64,
    /// What is wrong with it and what is assumed instead.
    pub what: String,
}

/// Text longer than this in a field that is shown or logged is taken for garbage.
const TEXT_LIMIT_BYTES: usize = 4096;

/// Collects what is wrong with one value.
#[derive(Default)]
pub(crate) struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, what: impl Into<String>) {
        // A hostile value could have thousands of bad fields: the first few are enough to find it.
        if self.0.len() < 8 {
            self.0.push(what.into());
        }
    }
    fn into_text(self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join("; "))
    }
}

/// A value as JSON; serde_json limits the depth itself.
fn json(value: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(value).map_err(|e| format!("not JSON ({e})"))
}

/// A non-negative whole number, also when written as text.
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Number(n) => n.as_u64(),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
