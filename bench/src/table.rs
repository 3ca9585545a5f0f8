/// A table whose first column is text and whose others are numbers.
#[derive(Clone, Debug)]
pub struct Table {
    /// The headings.
    pub head: Vec<String>,
    /// The rows, each as long as the head.
    pub rows: Vec<Vec<String>>,
}

/// The cell without a figure.
pub const NOTHING: &str = "–";

impl Table {
    /// With these headings and no rows yet.
    pub fn new(head: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// For a page.
    pub fn markdown(&self) -> String {
        let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = row(&self.head);
        text += &format!("|---|{}\n", "--:|".repeat(self.head.len().saturating_sub(1)));
        self.rows.iter().for_each(|cells| text += &row(cells));
        text
    }

    /// For a terminal. Long headings are put above each other.
    pub fn text(&self) -> String {
        let heads: Vec<Vec<String>> = self.head.iter().map(|heading| lines(heading)).collect();
        let height = heads.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| &row[column]).chain(&heads[column]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: Vec<&str>| {
            let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            format!("  {}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
        };
        // Headings of fewer lines stand at the bottom.
        let head = (0..height).map(|place| {
            line(
                heads
                    .iter()
                    .map(|lines| (place + lines.len()).checked_sub(height).map_or("", |at| &lines[at]))
                    .collect(),
            )
        });
        head.chain(self.rows.iter().map(|row| line(row.iter().map(String::as_str).collect()))).collect()
    }
}

/// A figure for a cell.
pub fn number(value: Option<f64>, decimals: usize) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:.decimals$}"),
        _ => NOTHING.to_owned(),
    }
}

/// The ratio of `one` to `other`, if there are both.
pub fn ratio(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one? / other?).filter(|ratio| ratio.is_finite())
}

/// A heading in lines of about a dozen characters.
fn lines(heading: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in heading.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + word.chars().count() < 12 => *line = format!("{line} {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["server", "CPU µs per delivery"]);
        table.rows.push(vec!["roomcast".into(), number(Some(5.0), 2)]);
        table.rows.push(vec!["bun".into(), number(None, 2)]);
        table
    }

    #[test]
    fn a_page_gets_markdown() {
        let expected = "| server | CPU µs per delivery |\n|---|--:|\n| roomcast | 5.00 |\n| bun | – |\n";
        assert_eq!(table().markdown(), expected);
    }

    #[test]
    fn a_terminal_gets_columns() {
        let expected =
            "            CPU µs per\n  server      delivery\n  roomcast        5.00\n  bun                –\n";
        assert_eq!(table().text(), expected);
    }

    #[test]
    fn there_is_no_ratio_of_nothing() {
        assert_eq!(ratio(Some(3.0), Some(2.0)), Some(1.5));
        for (one, other) in [(None, Some(1.0)), (Some(1.0), None), (Some(1.0), Some(0.0)), (Some(0.0), Some(0.0))] {
            assert_eq!(ratio(one, other), None);
        }
        assert_eq!(number(Some(f64::NAN), 1), NOTHING);
    }
}
