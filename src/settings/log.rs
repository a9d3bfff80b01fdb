//! `log`: what is logged.

use super::error::SettingsError;
use super::section::Section;

/// From which level on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Level {
    /// Everything.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// What may need attention.
    Warning,
    /// What failed.
    Error,
    /// What endangers the cluster.
    Critical,
}

/// The log; it goes to standard error as plain lines.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Log {
    /// From which level on.
    pub level: Level,
}

/// Reads the section.
pub fn read(section: Section) -> Result<Log, SettingsError> {
    let level = match section.text("level")? {
        None => Level::Info,
        Some(text) => level(&text).ok_or_else(|| {
            section.error("level", format!("must be DEBUG, INFO, WARNING, ERROR or CRITICAL, not {text}"))
        })?,
    };
    if let Some(text) = section.text("type")?.filter(|text| text != "plain") {
        match text.as_str() {
            "json" => section.warn("type", "json is not supported yet; lines are plain"),
            _ => return Err(section.error("type", format!("must be plain or json, not {text}"))),
        }
    }
    section.without_effect_yet(&["traceback_level", "format", "dateformat", "static_fields", "max_queue_size", "dir"]);
    section.without_effect_yet(&["file_size", "file_num", "mode", "loggers", "deduplicate_heartbeat_logs"]);
    section.finish();
    Ok(Log { level })
}

fn level(text: &str) -> Option<Level> {
    Some(match text.to_ascii_uppercase().as_str() {
        "DEBUG" => Level::Debug,
        "INFO" => Level::Info,
        "WARN" | "WARNING" => Level::Warning,
        "ERROR" => Level::Error,
        "FATAL" | "CRITICAL" => Level::Critical,
        _ => return None,
    })
}
