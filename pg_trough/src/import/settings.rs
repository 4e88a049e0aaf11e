//! The options of IMPORT FOREIGN SCHEMA: its own, and those of tables, which every table gets.

use pgrx::PgSqlErrorCode;

use super::types::Encodings;
use crate::{
    errors::Failure,
    options::{self, Setting},
};

/// What the statement asks for.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// NOT NULL is taken over.
    pub(super) not_null: bool,
    /// `storage` is set where SQLite guarantees it.
    pub(super) storage: bool,
    /// Texts get the collation `C`, which is SQLite's own order.
    pub(super) collate: bool,
    /// Comments are taken over.
    pub(super) comments: bool,
    /// Names become lower-case.
    pub(super) fold: bool,
    /// Stands before the names of tables.
    pub(super) prefix: String,
    /// The segment column's name, if it is given.
    pub(super) segment_column: Option<String>,
    /// How dates, times and uuids are stored.
    pub(super) encodings: Encodings,
    /// Options for every table.
    pub(super) of_tables: Vec<(String, String)>,
}

const OWN: &[&str] = &[
    "import_not_null",
    "import_storage",
    "import_collate",
    "import_comments",
    "fold_names",
    "prefix",
    "segment_column",
    "date_encoding",
    "datetime_encoding",
    "uuid_encoding",
];

impl Settings {
    /// From the statement's options; `guaranteed` says whether what is described holds for all segments.
    ///
    /// # Errors
    /// An option that there is not (with the nearest one that there is), or a bad value.
    pub(super) fn parse(given: Vec<Setting>, guaranteed: bool) -> Result<Self, Failure> {
        let mut settings = Self {
            not_null: guaranteed,
            storage: guaranteed,
            collate: false,
            comments: true,
            fold: false,
            prefix: String::new(),
            segment_column: None,
            encodings: Encodings::default(),
            of_tables: Vec::new(),
        };
        for setting in given {
            let of_column = |option: &str, type_oid: u32| options::column_encoding(option, &setting.value, type_oid);
            match setting.name.as_str() {
                "import_not_null" => settings.not_null = boolean(&setting)?,
                "import_storage" => settings.storage = boolean(&setting)?,
                "import_collate" => settings.collate = boolean(&setting)?,
                "import_comments" => settings.comments = boolean(&setting)?,
                "fold_names" => settings.fold = boolean(&setting)?,
                "prefix" => settings.prefix = setting.value,
                "segment_column" if setting.value.is_empty() => return Err(invalid(&setting, "it is empty")),
                "segment_column" => settings.segment_column = Some(setting.value),
                "date_encoding" => settings.encodings.date = of_column("date_encoding", trough_pushdown::oid::DATE)?,
                "datetime_encoding" => {
                    settings.encodings.datetime = of_column("datetime_encoding", trough_pushdown::oid::TIMESTAMPTZ)?;
                }
                "uuid_encoding" => settings.encodings.uuid = of_column("uuid_encoding", trough_pushdown::oid::UUID)?,
                _ => {
                    options::check_table_option(&setting, OWN, "IMPORT FOREIGN SCHEMA")?;
                    settings.of_tables.push((setting.name, setting.value));
                }
            }
        }
        // A text that becomes NULL may stand in any column of texts.
        let becomes_null = |(name, value): &(String, String)| name == "invalid_text" && value == "null";
        settings.not_null &= !settings.of_tables.iter().any(becomes_null);
        Ok(settings)
    }
}

fn boolean(setting: &Setting) -> Result<bool, Failure> {
    options::parse_bool(&setting.value)
        .ok_or_else(|| invalid(setting, &format!("\"{}\" is neither true nor false", setting.value)))
}

fn invalid(setting: &Setting, why: &str) -> Failure {
    Failure::new(
        PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE,
        format!("invalid value for the option \"{}\": {why}", setting.name),
    )
}
