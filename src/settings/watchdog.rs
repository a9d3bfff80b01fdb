//! `watchdog`: the device that resets the machine.

use super::error::SettingsError;
use super::section::Section;
use pgherd_watchdog::{WatchdogDriver, WatchdogMode, WatchdogOptions};
use serde_json::Value;

/// Reads the section.
pub fn read(section: Section) -> Result<WatchdogOptions, SettingsError> {
    let defaults = WatchdogOptions::default();
    let options = WatchdogOptions {
        mode: mode(&section)?,
        driver: driver(&section)?,
        device: section.text("device")?.map_or(defaults.device, Into::into),
        safety_margin_s: match section.integer("safety_margin")? {
            None => defaults.safety_margin_s,
            Some(-1) => None,
            Some(seconds @ 0..=86_400) => Some(seconds.unsigned_abs()),
            Some(_) => return Err(section.error("safety_margin", "must be seconds, or -1 for half of the ttl")),
        },
    };
    section.finish();
    Ok(options)
}

fn mode(section: &Section) -> Result<WatchdogMode, SettingsError> {
    if section.raw("mode") == Some(&Value::Bool(false)) {
        return Ok(WatchdogMode::Off);
    }
    let Some(text) = section.text("mode")? else { return Ok(WatchdogMode::default()) };
    Ok(match text.to_ascii_lowercase().as_str() {
        "off" | "disable" | "disabled" | "false" => WatchdogMode::Off,
        "auto" | "automatic" => WatchdogMode::Automatic,
        "require" | "required" => WatchdogMode::Required,
        _ => {
            section.warn("mode", "is not known (off, automatic, required): the watchdog is off");
            WatchdogMode::Off
        }
    })
}

fn driver(section: &Section) -> Result<WatchdogDriver, SettingsError> {
    match section.text("driver")?.as_deref() {
        None | Some("default") => Ok(WatchdogDriver::Linux),
        Some("testing") => Ok(WatchdogDriver::Testing),
        Some(_) => Err(section.error("driver", "must be default or testing")),
    }
}
