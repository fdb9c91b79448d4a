//! Columns of text.

use std::fmt::Write;

/// Formats rows of cells as indented columns; `right` says which columns are aligned to the right.
pub(crate) fn table<R: AsRef<[String]>>(rows: &[R], right: &[bool]) -> String {
    let widths = widths(rows);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), right) in row.as_ref().iter().zip(&widths).zip(right) {
            let _ = if *right { write!(line, "  {cell:>width$}") } else { write!(line, "  {cell:width$}") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The width of a table of these rows, in characters.
pub(crate) fn width<R: AsRef<[String]>>(rows: &[R]) -> usize {
    widths(rows).iter().map(|width| width + 2).sum()
}

fn widths<R: AsRef<[String]>>(rows: &[R]) -> Vec<usize> {
    let columns = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let cell = |row: &R, column: usize| row.as_ref().get(column).map_or(0, |cell| cell.chars().count());
    (0..columns).map(|column| rows.iter().map(|row| cell(row, column)).max().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["a", "count"], ["länger", "1"]].map(|row| row.map(String::from));
        assert_eq!(table(&rows, &[false, true]), "  a       count\n  länger      1\n");
        assert_eq!(width(&rows), 15);
        assert_eq!((table::<Vec<String>>(&[], &[]), width::<Vec<String>>(&[])), (String::new(), 0));
    }
}
