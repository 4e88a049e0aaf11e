//! The `--` comments of a CREATE statement, as comments on what is imported.

use trough_core::describe::ColumnDescription;
use trough_pushdown::quote_identifier;

/// Comments found in a CREATE statement.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Comments {
    /// The table's.
    pub(super) table: Option<String>,
    /// Those of columns, by their names in SQLite.
    pub(super) columns: Vec<(String, String)>,
}

/// The `--` comments of a statement: behind a column on its line they are the column's, before the first column the
/// table's.
pub(super) fn find(sql: &str, columns: &[ColumnDescription]) -> Comments {
    let mut found = Comments::default();
    let mut table = Vec::new();
    let mut before_columns = true;
    for line in sql.lines() {
        let (code, comment) = match line_comment(line) {
            Some(at) => (&line[..at], Some(line[at + 2..].trim())),
            None => (line, None),
        };
        let code = code.trim().trim_start_matches(['(', ',']).trim_start();
        let column = columns.iter().find(|c| names(code, &c.name));
        before_columns &= column.is_none();
        match (column, comment) {
            (Some(column), Some(comment)) if !comment.is_empty() => {
                found.columns.push((column.name.clone(), comment.to_owned()));
            }
            (None, Some(comment)) if before_columns && !comment.is_empty() => table.push(comment),
            _ => {}
        }
    }
    if !table.is_empty() {
        found.table = Some(table.join(" "));
    }
    found
}

/// Where a line's comment begins, quotes passed over.
fn line_comment(line: &str) -> Option<usize> {
    let mut quote = None;
    let bytes = line.as_bytes();
    for (i, b) in bytes.iter().enumerate() {
        match (quote, b) {
            (Some(q), b) if q == *b => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"' | b'`') => quote = Some(*b),
            (None, b'[') => quote = Some(b']'),
            (None, b'-') if bytes.get(i + 1) == Some(&b'-') => return Some(i),
            _ => {}
        }
    }
    None
}

/// Whether a line of SQL begins with a column's name.
fn names(code: &str, column: &str) -> bool {
    let quoted = [format!("\"{}\"", column.replace('"', "\"\"")), quote_identifier(column), format!("[{column}]")];
    if quoted.iter().any(|q| code.starts_with(q.as_str())) {
        return true;
    }
    let Some((start, rest)) = code.split_at_checked(column.len()) else { return false };
    start.eq_ignore_ascii_case(column) && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}
