//! What a worker's SQLite takes: an expression beyond its limits is evaluated by PostgreSQL, which has none.

use crate::ship::Refusal;

/// Bytes of one printed expression. A worker takes statements of a mebibyte (`max_sql_bytes`).
const MAX_BYTES: usize = 128 * 1024;
/// How deep parentheses may nest. SQLite allows trees of depth 1000 (`max_expr_depth`); no printed form takes more than
/// three levels for one parenthesis.
const MAX_DEPTH: usize = 250;
/// Operands that AND, OR and `||` join in a row; a row is as deep as it is long.
pub(crate) const ROW: usize = 64;
/// Values that one condition binds. A statement takes 32,766 (`max_variables`).
pub(crate) const MAX_VALUES: usize = 4096;
/// Among so many values, the first ones, equal ones are looked for.
pub(crate) const SHARED: usize = 256;
/// Arguments of one function (SQLite takes 127 or more).
pub(crate) const MAX_ARGUMENTS: usize = 100;

/// What the conditions of one statement take together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    bytes: usize,
    values: usize,
}

impl Spent {
    /// Adds a condition with so many values, if there is room for it: half of what a statement may be, so that the other
    /// half is left for what is selected.
    pub fn add(&mut self, sql: &str, values: usize) -> bool {
        const BYTES: usize = 512 * 1024;
        const VALUES: usize = 16_000;
        let (bytes, values) = (self.bytes + sql.len(), self.values + values);
        let fits = bytes <= BYTES && values <= VALUES;
        if fits {
            *self = Self { bytes, values };
        }
        fits
    }
}

/// Whether SQLite takes an expression.
pub(crate) fn check(sql: &str) -> Result<(), Refusal> {
    if sql.len() > MAX_BYTES {
        return Err(Refusal("the expression is too long for SQLite"));
    }
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in sql.bytes() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > MAX_DEPTH { Err(Refusal("the expression is too deep for SQLite")) } else { Ok(()) }
}

/// Operands joined by an associative operator, as a tree where they are many.
pub(crate) fn joined(mut parts: Vec<String>, operator: &str) -> String {
    while parts.len() > ROW {
        parts = parts.chunks(ROW).map(|row| format!("({})", row.join(operator))).collect();
    }
    parts.join(operator)
}
