//! JSON with a space after `,` and `:`, as Python's `json.dumps` writes it: what scripts around such lists were tested with.

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};
use std::io::{self, Write};

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// One line, without a line break at its end.
pub fn line(value: &Value) -> String {
    let mut out = Vec::new();
    // Writing a JSON value to memory cannot fail.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut out, Spaced));
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn separators_have_a_space() {
        let value = serde_json::json!([{"a": 1, "b": [true, "x"]}, {}]);
        assert_eq!(super::line(&value), r#"[{"a": 1, "b": [true, "x"]}, {}]"#);
    }
}
