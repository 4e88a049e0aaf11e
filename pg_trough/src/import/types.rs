//! The PostgreSQL type of a SQLite column, from its declared type; docs/SQL.md has the table. A type only says how values
//! are read: a value that does not fit is an error when it is read, never another value.

use trough_core::describe::ColumnDescription;

/// A PostgreSQL type with the options of its column.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mapped {
    /// The type, as it is written in a statement whatever the search path.
    pub(super) name: &'static str,
    /// Whether it is a text whose order a collation decides.
    pub(super) collatable: bool,
    /// The option `encoding`.
    pub(super) encoding: Option<String>,
    /// The option `storage`.
    pub(super) storage: Option<&'static str>,
}

/// How dates, times and uuids are said to be stored.
#[derive(Clone, Debug)]
pub(super) struct Encodings {
    /// Of DATE columns.
    pub(super) date: String,
    /// Of DATETIME and TIMESTAMP columns.
    pub(super) datetime: String,
    /// Of UUID columns.
    pub(super) uuid: String,
}

impl Default for Encodings {
    fn default() -> Self {
        Self { date: "iso8601".into(), datetime: "iso8601".into(), uuid: "text".into() }
    }
}

fn mapped(name: &'static str) -> Mapped {
    Mapped { name, collatable: name == "pg_catalog.text", encoding: None, storage: None }
}

fn encoded(name: &'static str, encoding: &str) -> Mapped {
    Mapped { encoding: Some(encoding.to_owned()), ..mapped(name) }
}

fn stored(name: &'static str, storage: &'static str) -> Mapped {
    Mapped { storage: Some(storage), ..mapped(name) }
}

/// A value of any class but BLOB, as text.
fn any() -> Mapped {
    encoded("pg_catalog.text", "any")
}

/// The type for a column of a table that is STRICT or not.
pub(super) fn map(column: &ColumnDescription, strict: bool, encodings: &Encodings) -> Mapped {
    // The rowid is an integer in any table.
    if column.rowid {
        return stored("bigint", "integer");
    }
    // What is computed on reading was not checked by STRICT in all versions of SQLite that may have written the file.
    if strict && !column.computed {
        return match column.declared.to_ascii_uppercase().as_str() {
            "INT" | "INTEGER" => stored("bigint", "integer"),
            "REAL" => stored("double precision", "real"),
            "TEXT" => stored("pg_catalog.text", "text"),
            "BLOB" => stored("pg_catalog.bytea", "blob"),
            _ => any(),
        };
    }
    loose(&column.declared, encodings)
}

/// The type for a declared type of which SQLite guarantees nothing: well-known names first, then SQLite's rules of affinity.
fn loose(declared: &str, encodings: &Encodings) -> Mapped {
    let upper = declared.to_ascii_uppercase();
    // Without modifiers: SQLite keeps neither lengths nor precision.
    let words: Vec<&str> = upper.split('(').next().unwrap_or_default().split_whitespace().collect();
    let base = words.join(" ");
    match base.as_str() {
        "" | "ANY" => return any(),
        "BOOLEAN" | "BOOL" => return mapped("boolean"),
        "DATE" => return encoded("pg_catalog.date", &encodings.date),
        "DATETIME" | "TIMESTAMP" | "TIMESTAMPTZ" | "TIMESTAMP WITH TIME ZONE" => {
            return encoded("timestamp with time zone", &encodings.datetime);
        }
        "TIMESTAMP WITHOUT TIME ZONE" => return encoded("timestamp without time zone", &encodings.datetime),
        "TIME" | "TIME WITHOUT TIME ZONE" => return mapped("time without time zone"),
        // By SQLite's rules an integer, for its letters.
        "INTERVAL" => return mapped("interval"),
        "POINT" | "MULTIPOINT" => return any(),
        "JSON" => return mapped("pg_catalog.json"),
        "JSONB" => return mapped("pg_catalog.jsonb"),
        "UUID" | "GUID" => return encoded("pg_catalog.uuid", &encodings.uuid),
        "INET" => return mapped("pg_catalog.inet"),
        "CIDR" => return mapped("pg_catalog.cidr"),
        "BINARY" | "VARBINARY" | "BYTEA" => return mapped("pg_catalog.bytea"),
        "DECIMAL" | "DEC" | "NUMERIC" | "NUMBER" | "MONEY" | "CURRENCY" => return mapped("numeric"),
        _ => {}
    }
    let contains = |parts: &[&str]| parts.iter().any(|part| upper.contains(part));
    match () {
        () if contains(&["INT"]) => mapped("bigint"),
        () if contains(&["CHAR", "CLOB", "TEXT"]) => mapped("pg_catalog.text"),
        () if contains(&["BLOB"]) => mapped("pg_catalog.bytea"),
        () if contains(&["REAL", "FLOA", "DOUB"]) => mapped("double precision"),
        () if words.first().is_some_and(|word| ["DECIMAL", "NUMERIC", "NUMBER"].contains(word)) => mapped("numeric"),
        // Words of which nobody knows what they mean (STRING, ENUM, …): whatever is stored can be read.
        () => any(),
    }
}
