//! Tables that line up.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows under a header; every line is indented by two spaces and ends without spaces. An empty header
/// is left out.
pub fn table(header: &[&str], align: &[Align], rows: &[Vec<String>]) -> String {
    let columns = align.len();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|r| r.get(column)).map(|c| c.chars().count());
        let title = header.get(column).map_or(0, |h| h.chars().count());
        cells.max().unwrap_or(0).max(title)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |cells: &[String]| {
        let mut text = String::from(" ");
        for (column, cell) in cells.iter().enumerate().take(columns) {
            let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            text.push(' ');
            match align[column] {
                Align::Left => text.extend([cell.as_str(), &pad]),
                Align::Right => text.extend([pad.as_str(), cell]),
            }
            text.push(' ');
        }
        format!("{}\n", text.trim_end())
    };
    let mut text = String::new();
    if header.iter().any(|h| !h.is_empty()) {
        text += &line(&header.iter().map(|h| h.to_string()).collect::<Vec<_>>());
    }
    rows.iter().for_each(|row| text += &line(row));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".to_string(), "1".into()], vec!["long é".into(), "23".into()]];
        let text = table(&["name", "n"], &[Align::Left, Align::Right], &rows);
        assert_eq!(text, "  name     n\n  a        1\n  long é  23\n");
    }
}
