//! How a plain (unquoted) YAML scalar is read: by the YAML 1.1 rules of PyYAML, because existing files were written for
//! them. `on` is true, `0755` is 493, `12:30` is 750, `1e3` is text.

use config::ValueKind;

/// The value of a plain scalar.
pub fn resolve(text: &str) -> ValueKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => ValueKind::Nil,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => ValueKind::Boolean(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => ValueKind::Boolean(false),
        _ => number(text).unwrap_or_else(|| ValueKind::String(text.to_owned())),
    }
}

fn number(text: &str) -> Option<ValueKind> {
    let sign = text.bytes().next().filter(|first| matches!(first, b'-' | b'+'));
    let digits = if sign.is_some() { &text[1..] } else { text };
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    integer(digits).and_then(|v| fitting(if sign == Some(b'-') { -v } else { v })).or_else(|| float(digits, sign))
}

/// The smallest kind that holds it; a number beyond 64 bits stays text, so that it is refused where a number is needed.
fn fitting(value: i128) -> Option<ValueKind> {
    i64::try_from(value).map(ValueKind::I64).or_else(|_| u64::try_from(value).map(ValueKind::U64)).ok()
}

fn integer(digits: &str) -> Option<i128> {
    let radix = |body: &str, radix: u32| {
        let body = body.replace('_', "");
        if body.is_empty() || body.starts_with(['+', '-']) {
            return None;
        }
        i128::from_str_radix(&body, radix).ok()
    };
    if let Some(body) = digits.strip_prefix("0b") {
        return radix(body, 2);
    }
    if let Some(body) = digits.strip_prefix("0x") {
        return radix(body, 16);
    }
    if digits == "0" {
        return Some(0);
    }
    if let Some(body) = digits.strip_prefix('0') {
        return radix(&format!("0{body}"), 8);
    }
    if digits.contains(':') { sexagesimal(digits) } else { radix(digits, 10) }
}

/// `[1-9][0-9_]*(:[0-5]?[0-9])+`: hours and minutes, or minutes and seconds.
fn sexagesimal(digits: &str) -> Option<i128> {
    let mut parts = digits.split(':');
    let first = parts.next()?;
    if !first.starts_with(|c: char| ('1'..='9').contains(&c)) {
        return None;
    }
    let mut total = first.replace('_', "").parse::<i128>().ok()?;
    for part in parts {
        let value = part.parse::<u8>().ok().filter(|v| *v < 60 && part.len() <= 2 && !part.starts_with('+'))?;
        total = total.checked_mul(60)?.checked_add(i128::from(value))?;
    }
    Some(total)
}

/// Digits, a point, digits, and an exponent only with its sign; or infinity.
fn float(digits: &str, sign: Option<u8>) -> Option<ValueKind> {
    let (signed, negative) = (sign.is_some(), sign == Some(b'-'));
    let (whole, rest) = digits.split_once('.')?;
    if whole.is_empty() && matches!(rest, "inf" | "Inf" | "INF") {
        return Some(ValueKind::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY }));
    }
    if whole.is_empty() && matches!(rest, "nan" | "NaN" | "NAN") && !negative {
        return Some(ValueKind::Float(f64::NAN));
    }
    let (fraction, exponent) = match rest.split_once(['e', 'E']) {
        Some((fraction, exponent)) => (fraction, Some(exponent)),
        None => (rest, None),
    };
    // Without digits before the point there must be one after it, and no sign.
    if whole.is_empty() && (signed || !fraction.starts_with(|c: char| c.is_ascii_digit())) {
        return None;
    }
    let plain = |part: &str| part.chars().all(|c| c.is_ascii_digit() || c == '_');
    let exponent_fits = |part: &str| part.len() > 1 && part.starts_with(['+', '-']) && plain(&part[1..]);
    if !plain(whole) || !plain(fraction) || !exponent.is_none_or(exponent_fits) {
        return None;
    }
    let value = digits.replace('_', "").parse::<f64>().ok()?;
    Some(ValueKind::Float(if negative { -value } else { value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_read_as_pyyaml_reads_them() {
        let cases = [
            ("on", "true"),
            ("No", "false"),
            ("~", "nil"),
            ("y", "y"),
            ("0123", "83"),
            ("0755", "493"),
            ("0789", "0789"),
            ("0o17", "0o17"),
            ("0x1F", "31"),
            ("0b101", "5"),
            ("1_000", "1000"),
            ("-5", "-5"),
            ("12:30", "750"),
            ("1:60", "1:60"),
            ("1.5", "1.5"),
            (".5", "0.5"),
            ("-.5", "-.5"),
            ("0_", "0"),
            ("1e3", "1e3"),
            ("1.0e+3", "1000"),
            ("1.0e3", "1.0e3"),
            ("18446744073709551615", "18446744073709551615"),
            ("99999999999999999999999", "99999999999999999999999"),
            ("10.0.0.1", "10.0.0.1"),
            ("127.0.0.1:5432", "127.0.0.1:5432"),
            ("2001-01-01", "2001-01-01"),
            ("-", "-"),
            ("0x", "0x"),
            ("é1", "é1"),
        ];
        for (text, value) in cases {
            assert_eq!(resolve(text).to_string(), value, "{text}");
        }
        assert!(matches!(resolve("0123"), ValueKind::I64(83)));
        assert!(matches!(resolve("18446744073709551615"), ValueKind::U64(u64::MAX)));
        assert!(matches!(resolve("99999999999999999999999"), ValueKind::String(_)));
    }
}
