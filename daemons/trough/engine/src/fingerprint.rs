//! `trough_fingerprint(value, …)`: 64 bits of the values as they are stored, kind and all. A client that read a row with it can
//! have the row changed only if it is still what was read.

use rusqlite::{
    Connection, Result,
    functions::{Context, FunctionFlags},
    types::ValueRef,
};
use xxhash_rust::xxh3::Xxh3;

/// Defines the function on a connection.
pub(crate) fn register(conn: &Connection) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    conn.create_scalar_function("trough_fingerprint", -1, flags, |ctx| Ok(of(ctx)))
}

fn of(ctx: &Context<'_>) -> i64 {
    let mut hash = Xxh3::new();
    for i in 0..ctx.len() {
        let (kind, bytes): (u8, &[u8]) = match ctx.get_raw(i) {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(n) => (1, &n.to_be_bytes()),
            ValueRef::Real(r) => (2, &r.to_bits().to_be_bytes()),
            ValueRef::Text(bytes) => (3, bytes),
            ValueRef::Blob(bytes) => (4, bytes),
        };
        hash.update(&[kind]);
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    }
    hash.digest() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_borders_count() {
        let conn = Connection::open_in_memory().expect("SQLite opens memory");
        register(&conn).expect("a function is defined");
        let one = |sql: &str| -> i64 {
            conn.query_row(&format!("SELECT trough_fingerprint({sql})"), [], |row| row.get(0)).expect("an integer")
        };
        let different =
            ["", "NULL", "NULL, NULL", "1", "1.0", "'1'", "x'31'", "'', 'ab'", "'a', 'b'", "'ab', ''", "-0.0", "0.0"];
        let prints: std::collections::HashSet<_> = different.iter().map(|sql| one(sql)).collect();
        assert_eq!(prints.len(), different.len());
        assert_eq!(one("1, 'a', x'00', 2.5"), one("1, 'a', x'00', 2.5"));
    }
}
