//! Scalars: what SQLite computes for an expression, and how the value reads back.

use crate::{
    column::Encoding,
    expr::Expr,
    oid::Oid,
    rules::Family,
    ship::{Refusal, Shipper},
    stored::{checked, repr},
};

/// An expression as SQLite computes it. Its values are in canonical form: two that PostgreSQL holds for equal are equal in
/// SQLite, and numbers sort as PostgreSQL's do (texts by bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// SQLite's text, to be put into parentheses by who combines it.
    pub sql: String,
    /// With what it compares.
    pub family: Family,
    /// How its values are written in an answer.
    pub encoding: Encoding,
    /// Its type in PostgreSQL.
    pub type_oid: Oid,
}

impl Shipper<'_> {
    /// Prints a scalar of which every value means the same in SQLite, so that it may be compared, grouped by and aggregated
    /// there.
    ///
    /// # Errors
    /// [`Refusal`] if that cannot be shown; nothing of it is kept.
    pub fn scalar(&mut self, expr: &Expr) -> Result<Scalar, Refusal> {
        match expr {
            Expr::Column(index) => {
                let column = self.scope.column(*index).ok_or(Refusal("no such column"))?;
                let repr = repr(column).ok_or(Refusal("a column that does not compare alike"))?;
                let sql = checked(column)?;
                Ok(Scalar { sql, family: repr.family, encoding: repr.encoding, type_oid: column.type_oid })
            }
            _ => Err(Refusal("an expression without a rule")),
        }
    }
}
