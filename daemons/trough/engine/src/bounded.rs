//! First rows of one segment after others: the rows of a map that sorts and cuts, asked for without sorting, and only those
//! whose first key is not after a bound. Most segments then give nothing, and nothing is sorted in them. What comes out is what
//! the map would have given, as far as it can be among the first rows of all.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use rusqlite::{
    CachedStatement, Connection,
    types::{ToSqlOutput, ValueRef},
};
use trough_core::{SegmentId, Value, wire::QueryRequest};

use crate::{
    cache::Lease,
    conn,
    statement::{Failure, Query},
    top::{Held, Key},
};

/// Files of at most so many bytes are taken to be planned as the first one was; reading one of them whole takes a moment only.
const SMALL: u64 = 256 << 10;

/// A map `… ORDER BY keys LIMIT +?n`, without its end and with a bound. The end may have tests: `… OFFSET 0 * (…)`.
pub(crate) struct Bounded {
    /// The map itself.
    map: String,
    query: Query,
    /// The parameter that is the bound.
    number: usize,
    /// Which keys' texts surely sort by their bytes in the map, as they do among first rows.
    by_bytes: Vec<bool>,
    /// Whether SQLite sorts the map's rows on the first segment that was asked; it need not where an index has them sorted.
    sorts: OnceLock<bool>,
    /// A key turned out to be a text that may sort otherwise in the map: which rows the map would give, only the map can say.
    unsure: AtomicBool,
}

impl Bounded {
    /// For a map that ends in the same order (its text is `list`) and in as many rows as its reduce.
    pub(crate) fn new(request: &QueryRequest, keys: &[Key], list: &str, wanted: i64) -> Option<Self> {
        let (start, end) = request.map.rsplit_once(" LIMIT +?")?;
        let (number, tests) = end.split_once(' ').unwrap_or((end, ""));
        if !tests.is_empty() && !gives_nought(tests) {
            return None;
        }
        let body = start.strip_suffix(list)?.strip_suffix(" ORDER BY ")?;
        let limit = request.params.get(number.parse::<usize>().ok()?.checked_sub(1)?)?;
        if *limit != Value::Integer(wanted) {
            return None;
        }
        let mut params = request.params.clone();
        params.push(Value::Null);
        let number = params.len();
        let Key { name, descending, .. } = &keys[0];
        // Without the affinity and the collation of a column, so that values compare as the keys of first rows do. NULL is let
        // through wherever it sorts. No index is used for it: where one gives the order, the map itself is run.
        let compare = if *descending { ">=" } else { "<=" };
        let end = if tests.is_empty() { String::new() } else { format!(" LIMIT -1 {tests}") };
        let sql = format!("SELECT * FROM ({body}) WHERE (+{name} COLLATE BINARY {compare} ?{number}) IS NOT 0{end}");
        let query = Query::new(&sql, params).bytewise(request.bytewise);
        let by_bytes = |key: &Key| {
            let item = format!(" COLLATE BINARY AS {}", key.name);
            body.split_once(&item).is_some_and(|(_, rest)| rest.starts_with([',', ' ']))
        };
        Some(Self {
            map: request.map.clone(),
            query,
            number,
            by_bytes: keys.iter().map(by_bytes).collect(),
            sorts: OnceLock::new(),
            unsure: AtomicBool::new(false),
        })
    }

    /// The statement, bounded by the last first row's key; none where the map itself is better.
    pub(crate) fn prepare<'c>(
        &self,
        lease: &'c Lease<'_>,
        id: &SegmentId,
        bound: &Held,
    ) -> Result<Option<CachedStatement<'c>>, Failure> {
        let useless = matches!(bound, Held::Null) || self.unsure.load(Ordering::Relaxed);
        if useless || !self.sorts(lease)? {
            return Ok(None);
        }
        match self.query.prepare(lease.conn(), Some(id)) {
            Ok(mut statement) => {
                statement.raw_bind_parameter(self.number, ToSqlOutput::Borrowed(bound.value()))?;
                Ok(Some(statement))
            }
            // What is wrong shows when the map is prepared; a map in this form that is none can be run as it is.
            Err(Failure::Sqlite(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Whether a value of a key may sort otherwise in the map than among first rows.
    pub(crate) fn may_sort_otherwise(&self, key: usize, value: ValueRef<'_>) -> bool {
        matches!(value, ValueRef::Text(_)) && !self.by_bytes[key]
    }

    /// The map itself is run from here on.
    pub(crate) fn give_up(&self) {
        self.unsure.store(true, Ordering::Relaxed);
    }

    /// Whether SQLite reads all rows of the map and sorts them.
    fn sorts(&self, lease: &Lease<'_>) -> Result<bool, Failure> {
        if lease.file_bytes().is_none_or(|bytes| bytes > SMALL) {
            return Ok(sorts(lease.conn(), &self.map)?);
        }
        if let Some(known) = self.sorts.get() {
            return Ok(*known);
        }
        let sorts = sorts(lease.conn(), &self.map)?;
        Ok(*self.sorts.get_or_init(|| sorts))
    }
}

/// Whether an OFFSET is nought times something, and that is all of it.
fn gives_nought(offset: &str) -> bool {
    let Some(rest) = offset.strip_prefix("OFFSET 0 * (") else { return false };
    let (mut depth, mut quoted) = (1_u32, None);
    for (at, sign) in rest.bytes().enumerate() {
        match (quoted, sign) {
            (Some(quote), sign) if sign == quote => quoted = None,
            (Some(_), _) => {}
            (None, b'\'' | b'`' | b'"') => quoted = Some(sign),
            (None, b'(') => depth += 1,
            (None, b')') if depth == 1 => return at + 1 == rest.len(),
            (None, b')') => depth -= 1,
            // Brackets quote as well, and comments may hide anything.
            (None, b'[' | b'-' | b'/') => return false,
            (None, _) => {}
        }
    }
    false
}

/// Whether a statement's rows are sorted by all their keys when they have been found. Those that an index has sorted, be it by
/// some keys only, end with the last that is wanted.
fn sorts(conn: &Connection, sql: &str) -> rusqlite::Result<bool> {
    conn::take_quoted_names_for_texts(conn, false)?;
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        if row.get_ref("detail")?.as_str()? == "USE TEMP B-TREE FOR ORDER BY" {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::gives_nought;

    #[test]
    fn only_nought_is_nought() {
        for nought in [
            "(1)",
            "(f(`a)`, 'it''s )') AND g(1))",
            "(coalesce((SELECT trough_form(`t`, 'date', 'x', 't') FROM `x` LIMIT 1), 1))",
        ] {
            assert!(gives_nought(&format!("OFFSET 0 * {nought}")), "{nought}");
        }
        for other in [
            "0 * (1) + 5",
            "0 * (1)) + (5",
            "0 * (1",
            "5",
            "0 * ('x) ",
            "0 * ([a)]) + 5)",
            "0 * (1 /* ) */ )",
            "0 * (1)  ",
        ] {
            assert!(!gives_nought(&format!("OFFSET {other}")), "{other}");
        }
    }
}
