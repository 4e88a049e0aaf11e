//! Functions by OID, as in `pg_proc.dat`, and what they are in SQLite.

use crate::{
    expr::Expr,
    oid::Oid,
    scalar::Term,
    ship::{Refusal, Shipper},
};

impl Shipper<'_> {
    /// A function call.
    pub(crate) fn call(&mut self, _function: Oid, _collation: Oid, _args: &[Expr]) -> Result<Term, Refusal> {
        Err(Refusal("a function without a rule"))
    }
}
