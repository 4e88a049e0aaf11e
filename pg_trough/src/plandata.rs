//! What a plan carries from planning to execution, by name: one JSON text in `fdw_private`. The expressions that it
//! counts stand in `fdw_exprs`: first the values (by slot), then the conditions on segments.

use pgrx::pg_sys;
use serde::{Deserialize, Serialize};
use trough_pushdown::{Encoding, InvalidText, Keys, Param, StateKind};

use crate::{
    pg,
    relation::Tables,
    segments::Values,
    table::{Limits, OnFault},
};

/// A scan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ScanPlan {
    /// The foreign table, or the first of several.
    pub(crate) relid: u32,
    /// Its server.
    pub(crate) server: u32,
    /// The SQLite table's name, for messages.
    pub(crate) table: String,
    /// What a scan of more than one table's rows stands for, for EXPLAIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) relations: Option<String>,
    /// Runs in each segment.
    pub(crate) map: String,
    /// Runs over the rows of several segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reduce: Option<String>,
    /// The map's parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) params: Vec<Param>,
    /// Whether the map relies on how texts sort by their bytes in UTF-8.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) bytewise: bool,
    /// How many rows are enough, if not all are wanted: the map's last parameter, and the only one of the reduce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) enough: Option<Enough>,
    /// What the tuple's attributes are made of; attributes that are not named stay NULL.
    pub(crate) outputs: Vec<Output>,
    /// Columns in a row of the answer.
    pub(crate) width: usize,
    /// How many of the expressions are values.
    pub(crate) slots: usize,
    /// Which segments can hold rows.
    pub(crate) keys: SegmentKeys,
    /// Why plain rows are fetched, if a worker of the Python trough is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) python: Option<String>,
    /// The tables' segments: regular expressions that all must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) patterns: Vec<String>,
    /// Limits on what may be fetched.
    pub(crate) limits: Limits,
}

/// LIMIT and OFFSET, as slots of `bigint` values.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Enough {
    /// LIMIT; NULL for all rows.
    pub(crate) limit: usize,
    /// OFFSET; NULL for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<usize>,
    /// Whether the first rows are wanted, rather than any.
    pub(crate) first: bool,
}

/// How many rows a scan is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All.
    All,
    /// So many, whichever.
    Any(u64),
    /// So many, the first by the statement's order, of each segment.
    First(u64),
}

impl Enough {
    /// How many rows. That neither is negative is checked by PostgreSQL's own Limit, which comes first.
    pub(crate) fn wanted(self, values: &Values) -> Wanted {
        let value = |slot: usize| values[slot].0.map(|datum| (datum.value() as i64).max(0) as u64);
        let Some(limit) = value(self.limit) else { return Wanted::All };
        let rows = limit.saturating_add(self.offset.and_then(value).unwrap_or(0));
        if self.first { Wanted::First(rows) } else { Wanted::Any(rows) }
    }
}

impl Wanted {
    /// As SQLite's LIMIT takes it: -1 for all.
    pub(crate) fn limit(self) -> i64 {
        match self {
            Self::All => -1,
            Self::Any(rows) | Self::First(rows) => i64::try_from(rows).unwrap_or(-1),
        }
    }

    /// How many segments a worker may pick the rows of at a time, holding the first ones of each in memory; none if the rows
    /// are too many for that.
    pub(crate) fn segments_to_pick_from(self) -> Option<usize> {
        const HELD_ROWS: u64 = 50_000;
        const MOST_ROWS: u64 = 1_000;
        match self {
            Self::First(rows) if rows <= MOST_ROWS => Some((HELD_ROWS / rows.max(1)) as usize),
            _ => None,
        }
    }
}

/// Which segments can hold rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SegmentKeys {
    /// The set.
    pub(crate) keys: Keys,
    /// The conditions on segments, by their place, that hold in every segment that the set lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) implied: Vec<usize>,
}

impl Default for SegmentKeys {
    fn default() -> Self {
        Self { keys: Keys::All, implied: Vec::new() }
    }
}

/// One attribute of the scan's tuple.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Output {
    /// The attribute's index, from 0.
    pub(crate) attribute: usize,
    /// What it is made of.
    pub(crate) source: Source,
}

/// What an attribute is made of, and of which columns of a row. Columns of their own come in the order of the outputs,
/// before those of aggregates.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// The segment that the row came from.
    Segment,
    /// What tells the row from others, for a write: the rowid, if it does, and the fingerprint. It comes first.
    Identity(bool),
    /// One column.
    Column(Stored),
    /// An aggregate's transition state, as PostgreSQL's partial aggregate would give it.
    State(StateKind, Stored, Vec<usize>),
    /// A finished aggregate.
    Final(StateKind, Finish, Stored, Vec<usize>),
}

/// How a finished aggregate comes from its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Finish {
    /// The state is the result.
    Same,
    /// The aggregate's final function makes it.
    Function(u32),
    /// Its final function makes it of what another function makes of the state.
    Deserialized(u32, u32),
}

/// How a column is stored and read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// The name in SQLite, for messages.
    pub(crate) name: String,
    /// The type.
    pub(crate) type_oid: u32,
    /// Its modifier.
    pub(crate) typmod: i32,
    /// How it is stored.
    pub(crate) encoding: Encoding,
    /// What becomes of text that PostgreSQL cannot hold.
    pub(crate) invalid_text: InvalidText,
    /// Whether texts are promised to be in canonical form.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) trusted: bool,
}

impl ScanPlan {
    /// A plan without a statement.
    pub(crate) fn of(tables: &Tables) -> Self {
        let first = tables.first();
        Self {
            relid: first.relid.into(),
            server: first.server.into(),
            table: tables.sqlite_names(),
            relations: None,
            map: String::new(),
            reduce: None,
            params: Vec::new(),
            bytewise: false,
            enough: None,
            outputs: Vec::new(),
            width: 0,
            slots: 0,
            keys: SegmentKeys::default(),
            python: None,
            patterns: tables.patterns(),
            limits: Limits::strictest(tables.members().iter().map(|m| m.table.limits)),
        }
    }

    /// Has the map give these columns before all others: see [`Source::Identity`]. What cannot be read is an error then,
    /// whatever the options allow a scan: nobody would learn what was not changed.
    pub(crate) fn with_identity(&mut self, rowid: bool, columns: &[String]) {
        let rest = self.map.strip_prefix("SELECT ").unwrap_or(&self.map);
        self.map = format!("SELECT {}, {rest}", columns.join(", "));
        self.width += columns.len();
        self.limits.on_failed = OnFault::Error;
        self.outputs.insert(0, Output { attribute: 0, source: Source::Identity(rowid) });
    }

    /// As `fdw_private` holds it.
    pub(crate) fn to_list(&self) -> *mut pg_sys::List {
        let json = serde_json::to_string(self).expect("plans are plain data");
        // SAFETY: a list of one String node.
        unsafe { pg::make_list([pg::string_node(&json)]) }
    }

    /// From `fdw_private`.
    ///
    /// # Safety
    /// The list was made by [`ScanPlan::to_list`].
    pub(crate) unsafe fn from_list(list: *mut pg_sys::List) -> Self {
        let json = unsafe {
            let node = pg::list::<pg_sys::Node>(list).next().expect("to_list makes one element");
            crate::compat::string_value(node)
        };
        serde_json::from_str(&json).expect("to_list wrote it")
    }
}
