//! The methods of terms that read, under the names of RethinkDB's own drivers.

use super::Expr;
use crate::proto::term_type as t;

/// Databases, tables and indexes.
impl Expr {
    /// A table of this database.
    pub fn table(self, name: impl Into<Expr>) -> Expr {
        Expr::term(t::TABLE, [self, name.into()])
    }

    /// Creates a table in this database.
    pub fn table_create(self, name: impl Into<Expr>) -> Expr {
        Expr::term(t::TABLE_CREATE, [self, name.into()])
    }

    /// Drops a table of this database.
    pub fn table_drop(self, name: impl Into<Expr>) -> Expr {
        Expr::term(t::TABLE_DROP, [self, name.into()])
    }

    /// The names of this database's tables.
    pub fn table_list(self) -> Expr {
        Expr::term(t::TABLE_LIST, [self])
    }

    /// Creates a secondary index on the field of the same name.
    pub fn index_create(self, name: impl Into<Expr>) -> Expr {
        Expr::term(t::INDEX_CREATE, [self, name.into()])
    }

    /// Creates a secondary index on what a function gives for each document.
    pub fn index_create_fn(self, name: impl Into<Expr>, function: impl FnOnce(Expr) -> Expr) -> Expr {
        Expr::term(t::INDEX_CREATE, [self, name.into(), Expr::function1(function)])
    }

    /// Drops a secondary index.
    pub fn index_drop(self, name: impl Into<Expr>) -> Expr {
        Expr::term(t::INDEX_DROP, [self, name.into()])
    }

    /// The names of this table's secondary indexes.
    pub fn index_list(self) -> Expr {
        Expr::term(t::INDEX_LIST, [self])
    }

    /// The state of each secondary index.
    pub fn index_status(self) -> Expr {
        Expr::term(t::INDEX_STATUS, [self])
    }

    /// Waits until every secondary index of this table is ready.
    pub fn index_wait(self) -> Expr {
        Expr::term(t::INDEX_WAIT, [self])
    }

    /// Waits until these secondary indexes are ready.
    pub fn index_wait_for(self, names: impl IntoIterator<Item = impl Into<Expr>>) -> Expr {
        self.with_all(t::INDEX_WAIT, names)
    }

    /// Waits until this table, or every table of this database, is ready.
    pub fn wait(self) -> Expr {
        Expr::term(t::WAIT, [self])
    }

    /// The configuration of this table or database.
    pub fn config(self) -> Expr {
        Expr::term(t::CONFIG, [self])
    }

    /// The state of this table.
    pub fn status(self) -> Expr {
        Expr::term(t::STATUS, [self])
    }

    /// Makes this table's soft writes durable.
    pub fn sync(self) -> Expr {
        Expr::term(t::SYNC, [self])
    }
}

/// Selections.
impl Expr {
    /// The document with this primary key, or null.
    pub fn get(self, key: impl Into<Expr>) -> Expr {
        Expr::term(t::GET, [self, key.into()])
    }

    /// The documents with any of these keys; of a secondary index with [`index`](Expr::index).
    pub fn get_all(self, keys: impl IntoIterator<Item = impl Into<Expr>>) -> Expr {
        self.with_all(t::GET_ALL, keys)
    }

    /// The documents from `lower` to `upper`, by default without `upper`.
    pub fn between(self, lower: impl Into<Expr>, upper: impl Into<Expr>) -> Expr {
        Expr::term(t::BETWEEN, [self, lower.into(), upper.into()])
    }

    /// The rows for which the function is true; a row that lacks a field it reads is dropped.
    pub fn filter(self, function: impl FnOnce(Expr) -> Expr) -> Expr {
        Expr::term(t::FILTER, [self, Expr::function1(function)])
    }

    /// The rows that have these fields with these values.
    pub fn filter_obj(self, fields: impl Into<Expr>) -> Expr {
        Expr::term(t::FILTER, [self, fields.into()])
    }

    /// The rows in the order of these fields, each a name, [`asc`](super::r::asc) or [`desc`](super::r::desc).
    pub fn order_by(self, fields: impl IntoIterator<Item = impl Into<Expr>>) -> Expr {
        self.with_all(t::ORDER_BY, fields)
    }

    /// At most so many rows.
    pub fn limit(self, rows: impl Into<Expr>) -> Expr {
        Expr::term(t::LIMIT, [self, rows.into()])
    }

    /// Without the first so many rows.
    pub fn skip(self, rows: impl Into<Expr>) -> Expr {
        Expr::term(t::SKIP, [self, rows.into()])
    }

    /// The row at this position, counted from 0; from the end if negative.
    pub fn nth(self, position: impl Into<Expr>) -> Expr {
        Expr::term(t::NTH, [self, position.into()])
    }

    /// The number of rows.
    pub fn count(self) -> Expr {
        Expr::term(t::COUNT, [self])
    }

    /// Whether there is no row.
    pub fn is_empty(self) -> Expr {
        Expr::term(t::IS_EMPTY, [self])
    }

    /// Each value once.
    pub fn distinct(self) -> Expr {
        Expr::term(t::DISTINCT, [self])
    }

    /// A changefeed.
    pub fn changes(self) -> Expr {
        Expr::term(t::CHANGES, [self])
    }

    /// What this is.
    pub fn info(self) -> Expr {
        Expr::term(t::INFO, [self])
    }
}

/// Rows and values.
#[allow(clippy::should_implement_trait)] // They are ReQL's names, and build terms.
impl Expr {
    /// A field of an object, or of each row; an element of an array.
    pub fn g(self, field: impl Into<Expr>) -> Expr {
        Expr::term(t::BRACKET, [self, field.into()])
    }

    /// A field of an object, or of each row that has it.
    pub fn get_field(self, field: impl Into<Expr>) -> Expr {
        Expr::term(t::GET_FIELD, [self, field.into()])
    }

    /// Whether the fields are there and not null; of a sequence: the rows where they are.
    pub fn has_fields(self, fields: impl IntoIterator<Item = impl Into<Expr>>) -> Expr {
        self.with_all(t::HAS_FIELDS, fields)
    }

    /// Only these fields.
    pub fn pluck(self, fields: impl IntoIterator<Item = impl Into<Expr>>) -> Expr {
        self.with_all(t::PLUCK, fields)
    }

    /// All but these fields.
    pub fn without(self, fields: impl IntoIterator<Item = impl Into<Expr>>) -> Expr {
        self.with_all(t::WITHOUT, fields)
    }

    /// The object with the other's fields put over its own.
    pub fn merge(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::MERGE, [self, other.into()])
    }

    /// Each object with the fields that the function gives for it put over its own.
    pub fn merge_fn(self, function: impl FnOnce(Expr) -> Expr) -> Expr {
        Expr::term(t::MERGE, [self, Expr::function1(function)])
    }

    /// What the function gives for each row.
    pub fn map(self, function: impl FnOnce(Expr) -> Expr) -> Expr {
        Expr::term(t::MAP, [self, Expr::function1(function)])
    }

    /// What the function gives for each row, an array each, in one sequence.
    pub fn concat_map(self, function: impl FnOnce(Expr) -> Expr) -> Expr {
        Expr::term(t::CONCAT_MAP, [self, Expr::function1(function)])
    }

    /// All rows combined by the function, two at a time.
    pub fn reduce(self, function: impl FnOnce(Expr, Expr) -> Expr) -> Expr {
        Expr::term(t::REDUCE, [self, Expr::function2(function)])
    }

    /// Whether the value is among the rows.
    pub fn contains(self, value: impl Into<Expr>) -> Expr {
        Expr::term(t::CONTAINS, [self, value.into()])
    }

    /// Whether the function is true for any row.
    pub fn contains_fn(self, function: impl FnOnce(Expr) -> Expr) -> Expr {
        Expr::term(t::CONTAINS, [self, Expr::function1(function)])
    }

    /// The sum of a field.
    pub fn sum(self, field: impl Into<Expr>) -> Expr {
        Expr::term(t::SUM, [self, field.into()])
    }

    /// The row with the least value of a field.
    pub fn min(self, field: impl Into<Expr>) -> Expr {
        Expr::term(t::MIN, [self, field.into()])
    }

    /// The row with the greatest value of a field.
    pub fn max(self, field: impl Into<Expr>) -> Expr {
        Expr::term(t::MAX, [self, field.into()])
    }

    /// Groups by a field; what follows is done for each group.
    pub fn group(self, field: impl Into<Expr>) -> Expr {
        Expr::term(t::GROUP, [self, field.into()])
    }

    /// Groups as an array of `{group, reduction}`.
    pub fn ungroup(self) -> Expr {
        Expr::term(t::UNGROUP, [self])
    }

    /// The array with a value at its end.
    pub fn append(self, value: impl Into<Expr>) -> Expr {
        Expr::term(t::APPEND, [self, value.into()])
    }

    /// The array, without duplicates, with the value in it.
    pub fn set_insert(self, value: impl Into<Expr>) -> Expr {
        Expr::term(t::SET_INSERT, [self, value.into()])
    }

    /// The array, without duplicates, without the values.
    pub fn set_difference(self, values: impl Into<Expr>) -> Expr {
        Expr::term(t::SET_DIFFERENCE, [self, values.into()])
    }

    /// Both sequences.
    pub fn union(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::UNION, [self, other.into()])
    }

    /// The names of an object's fields.
    pub fn keys(self) -> Expr {
        Expr::term(t::KEYS, [self])
    }

    /// The values of an object's fields.
    pub fn values(self) -> Expr {
        Expr::term(t::VALUES, [self])
    }

    /// The value to take where this is null or missing.
    pub fn default(self, value: impl Into<Expr>) -> Expr {
        Expr::term(t::DEFAULT, [self, value.into()])
    }

    /// Converted to another type, such as `array`, `string` or `number`.
    pub fn coerce_to(self, kind: impl Into<Expr>) -> Expr {
        Expr::term(t::COERCE_TO, [self, kind.into()])
    }

    /// The name of its type.
    pub fn type_of(self) -> Expr {
        Expr::term(t::TYPE_OF, [self])
    }

    /// The first match of an RE2 regular expression, or null.
    pub fn match_(self, pattern: impl Into<Expr>) -> Expr {
        Expr::term(t::MATCH, [self, pattern.into()])
    }

    /// The parts of a text between separators.
    pub fn split(self, separator: impl Into<Expr>) -> Expr {
        Expr::term(t::SPLIT, [self, separator.into()])
    }

    /// A time as seconds since 1970.
    pub fn to_epoch_time(self) -> Expr {
        Expr::term(t::TO_EPOCH_TIME, [self])
    }

    /// A time as ISO 8601 text.
    pub fn to_iso8601(self) -> Expr {
        Expr::term(t::TO_ISO8601, [self])
    }

    /// The value as JSON text.
    pub fn to_json_string(self) -> Expr {
        Expr::term(t::TO_JSON_STRING, [self])
    }
}

/// Comparison, logic and arithmetic.
#[allow(clippy::should_implement_trait)] // They are ReQL's names, and build terms.
impl Expr {
    /// Equal.
    pub fn eq(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::EQ, [self, other.into()])
    }

    /// Not equal.
    pub fn ne(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::NE, [self, other.into()])
    }

    /// Less.
    pub fn lt(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::LT, [self, other.into()])
    }

    /// Less or equal.
    pub fn le(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::LE, [self, other.into()])
    }

    /// Greater.
    pub fn gt(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::GT, [self, other.into()])
    }

    /// Greater or equal.
    pub fn ge(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::GE, [self, other.into()])
    }

    /// True if both are.
    pub fn and(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::AND, [self, other.into()])
    }

    /// True if either is.
    pub fn or(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::OR, [self, other.into()])
    }

    /// Sum; texts and arrays joined.
    pub fn add(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::ADD, [self, other.into()])
    }

    /// Difference; of two times in seconds.
    pub fn sub(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::SUB, [self, other.into()])
    }

    /// Product.
    pub fn mul(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::MUL, [self, other.into()])
    }

    /// Quotient.
    pub fn div(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::DIV, [self, other.into()])
    }

    /// Remainder of whole numbers.
    pub fn rem(self, other: impl Into<Expr>) -> Expr {
        Expr::term(t::MOD, [self, other.into()])
    }

    /// True if this is false or null.
    pub fn not(self) -> Expr {
        Expr::term(t::NOT, [self])
    }

    /// The greatest whole number not above this.
    pub fn floor(self) -> Expr {
        Expr::term(t::FLOOR, [self])
    }
}

impl Expr {
    fn with_all(self, kind: u64, args: impl IntoIterator<Item = impl Into<Expr>>) -> Expr {
        Expr::term(kind, std::iter::once(self).chain(args.into_iter().map(Into::into)))
    }
}
