//! Query strings: form data, first value wins, blank values count as absent, unknown names are ignored.

use actix_web::web::Query;

/// A request's parameters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a query string (without `?`).
    pub fn parse(query: &str) -> Result<Self, String> {
        let pairs = Query::<Vec<(String, String)>>::from_query(query).map_err(|e| format!("bad query string: {e}"))?;
        Ok(Self(pairs.into_inner().into_iter().filter(|(_, value)| !value.is_empty()).collect()))
    }
    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
    /// `tag_<name>=<value>` as `(name, value)`.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, value)| Some((name.strip_prefix("tag_")?, value.as_str())))
    }
    /// `lag`, in bytes.
    pub fn lag_bytes(&self) -> Result<Option<u64>, String> {
        let Some(text) = self.get("lag") else { return Ok(None) };
        bytes(text).map(Some).ok_or_else(|| {
            format!("lag={text}: must be a number of bytes, or a number with B, kB, MB, GB or TB (letter case matters)")
        })
    }
}

/// `16MB`, `1.5GB`, `0x100`, `0777` or digits; units are those of PostgreSQL.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, unit) = match text.find(['B', 'k', 'M', 'G', 'T']) {
        // `B` is also a hexadecimal digit.
        Some(at) if !text.starts_with("0x") => (text[..at].trim_end(), &text[at..]),
        _ => (text, "B"),
    };
    let factor: u64 = match unit {
        "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    };
    match whole(number) {
        Some(number) => number.checked_mul(factor),
        None => fraction(number, factor),
    }
}

fn whole(text: &str) -> Option<u64> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

fn fraction(text: &str, factor: u64) -> Option<u64> {
    let number: f64 = text.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)?;
    let bytes = number * factor as f64;
    // 2^63: above it nothing is a lag.
    (bytes < 9_223_372_036_854_775_808.0).then_some(bytes.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_read_strictly() {
        let cases = [
            ("16MB", Some(16 << 20)),
            ("100", Some(100)),
            ("0", Some(0)),
            ("10B", Some(10)),
            ("1 kB", Some(1024)),
            ("1.5GB", Some(3 << 29)),
            ("0x1B", Some(27)),
            ("010", Some(8)),
            ("2TB", Some(2 << 40)),
            ("10mb", None),
            ("10KB", None),
            ("-1", None),
            ("MB", None),
            ("nan", None),
            ("inf", None),
            ("1e300GB", None),
            ("99999999999999999999TB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn the_first_value_counts_and_blank_ones_are_absent() {
        let parameters = Parameters::parse("lag=&lag=5&lag=6&tag_a=b%20c&tag_d=&x").unwrap();
        assert_eq!(parameters.lag_bytes(), Ok(Some(5)));
        assert_eq!(parameters.tags().collect::<Vec<_>>(), [("a", "b c")]);
        assert!(Parameters::parse("lag=x").unwrap().lag_bytes().is_err());
        assert_eq!(Parameters::parse("").unwrap(), Parameters::default());
    }
}
