//! What may be shipped from PostgreSQL to SQLite, and how it prints. Pure: no pgrx, no network.
//!
//! The extension turns PostgreSQL's node trees into [`Expr`], asks [`Shipper`] whether a condition means the same in
//! SQLite, and gets SQL with bound parameters back. What is not in the rule tables ([`rules`]) is not shipped; the
//! extension then evaluates it itself. Decisions go by operator and function OID and by how a column is stored
//! ([`Column`]), never by name.

pub mod aggregate;
mod calendar;
pub mod column;
mod compare;
pub mod expr;
pub mod fit;
mod functions;
pub mod grouping;
pub mod join;
mod limits;
mod lists;
pub mod oid;
mod operators;
pub mod order;
pub mod parts;
pub mod pattern;
mod predicate;
pub mod regex;
pub mod rules;
pub mod scalar;
pub mod scope;
mod search;
pub mod segment;
pub mod serial;
pub mod ship;
pub mod statement;
mod stored;
pub mod time;

/// The SQLite that the workers bundle and the rules are tested against. tests/fdw holds it against a worker's own answer.
pub const SQLITE_VERSION: &str = "3.51.3";

pub use aggregate::{Aggregate, Shape, StateKind};
pub use column::{Column, Encoding, InvalidText, Storage, Table};
pub use expr::{BoolTest, Expr, Literal, Val};
pub use grouping::Grouping;
pub use limits::Spent;
pub use order::Order;
pub use scalar::Scalar;
pub use scope::Scope;
pub use segment::Keys;
pub use ship::{Collation, Encode, Param, Refusal, Shipped, Shipper};
pub use statement::{Statement, quote_identifier};
