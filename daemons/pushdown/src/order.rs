//! Where the two orders agree: sort keys that SQLite may sort by, so that the first rows there are the first rows here.

use crate::{
    column::{Column, Encoding},
    expr::Expr,
    oid::{self, Oid},
    rules::{Cmp, Family},
    ship::{Refusal, Shipper},
    statement::quote_literal,
    stored::column_sql,
};

/// How PostgreSQL sorts by a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// The B-tree operator family that says what is less.
    pub opfamily: Oid,
    /// The collation (0 for none).
    pub collation: Oid,
    /// Whether the greatest comes first.
    pub descending: bool,
    /// Whether NULLs come first.
    pub nulls_first: bool,
}

/// A sort key in SQLite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// What is sorted by.
    pub sql: String,
    /// The index of the column as which its values read back, if it is one.
    pub column: Option<usize>,
    /// Whether it is the segment column, the same in all rows of a segment.
    pub segment: bool,
    /// Whether rows of different segments sort by it as in PostgreSQL; rows of one segment always do.
    pub across: bool,
    /// Whether the greatest comes first.
    pub descending: bool,
    /// Whether NULLs come first.
    pub nulls_first: bool,
}

impl Key {
    /// As ORDER BY has it, of an expression or a column's name.
    pub(crate) fn sorting(&self, sql: &str) -> String {
        let direction = if self.descending { "DESC" } else { "ASC" };
        let nulls = if self.nulls_first { "FIRST" } else { "LAST" };
        format!("{sql} {direction} NULLS {nulls}")
    }
}

/// In which order a scan's rows come out of SQLite, and how many of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Sorted by; none for any order.
    pub keys: Vec<Key>,
    /// Which parameter of the map (counted from 1) holds how many rows are enough; none for all. It is the reduce's only
    /// parameter.
    pub limit: Option<usize>,
    /// Whether all rows are of one segment.
    pub single: bool,
    /// Whether the limit is known to be more rows than a worker should hold of each segment.
    pub many: bool,
}

impl Order {
    /// Whether a worker picks the first rows of its segments. Without an order any rows do, and come sooner as they are.
    pub fn reduces(&self) -> bool {
        self.limit.is_some()
            && !self.single
            && !self.many
            && !self.keys.is_empty()
            && self.keys.iter().all(|key| key.across)
    }
}

/// The operator families of B-trees under which the types of a family sort by default. `text_pattern_ops` sorts by bytes
/// whatever the collation.
fn sorts(opfamily: Oid, family: Family) -> bool {
    matches!(
        (opfamily, family),
        (424, Family::Bool)
            | (428, Family::Bytea)
            | (434, Family::Date | Family::Timestamp | Family::Timestamptz)
            | (1970, Family::Float)
            | (1976, Family::Int)
            // Only parts of dates and times are whole numbers of this family.
            | (1988, Family::Int)
            | (1994 | 2095, Family::Text)
            | (2968, Family::Uuid)
    )
}

/// `text_pattern_ops`
const PATTERN_OPS: Oid = 2095;

/// A sort key, if SQLite sorts by it as PostgreSQL does. By the `last` key of all, what PostgreSQL holds for equal may
/// come in any order.
///
/// # Errors
/// [`Refusal`] if the orders could differ; nothing of it is kept.
pub fn key(expr: &Expr, sort: Sort, last: bool, shipper: &mut Shipper<'_>) -> Result<Key, Refusal> {
    let mut column = match expr {
        Expr::Column(index) => Some(*index),
        _ => None,
    };
    let known = column.and_then(|index| shipper.scope.column(index)).cloned();
    let segment = known.as_ref().is_some_and(|c| c.segment);
    let (sql, family, text) = match shipper.scalar(expr) {
        Ok(scalar) => {
            // Sorted by in another encoding than it is stored in, the key does not read back as the column.
            column = column.filter(|_| known.as_ref().is_some_and(|c| c.encoding == scalar.encoding));
            (scalar.sql, scalar.family, is_text(scalar.encoding))
        }
        Err(refusal) => {
            let refined = known.filter(|_| last).and_then(|c| refined(&c)).ok_or(refusal)?;
            (refined.0, refined.1, false)
        }
    };
    if !sorts(sort.opfamily, family) {
        return Err(Refusal("the operator sorts otherwise"));
    }
    let bytewise = shipper.is_bytewise();
    let agrees = match family {
        Family::Text if sort.opfamily != PATTERN_OPS => shipper.collation_allows(Cmp::Lt, family, sort.collation),
        Family::Text => {
            shipper.rely_on_bytes();
            Ok(())
        }
        _ => Ok(()),
    };
    match segment {
        // SQLite does not sort by it.
        true => shipper.set_bytewise(bytewise),
        false => agrees.clone()?,
    }
    let sql = match text && !segment {
        true if column.is_none() => format!("({sql}) COLLATE BINARY"),
        true if !sql.ends_with(" COLLATE BINARY") => format!("{sql} COLLATE BINARY"),
        _ => sql,
    };
    Ok(Key { sql, column, segment, across: agrees.is_ok(), descending: sort.descending, nulls_first: sort.nulls_first })
}

/// Whether values of an encoding are texts in SQLite, which a column's collation could sort otherwise.
fn is_text(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::Text | Encoding::Iso8601 | Encoding::UuidText | Encoding::Input)
}

/// A column whose stored forms sort as their values do, but of which several may read as one value: a number that is
/// rounded or cut when it is read.
fn refined(column: &Column) -> Option<(String, Family)> {
    let family = match (column.type_oid, column.encoding) {
        (oid::FLOAT4, Encoding::Real) => Family::Float,
        (oid::DATE, Encoding::EpochS | Encoding::EpochMs | Encoding::EpochUs | Encoding::Julian) => Family::Date,
        (oid::TIMESTAMP, Encoding::EpochS | Encoding::EpochMs | Encoding::EpochUs | Encoding::Julian) => {
            Family::Timestamp
        }
        (oid::TIMESTAMPTZ, Encoding::EpochS | Encoding::EpochMs | Encoding::EpochUs | Encoding::Julian) => {
            Family::Timestamptz
        }
        _ => return None,
    };
    let c = column_sql(column);
    let expected = if family == Family::Float { "real" } else { "timestamp" };
    let sql = format!(
        "CASE WHEN typeof({c}) IN ('integer', 'real', 'null') THEN {c} ELSE trough_reject({}, {}, '{expected}', \
         typeof({c})) END",
        quote_literal(&column.table),
        quote_literal(&column.name),
    );
    Some((sql, family))
}
