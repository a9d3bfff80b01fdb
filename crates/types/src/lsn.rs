//! A position in the write-ahead log.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Log sequence number: a byte position in the WAL.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    /// How many bytes this is ahead of `other`; zero if it is not.
    pub const fn ahead_of(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
    /// `0/0`, which PostgreSQL uses for "none".
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// PostgreSQL's text form, `0/4000060`.
impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text was not two hexadecimal numbers of up to 32 bits with a slash between them.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAnLsn;

impl std::str::FromStr for Lsn {
    type Err = NotAnLsn;
    fn from_str(text: &str) -> Result<Self, NotAnLsn> {
        let (high, low) = text.trim().split_once('/').ok_or(NotAnLsn)?;
        let half = |part: &str| u32::from_str_radix(part, 16).map_err(|_| NotAnLsn);
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_rejects_nonsense() {
        for text in ["0/0", "0/4000060", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        for text in ["", "/", "1", "G/1", "1/1/1", "100000000/0"] {
            assert_eq!(text.parse::<Lsn>(), Err(NotAnLsn), "{text}");
        }
    }
}
