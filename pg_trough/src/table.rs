//! A foreign table as its options and its server's declare it.

use std::{cell::RefCell, collections::HashMap};

use pgrx::{PgSqlErrorCode, pg_sys};
use serde::{Deserialize, Serialize};
use trough_client::SegmentPattern;
use trough_pushdown::{Column, Encoding, InvalidText, Storage, Table};

use crate::{
    errors::{Failure, OrRaise},
    options::{self, Setting},
    pg,
};

/// What planning and execution need to know about a foreign table.
#[derive(Clone, Debug)]
pub(crate) struct ForeignTable {
    /// `pg_class.oid`.
    pub(crate) relid: pg_sys::Oid,
    /// Its server.
    pub(crate) server: pg_sys::Oid,
    /// The table and its columns for the shipping rules.
    pub(crate) table: Table,
    /// Modifiers of the columns' types, in the order of attribute numbers.
    pub(crate) typmods: Vec<i32>,
    /// Which columns SQLite computes, in the order of attribute numbers: they are never written.
    pub(crate) generated: Vec<bool>,
    /// Which segments belong to it (a regular expression), if not all.
    pub(crate) pattern: Option<String>,
    /// Which schema new segments start from.
    pub(crate) schema: String,
    /// Whether it refuses to be written.
    pub(crate) read_only: bool,
    /// Whether it may be truncated.
    pub(crate) truncatable: bool,
    /// The columns that tell a segment's rows apart, where the rowid does not: indexes of [`Table::columns`].
    pub(crate) keys: Vec<usize>,
    /// The rows it is planned for where ANALYZE has not counted.
    pub(crate) estimated_rows: Option<f64>,
    /// The most that one query may fetch, and what it does about segments that it cannot read.
    pub(crate) limits: Limits,
    /// Whether segments are asked for the number of rows while a query is planned.
    pub(crate) use_remote_estimate: bool,
    /// Whether an Append may ask it beside others.
    pub(crate) async_capable: bool,
    /// Rows per call of the executor.
    pub(crate) batch_size: i32,
}

impl ForeignTable {
    /// Which segments belong to the table, if not all.
    pub(crate) fn segment_pattern(&self) -> Option<SegmentPattern> {
        self.pattern.as_deref().map(segment_pattern)
    }
}

thread_local! {
    /// Compiled patterns: compiling one takes longer than asking a segment.
    static PATTERNS: RefCell<HashMap<String, SegmentPattern>> = RefCell::default();
}

/// The option `segments` as a condition.
pub(crate) fn segment_pattern(regex: &str) -> SegmentPattern {
    const KEPT: usize = 100;
    if let Some(known) = PATTERNS.with_borrow(|patterns| patterns.get(regex).cloned()) {
        return known;
    }
    let pattern = SegmentPattern::regex(regex)
        .map_err(|e| {
            Failure::new(PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE, format!("the option segments: {e}"))
        })
        .or_raise();
    PATTERNS.with_borrow_mut(|patterns| {
        if patterns.len() >= KEPT {
            patterns.clear();
        }
        patterns.insert(regex.to_owned(), pattern.clone());
    });
    pattern
}

/// Forgets what was compiled.
pub(crate) fn forget_patterns() {
    PATTERNS.with_borrow_mut(HashMap::clear);
}

/// Limits on what a query may fetch, and what it does about segments that it cannot read.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Limits {
    /// Rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_rows: Option<u64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_bytes: Option<u64>,
    /// A named segment that does not exist.
    pub(crate) on_missing: OnFault,
    /// A segment that fails by itself.
    pub(crate) on_failed: OnFault,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_rows: None, max_bytes: None, on_missing: OnFault::Skip, on_failed: OnFault::Error }
    }
}

impl Limits {
    /// What holds for several tables that are read together.
    pub(crate) fn strictest(all: impl Iterator<Item = Self>) -> Self {
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        let both = |a: Self, b: Self| Self {
            max_rows: least(a.max_rows, b.max_rows),
            max_bytes: least(a.max_bytes, b.max_bytes),
            on_missing: a.on_missing.min(b.on_missing),
            on_failed: a.on_failed.min(b.on_failed),
        };
        all.reduce(both).unwrap_or_default()
    }
}

/// What becomes of a query when a segment cannot be read; the strictest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnFault {
    /// The query fails.
    Error,
    /// The segment has no rows, and one warning at the scan's end says so.
    Warn,
    /// The segment has no rows.
    Skip,
}

impl OnFault {
    /// The names that the options take.
    pub(crate) const NAMES: &'static [&'static str] = &["error", "warn", "skip"];

    fn parse(name: &str) -> Option<Self> {
        [Self::Error, Self::Warn, Self::Skip].into_iter().zip(Self::NAMES).find(|(_, n)| **n == name).map(|(v, _)| v)
    }
}

/// The base type of a domain, and the type itself otherwise.
pub(crate) fn base_type(type_oid: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: getBaseType answers for any type.
    unsafe { pg_sys::getBaseType(type_oid) }
}

/// Reads a foreign table's declaration from the catalogs.
pub(crate) fn load(relid: pg_sys::Oid) -> ForeignTable {
    // SAFETY: the catalogs' structures are palloc'ed copies; the relation is closed before returning.
    unsafe {
        let foreign = pg_sys::GetForeignTable(relid);
        let server = pg_sys::GetForeignServer((*foreign).serverid);
        let own = options::settings((*foreign).options);
        let of_server = options::settings((*server).options);
        let relation = pg_sys::table_open(relid, pg_sys::NoLock as _);
        let tuple_desc = (*relation).rd_att;
        let mut columns = Vec::new();
        let mut typmods = Vec::new();
        let (mut keys, mut generated) = (Vec::new(), Vec::new());
        for i in 0..(*tuple_desc).natts {
            let attribute = crate::compat::attribute(tuple_desc, i as usize);
            typmods.push((*attribute).atttypmod);
            generated.push(false);
            columns.push(if (*attribute).attisdropped {
                None
            } else {
                let name = pg::text((*attribute).attname.data.as_ptr());
                let settings = options::settings(pg_sys::GetForeignColumnOptions(relid, i as i16 + 1));
                generated[i as usize] =
                    options::find(&settings, "generated").and_then(options::parse_bool) == Some(true);
                let type_oid = base_type((*attribute).atttypid);
                if options::find(&settings, "key").and_then(options::parse_bool) == Some(true) {
                    keys.push(i as usize);
                }
                Some(column(&name, type_oid, &settings, &own, &of_server).or_raise())
            });
        }
        pg_sys::table_close(relation, pg_sys::NoLock as _);
        let either = |name| options::find(&own, name).or_else(|| options::find(&of_server, name));
        let on = |name| either(name).and_then(options::parse_bool).unwrap_or(false);
        let number = |name| either(name).and_then(|n| n.parse::<u64>().ok());
        let name = options::find(&own, "table").map_or_else(|| pg::relation_name(relid), str::to_owned);
        columns.iter_mut().flatten().for_each(|column: &mut Column| column.table.clone_from(&name));
        let table = ForeignTable {
            relid,
            server: (*foreign).serverid,
            table: Table { name, columns },
            typmods,
            generated,
            pattern: either("segments").map(str::to_owned),
            schema: either("schema").unwrap_or("default").to_owned(),
            read_only: on("read_only"),
            truncatable: either("truncatable").and_then(options::parse_bool).unwrap_or(true),
            keys,
            estimated_rows: number("estimated_rows").map(|n| n as f64),
            limits: Limits {
                max_rows: number("max_rows"),
                max_bytes: number("max_bytes"),
                on_missing: either("on_missing_segment").and_then(OnFault::parse).unwrap_or(OnFault::Skip),
                on_failed: either("on_segment_error").and_then(OnFault::parse).unwrap_or(OnFault::Error),
            },
            async_capable: either("async_capable").and_then(options::parse_bool).unwrap_or(true),
            use_remote_estimate: on("use_remote_estimate"),
            batch_size: number("batch_size").map_or(1000, |n| n.min(65_535) as i32),
        };
        check(&table).or_raise();
        table
    }
}

fn column(
    name: &str,
    type_oid: pg_sys::Oid,
    own: &[Setting],
    table: &[Setting],
    server: &[Setting],
) -> Result<Column, Failure> {
    let number = u32::from(type_oid);
    let segment = options::find(own, "segment").and_then(options::parse_bool).unwrap_or(false);
    let encoding = match options::find(own, "encoding") {
        None => Encoding::default_for(number),
        Some(encoding) => Encoding::parse(encoding, number).map_err(|valid| {
            Failure::new(
                PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE,
                format!("column \"{name}\" of type {} has no encoding \"{encoding}\"", pg::type_name(type_oid)),
            )
            .hint(format!("It may be: {}.", valid.join(", ")))
        })?,
    };
    if segment && encoding != Encoding::Text {
        return Err(Failure::new(
            PgSqlErrorCode::ERRCODE_FDW_INVALID_DATA_TYPE,
            format!("the segment column \"{name}\" is of type {}, but must be text", pg::type_name(type_oid)),
        ));
    }
    let trusted = options::find(own, "trusted").or_else(|| options::find(table, "trusted"));
    let invalid_text = options::find(own, "invalid_text")
        .or_else(|| options::find(table, "invalid_text"))
        .or_else(|| options::find(server, "invalid_text"));
    Ok(Column {
        name: options::find(own, "column_name").unwrap_or(name).to_owned(),
        table: String::new(),
        alias: None,
        type_oid: number,
        encoding,
        storage: options::find(own, "storage").and_then(Storage::parse).unwrap_or_default(),
        trusted: trusted.and_then(options::parse_bool).unwrap_or(false),
        invalid_text: invalid_text.and_then(InvalidText::parse).unwrap_or(InvalidText::Error),
        segment,
    })
}

fn check(table: &ForeignTable) -> Result<(), Failure> {
    let segments = table.table.columns.iter().flatten().filter(|c| c.segment).count();
    if segments > 1 {
        return Err(Failure::new(
            PgSqlErrorCode::ERRCODE_FDW_INVALID_COLUMN_NUMBER,
            format!("foreign table \"{}\" has {segments} segment columns", pg::relation_name(table.relid)),
        )
        .hint("Only one column may have the option segment 'true'."));
    }
    Ok(())
}
