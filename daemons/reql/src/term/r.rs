//! Where queries begin, under the names of RethinkDB's own drivers.

use super::{Expr, Node};
use crate::proto::term_type as t;

const NONE: [Expr; 0] = [];

/// A database.
pub fn db(name: impl Into<Expr>) -> Expr {
    Expr::term(t::DB, [name.into()])
}

/// Creates a database.
pub fn db_create(name: impl Into<Expr>) -> Expr {
    Expr::term(t::DB_CREATE, [name.into()])
}

/// Drops a database with all its tables.
pub fn db_drop(name: impl Into<Expr>) -> Expr {
    Expr::term(t::DB_DROP, [name.into()])
}

/// The names of all databases.
pub fn db_list() -> Expr {
    Expr::term(t::DB_LIST, NONE)
}

/// A table of the client's default database.
pub fn table(name: impl Into<Expr>) -> Expr {
    Expr::term(t::TABLE, [name.into()])
}

/// Creates a table in the client's default database.
pub fn table_create(name: impl Into<Expr>) -> Expr {
    Expr::term(t::TABLE_CREATE, [name.into()])
}

/// The names of the tables of the client's default database.
pub fn table_list() -> Expr {
    Expr::term(t::TABLE_LIST, NONE)
}

/// A value as a term.
pub fn expr(value: impl Into<Expr>) -> Expr {
    value.into()
}

/// An array of terms.
pub fn array(items: impl IntoIterator<Item = impl Into<Expr>>) -> Expr {
    Expr::term(t::MAKE_ARRAY, items)
}

/// An object of terms.
pub fn object<K: Into<String>, V: Into<Expr>>(fields: impl IntoIterator<Item = (K, V)>) -> Expr {
    Expr(Node::Object(fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect()))
}

/// Spreads an array over a term's arguments.
pub fn args(array: impl Into<Expr>) -> Expr {
    Expr::term(t::ARGS, [array.into()])
}

/// `then` where `test` is true, else `otherwise`.
pub fn branch(test: impl Into<Expr>, then: impl Into<Expr>, otherwise: impl Into<Expr>) -> Expr {
    Expr::term(t::BRANCH, [test.into(), then.into(), otherwise.into()])
}

/// The server's clock, the same throughout a query.
pub fn now() -> Expr {
    Expr::term(t::NOW, NONE)
}

/// A time from its ISO 8601 text.
pub fn iso8601(text: impl Into<Expr>) -> Expr {
    Expr::term(t::ISO8601, [text.into()])
}

/// A time from seconds since 1970.
pub fn epoch_time(seconds: impl Into<Expr>) -> Expr {
    Expr::term(t::EPOCH_TIME, [seconds.into()])
}

/// Raises a user error with this text.
pub fn error(message: impl Into<Expr>) -> Expr {
    Expr::term(t::ERROR, [message.into()])
}

/// In an update or merge: put this in place of the old value instead of merging the two.
pub fn literal(value: impl Into<Expr>) -> Expr {
    Expr::term(t::LITERAL, [value.into()])
}

/// Lower than every key.
pub fn minval() -> Expr {
    Expr::term(t::MINVAL, NONE)
}

/// Higher than every key.
pub fn maxval() -> Expr {
    Expr::term(t::MAXVAL, NONE)
}

/// Ascending order of a field, for ORDER_BY.
pub fn asc(field: impl Into<Expr>) -> Expr {
    Expr::term(t::ASC, [field.into()])
}

/// Descending order of a field, for ORDER_BY.
pub fn desc(field: impl Into<Expr>) -> Expr {
    Expr::term(t::DESC, [field.into()])
}

/// Calls `function` with one value, evaluated once.
pub fn with(value: impl Into<Expr>, function: impl FnOnce(Expr) -> Expr) -> Expr {
    Expr::term(t::FUNCALL, [Expr::function1(function), value.into()])
}

/// Parses a JSON text on the server.
pub fn json(text: impl Into<Expr>) -> Expr {
    Expr::term(t::JSON, [text.into()])
}

/// True where every term is.
pub fn all(tests: impl IntoIterator<Item = impl Into<Expr>>) -> Expr {
    Expr::term(t::AND, tests)
}

/// True where any term is.
pub fn any(tests: impl IntoIterator<Item = impl Into<Expr>>) -> Expr {
    Expr::term(t::OR, tests)
}
