//! What one request does within its transaction: a script, or statements with their rows of parameters.

use rusqlite::{CachedStatement, fallible_iterator::FallibleIterator, types::ValueRef};
use trough_core::{
    ErrorCode, SegmentError, SegmentId, Value,
    wire::{Packed, WriteStatement},
};

use crate::{
    conn as connection,
    encode::{self, Decoded},
    options::Limits,
    sql,
    statement::{Bound, Failure},
    write_conn::WriteConn,
};

/// What a request did.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) changes: u64,
    pub(crate) returned: Vec<Vec<Value>>,
    pub(crate) packed: Option<Packed>,
}

/// An SQL script: every statement to its end, rows dropped.
pub(crate) fn script(conn: &WriteConn, text: &str) -> Result<Done, Failure> {
    let before = conn.conn.total_changes();
    connection::take_quoted_names_for_texts(&conn.conn, true)?;
    let mut batch = rusqlite::Batch::new(&conn.conn, text);
    while let Some(mut statement) = batch.next()? {
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
    }
    Ok(Done { changes: conn.conn.total_changes() - before, ..Done::default() })
}

/// The statements, each once per row of its parameters.
pub(crate) fn statements(
    conn: &WriteConn,
    id: &SegmentId,
    list: &[WriteStatement],
    limits: &Limits,
) -> Result<Done, Failure> {
    let mut done = Done::default();
    let mut returned = Returned {
        limit: limits.max_rows,
        most: limits.max_value_bytes,
        rows: 0,
        bytes: 0,
        columns: 0,
        plain: Vec::new(),
        packed: None,
    };
    for statement in list {
        let width = statement
            .packed
            .as_ref()
            .map_or_else(|| statement.rows.first().map_or(0, Vec::len), |packed| packed.columns as usize);
        let mut runner = Runner::new(conn, id, statement, width, &mut returned)?;
        match &statement.packed {
            Some(_) if !statement.rows.is_empty() => {
                return Err(bad("a statement has rows or packed rows, not both".into()));
            }
            Some(packed) => {
                let mut bytes = &packed.data[..];
                for _ in 0..packed.count {
                    runner.run_packed(&mut bytes)?;
                }
                if !bytes.is_empty() {
                    return Err(bad(format!("{} bytes are left after the last of {} rows", bytes.len(), packed.count)));
                }
            }
            None if statement.rows.is_empty() => runner.run(&[])?,
            None => statement.rows.iter().try_for_each(|row| runner.run(row))?,
        }
        done.changes += runner.changes;
    }
    (done.returned, done.packed) = (
        returned.plain,
        returned.packed.map(|data| Packed { count: returned.rows, columns: returned.columns, data: data.into() }),
    );
    Ok(done)
}

fn bad(text: String) -> Failure {
    Failure::Ours(SegmentError::new(ErrorCode::BadRequest, text))
}

/// What the statements returned so far.
struct Returned {
    limit: u64,
    /// Bytes of them all: they are one answer, made in memory.
    most: usize,
    rows: u64,
    bytes: usize,
    columns: u32,
    plain: Vec<Vec<Value>>,
    packed: Option<Vec<u8>>,
}

/// One prepared statement.
struct Runner<'a> {
    conn: &'a WriteConn,
    statement: CachedStatement<'a>,
    /// Parameters that a row must have.
    wanted: usize,
    /// How many rows each run must change.
    each: Option<u64>,
    changes_rows: bool,
    changes: u64,
    returned: &'a mut Returned,
}

impl<'a> Runner<'a> {
    fn new(
        conn: &'a WriteConn,
        id: &SegmentId,
        statement: &WriteStatement,
        width: usize,
        returned: &'a mut Returned,
    ) -> Result<Self, Failure> {
        let numbered = sql::number_segment_parameter(&statement.sql, width);
        let text = numbered.as_ref().map_or(statement.sql.as_str(), |(text, _)| text);
        connection::take_quoted_names_for_texts(&conn.conn, false)?;
        let mut prepared = conn.conn.prepare_cached(text)?;
        let mut wanted = prepared.parameter_count();
        if let Some((_, number)) = numbered {
            prepared.raw_bind_parameter(number, id.as_str())?;
            wanted = number - 1;
        }
        if statement.packed.is_some() && prepared.column_count() > 0 {
            let columns = prepared.column_count() as u32;
            if returned.packed.is_some() && returned.columns != columns {
                return Err(bad("packed statements of one request return rows of different widths".into()));
            }
            returned.columns = columns;
            returned.packed.get_or_insert_default();
        }
        let changes_rows = !prepared.readonly()
            && sql::first_word(text).is_some_and(|word| {
                ["insert", "replace", "update", "delete", "with"].iter().any(|dml| word.eq_ignore_ascii_case(dml))
            });
        Ok(Self { conn, statement: prepared, wanted, each: statement.each, changes_rows, changes: 0, returned })
    }

    fn check_width(&self, given: usize) -> Result<(), Failure> {
        if given == self.wanted {
            return Ok(());
        }
        let wanted = self.wanted;
        Err(bad(format!("the statement has {wanted} parameters, but a row of {given} values was given")))
    }

    fn run(&mut self, values: &[Value]) -> Result<(), Failure> {
        self.check_width(values.len())?;
        for (i, value) in values.iter().enumerate() {
            self.statement.raw_bind_parameter(i + 1, Bound(value))?;
        }
        self.step(false)
    }

    /// Takes a row from the bytes and runs the statement with it.
    fn run_packed(&mut self, bytes: &mut &[u8]) -> Result<(), Failure> {
        for i in 0..self.wanted {
            let value = match encode::decode(bytes) {
                Some(Decoded::Value(value)) => value,
                Some(Decoded::InvalidText(text)) => ValueRef::Text(text),
                None => return Err(bad("packed rows end early or hold something other than values".into())),
            };
            self.statement.raw_bind_parameter(i + 1, rusqlite::types::ToSqlOutput::Borrowed(value))?;
        }
        self.step(true)
    }

    /// Runs the bound statement to its end; what it returns is kept.
    fn step(&mut self, packed: bool) -> Result<(), Failure> {
        let columns = self.statement.column_count();
        let returned = &mut *self.returned;
        let mut rows = self.statement.raw_query();
        while let Some(row) = rows.next()? {
            if returned.limit > 0 && returned.rows >= returned.limit {
                let text = format!("the statements return more than {} rows (MAX_ROWS)", returned.limit);
                return Err(Failure::Ours(SegmentError::new(ErrorCode::RowLimit, text)));
            }
            returned.rows += 1;
            match &mut returned.packed {
                Some(data) if packed => {
                    let begin = data.len();
                    encode::row(row, columns, returned.most.saturating_sub(returned.bytes), data)?;
                    returned.bytes += data.len() - begin;
                }
                _ => {
                    let mut values = Vec::with_capacity(columns);
                    for i in 0..columns {
                        let value = row.get_ref(i)?;
                        if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = value {
                            returned.bytes += bytes.len();
                            encode::check_row(returned.bytes, returned.most)?;
                        }
                        values.push(plain(value)?);
                    }
                    returned.plain.push(values);
                }
            }
        }
        drop(rows);
        let changed = if self.changes_rows { self.conn.conn.changes() } else { 0 };
        if let Some(each) = self.each
            && changed != each
        {
            let text = if each == 1 && changed == 0 {
                "a row was changed or deleted by somebody else since it was read".to_owned()
            } else {
                format!("{changed} rows were changed where {each} should have been")
            };
            return Err(Failure::Ours(SegmentError::new(ErrorCode::Conflict, text)));
        }
        self.changes += changed;
        Ok(())
    }
}

fn plain(value: ValueRef<'_>) -> Result<Value, Failure> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(n) => Value::Integer(n),
        ValueRef::Real(r) => Value::Real(r),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        ValueRef::Text(bytes) => match String::from_utf8(bytes.to_vec()) {
            Ok(text) => Value::Text(text),
            Err(_) => {
                let text = "a returned text is not valid UTF-8";
                return Err(Failure::Ours(SegmentError::new(ErrorCode::TypeMismatch, text)));
            }
        },
    })
}
