//! Terms: [`Expr`] is built by methods and the functions of [`r`], and serialises to what RethinkDB's own drivers send.

mod build;
pub mod r;
mod write;

use std::sync::atomic::{AtomicU64, Ordering};

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

use crate::proto::term_type as t;

/// A ReQL term. Values convert into it: JSON arrays and objects become terms as they do in RethinkDB's own drivers.
#[derive(Clone, Debug)]
pub struct Expr(Node);

#[derive(Clone, Debug)]
enum Node {
    /// A value.
    Datum(Value),
    /// An object with terms in it.
    Object(Vec<(String, Expr)>),
    /// A term with its arguments and options.
    Term { kind: u64, args: Vec<Expr>, options: Vec<(String, Expr)> },
    /// A term in the form that travels.
    Wire(Value),
}

/// Numbers variables, so that no two functions of a query share one.
static NEXT_VARIABLE: AtomicU64 = AtomicU64::new(1);

impl Expr {
    /// Any term by its number in [`crate::proto::term_type`].
    pub fn term(kind: u64, args: impl IntoIterator<Item = impl Into<Expr>>) -> Expr {
        Expr(Node::Term { kind, args: args.into_iter().map(Into::into).collect(), options: Vec::new() })
    }

    /// A term that is already in the form that travels, such as `[15, ["t"]]`.
    pub fn wire(term: Value) -> Expr {
        Expr(Node::Wire(term))
    }

    /// Sets an option of the term; setting it again replaces it. A server refuses options that its term does not have.
    pub fn opt(self, key: &str, value: impl Into<Expr>) -> Expr {
        let value = value.into();
        let (kind, args, mut options) = match self.0 {
            Node::Term { kind, args, options } => (kind, args, options),
            // A datum has no options; as the term DATUM it carries them to the server, which says so.
            other => (t::DATUM, vec![Expr(other)], Vec::new()),
        };
        match options.iter_mut().find(|(name, _)| name == key) {
            Some(option) => option.1 = value,
            None => options.push((key.to_owned(), value)),
        }
        Expr(Node::Term { kind, args, options })
    }

    /// Whether running it twice does the same as running it once: it holds no term that writes or reaches out.
    pub fn is_read(&self) -> bool {
        match &self.0 {
            Node::Datum(_) => true,
            Node::Object(fields) => fields.iter().all(|(_, value)| value.is_read()),
            Node::Term { kind, args, options } => {
                !writes(*kind) && args.iter().all(Expr::is_read) && options.iter().all(|(_, value)| value.is_read())
            }
            Node::Wire(term) => wire_is_read(term),
        }
    }

    fn function1(body: impl FnOnce(Expr) -> Expr) -> Expr {
        let [a] = variables();
        Expr::function(&[a], body(variable(a)))
    }

    fn function2(body: impl FnOnce(Expr, Expr) -> Expr) -> Expr {
        let [a, b] = variables();
        Expr::function(&[a, b], body(variable(a), variable(b)))
    }

    fn function3(body: impl FnOnce(Expr, Expr, Expr) -> Expr) -> Expr {
        let [a, b, c] = variables();
        Expr::function(&[a, b, c], body(variable(a), variable(b), variable(c)))
    }

    fn function(variables: &[u64], body: Expr) -> Expr {
        Expr::term(t::FUNC, [Expr::from(Value::from(variables.to_vec())), body])
    }
}

fn variables<const N: usize>() -> [u64; N] {
    let first = NEXT_VARIABLE.fetch_add(N as u64, Ordering::Relaxed);
    std::array::from_fn(|at| first + at as u64)
}

fn variable(number: u64) -> Expr {
    Expr::term(t::VAR, [number])
}

fn writes(kind: u64) -> bool {
    matches!(
        kind,
        t::INSERT
            | t::UPDATE
            | t::REPLACE
            | t::DELETE
            | t::FOR_EACH
            | t::DB_CREATE
            | t::DB_DROP
            | t::TABLE_CREATE
            | t::TABLE_DROP
            | t::INDEX_CREATE
            | t::INDEX_DROP
            | t::INDEX_RENAME
            | t::RECONFIGURE
            | t::REBALANCE
            | t::GRANT
            | t::SET_WRITE_HOOK
            | t::HTTP
            | t::JAVASCRIPT
    )
}

fn wire_is_read(term: &Value) -> bool {
    match term {
        Value::Array(parts) => {
            !parts.first().and_then(Value::as_u64).is_some_and(writes)
                && parts.iter().skip(1).all(|part| match part {
                    Value::Array(args) => args.iter().all(wire_is_read),
                    other => wire_is_read(other),
                })
        }
        Value::Object(fields) => fields.values().all(wire_is_read),
        _ => true,
    }
}

/// A value whose arrays are written as MAKE_ARRAY.
struct Datum<'a>(&'a Value);

impl Serialize for Datum<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => {
                let mut term = out.serialize_seq(Some(2))?;
                term.serialize_element(&t::MAKE_ARRAY)?;
                term.serialize_element(&items.iter().map(Datum).collect::<Vec<_>>())?;
                term.end()
            }
            Value::Object(fields) => out.collect_map(fields.iter().map(|(name, value)| (name, Datum(value)))),
            plain => plain.serialize(out),
        }
    }
}

impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Node::Datum(value) => Datum(value).serialize(out),
            Node::Wire(term) => term.serialize(out),
            Node::Object(fields) => {
                let mut object = out.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    object.serialize_entry(name, value)?;
                }
                object.end()
            }
            Node::Term { kind, args, options } => {
                let mut term = out.serialize_seq(None)?;
                term.serialize_element(kind)?;
                term.serialize_element(args)?;
                if !options.is_empty() {
                    term.serialize_element(&Options(options))?;
                }
                term.end()
            }
        }
    }
}

struct Options<'a>(&'a [(String, Expr)]);

impl Serialize for Options<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl From<Value> for Expr {
    fn from(value: Value) -> Self {
        Expr(Node::Datum(value))
    }
}

impl From<&Expr> for Expr {
    fn from(expr: &Expr) -> Self {
        expr.clone()
    }
}

impl From<&String> for Expr {
    fn from(text: &String) -> Self {
        Expr(Node::Datum(Value::from(text.as_str())))
    }
}

impl From<&Value> for Expr {
    fn from(value: &Value) -> Self {
        Expr(Node::Datum(value.clone()))
    }
}

impl<T: Into<Expr>> From<Option<T>> for Expr {
    fn from(value: Option<T>) -> Self {
        value.map_or(Expr(Node::Datum(Value::Null)), Into::into)
    }
}

impl<T: Into<Expr>> From<Vec<T>> for Expr {
    fn from(items: Vec<T>) -> Self {
        Expr::term(t::MAKE_ARRAY, items)
    }
}

macro_rules! from_plain {
    ($($plain:ty),*) => {
        $(impl From<$plain> for Expr {
            fn from(value: $plain) -> Self {
                Expr(Node::Datum(Value::from(value)))
            }
        })*
    };
}

from_plain!(&str, String, bool, i32, i64, u16, u32, u64, usize, f64);
