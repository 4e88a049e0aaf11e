//! Group keys.

use crate::{
    column::{Column, Encoding, Storage},
    expr::Expr,
    oid::{self, Oid},
    rules::Cmp,
    scalar::Scalar,
    ship::{Refusal, Shipper},
    statement::quote_literal,
    stored::column_sql,
};

/// A printed group key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// SQLite's text.
    pub sql: String,
    /// Its type in PostgreSQL.
    pub type_oid: Oid,
    /// How its values are written in an answer.
    pub encoding: Encoding,
    /// Whether equal values have one form.
    pub canonical: bool,
}

impl From<Scalar> for Key {
    fn from(scalar: Scalar) -> Self {
        Self { sql: scalar.sql, type_oid: scalar.type_oid, encoding: scalar.encoding, canonical: true }
    }
}

/// A group key, printed so that what SQLite takes for one group PostgreSQL does too. With `finalized`, PostgreSQL groups
/// again by decoded value, so that different stored forms of one value may stay apart.
///
/// # Errors
/// [`Refusal`] if SQLite could put two values into one group that PostgreSQL keeps apart.
pub fn group_key(key: &Expr, collation: Oid, finalized: bool, shipper: &mut Shipper<'_>) -> Result<Key, Refusal> {
    match (shipper.scalar(key), key) {
        (Ok(scalar), _) => {
            // Under a nondeterministic collation PostgreSQL merges what SQLite keeps apart; it does so when it groups again.
            if !finalized {
                shipper.collation_allows(Cmp::Eq, scalar.family, collation)?;
            }
            Ok(scalar.into())
        }
        (Err(refusal), Expr::Column(index)) if finalized => {
            let column = shipper.scope.column(*index).ok_or(Refusal("no such column"))?;
            stored_forms(column, refusal)
        }
        (Err(refusal), _) => Err(refusal),
    }
}

/// The stored forms of a column. SQLite takes only an integer and a real of one value for equal, so that these must read
/// alike, and what PostgreSQL would refuse must be refused.
fn stored_forms(column: &Column, refusal: Refusal) -> Result<Key, Refusal> {
    let c = column_sql(column);
    let only = |classes: &str, expected: &str| {
        format!(
            "CASE WHEN typeof({c}) IN ({classes}) THEN {c} ELSE trough_reject({}, {}, '{expected}', typeof({c})) END",
            quote_literal(&column.table),
            quote_literal(&column.name),
        )
    };
    let sql = match (column.type_oid, column.encoding) {
        (_, Encoding::UuidText) => only("'text', 'null'", "uuid"),
        (_, Encoding::Iso8601) => only("'text', 'null'", "timestamp"),
        (_, Encoding::EpochS | Encoding::EpochMs | Encoding::EpochUs | Encoding::Julian) => {
            only("'integer', 'real', 'null'", "timestamp")
        }
        (oid::FLOAT4, Encoding::Real) => only("'integer', 'real', 'null'", "real"),
        (_, Encoding::Text) => only("'text', 'null'", "text"),
        (oid::NUMERIC, Encoding::Input) => format!("{c} COLLATE BINARY"),
        (_, Encoding::Input) if column.storage == Storage::Text => format!("{c} COLLATE BINARY"),
        _ => return Err(refusal),
    };
    Ok(Key { sql, type_oid: column.type_oid, encoding: column.encoding, canonical: false })
}
