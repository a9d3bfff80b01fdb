//! Log lines on standard error: `2026-11-21 22:00:00,123 INFO: message`, in local time, as operators' tools expect them.

use crate::settings::log::Level;
use env_logger::Builder;
use log::{LevelFilter, Record};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// `log` has no level above error; a record with this target is printed as CRITICAL.
pub const CRITICAL: &str = "critical";

/// Errors are not enough.
static ONLY_CRITICAL: AtomicBool = AtomicBool::new(false);

/// Starts logging. Our own packages log from `level` on, libraries only what may need attention.
pub fn start(level: Level) {
    Builder::new()
        .filter_level(LevelFilter::Warn)
        .filter_module("pgherd", LevelFilter::Debug)
        .format(|out, record| {
            if ONLY_CRITICAL.load(Ordering::Relaxed) && record.target() != CRITICAL {
                return Ok(());
            }
            out.write_all(line(&jiff::Zoned::now(), record).as_bytes())
        })
        .init();
    set_level(level);
}

/// Logs from this level on.
pub fn set_level(level: Level) {
    ONLY_CRITICAL.store(level == Level::Critical, Ordering::Relaxed);
    log::set_max_level(filter(level));
}

const fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Debug => LevelFilter::Debug,
        Level::Info => LevelFilter::Info,
        Level::Warning => LevelFilter::Warn,
        Level::Error | Level::Critical => LevelFilter::Error,
    }
}

/// One record, one line: line breaks inside a message (a server's error text may have some) are shown as `\n`.
fn line(now: &jiff::Zoned, record: &Record) -> String {
    let message = record.args().to_string().replace('\n', "\\n");
    let name = match record.level() {
        _ if record.target() == CRITICAL => "CRITICAL",
        log::Level::Error => "ERROR",
        log::Level::Warn => "WARNING",
        log::Level::Info => "INFO",
        log::Level::Debug | log::Level::Trace => "DEBUG",
    };
    format!("{},{:03} {name}: {message}\n", now.strftime("%Y-%m-%d %H:%M:%S"), now.millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(level: log::Level, target: &str, message: &str) -> String {
        let now: jiff::Zoned = "2026-11-21T22:00:00.0075[UTC]".parse().unwrap();
        line(&now, &Record::builder().level(level).target(target).args(format_args!("{message}")).build())
    }

    #[test]
    fn lines_have_time_level_and_message() {
        assert_eq!(shown(log::Level::Info, "x", "no action"), "2026-11-21 22:00:00,007 INFO: no action\n");
        assert_eq!(shown(log::Level::Warn, "x", "a\nb"), "2026-11-21 22:00:00,007 WARNING: a\\nb\n");
        assert_eq!(shown(log::Level::Error, CRITICAL, "x"), "2026-11-21 22:00:00,007 CRITICAL: x\n");
        assert_eq!(shown(log::Level::Trace, "x", "x"), "2026-11-21 22:00:00,007 DEBUG: x\n");
    }
}
