//! A table with ASCII borders whose text is that of Python's PrettyTable, because scripts cut it into pieces. No crate
//! writes the title into the first rule.

use std::fmt;

/// To which side a column's texts are pushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Names.
    Left,
    /// Numbers.
    Right,
}

/// A column's header and alignment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    /// Its header.
    pub header: &'static str,
    /// Its alignment.
    pub align: Align,
}

/// A table; `Display` prints it, without a line break at its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// Written into the first rule.
    pub title: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows; a cell may have several lines.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    fn widths(&self) -> Vec<usize> {
        let width = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        let cells = |at: usize| self.rows.iter().filter_map(move |row| row.get(at));
        let widest =
            |(at, column): (usize, &Column)| cells(at).map(|cell| width(cell)).fold(width(column.header), usize::max);
        self.columns.iter().enumerate().map(widest).collect()
    }

    /// One line of the cells, each padded to its column.
    fn line(&self, cells: &[&str], widths: &[usize]) -> String {
        let mut line = String::from("|");
        for ((cell, column), width) in cells.iter().zip(&self.columns).zip(widths) {
            let width = *width;
            line += &match column.align {
                Align::Left => format!(" {cell:<width$} |"),
                Align::Right => format!(" {cell:>width$} |"),
            };
        }
        line
    }

    /// A row as lines: shorter cells are empty below.
    fn row(&self, row: &[String], widths: &[usize]) -> Vec<String> {
        let height = row.iter().map(|cell| cell.lines().count()).max().unwrap_or(1).max(1);
        let nth = |at| row.iter().map(|cell| cell.lines().nth(at).unwrap_or_default()).collect::<Vec<_>>();
        (0..height).map(|at| self.line(&nth(at), widths)).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let rule = widths.iter().fold("+".to_owned(), |rule, width| rule + &"-".repeat(width + 2) + "+");
        let headers: Vec<_> = self.columns.iter().map(|column| column.header).collect();
        let mut lines = vec![with_title(&rule, &self.title), self.line(&headers, &widths), rule.clone()];
        let rules_between = self.rows.iter().flatten().any(|cell| cell.contains('\n'));
        for row in &self.rows {
            lines.extend(self.row(row, &widths));
            if rules_between {
                lines.push(rule.clone());
            }
        }
        if !rules_between {
            lines.push(rule);
        }
        f.write_str(&lines.join("\n"))
    }
}

/// The title replaces what is behind the first character; the last two characters of the rule stay.
fn with_title(rule: &str, title: &str) -> String {
    let room = rule.len().saturating_sub(2);
    let title: String = title.chars().take(room).collect();
    let rest = rule.chars().skip(1 + title.chars().count()).collect::<String>();
    format!("+{title}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(title: &str, rows: &[[&str; 2]]) -> String {
        let columns = vec![Column { header: "Name", align: Align::Left }, Column { header: "TL", align: Align::Right }];
        let rows = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        Table { title: title.to_owned(), columns, rows }.to_string()
    }

    #[test]
    fn borders_titles_and_alignment() {
        let expected = "\
+ x ---+-----+
| Name |  TL |
+------+-----+
| ä    |   1 |
| b    | 135 |
+------+-----+";
        assert_eq!(table(" x ", &[["ä", "1"], ["b", "135"]]), expected);
    }

    #[test]
    fn a_long_title_is_cut_and_an_empty_table_has_two_rules() {
        let expected = "\
+ Cluster: a+
| Name | TL |
+------+----+
+------+----+";
        assert_eq!(table(" Cluster: a very long name ", &[]), expected);
    }

    #[test]
    fn cells_of_several_lines_draw_rules_between_all_rows() {
        let expected = "\
+------+----+
| Name | TL |
+------+----+
| a    |  1 |
| b    |    |
+------+----+
| c    |  2 |
+------+----+";
        assert_eq!(table("", &[["a\nb", "1"], ["c", "2"]]), expected);
    }
}
