//! Times as operators write them and as messages show them. Without a zone a time is local.

use super::console::Stop;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use pgherd_types::{Schedule, WallTime};

/// A moment and the text that is sent for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The moment.
    pub at: WallTime,
    /// ISO 8601 with the zone's offset.
    pub text: String,
}

impl Moment {
    /// As the DCS has it.
    pub fn schedule(&self) -> Schedule {
        Schedule::At { at: self.at, text: self.text.clone() }
    }
}

/// `now` and the empty text mean at once.
pub fn parse(text: &str, local: &TimeZone) -> Result<Option<Moment>, Stop> {
    let text = text.trim();
    if text.is_empty() || text.eq_ignore_ascii_case("now") {
        return Ok(None);
    }
    zoned(text, local).map(|at| Some(moment(&at))).ok_or_else(|| {
        let format = "It should be in an unambiguous format, e.g. ISO 8601";
        Stop::Error(format!("Unable to parse scheduled timestamp ({text}). {format}"))
    })
}

/// A text that names its zone keeps the offset it was written with.
fn zoned(text: &str, local: &TimeZone) -> Option<Zoned> {
    if let Ok(at) = text.parse::<Timestamp>() {
        let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
        let zone = pieces.to_numeric_offset().map_or(TimeZone::UTC, TimeZone::fixed);
        return Some(at.to_zoned(zone));
    }
    let civil: DateTime = text.parse().ok()?;
    // a date alone says no time of day
    text.contains(':').then(|| civil.to_zoned(local.clone()).ok()).flatten()
}

fn moment(at: &Zoned) -> Moment {
    let fraction = if at.subsec_nanosecond() == 0 { "" } else { "%.6f" };
    let text = at.strftime(&format!("%Y-%m-%dT%H:%M:%S{fraction}%:z")).to_string();
    Moment { at: WallTime(at.timestamp().as_millisecond()), text }
}

fn now_local() -> Zoned {
    let WallTime(ms) = pgherd_clock::wall();
    Timestamp::from_millisecond(ms).unwrap_or_default().to_zoned(TimeZone::system())
}

/// The time in front of a message: `2026-11-21 21:10:12.50136`.
pub fn stamp() -> String {
    now_local().strftime("%Y-%m-%d %H:%M:%S.%5f").to_string()
}

/// The time above a list.
pub fn stamp_seconds() -> String {
    now_local().strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// An example for prompts: an hour from now.
pub fn example() -> String {
    let later = now_local().checked_add(jiff::Span::new().hours(1)).unwrap_or_else(|_| now_local());
    later.strftime("%Y-%m-%dT%H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_zone_is_local_and_is_sent_with_its_offset() {
        let local = TimeZone::fixed(jiff::tz::offset(2));
        for (text, sent) in [
            ("2026-11-22T04:00", "2026-11-22T04:00:00+02:00"),
            ("2026-11-22 04:00:05", "2026-11-22T04:00:05+02:00"),
            ("2026-11-22T04:00:05.25", "2026-11-22T04:00:05.250000+02:00"),
            ("2026-11-22T04:00Z", "2026-11-22T04:00:00+00:00"),
            ("2026-11-22T04:00:00-05:30", "2026-11-22T04:00:00-05:30"),
            ("2026-11-22 04:00+01", "2026-11-22T04:00:00+01:00"),
        ] {
            let moment = parse(text, &local).unwrap().unwrap();
            assert_eq!(moment.text, sent, "{text}");
            assert_eq!(sent.parse::<Timestamp>().unwrap().as_millisecond(), moment.at.0, "{text}");
        }
        for now in ["now", "NOW", "", " "] {
            assert_eq!(parse(now, &local), Ok(None));
        }
        for bad in ["tomorrow", "2026-11-22", "04:00", "22.11.2026 04:00"] {
            let Err(Stop::Error(text)) = parse(bad, &local) else { panic!("{bad} was taken") };
            assert!(text.starts_with("Unable to parse scheduled timestamp"), "{text}");
        }
    }

    #[test]
    fn stamps_have_five_decimals() {
        let stamp = stamp();
        let fraction = stamp.rsplit('.').next().unwrap();
        assert!(stamp.len() == 25 && fraction.len() == 5, "{stamp}");
        assert_eq!((stamp_seconds().len(), example().len()), (19, 16));
    }
}
