//! Results as text, row by row: a table for people, JSON indented or on one line, CSV, NDJSON. What is printed is not kept.

use std::fmt::Write as _;

use serde_json::json;
use trough_core::Value;
use unicode_width::UnicodeWidthStr as _;

/// How results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Format {
    #[default]
    Table,
    Pretty,
    Raw,
    Csv,
    Ndjson,
}

impl Format {
    /// All names.
    pub(super) const NAMES: [&str; 5] = ["table", "pretty", "raw", "csv", "ndjson"];

    pub(super) fn named(name: &str) -> Self {
        match name {
            "pretty" => Self::Pretty,
            "raw" => Self::Raw,
            "csv" => Self::Csv,
            "ndjson" => Self::Ndjson,
            _ => Self::Table,
        }
    }

    pub(super) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Whether the rows of all segments form one result, each row with its segment.
    pub(super) fn is_flat(self) -> bool {
        matches!(self, Self::Csv | Self::Ndjson)
    }
}

/// A table's widths are those of so many first rows; a wider value later on pushes its line's border out.
const SAMPLE: usize = 500;

/// One result being printed.
pub(super) struct Sheet {
    format: Format,
    colour: bool,
    columns: Vec<String>,
    /// What JSON calls the columns: each name once.
    keys: Vec<String>,
    rows: u64,
    sample: Vec<Vec<Cell>>,
    /// Of a table, once its head is printed.
    widths: Option<Vec<usize>>,
}

struct Cell {
    lines: Vec<String>,
    right: bool,
    null: bool,
}

impl Sheet {
    pub(super) fn new(format: Format, colour: bool) -> Self {
        Self { format, colour, columns: Vec::new(), keys: Vec::new(), rows: 0, sample: Vec::new(), widths: None }
    }

    /// How many rows it has had.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The columns of the rows that follow; to be told before the first, and again where they change.
    pub(super) fn columns(&mut self, names: &[String], out: &mut String) {
        if names == self.columns.as_slice() {
            return;
        }
        if self.format == Format::Table && !self.columns.is_empty() {
            self.close_table(out);
        }
        self.columns = names.to_vec();
        self.keys = unique(names);
        if self.format == Format::Csv {
            if self.rows > 0 {
                out.push('\n');
            }
            let head: Vec<String> = names.iter().map(|name| csv_text(name)).collect();
            let _ = writeln!(out, "{}", head.join(","));
        }
    }

    /// Prints a row: as many values as there are columns.
    pub(super) fn row(&mut self, values: &[Value], out: &mut String) {
        match self.format {
            Format::Table => {
                self.rows += 1;
                let cells: Vec<Cell> = values.iter().map(cell).collect();
                match &self.widths {
                    Some(widths) => line(&cells, widths, self.colour, out),
                    None => {
                        self.sample.push(cells);
                        if self.sample.len() >= SAMPLE {
                            self.open_table(out);
                        }
                    }
                }
                return;
            }
            Format::Pretty => {
                out.push_str(if self.rows == 0 { "[\n" } else { ",\n" });
                let mut before = "  {\n";
                for (key, value) in self.keys.iter().zip(values) {
                    let _ = write!(out, "{before}    {}: {}", json!(key), json_of(value));
                    before = ",\n";
                }
                out.push_str("\n  }");
            }
            Format::Raw => {
                out.push_str(if self.rows == 0 { "[" } else { ", " });
                self.object(values, out);
            }
            Format::Ndjson => {
                self.object(values, out);
                out.push('\n');
            }
            Format::Csv => {
                let fields: Vec<String> = values.iter().map(csv_value).collect();
                let _ = writeln!(out, "{}", fields.join(","));
            }
        }
        self.rows += 1;
    }

    /// Prints what closes the result.
    pub(super) fn end(&mut self, out: &mut String) {
        match self.format {
            Format::Table if self.rows == 0 => out.push_str("<no results>\n"),
            Format::Table => self.close_table(out),
            Format::Pretty if self.rows == 0 => out.push_str("[]\n"),
            Format::Pretty => out.push_str("\n]\n"),
            Format::Raw if self.rows == 0 => out.push_str("[]\n"),
            Format::Raw => out.push_str("]\n"),
            Format::Csv | Format::Ndjson => {}
        }
    }

    fn object(&self, values: &[Value], out: &mut String) {
        let mut before = '{';
        for (key, value) in self.keys.iter().zip(values) {
            let _ = write!(out, "{before}{}:{}", json!(key), json_of(value));
            before = ',';
        }
        out.push_str(if self.keys.is_empty() { "{}" } else { "}" });
    }

    fn open_table(&mut self, out: &mut String) {
        let head: Vec<Cell> = self.columns.iter().map(|name| cell(&Value::Text(name.clone()))).collect();
        let rows = std::iter::once(&head).chain(&self.sample);
        let mut widths = vec![0; self.columns.len()];
        for cells in rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.lines.iter().map(|line| line.width()).max().unwrap_or(0));
            }
        }
        border(&widths, out);
        if self.colour {
            out.push_str("\x1b[1m");
        }
        line(&head, &widths, false, out);
        if self.colour {
            out.insert_str(out.len() - 1, "\x1b[0m");
        }
        border(&widths, out);
        for cells in std::mem::take(&mut self.sample) {
            line(&cells, &widths, self.colour, out);
        }
        self.widths = Some(widths);
    }

    fn close_table(&mut self, out: &mut String) {
        if self.widths.is_none() {
            self.open_table(out);
        }
        if let Some(widths) = self.widths.take() {
            border(&widths, out);
        }
    }
}

fn border(widths: &[usize], out: &mut String) {
    for width in widths {
        let _ = write!(out, "+{:-<1$}", "", width + 2);
    }
    out.push_str("+\n");
}

fn line(cells: &[Cell], widths: &[usize], colour: bool, out: &mut String) {
    let height = cells.iter().map(|cell| cell.lines.len()).max().unwrap_or(1);
    for at in 0..height {
        for (cell, width) in cells.iter().zip(widths) {
            let text = cell.lines.get(at).map_or("", String::as_str);
            let pad = width.saturating_sub(text.width());
            let (left, right) = if cell.right { (pad, 0) } else { (0, pad) };
            let (dim, plain) = if colour && cell.null { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
            let _ = write!(out, "| {:left$}{dim}{text}{plain}{:right$} ", "", "");
        }
        out.push_str("|\n");
    }
}

/// A value for people. Control characters are shown and not sent: a terminal would obey them.
fn cell(value: &Value) -> Cell {
    let lines = match value {
        // The end of the last line is no line.
        Value::Text(text) => {
            text.strip_suffix('\n').unwrap_or(text).split('\n').map(|line| safe(line.trim_end_matches('\r'))).collect()
        }
        Value::Blob(bytes) if bytes.len() > 32 => vec![format!("x'{}…' ({} bytes)", hex(&bytes[..32]), bytes.len())],
        value => vec![plain(value)],
    };
    Cell { lines, right: matches!(value, Value::Integer(_) | Value::Real(_)), null: *value == Value::Null }
}

/// Text without control characters.
pub(super) fn safe(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\t' => out.push_str("    "),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<null>".to_owned(),
        Value::Integer(n) => n.to_string(),
        Value::Real(r) => format!("{r:?}"),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => format!("x'{}'", hex(bytes)),
    }
}

fn json_of(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// NULL is an empty field, an empty text is two quotes.
fn csv_value(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Text(text) => csv_text(text),
        value => plain(value),
    }
}

fn csv_text(text: &str) -> String {
    let quoted =
        text.is_empty() || text.contains(['"', ',', '\n', '\r']) || text.starts_with(' ') || text.ends_with(' ');
    if quoted { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Names of which no two are the same: `id`, `id_2`.
fn unique(names: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let mut key = name.clone();
        let mut n = 2;
        while all.contains(&key) {
            key = format!("{name}_{n}");
            n += 1;
        }
        all.push(key);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn print(format: Format, columns: &[&str], rows: &[Vec<Value>]) -> String {
        let mut out = String::new();
        let mut sheet = Sheet::new(format, false);
        for row in rows {
            sheet.columns(&names(columns), &mut out);
            sheet.row(row, &mut out);
        }
        sheet.end(&mut out);
        out
    }

    fn rows() -> Vec<Vec<Value>> {
        vec![
            vec![Value::Integer(7), Value::Null],
            vec![Value::Real(1.0), Value::Text("a \"b\", ü\nsecond".into())],
            vec![Value::Integer(-1), Value::Blob(vec![1, 255])],
        ]
    }

    #[test]
    fn tables() {
        let expected = "\
+-----+----------+
| id  | name     |
+-----+----------+
|   7 | <null>   |
| 1.0 | a \"b\", ü |
|     | second   |
|  -1 | x'01ff'  |
+-----+----------+
";
        assert_eq!(print(Format::Table, &["id", "name"], &rows()), expected);
        assert_eq!(print(Format::Table, &[], &[]), "<no results>\n");
        assert!(print(Format::Table, &["a"], &[vec![Value::Text("\x1b[2J\tx".into())]]).contains("| \\x1b[2J    x |"));
    }

    #[test]
    fn wide_values_after_the_sample_are_whole() {
        let mut all = vec![vec![Value::Integer(1)]; SAMPLE];
        all.push(vec![Value::Text("much wider".into())]);
        let table = print(Format::Table, &["n"], &all);
        assert!(table.ends_with("| much wider |\n+---+\n"), "{table}");
        assert_eq!(table.lines().count(), SAMPLE + 1 + 4);
    }

    #[test]
    fn json() {
        assert_eq!(
            print(Format::Raw, &["id", "name"], &rows()),
            "[{\"id\":7,\"name\":null}, {\"id\":1.0,\"name\":\"a \\\"b\\\", ü\\nsecond\"}, {\"id\":-1,\"name\":{\"blob\":\"Af8=\"}}]\n"
        );
        assert_eq!(print(Format::Raw, &[], &[]), "[]\n");
        let lines = print(Format::Ndjson, &["id", "id"], &rows()[..1]);
        assert_eq!(lines, "{\"id\":7,\"id_2\":null}\n");
        let pretty = print(Format::Pretty, &["id", "name"], &rows());
        let read: serde_json::Value = serde_json::from_str(&pretty).expect("JSON");
        assert_eq!((read[0]["id"].as_i64(), pretty.lines().nth(2)), (Some(7), Some("    \"id\": 7,")));
    }

    #[test]
    fn csv() {
        assert_eq!(
            print(Format::Csv, &["id", "a,b"], &rows()),
            "id,\"a,b\"\n7,\n1.0,\"a \"\"b\"\", ü\nsecond\"\n-1,x'01ff'\n"
        );
        assert_eq!(print(Format::Csv, &["t"], &[vec![Value::Text(String::new())]]), "t\n\"\"\n");
    }

    #[test]
    fn columns_may_change() {
        let (mut sheet, mut out) = (Sheet::new(Format::Csv, false), String::new());
        sheet.columns(&names(&["a"]), &mut out);
        sheet.row(&[Value::Integer(1)], &mut out);
        sheet.columns(&names(&["a"]), &mut out);
        sheet.columns(&names(&["b"]), &mut out);
        sheet.row(&[Value::Integer(2)], &mut out);
        sheet.end(&mut out);
        assert_eq!((out.as_str(), sheet.rows()), ("a\n1\n\nb\n2\n", 2));
    }

    #[test]
    fn names_of_formats() {
        for name in Format::NAMES {
            assert_eq!(Format::named(name).name(), name);
        }
    }

    #[test]
    fn colours_are_only_put_where_they_are_wanted() {
        let mut out = String::new();
        let mut sheet = Sheet::new(Format::Table, true);
        sheet.columns(&names(&["a"]), &mut out);
        sheet.row(&[Value::Null], &mut out);
        sheet.end(&mut out);
        assert!(out.contains("\x1b[1m| a      |\x1b[0m\n") && out.contains("| \x1b[2m<null>\x1b[0m |"), "{out:?}");
    }
}
