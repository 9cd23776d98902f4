//! Text tables whose columns stand straight, Chinese included.

use console::measure_text_width;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::host::report::render::Format;

/// More rows are refused; nobody reads them.
const ROW_LIMIT: usize = 10_000;
/// A longer cell is cut.
const CELL_LENGTH: usize = 120;

/// Rows as maps or lists, one line each; numbers stand on the right.
///
/// # Errors
///
/// `invalid`, naming the row that is neither; `limit` for too many.
pub(super) fn text(rows: &[Value], columns: Option<Vec<String>>) -> Result<String> {
    if rows.len() > ROW_LIMIT {
        return Err(Error::new(Kind::Limit, format!("the table has {} rows, more than {ROW_LIMIT}", rows.len())));
    }
    let columns = columns.unwrap_or_else(|| names(rows));
    let header: Vec<String> = columns.iter().map(|name| cell(&Value::from(name.as_str()))).collect();
    let mut numeric = vec![true; columns.len()];
    let mut lines = if header.is_empty() { Vec::new() } else { vec![header] };
    for (index, row) in rows.iter().enumerate() {
        let values = match row {
            Value::Object(map) => columns.iter().map(|name| map.get(name).unwrap_or(&Value::Null)).collect(),
            Value::Array(list) => list.iter().collect::<Vec<_>>(),
            _ => return Err(Error::new(Kind::Invalid, format!("row {} is neither a map nor a list", index + 1))),
        };
        numeric.resize(numeric.len().max(values.len()), true);
        for (column, value) in numeric.iter_mut().zip(&values) {
            *column &= value.is_number() || value.is_null();
        }
        lines.push(values.into_iter().map(cell).collect());
    }
    Ok(aligned(&lines, &numeric))
}

/// The cells below each other, two spaces apart; columns of numbers on the right.
fn aligned(lines: &[Vec<String>], right: &[bool]) -> String {
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| measure_text_width(cell)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..right.len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let padded = line.iter().zip(widths.iter().zip(right)).map(|(cell, (width, right))| {
            let space = " ".repeat(width - measure_text_width(cell));
            if *right { format!("{space}{cell}") } else { format!("{cell}{space}") }
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The keys of all rows in the order they first occur.
fn names(rows: &[Value]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for key in rows.iter().filter_map(Value::as_object).flat_map(|row| row.keys()) {
        if !names.contains(key) {
            names.push(key.clone());
        }
    }
    names
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let line = Format::Text.escaped(&text).replace(['\n', '\t'], " ");
    match line.char_indices().nth(CELL_LENGTH) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(rows: Value, columns: Option<&[&str]>) -> Vec<String> {
        let columns = columns.map(|columns| columns.iter().map(|&name| name.to_owned()).collect());
        text(rows.as_array().unwrap(), columns).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn columns_stand_straight_with_wide_letters() {
        let rows = json!([{ "name": "数据库", "used": 7 }, { "name": "web", "used": 120 }]);
        assert_eq!(lines(rows, None), ["name    used", "数据库     7", "web      120"]);
    }

    #[test]
    fn columns_come_in_the_order_asked_for() {
        let rows = json!([{ "a": 1, "b": "x" }, { "b": "yy" }]);
        assert_eq!(lines(rows, Some(&["b", "a"])), ["b   a", "x   1", "yy"]);
    }

    #[test]
    fn lists_need_no_header_and_cells_no_line_breaks() {
        assert_eq!(lines(json!([["a\nb", true], ["\u{1b}[1mc"]]), None), ["a b   true", "[1mc"]);
    }

    #[test]
    fn a_row_that_is_none_is_named() {
        assert_eq!(text(&[json!([]), json!(3)], None).unwrap_err().message, "row 2 is neither a map nor a list");
    }
}
