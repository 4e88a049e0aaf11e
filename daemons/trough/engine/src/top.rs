//! First rows without a table: a reduce statement that does nothing but pick the first rows of all by some columns is carried
//! out here while the rows come, in memory for so many rows only. What it picks is what SQLite would pick, ties aside.
//!
//! Only the very form `SELECT * FROM partial ORDER BY c1 DESC NULLS LAST, k2 ASC NULLS FIRST LIMIT ?1` is taken, with columns
//! named c or k and a number; everything else is SQLite's. Once as many rows as are wanted are held, segments are asked for what
//! comes before the last of them (`bounded`).

use std::{cmp::Ordering, sync::Arc};

use parking_lot::Mutex;
use rusqlite::{CachedStatement, types::ValueRef};
use trough_core::{
    ErrorCode, SegmentError, Value,
    wire::{Frame, QueryRequest},
};

use crate::{
    bounded::Bounded,
    encode,
    engine::SegmentFile,
    output::Output,
    query::{BATCH_BYTES, Run, Trouble, stopped},
    statement::{Failure, RowsFrame},
};

/// So many rows of one segment more than are wanted may wait before they are sorted and cut.
const SLACK: usize = 128;
/// So many rows of all segments, at least. They are cut more often: what is left bounds what segments are asked for.
const MERGED: usize = 16;

/// A column that rows are sorted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) descending: bool,
    nulls_first: bool,
}

/// The first rows so far.
pub(crate) struct Top {
    keys: Vec<Key>,
    wanted: usize,
    max_bytes: u64,
    /// How segments are asked once the first rows are known to some extent.
    bounded: Option<Bounded>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    layout: Option<Arc<Layout>>,
    rows: Vec<Row>,
    bytes: u64,
    /// The keys of the last of as many rows as are wanted: what does not come before them is not among the first rows.
    worst: Option<Arc<[Held]>>,
}

/// Which statement gives a segment's rows.
#[derive(Clone, Copy)]
enum Source<'a> {
    Map,
    Bounded(&'a Bounded),
}

/// Whether a statement's rows have been picked from.
enum Picked {
    All,
    /// It cannot be said which of them the map would have given.
    Unsure,
}

/// The map's columns, as the first segment told them.
struct Layout {
    names: Vec<String>,
    /// Where the keys are.
    places: Vec<usize>,
}

/// A row in MessagePack, with its keys.
struct Row {
    keys: Vec<Held>,
    data: Vec<u8>,
}

/// A value that is kept; texts as bytes, for they need not be UTF-8.
#[derive(Clone)]
pub(crate) enum Held {
    Null,
    Integer(i64),
    Real(f64),
    Text(Box<[u8]>),
    Blob(Box<[u8]>),
}

/// The keys of a statement of the form, which ends in `LIMIT ?1`, and their text.
fn parse(sql: &str) -> Option<(Vec<Key>, &str)> {
    let list = sql.strip_prefix("SELECT * FROM partial ORDER BY ")?.strip_suffix(" LIMIT ?1")?;
    let key = |text: &str| {
        let mut words = text.split(' ');
        let name = words.next()?;
        let digits = name.strip_prefix(['c', 'k'])?;
        let descending = match words.next()? {
            "ASC" => false,
            "DESC" => true,
            _ => return None,
        };
        let nulls_first = match (words.next()?, words.next()?, words.next()) {
            ("NULLS", "FIRST", None) => true,
            ("NULLS", "LAST", None) => false,
            _ => return None,
        };
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| Key { name: name.to_owned(), descending, nulls_first })
    };
    Some((list.split(", ").map(key).collect::<Option<_>>()?, list))
}

impl Top {
    /// For a request whose reduce statement is of the form and wants some rows, but not all; at most so many bytes are held.
    pub(crate) fn new(request: &QueryRequest, max_bytes: u64) -> Option<Self> {
        let (keys, list) = parse(request.reduce.as_deref()?)?;
        let [Value::Integer(wanted @ 1..)] = request.reduce_params[..] else { return None };
        let bounded = Bounded::new(request, &keys, list, wanted);
        Some(Self { keys, wanted: usize::try_from(wanted).ok()?, max_bytes, bounded, state: Mutex::default() })
    }

    /// Takes those rows of the map on one segment that may be among the first: all of them or none.
    pub(crate) fn take(&self, run: &Run, file: &SegmentFile) -> Result<(), Trouble> {
        let (mut found, most_row) = (Vec::new(), run.max_row_bytes());
        run.map_on(file, |lease| {
            found.clear();
            let worst = self.state.lock().worst.clone();
            if let (Some(bounded), Some(worst)) = (&self.bounded, &worst)
                && let Some(statement) = bounded.prepare(lease, &file.id, &worst[0])?
            {
                match self.pick(statement, Some(worst.clone()), (Source::Bounded(bounded), most_row), &mut found)? {
                    Picked::All => return Ok(()),
                    Picked::Unsure => {
                        bounded.give_up();
                        found.clear();
                    }
                }
            }
            self.pick(run.map.prepare(lease.conn(), Some(&file.id))?, worst, (Source::Map, most_row), &mut found)?;
            Ok(())
        })?;
        if found.is_empty() { Ok(()) } else { self.merge(found).map_err(Trouble::Segment) }
    }

    /// Takes those of a statement's rows that come before the last first row.
    fn pick(
        &self,
        mut statement: CachedStatement<'_>,
        mut worst: Option<Arc<[Held]>>,
        (source, most_row): (Source<'_>, usize),
        found: &mut Vec<Row>,
    ) -> Result<Picked, Failure> {
        let layout = self.layout(&statement)?;
        let mut held = 0;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            if let Source::Bounded(bounded) = source {
                for (i, place) in layout.places.iter().enumerate() {
                    if bounded.may_sort_otherwise(i, row.get_ref(*place)?) {
                        return Ok(Picked::Unsure);
                    }
                }
            }
            if let Some(worst) = &worst
                && !self.is_before(row, &layout, worst)?
            {
                continue;
            }
            let mut data = Vec::new();
            encode::row(row, layout.names.len(), most_row, &mut data)?;
            held += data.len() as u64;
            let keys = layout.places.iter().map(|i| row.get_ref(*i).map(Held::of)).collect::<rusqlite::Result<_>>()?;
            found.push(Row { keys, data });
            let many = found.len() >= self.wanted.saturating_mul(2).saturating_add(SLACK);
            if many || held > self.max_bytes {
                self.cut(found);
                if found.len() >= self.wanted {
                    worst = found.last().map(|row| row.keys.clone().into());
                }
                held = found.iter().map(|row| row.data.len() as u64).sum();
                self.check_room(held)?;
            }
        }
        Ok(Picked::All)
    }

    fn layout(&self, statement: &rusqlite::Statement<'_>) -> Result<Arc<Layout>, SegmentError> {
        let mut state = self.state.lock();
        let columns = statement.column_count();
        if let Some(layout) = &state.layout {
            if layout.names.len() == columns {
                return Ok(layout.clone());
            }
            let text = format!("map gives {columns} columns here, but {} on other segments", layout.names.len());
            return Err(SegmentError::new(ErrorCode::TypeMismatch, text));
        }
        let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
        let place = |key: &Key| {
            let place = names.iter().position(|name| name.eq_ignore_ascii_case(&key.name));
            place.ok_or_else(|| SegmentError::new(ErrorCode::BadSql, format!("reduce: no such column: {}", key.name)))
        };
        let places = self.keys.iter().map(place).collect::<Result<_, _>>()?;
        let layout = Arc::new(Layout { names, places });
        state.layout = Some(layout.clone());
        Ok(layout)
    }

    fn merge(&self, found: Vec<Row>) -> Result<(), SegmentError> {
        let mut state = self.state.lock();
        state.bytes += found.iter().map(Row::size).sum::<u64>();
        state.rows.extend(found);
        if state.rows.len() >= self.wanted.saturating_add(self.wanted.clamp(MERGED, 1 << 16)) {
            self.cut(&mut state.rows);
            state.bytes = state.rows.iter().map(Row::size).sum();
            state.worst = state.rows.last().map(|row| row.keys.clone().into());
        }
        self.check_room(state.bytes)
    }

    /// Whether so many bytes may be held.
    fn check_room(&self, bytes: u64) -> Result<(), SegmentError> {
        if bytes > self.max_bytes {
            let text = format!("the first rows that reduce picks exceed {} bytes", self.max_bytes);
            return Err(SegmentError::new(ErrorCode::ByteLimit, text));
        }
        Ok(())
    }

    /// Sorts rows, and leaves those that are wanted.
    fn cut(&self, rows: &mut Vec<Row>) {
        rows.sort_by(|a, b| self.compare_held(&a.keys, &b.keys));
        rows.truncate(self.wanted);
    }

    fn compare_held(&self, a: &[Held], b: &[Held]) -> Ordering {
        let keys = self.keys.iter().zip(a.iter().zip(b));
        keys.map(|(key, (a, b))| key.compare(a.value(), b.value())).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// Whether a row comes before the last of the rows that are wanted.
    fn is_before(&self, row: &rusqlite::Row<'_>, layout: &Layout, worst: &[Held]) -> rusqlite::Result<bool> {
        for ((key, place), worst) in self.keys.iter().zip(&layout.places).zip(worst) {
            match key.compare(row.get_ref(*place)?, worst.value()) {
                Ordering::Equal => {}
                other => return Ok(other == Ordering::Less),
            }
        }
        Ok(false)
    }

    /// Puts the first rows into the answer. Without a segment that answered there is nothing.
    pub(crate) fn give(&self, run: &Run, output: &mut Output) -> Result<(), SegmentError> {
        let mut state = self.state.lock();
        let Some(layout) = state.layout.clone() else { return Ok(()) };
        self.cut(&mut state.rows);
        let rows = state.rows.iter().map(|row| row.data.as_slice());
        give(run, &layout.names, rows, output).map_err(|failure| match failure {
            Failure::Ours(e) => e,
            Failure::Sqlite(e) => SegmentError::new(ErrorCode::BadSql, e.to_string()),
        })
    }
}

/// Rows in frames.
fn give<'a>(
    run: &Run,
    names: &[String],
    rows: impl Iterator<Item = &'a [u8]>,
    output: &mut Output,
) -> Result<(), Failure> {
    let columns = || Frame::Columns { segment: None, names: names.to_vec() };
    columns().encode(&mut output.frames);
    let mut begin = output.frames.len();
    let mut frame: Option<RowsFrame> = None;
    for row in rows {
        let open = frame.get_or_insert_with(|| RowsFrame::open(None, &mut output.frames));
        output.frames.extend_from_slice(row);
        open.row();
        if output.frames.len() - begin >= BATCH_BYTES {
            run.close(frame.take(), &mut output.frames)?;
            if run.flush(output).is_err() {
                return Err(Failure::Ours(stopped()));
            }
            columns().encode(&mut output.frames);
            begin = output.frames.len();
        }
    }
    run.close(frame, &mut output.frames)
}

impl Row {
    /// About how many bytes it takes.
    fn size(&self) -> u64 {
        (self.data.len() + self.keys.iter().map(Held::size).sum::<usize>() + size_of::<Self>()) as u64
    }
}

impl Held {
    fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(n) => Self::Integer(n),
            ValueRef::Real(r) => Self::Real(r),
            ValueRef::Text(bytes) => Self::Text(bytes.into()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.into()),
        }
    }

    pub(crate) fn value(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Integer(n) => ValueRef::Integer(*n),
            Self::Real(r) => ValueRef::Real(*r),
            Self::Text(bytes) => ValueRef::Text(bytes),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Text(bytes) | Self::Blob(bytes) => size_of::<Self>() + bytes.len(),
            _ => size_of::<Self>(),
        }
    }
}

impl Key {
    fn compare(&self, a: ValueRef<'_>, b: ValueRef<'_>) -> Ordering {
        let null = |v| matches!(v, ValueRef::Null);
        match (null(a), null(b)) {
            (true, true) => Ordering::Equal,
            (true, false) if self.nulls_first => Ordering::Less,
            (true, false) => Ordering::Greater,
            (false, true) if self.nulls_first => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) if self.descending => compare(b, a),
            (false, false) => compare(a, b),
        }
    }
}

/// As SQLite's collation BINARY sorts values that are not NULL: numbers, then texts, then blobs.
fn compare(a: ValueRef<'_>, b: ValueRef<'_>) -> Ordering {
    let class = |v| match v {
        ValueRef::Null => 0,
        ValueRef::Integer(_) | ValueRef::Real(_) => 1,
        ValueRef::Text(_) => 2,
        ValueRef::Blob(_) => 3,
    };
    match (a, b) {
        (ValueRef::Integer(a), ValueRef::Integer(b)) => a.cmp(&b),
        (ValueRef::Real(a), ValueRef::Real(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (ValueRef::Integer(a), ValueRef::Real(b)) => integer_to_real(a, b),
        (ValueRef::Real(a), ValueRef::Integer(b)) => integer_to_real(b, a).reverse(),
        (ValueRef::Text(a), ValueRef::Text(b)) | (ValueRef::Blob(a), ValueRef::Blob(b)) => a.cmp(b),
        (a, b) => class(a).cmp(&class(b)),
    }
}

/// Exactly, beyond 2⁵³ too.
fn integer_to_real(a: i64, b: f64) -> Ordering {
    const END: f64 = 9_223_372_036_854_775_808.0;
    if b >= END {
        return Ordering::Less;
    }
    if b < -END {
        return Ordering::Greater;
    }
    // Within the range of integers, cutting the fraction off is exact.
    let whole = b.trunc();
    a.cmp(&(whole as i64)).then_with(|| 0.0f64.partial_cmp(&(b - whole)).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_form_is_taken() {
        let (keys, list) =
            parse("SELECT * FROM partial ORDER BY c12 DESC NULLS LAST, k2 ASC NULLS FIRST LIMIT ?1").unwrap();
        assert_eq!(list, "c12 DESC NULLS LAST, k2 ASC NULLS FIRST");
        let key = |name: &str, descending, nulls_first| Key { name: name.into(), descending, nulls_first };
        assert_eq!(keys, [key("c12", true, false), key("k2", false, true)]);
        for other in [
            "SELECT * FROM partial ORDER BY c1 LIMIT ?1",
            "SELECT * FROM partial ORDER BY rowid ASC NULLS LAST LIMIT ?1",
            "SELECT * FROM partial ORDER BY c ASC NULLS LAST LIMIT ?1",
            "SELECT * FROM partial ORDER BY c1 ASC NULLS LAST LIMIT ?2",
            "SELECT * FROM partial ORDER BY c1 ASC NULLS LAST LIMIT ?1 OFFSET 1",
            "SELECT c1 FROM partial ORDER BY c1 ASC NULLS LAST LIMIT ?1",
            "SELECT * FROM partial ORDER BY c1 ASC NULLS LAST, LIMIT ?1",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
        let reduce = "SELECT * FROM partial ORDER BY c1 ASC NULLS LAST LIMIT ?1";
        for (param, taken) in
            [(Value::Integer(1), true), (Value::Integer(0), false), (Value::Integer(-1), false), (Value::Null, false)]
        {
            let request =
                QueryRequest { reduce: Some(reduce.into()), reduce_params: vec![param], ..QueryRequest::default() };
            assert_eq!(Top::new(&request, 1).is_some(), taken);
        }
    }

    #[test]
    fn values_sort_as_in_sqlite() {
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE v(x); INSERT INTO v VALUES (1), (1.5), (-1e300), (9e999), (-9e999), (9007199254740993), \
             (9007199254740992.0), (9223372036854775807), (9223372036854775808.0), (-9223372036854775808), (0), (-0.0), \
             ('a'), ('B'), (''), (x''), (x'61'), ('a' || char(0)), ('é'), (x'ff'), (CAST(x'ff' AS TEXT)), (-1), (-1.5)",
        )
        .unwrap();
        let sorted = |order: &str| -> Vec<Held> {
            let mut statement = conn.prepare(&format!("SELECT x FROM v ORDER BY x {order}")).unwrap();
            let mut rows = statement.raw_query();
            let mut all = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                all.push(Held::of(row.get_ref(0).unwrap()));
            }
            all
        };
        let up = sorted("ASC");
        assert_eq!(up.len(), 23);
        for pair in up.windows(2) {
            assert_ne!(compare(pair[0].value(), pair[1].value()), Ordering::Greater);
            assert_eq!(compare(pair[1].value(), pair[0].value()), compare(pair[0].value(), pair[1].value()).reverse());
        }
        for pair in sorted("DESC").windows(2) {
            assert_ne!(compare(pair[0].value(), pair[1].value()), Ordering::Less);
        }
    }
}
