//! Results as a table, as indented JSON, or as JSON on one line.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Map, Value as Json, json};
use trough_core::Value;

/// How results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Format {
    #[default]
    Table,
    Pretty,
    Raw,
}

impl Format {
    pub(super) fn named(name: &str) -> Self {
        match name {
            "pretty" => Self::Pretty,
            "raw" => Self::Raw,
            _ => Self::Table,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Pretty => "pretty",
            Self::Raw => "raw",
        }
    }
}

/// Rows with their columns' names.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
}

impl Rows {
    pub(super) fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|c| (*c).to_owned()).collect(), rows: Vec::new() }
    }

    /// As text, with a newline at its end. `width` is the terminal's, if there is one.
    pub(super) fn render(&self, format: Format, width: Option<u16>) -> String {
        match format {
            Format::Table if self.rows.is_empty() => "<no results>\n".to_owned(),
            Format::Table => self.table(width),
            Format::Pretty => format!("{:#}\n", self.json()),
            Format::Raw => format!("{}\n", self.json()),
        }
    }

    fn table(&self, width: Option<u16>) -> String {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_header(&self.columns);
        match width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        for row in &self.rows {
            table.add_row(row.iter().map(|value| {
                let cell = Cell::new(text(value));
                match value {
                    Value::Integer(_) | Value::Real(_) => cell.set_alignment(CellAlignment::Right),
                    _ => cell,
                }
            }));
        }
        format!("{table}\n")
    }

    fn json(&self) -> Json {
        self.rows
            .iter()
            .map(|row| {
                let fields = self.columns.iter().cloned().zip(row.iter().map(to_json));
                Json::Object(fields.collect::<Map<_, _>>())
            })
            .collect()
    }
}

fn to_json(value: &Value) -> Json {
    serde_json::to_value(value).unwrap_or(Json::Null)
}

/// A value for people.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "<null>".to_owned(),
        Value::Integer(i) => i.to_string(),
        Value::Real(r) => json!(r).as_f64().map_or_else(|| r.to_string(), |_| format!("{r:?}")),
        Value::Text(t) => t.clone(),
        Value::Blob(b) if b.len() > 32 => format!("x'{}…' ({} bytes)", hex(&b[..32]), b.len()),
        Value::Blob(b) => format!("x'{}'", hex(b)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_formats() {
        let mut rows = Rows::new(&["id", "name"]);
        assert_eq!(rows.render(Format::Table, None), "<no results>\n");
        rows.rows.push(vec![Value::Integer(7), Value::Null]);
        rows.rows.push(vec![Value::Real(1.0), Value::Blob(vec![1, 255])]);
        let table = rows.render(Format::Table, None);
        assert!(table.contains("<null>") && table.contains("x'01ff'") && table.contains("1.0"), "{table}");
        assert_eq!(
            rows.render(Format::Raw, None),
            "[{\"id\":7,\"name\":null},{\"id\":1.0,\"name\":{\"blob\":\"Af8=\"}}]\n"
        );
        assert!(rows.render(Format::Pretty, None).lines().count() > 5);
    }
}
