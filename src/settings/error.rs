//! Why the settings cannot be used: always one line that names the place and the key.

use std::fmt;

/// One line: where (file, file and line, or environment variable), which key, what is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingsError {
    /// The file, `file:line`, or the name of an environment variable.
    pub place: String,
    /// Dotted path of the key, if it is about one.
    pub key: Option<String>,
    /// What is wrong, and what helps.
    pub what: String,
}

impl SettingsError {
    /// About a whole file or variable.
    pub fn at(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), key: None, what: what.into() }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The scanner's messages may hold line breaks.
        let what = self.what.split_whitespace().collect::<Vec<_>>().join(" ");
        match &self.key {
            Some(key) => write!(f, "{}: {key}: {what}", self.place),
            None => write!(f, "{}: {what}", self.place),
        }
    }
}

impl std::error::Error for SettingsError {}
