//! Tables of text.

use std::fmt;

use serde_json::Value;

/// Rows under a head. Columns are as wide as their widest cell.
#[derive(Debug)]
pub struct TextTable {
    rows: Vec<Vec<String>>,
}

impl TextTable {
    pub fn new<const COLUMNS: usize>(head: [&str; COLUMNS]) -> Self {
        TextTable { rows: vec![head.map(str::to_uppercase).to_vec()] }
    }

    pub fn add<const COLUMNS: usize>(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row.to_vec());
    }
}

impl fmt::Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        for row in &self.rows {
            let cells = row.iter().enumerate().map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// A value of an answer as the text of a cell. Control characters, which a client may have sent, do not reach the terminal.
pub fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    };
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = TextTable::new(["name", "n"]);
        table.add(["ä".into(), "1".into()]);
        table.add(["longer".into(), "22".into()]);
        assert_eq!(table.to_string(), "NAME    N\nä       1\nlonger  22\n");
    }

    #[test]
    fn a_cell_is_one_line_whatever_was_sent() {
        assert_eq!(cell(&json!(["write", "read"])), "write,read");
        assert_eq!(cell(&json!("a\n\u{1b}[31mb")), "a\u{fffd}\u{fffd}[31mb");
        assert_eq!(cell(&Value::Null), "-");
    }
}
