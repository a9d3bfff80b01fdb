//! Times of scheduled actions: ISO 8601 with a zone, in the future. Without a zone nobody knows when it is.

use crate::answer::Answer;
use actix_web::http::StatusCode;
use pgherd_protocol::request_desk::Moment;
use pgherd_types::WallTime;
use serde_json::Value;

/// Reads the time of an `action`.
pub fn read(action: &str, value: &Value, now: WallTime) -> Result<Moment, Answer> {
    let unparsable = || {
        let text = "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601";
        Answer::text(StatusCode::UNPROCESSABLE_ENTITY, text)
    };
    // A name of a zone behind the offset, as in `…+01:00[Europe/Paris]`, is not understood by everybody.
    let text = value.as_str().map(str::trim).filter(|text| !text.contains('[')).ok_or_else(unparsable)?;
    let Ok(at) = text.parse::<jiff::Timestamp>() else {
        return Err(match text.parse::<jiff::civil::DateTime>() {
            Ok(_) => Answer::refused(format!("Timezone information is mandatory for the scheduled {action}")),
            Err(_) => unparsable(),
        });
    };
    let at = WallTime(at.as_millisecond());
    if at < now {
        let text = format!("Cannot schedule {action} in the past");
        return Err(Answer::text(StatusCode::UNPROCESSABLE_ENTITY, text));
    }
    Ok(Moment { at, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// 2030-01-01T00:00:00Z.
    const NOW: WallTime = WallTime(1_893_456_000_000);

    #[test]
    fn times_need_a_zone_and_lie_ahead() {
        let unparsable = "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601";
        let no_zone = "Timezone information is mandatory for the scheduled restart";
        let past = "Cannot schedule restart in the past";
        for (value, code, text) in [
            (json!("2030-01-01T00:00:00"), 400, no_zone),
            (json!("2030-01-01 00:00"), 400, no_zone),
            (json!("2030-01-01"), 400, no_zone),
            (json!("2029-12-31T23:59:59Z"), 422, past),
            (json!("2030-01-01T00:59:59+01:00"), 422, past),
            (json!("tomorrow"), 422, unparsable),
            (json!("2030-13-01T00:00:00Z"), 422, unparsable),
            (json!("2030-06-01T00:00:00+02:00[Europe/Paris]"), 422, unparsable),
            (json!(1_893_456_000), 422, unparsable),
            (json!(true), 422, unparsable),
        ] {
            let answer = read("restart", &value, NOW).unwrap_err();
            assert_eq!((answer.code.as_u16(), answer.body.as_deref()), (code, Some(text)), "{value}");
        }
        for (text, at) in [
            ("2030-01-01T00:00:00Z", NOW.0),
            ("2030-01-01T01:00:00+01:00", NOW.0),
            (" 2030-01-01 02:00+02 ", NOW.0),
            ("2030-01-01T00:00:01.500-00:00", NOW.0 + 1_500),
        ] {
            let moment = read("restart", &json!(text), NOW).unwrap();
            assert_eq!(moment, Moment { at: WallTime(at), text: text.trim().to_owned() });
        }
    }
}
