//! Values of parameters with units, as PostgreSQL reads and shows them: `64MB` and `8192` blocks are the same, and both
//! are shown as `64MB`.

/// A unit and how many of the smallest of its kind it is: bytes, or microseconds.
type Unit = (&'static str, f64);

/// From large to small. PostgreSQL shows a value in the largest that divides it.
const MEMORY: [Unit; 5] =
    [("TB", 1_099_511_627_776.0), ("GB", 1_073_741_824.0), ("MB", 1_048_576.0), ("kB", 1024.0), ("B", 1.0)];
const TIME: [Unit; 6] = [
    ("d", 86_400_000_000.0),
    ("h", 3_600_000_000.0),
    ("min", 60_000_000.0),
    ("s", 1_000_000.0),
    ("ms", 1000.0),
    ("us", 1.0),
];

/// The size of a parameter's own unit (`8kB` is a block) and the units of its kind.
fn kind(unit: &str) -> Option<(f64, &'static [Unit])> {
    let digits = unit.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
    let factor = if digits == 0 { 1.0 } else { unit[..digits].parse::<f64>().ok()? };
    let name = &unit[digits..];
    let in_table =
        |table: &'static [Unit]| table.iter().find(|(known, _)| *known == name).map(|(_, size)| (factor * size, table));
    in_table(&MEMORY).or_else(|| in_table(&TIME))
}

/// A text as a number of `unit`s; without one in the text it counts them already. `unit` may be empty.
pub(crate) fn parse(text: &str, unit: &str) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E' | 'x' | 'X')).unwrap_or(text.len());
    let number = number(text[..end].trim())?;
    let given = text[end..].trim();
    if given.is_empty() {
        return Some(number);
    }
    let (own, table) = kind(unit)?;
    let (_, size) = table.iter().find(|(known, _)| *known == given)?;
    Some(number * size / own)
}

fn number(text: &str) -> Option<f64> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok()? as f64,
        None => text.parse().ok()?,
    };
    number.is_finite().then_some(number)
}

/// A text as the server would show it: `8192` blocks as `64MB`. A number that is no multiple stays as it is.
pub(crate) fn human(text: &str, unit: &str) -> Option<String> {
    let value = parse(text, unit)?;
    let Some((own, table)) = kind(unit).filter(|_| value > 0.0) else { return Some(plain(value)) };
    let base = (value * own).round();
    let (name, size) = table.iter().find(|(_, size)| base % size == 0.0)?;
    Some(format!("{}{name}", plain(base / size)))
}

fn plain(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_the_server_shows_them() {
        for (text, unit, shown) in [
            ("8192", "8kB", "64MB"),
            ("64MB", "8kB", "64MB"),
            ("0.5GB", "8kB", "512MB"),
            ("1 GB", "MB", "1GB"),
            ("100", "", "100"),
            ("0x10", "", "16"),
            ("-1", "8kB", "-1"),
            ("0", "ms", "0"),
            ("1500", "ms", "1500ms"),
            ("60s", "ms", "1min"),
            ("90", "s", "90s"),
            ("0.25", "", "0.25"),
            ("1e3", "", "1000"),
            ("12", "kB", "12kB"),
        ] {
            assert_eq!(human(text, unit).as_deref(), Some(shown), "{text} in {unit}");
        }
        for (text, unit) in [("lots", "8kB"), ("1MB", "ms"), ("1 h", "kB"), ("1MB", ""), ("", "s"), ("inf", "")] {
            assert_eq!(human(text, unit), None, "{text} in {unit}");
        }
    }
}
