//! What the extension knows about a foreign table's columns: the SQLite name, the PostgreSQL type, and how values are
//! stored.

use serde::{Deserialize, Serialize};

use crate::oid::{self, Oid};

/// A SQLite table as a foreign table declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The table's name in SQLite.
    pub name: String,
    /// Its columns in the order of PostgreSQL's attribute numbers; dropped ones are `None`.
    pub columns: Vec<Option<Column>>,
}

impl Table {
    /// The column at an index of [`Table::columns`], unless it was dropped.
    pub fn column(&self, index: usize) -> Option<&Column> {
        self.columns.get(index).and_then(Option::as_ref)
    }

    /// The index of the segment column, if the table has one.
    pub fn segment_column(&self) -> Option<usize> {
        self.columns.iter().position(|c| c.as_ref().is_some_and(|c| c.segment))
    }
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name in SQLite (the option `column_name`, else PostgreSQL's name).
    pub name: String,
    /// The SQLite table's name, for messages.
    pub table: String,
    /// Which of a join's tables it belongs to, counted from 1; none if there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<u16>,
    /// The base type (domains resolved).
    pub type_oid: Oid,
    /// How a value is stored.
    pub encoding: Encoding,
    /// Which storage class every value of the column has, if that is known.
    pub storage: Storage,
    /// Whether it is promised that every value is in the encoding's canonical form and in the type's range.
    pub trusted: bool,
    /// What becomes of text that PostgreSQL cannot hold.
    pub invalid_text: InvalidText,
    /// Whether this is the segment column, which SQLite does not have.
    pub segment: bool,
}

/// SQLite's storage class of a column's values, NULL aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// Any value may hold anything.
    #[default]
    Unknown,
    /// INTEGER (a STRICT table's INTEGER column).
    Integer,
    /// REAL.
    Real,
    /// TEXT.
    Text,
    /// BLOB.
    Blob,
}

impl Storage {
    /// The names the option `storage` takes.
    pub const NAMES: &[&str] = &["unknown", "integer", "real", "text", "blob"];

    /// The storage class of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "unknown" => Self::Unknown,
            "integer" => Self::Integer,
            "real" => Self::Real,
            "text" => Self::Text,
            "blob" => Self::Blob,
            _ => return None,
        })
    }
}

/// What becomes of a text that holds NUL or is not UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvalidText {
    /// The query fails, naming segment, table and column.
    #[default]
    Error,
    /// The value reads as NULL.
    Null,
    /// Bad bytes read as U+FFFD, NUL too.
    Replace,
}

impl InvalidText {
    /// The names the option `invalid_text` takes.
    pub const NAMES: &[&str] = &["error", "null", "replace"];

    /// The behaviour of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "error" => Self::Error,
            "null" => Self::Null,
            "replace" => Self::Replace,
            _ => return None,
        })
    }
}

/// How values of a PostgreSQL type are stored in SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// `boolean` as 0 and 1.
    Boolean,
    /// `smallint`, `integer`, `bigint` as INTEGER.
    Integer,
    /// `real`, `double precision` as REAL.
    Real,
    /// Text types as TEXT.
    Text,
    /// `bytea` as BLOB.
    Blob,
    /// Dates and times as ISO 8601 text.
    Iso8601,
    /// Dates and times as seconds since 1970.
    EpochS,
    /// Dates and times as milliseconds since 1970.
    EpochMs,
    /// Dates and times as microseconds since 1970.
    EpochUs,
    /// Dates and times as a julian day number.
    Julian,
    /// `uuid` as 36 characters.
    UuidText,
    /// `uuid` as 16 bytes.
    UuidBlob,
    /// Any other type in its text form, and text columns that hold values of any kind; numbers read as their text.
    Input,
}

impl Encoding {
    /// What a column of a type is stored as without the option `encoding`.
    pub fn default_for(type_oid: Oid) -> Self {
        match type_oid {
            oid::BOOL => Self::Boolean,
            oid::INT2 | oid::INT4 | oid::INT8 => Self::Integer,
            oid::FLOAT4 | oid::FLOAT8 => Self::Real,
            oid::TEXT | oid::VARCHAR => Self::Text,
            oid::BYTEA => Self::Blob,
            oid::DATE | oid::TIMESTAMP | oid::TIMESTAMPTZ => Self::Iso8601,
            oid::UUID => Self::UuidText,
            _ => Self::Input,
        }
    }

    /// The encoding that the option `encoding` names for a type.
    ///
    /// # Errors
    /// The names that the type takes.
    pub fn parse(name: &str, type_oid: Oid) -> Result<Self, &'static [&'static str]> {
        let names: &'static [(&'static str, Self)] = match type_oid {
            oid::DATE | oid::TIMESTAMP | oid::TIMESTAMPTZ => &[
                ("iso8601", Self::Iso8601),
                ("epoch_s", Self::EpochS),
                ("epoch_ms", Self::EpochMs),
                ("epoch_us", Self::EpochUs),
                ("julian", Self::Julian),
            ],
            oid::UUID => &[("text", Self::UuidText), ("blob", Self::UuidBlob)],
            oid::BOOL => &[("integer", Self::Boolean)],
            oid::INT2 | oid::INT4 | oid::INT8 => &[("integer", Self::Integer)],
            oid::FLOAT4 | oid::FLOAT8 => &[("real", Self::Real)],
            oid::BYTEA => &[("blob", Self::Blob)],
            oid::TEXT | oid::VARCHAR => &[("text", Self::Text), ("any", Self::Input)],
            _ => &[("text", Self::Input)],
        };
        if let Some((_, encoding)) = names.iter().find(|(n, _)| *n == name) {
            return Ok(*encoding);
        }
        Err(match type_oid {
            oid::DATE | oid::TIMESTAMP | oid::TIMESTAMPTZ => &["iso8601", "epoch_s", "epoch_ms", "epoch_us", "julian"],
            oid::UUID => &["text", "blob"],
            oid::BOOL | oid::INT2 | oid::INT4 | oid::INT8 => &["integer"],
            oid::FLOAT4 | oid::FLOAT8 => &["real"],
            oid::BYTEA => &["blob"],
            oid::TEXT | oid::VARCHAR => &["text", "any"],
            _ => &["text"],
        })
    }

    /// Whether a value of the encoding comes from a text, so that `invalid_text` applies to it.
    pub fn reads_text(self) -> bool {
        matches!(self, Self::Text | Self::Iso8601 | Self::UuidText | Self::Input)
    }
}

/// The bytes of a uuid in any form that PostgreSQL takes: 32 hexadecimal digits, a hyphen after each four allowed, braces
/// allowed.
pub fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let inner = match text {
        [b'{', inner @ .., b'}'] => inner,
        all => all,
    };
    let mut out = [0u8; 16];
    let mut rest = inner;
    for (i, byte) in out.iter_mut().enumerate() {
        let [a, b, more @ ..] = rest else { return None };
        let digit = |c: u8| (c as char).to_digit(16);
        *byte = (digit(*a)? << 4 | digit(*b)?) as u8;
        rest = match more {
            [b'-', more @ ..] if i % 2 == 1 && i < 15 => more,
            more => more,
        };
    }
    rest.is_empty().then_some(out)
}

/// A uuid's 36 characters.
pub fn format_uuid(bytes: [u8; 16]) -> String {
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The canonical writing of a uuid.
pub fn canonical_uuid(text: &[u8]) -> Option<String> {
    parse_uuid(text).map(format_uuid)
}
