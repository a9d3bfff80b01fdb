//! PostgreSQL's timestamps in the form clients expect: `2024-08-28 19:39:26.352526+00:00`.

/// Microseconds in full or not at all, the zone with minutes. A text of any other shape is left as it is.
pub fn isoformat(text: &str) -> String {
    let zone_at = text.rfind(['+', '-']).filter(|at| *at > 10).unwrap_or(text.len());
    let (time, zone) = text.split_at(zone_at);
    let time = match time.split_once('.') {
        Some((seconds, fraction)) if !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{seconds}.{fraction:0<6}")
        }
        _ => time.to_owned(),
    };
    let minutes = if zone.len() == 3 { ":00" } else { "" };
    format!("{time}{zone}{minutes}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_and_zone_are_completed() {
        for (text, expected) in [
            ("2024-08-28 19:39:26.352526+00", "2024-08-28 19:39:26.352526+00:00"),
            ("2024-08-28 19:39:26.35+02", "2024-08-28 19:39:26.350000+02:00"),
            ("2024-08-28 19:39:26-03:30", "2024-08-28 19:39:26-03:30"),
            ("2024-08-28 19:39:26", "2024-08-28 19:39:26"),
            ("soon", "soon"),
        ] {
            assert_eq!(isoformat(text), expected);
        }
    }
}
