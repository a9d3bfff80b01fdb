//! libpq connection strings, `keyword=value …`.

use std::collections::BTreeMap;

/// One `keyword=value` with the value escaped as `primary_conninfo` is written (spec/postgres-control.md 5.7).
pub fn pair(keyword: &str, value: &str) -> String {
    let mut text = format!("{keyword}=");
    if value.is_empty() {
        text.push_str("''");
    }
    for c in value.chars() {
        if matches!(c, '\\' | '\'' | ' ') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// Reads a connection string; what cannot be read is left out.
pub fn parse(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut keyword = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=') {
            keyword.push(c);
        }
        if chars.next().is_none() {
            return found;
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        found.insert(keyword.trim().to_owned(), value(&mut chars));
    }
}

fn value(chars: &mut std::iter::Peekable<std::str::Chars>) -> String {
    let quoted = chars.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.extend(chars.next()),
            '\'' if quoted => break,
            c if !quoted && c.is_whitespace() => break,
            c => value.push(c),
        }
    }
    value
}

/// Host and port a connection string names; `None` when it names no host.
pub fn host_and_port(text: &str) -> Option<(String, u16)> {
    let parts = parse(text);
    let host = parts.get("host").filter(|h| !h.is_empty())?;
    let port = parts.get("port").map_or(Ok(5432), |p| p.parse());
    Some((host.clone(), port.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        for value in ["", "plain", "with space", "quo'te", "back\\slash", "=", "a=b c"] {
            let text = format!("{} {}", pair("host", "h"), pair("password", value));
            assert_eq!(parse(&text).get("password").map(String::as_str), Some(value), "{text}");
        }
    }

    #[test]
    fn libpq_forms_are_understood() {
        let text = "user=r  host = '10.0.0.1' port=5433 application_name='a b'";
        assert_eq!(host_and_port(text), Some(("10.0.0.1".to_owned(), 5433)));
        assert_eq!(parse(text)["application_name"], "a b");
        for (text, wanted) in
            [("", None), ("port=1", None), ("host=x port=no", None), ("host=x", Some(("x".to_owned(), 5432)))]
        {
            assert_eq!(host_and_port(text), wanted, "{text}");
        }
    }
}
