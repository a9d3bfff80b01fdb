//! `history`: every end of a timeline.

use super::console::{Outcome, Verdict};
use super::list::Format;
use super::session::Session;
use super::table::{Align, Column, Table};
use super::{python_json, yaml_text};
use clap::Args;
use pgherd_types::HistoryRow;
use serde_json::{Map, Value, json};

/// Of which cluster, and how.
#[derive(Args)]
pub struct HistoryArguments {
    /// The cluster; by default the one of the settings.
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value = "pretty")]
    format: Format,
}

const COLUMNS: [(&str, Align); 5] = [
    ("TL", Align::Right),
    ("LSN", Align::Right),
    ("Reason", Align::Left),
    ("Timestamp", Align::Left),
    ("New Leader", Align::Left),
];

/// Runs the command.
pub async fn history(session: &Session<'_>, arguments: &HistoryArguments) -> Outcome {
    let cluster = session.cluster(&session.scope(arguments.cluster.as_ref())?).await?;
    session.console.say(text(cluster.history.as_deref().unwrap_or_default(), arguments.format))?;
    Ok(Verdict::Done)
}

fn text(rows: &[HistoryRow], format: Format) -> String {
    let rows: Vec<_> = rows.iter().map(cells).collect();
    let texts = || rows.iter().map(|row| row.iter().map(plain).collect::<Vec<_>>());
    match format {
        Format::Pretty => {
            let columns = COLUMNS.iter().map(|(header, align)| Column { header, align: *align }).collect();
            Table { title: String::new(), columns, rows: texts().collect() }.to_string()
        }
        Format::Tsv => {
            let header = COLUMNS.map(|(header, _)| header).join("\t");
            [header].into_iter().chain(texts().map(|row| row.join("\t"))).collect::<Vec<_>>().join("\n")
        }
        Format::Json => python_json::line(&objects(&rows)),
        Format::Yaml => yaml_text::block(&objects(&rows)).trim_end().to_owned(),
    }
}

/// The position in bytes; what is not known is an empty text.
fn cells(row: &HistoryRow) -> [Value; 5] {
    let known = |text: &Option<String>| json!(text.as_deref().unwrap_or_default());
    [json!(row.timeline.0), json!(row.switch_lsn.0), json!(row.reason), known(&row.at), known(&row.new_leader)]
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn objects(rows: &[[Value; 5]]) -> Value {
    let object = |row: &[Value; 5]| {
        let pairs = COLUMNS.iter().zip(row).map(|((header, _), value)| ((*header).to_owned(), value.clone()));
        Value::Object(Map::from_iter(pairs))
    };
    rows.iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_types::{Lsn, Timeline};

    #[test]
    fn rows_in_every_form() {
        let row = |timeline, lsn, at: Option<&str>, leader: Option<&str>| HistoryRow {
            timeline: Timeline(timeline),
            switch_lsn: Lsn(lsn),
            reason: "no recovery target specified".into(),
            at: at.map(str::to_owned),
            new_leader: leader.map(str::to_owned),
        };
        let rows = [row(1, 25_623_960, Some("2026-11-21T22:00:00+00:00"), Some("pg2")), row(2, 7, None, None)];
        let pretty = "\
+----+----------+------------------------------+---------------------------+------------+
| TL |      LSN | Reason                       | Timestamp                 | New Leader |
+----+----------+------------------------------+---------------------------+------------+
|  1 | 25623960 | no recovery target specified | 2026-11-21T22:00:00+00:00 | pg2        |
|  2 |        7 | no recovery target specified |                           |            |
+----+----------+------------------------------+---------------------------+------------+";
        assert_eq!(text(&rows, Format::Pretty), pretty);
        let json =
            r#"[{"TL": 2, "LSN": 7, "Reason": "no recovery target specified", "Timestamp": "", "New Leader": ""}]"#;
        assert_eq!(text(&rows[1..], Format::Json), json);
        let tsv = "TL\tLSN\tReason\tTimestamp\tNew Leader\n2\t7\tno recovery target specified\t\t";
        assert_eq!(text(&rows[1..], Format::Tsv), tsv);
        let yaml = "- LSN: 7\n  New Leader: ''\n  Reason: no recovery target specified\n  TL: 2\n  Timestamp: ''";
        assert_eq!(text(&rows[1..], Format::Yaml), yaml);
        assert_eq!(text(&[], Format::Json), "[]");
    }
}
