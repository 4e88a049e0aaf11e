//! What a term's value can be besides a datum: databases, tables, slices and selections of them, functions, groups.

use std::sync::Arc;

use super::stream::Stream;
use super::{Env, Exec, LiteralOk, Shortcut, eval_flagged, eval_method, system};
use crate::datum::{Array, Datum, Object, key, print};
use crate::error::{QueryError, Result};
use crate::store::catalog::{Database, Table};
use crate::store::scan::{self, Range, Space};
use crate::term::{Call, Func};

/// A term's value.
pub(crate) enum Val {
    Datum(Datum),
    Db(Arc<Database>),
    Table(Arc<Table>),
    /// A part of a table in an order.
    Slice(Slice),
    /// Documents of a table.
    Selection(Arc<Table>, Stream),
    /// One document of a table, or none.
    Single(Single),
    Seq(Stream),
    Func(Closure),
    /// Groups in the order of their keys, each with its data.
    Grouped(Vec<(Datum, Datum)>),
}

/// A range of a table by its primary key or an index.
#[derive(Clone)]
pub(crate) struct Slice {
    pub(crate) table: Arc<Table>,
    /// The index's name, once BETWEEN or ORDER_BY has named one; the primary key's name counts.
    pub(crate) index: Option<Arc<str>>,
    /// The bounds, once BETWEEN has set them.
    pub(crate) range: Option<Range>,
    /// Set by ORDER_BY: whether it goes down.
    pub(crate) down: Option<bool>,
}

impl Slice {
    pub(crate) fn whole(table: Arc<Table>) -> Slice {
        Slice { table, index: None, range: None, down: None }
    }

    /// What the range is over.
    pub(crate) fn space(&self) -> Result<Space> {
        match &self.index {
            Some(name) if *name != self.table.primary_key => Ok(Space::Index(self.table.index(name)?.num)),
            _ => Ok(Space::Primary),
        }
    }

    pub(crate) fn stream(&self) -> Result<Stream> {
        Stream::slice(self)
    }
}

/// One document by its primary key.
pub(crate) struct Single {
    pub(crate) table: Arc<Table>,
    pub(crate) key: Datum,
    row: std::cell::OnceCell<Datum>,
}

impl Single {
    pub(crate) fn new(table: Arc<Table>, key: Datum) -> Single {
        Single { table, key, row: std::cell::OnceCell::new() }
    }

    /// A document that has been read already.
    pub(crate) fn from_row(table: Arc<Table>, row: Datum) -> Result<Single> {
        let key = row.field(&table.primary_key)?;
        Ok(Single { table, key, row: std::cell::OnceCell::from(row) })
    }

    /// The document, or null.
    pub(crate) fn row(&self, ex: &Exec) -> Result<Datum> {
        if let Some(row) = self.row.get() {
            return Ok(row.clone());
        }
        // No document has a bound for a key.
        if matches!(self.key, Datum::MinVal | Datum::MaxVal) {
            return Ok(Datum::Null);
        }
        let key = key::primary(&self.key)?;
        let row = match system::kind(&self.table) {
            Some(kind) => system::get(ex, kind, &self.key)?,
            None => ex.read(|connection| scan::get(connection, self.table.num, &key))?,
        };
        Ok(self.row.get_or_init(|| row.unwrap_or(Datum::Null)).clone())
    }
}

/// A function with the variables around it.
#[derive(Clone)]
pub(crate) struct Closure {
    pub(crate) func: Arc<Func>,
    pub(crate) env: Env,
}

impl Closure {
    pub(crate) fn call(&self, ex: &Exec, args: &[Datum], literal_ok: LiteralOk) -> Result<Val> {
        let params = &self.func.params;
        // A function of no parameters takes any arguments, as some drivers rely on.
        if params.is_empty() {
            return eval_flagged(ex, &self.func.body, &self.env, literal_ok);
        }
        if params.len() != args.len() {
            let plural = |count: usize| if count == 1 { "" } else { "s" };
            return Err(QueryError::logic(format!(
                "Expected function with {} argument{} but found function with {} argument{}.",
                args.len(),
                plural(args.len()),
                params.len(),
                plural(params.len())
            )));
        }
        let mut env = self.env.clone();
        for (id, value) in params.iter().zip(args) {
            env = env.bind(*id, value.clone());
        }
        eval_flagged(ex, &self.func.body, &env, literal_ok)
    }
}

/// Anything that can be called with values.
#[derive(Clone)]
pub(crate) enum Callable {
    Closure(Closure),
    /// Always the same.
    Constant(Datum),
    /// The field of that name.
    Field(Datum),
    /// Whether the argument equals this.
    Equals(Datum),
    /// A term with the argument in place of its first.
    Method(Arc<Call>, Env),
}

impl Callable {
    pub(crate) fn call(&self, ex: &Exec, args: &[Datum]) -> Result<Val> {
        self.call_flagged(ex, args, false)
    }

    pub(crate) fn call_flagged(&self, ex: &Exec, args: &[Datum], literal_ok: LiteralOk) -> Result<Val> {
        let first = || args.first().cloned().unwrap_or(Datum::Null);
        match self {
            Callable::Closure(closure) => closure.call(ex, args, literal_ok),
            Callable::Constant(value) => Ok(Val::Datum(value.clone())),
            Callable::Field(name) => super::fields::bracket_datum(ex, first(), name),
            Callable::Equals(value) => Ok(Val::Datum(Datum::Bool(first() == *value))),
            Callable::Method(call, env) => eval_method(ex, call, env, first()),
        }
    }

    pub(crate) fn datum(&self, ex: &Exec, args: &[Datum]) -> Result<Datum> {
        self.call(ex, args)?.datum(ex)
    }

    /// How many arguments it wants; none: any.
    pub(crate) fn arity(&self) -> Option<usize> {
        match self {
            Callable::Closure(closure) => Some(closure.func.params.len()).filter(|count| *count > 0),
            _ => None,
        }
    }

    pub(crate) fn deterministic(&self, now_ok: bool) -> bool {
        match self {
            Callable::Closure(closure) => crate::term::deterministic(&closure.func.body, now_ok),
            Callable::Method(call, _) => call.args[1..].iter().all(|arg| crate::term::deterministic(arg, now_ok)),
            _ => true,
        }
    }
}

impl From<Datum> for Val {
    fn from(datum: Datum) -> Self {
        Val::Datum(datum)
    }
}

impl Val {
    /// A sequence; one that is an array in disguise becomes a datum.
    pub(crate) fn seq(ex: &Exec, stream: Stream) -> Result<Val> {
        if stream.array { Ok(Val::Datum(stream.collect(ex)?)) } else { Ok(Val::Seq(stream)) }
    }

    pub(crate) fn datum(self, ex: &Exec) -> Result<Datum> {
        match self {
            Val::Datum(datum) => Ok(datum),
            Val::Single(single) => single.row(ex),
            other => Err(other.wrong(ex, "DATUM")),
        }
    }

    /// The value as a condition.
    pub(crate) fn truthy(&self, ex: &Exec) -> Result<bool> {
        match self {
            Val::Datum(datum) => Ok(datum.truthy()),
            Val::Single(single) => Ok(single.row(ex)?.truthy()),
            other => Err(other.wrong(ex, "DATUM")),
        }
    }

    pub(crate) fn is_datum(&self) -> bool {
        matches!(self, Val::Datum(_) | Val::Single(_))
    }

    pub(crate) fn table(self, ex: &Exec) -> Result<Arc<Table>> {
        match self {
            Val::Table(table) => Ok(table),
            other => Err(other.wrong(ex, "TABLE")),
        }
    }

    pub(crate) fn slice(self, ex: &Exec) -> Result<Slice> {
        match self {
            Val::Table(table) => Ok(Slice::whole(table)),
            Val::Slice(slice) => Ok(slice),
            other => Err(other.wrong(ex, "TABLE_SLICE")),
        }
    }

    pub(crate) fn db(self, ex: &Exec) -> Result<Arc<Database>> {
        match self {
            Val::Db(db) => Ok(db),
            other => Err(other.wrong(ex, "DATABASE")),
        }
    }

    /// The value as a sequence.
    pub(crate) fn stream(self, ex: &Exec) -> Result<Stream> {
        match self {
            Val::Seq(stream) | Val::Selection(_, stream) => Ok(stream),
            Val::Table(table) => Slice::whole(table).stream(),
            Val::Slice(slice) => slice.stream(),
            Val::Datum(Datum::Array(items)) => Ok(Stream::array(items)),
            Val::Datum(other) => Err(other.type_error(format!("Cannot convert {} to SEQUENCE", other.type_name()))),
            Val::Single(single) => match single.row(ex)? {
                Datum::Array(items) => Ok(Stream::array(items)),
                _ => Err(Val::Single(single).wrong(ex, "SEQUENCE")),
            },
            other => Err(other.wrong(ex, "SEQUENCE")),
        }
    }

    /// The value as a sequence, with the table whose documents it holds, if it does.
    pub(crate) fn selection(self, ex: &Exec) -> Result<(Option<Arc<Table>>, Stream)> {
        match self {
            Val::Selection(table, stream) => Ok((Some(table), stream)),
            Val::Table(table) => Ok((Some(table.clone()), Slice::whole(table).stream()?)),
            Val::Slice(slice) => Ok((Some(slice.table.clone()), slice.stream()?)),
            other => Ok((None, other.stream(ex)?)),
        }
    }

    /// A selection if there is a table, else a sequence.
    pub(crate) fn from_selection(ex: &Exec, table: Option<Arc<Table>>, stream: Stream) -> Result<Val> {
        match table {
            Some(table) => Ok(Val::Selection(table, stream)),
            None => Val::seq(ex, stream),
        }
    }

    pub(crate) fn callable(self, ex: &Exec, shortcut: Shortcut) -> Result<Callable> {
        match (self, shortcut) {
            (Val::Func(closure), _) => Ok(Callable::Closure(closure)),
            (value @ (Val::Datum(_) | Val::Single(_)), Shortcut::Constant) => Ok(Callable::Constant(value.datum(ex)?)),
            (value @ (Val::Datum(_) | Val::Single(_)), Shortcut::Field) => Ok(Callable::Field(value.datum(ex)?)),
            (other, _) => Err(other.wrong(ex, "FUNCTION")),
        }
    }

    /// The kind of value, as messages name it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Val::Datum(_) => "DATUM",
            Val::Db(_) => "DATABASE",
            Val::Table(_) => "TABLE",
            Val::Slice(_) => "TABLE_SLICE",
            Val::Selection(..) => "SELECTION",
            Val::Single(_) => "SINGLE_SELECTION",
            Val::Seq(_) => "SEQUENCE",
            Val::Func(_) => "FUNCTION",
            Val::Grouped(_) => "GROUPED_DATA",
        }
    }

    /// The type's name as TYPE_OF gives it.
    pub(crate) fn type_name(&self, _ex: &Exec) -> Result<&'static str> {
        Ok(match self {
            Val::Datum(datum) => datum.type_name(),
            Val::Db(_) => "DB",
            Val::Selection(_, stream) if stream.array => "SELECTION<ARRAY>",
            Val::Selection(..) => "SELECTION<STREAM>",
            Val::Single(_) => "SELECTION<OBJECT>",
            Val::Seq(_) => "STREAM",
            other => other.kind(),
        })
    }

    /// The error for a value of the wrong kind.
    pub(crate) fn wrong(&self, ex: &Exec, wanted: &str) -> QueryError {
        let shown = match self.show(ex) {
            Ok(shown) => shown,
            Err(error) => return error,
        };
        let message = format!("Expected type {wanted} but found {}:\n{shown}", self.kind());
        match self {
            Val::Datum(datum) => datum.type_error(message),
            Val::Single(single) => single.row(ex).map_or_else(|error| error, |row| row.type_error(message)),
            _ => QueryError::logic(message),
        }
    }

    /// The value as messages show it.
    pub(crate) fn show(&self, ex: &Exec) -> Result<String> {
        Ok(match self {
            Val::Datum(datum) => print::pretty(datum),
            Val::Single(single) => print::pretty(&single.row(ex)?),
            Val::Db(db) => format!("db(\"{}\")", db.name),
            Val::Table(table) => format!("table(\"{}\")", table.name),
            Val::Slice(slice) => format!("SELECTION ON table({})", slice.table.name),
            Val::Selection(table, _) => format!("SELECTION ON table({})", table.name),
            other => format!("VALUE {}", other.kind()),
        })
    }

    /// Grouped data as a client sees it.
    pub(crate) fn grouped_datum(groups: Vec<(Datum, Datum)>) -> Datum {
        let pairs = groups.into_iter().map(|(key, data)| Datum::array(vec![key, data])).collect();
        let mut object = Object::with_capacity(2);
        object.set("$reql_type$", Datum::from("GROUPED_DATA"));
        object.set("data", Datum::array(pairs));
        object.into()
    }
}

/// The elements of an array, by reference.
pub(crate) type Items = Arc<Array>;
