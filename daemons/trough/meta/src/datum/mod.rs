//! ReQL's values: their types, their order across types, and the checks that every term makes of them.

pub(crate) mod json;
pub(crate) mod key;
pub(crate) mod merge;
pub(crate) mod print;
pub(crate) mod time;

use std::cmp::Ordering;
use std::sync::Arc;

use crate::error::{Class, QueryError, Result};

/// Values may not nest deeper than this, so that no recursion over one exhausts a stack.
pub(crate) const MAX_DEPTH: u16 = 500;

/// A ReQL value. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Datum {
    /// Less than every value; a bound only, never stored.
    MinVal,
    Array(Arc<Array>),
    Bool(bool),
    Null,
    Num(f64),
    Object(Arc<Object>),
    Binary(Arc<[u8]>),
    Time(Time),
    Str(Arc<str>),
    /// Greater than every value; a bound only, never stored.
    MaxVal,
    /// What LITERAL makes: replaces instead of merging; without a value, removes the field. Never stored.
    Literal(Arc<Option<Datum>>),
}

/// The elements of an array.
#[derive(Debug, Default)]
pub(crate) struct Array {
    items: Vec<Datum>,
    depth: u16,
}

/// The fields of an object, sorted by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Object {
    fields: Vec<(Arc<str>, Datum)>,
    /// Set when the object becomes a datum.
    depth: u16,
}

/// A point in time with the zone it is shown in.
#[derive(Debug, Clone)]
pub(crate) struct Time {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub(crate) epoch: f64,
    /// `+hh:mm` or `-hh:mm`.
    pub(crate) zone: Arc<str>,
}

impl std::ops::Deref for Array {
    type Target = [Datum];

    fn deref(&self) -> &[Datum] {
        &self.items
    }
}

impl Object {
    pub(crate) fn with_capacity(fields: usize) -> Self {
        Self { fields: Vec::with_capacity(fields), depth: 0 }
    }

    /// An object of fields in any order; the name of a field that comes twice is the error.
    pub(crate) fn from_fields(mut fields: Vec<(Arc<str>, Datum)>) -> std::result::Result<Self, Arc<str>> {
        if !fields.is_sorted_by(|a, b| a.0 < b.0) {
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            if let Some(pair) = fields.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(pair[0].0.clone());
            }
        }
        Ok(Self { fields, depth: 0 })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Datum> {
        self.find(name).ok().map(|at| &self.fields[at].1)
    }

    /// Sets a field, whether it existed or not.
    pub(crate) fn set(&mut self, name: impl Into<Arc<str>>, value: Datum) {
        let name = name.into();
        match self.find(&name) {
            Ok(at) => self.fields[at].1 = value,
            Err(at) => self.fields.insert(at, (name, value)),
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Ok(at) = self.find(name) {
            self.fields.remove(at);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, (Arc<str>, Datum)> {
        self.fields.iter()
    }

    fn find(&self, name: &str) -> std::result::Result<usize, usize> {
        self.fields.binary_search_by(|field| field.0.as_ref().cmp(name))
    }
}

impl From<Object> for Datum {
    fn from(mut object: Object) -> Self {
        object.depth = object.fields.iter().map(|field| field.1.depth()).max().unwrap_or(0).saturating_add(1);
        Datum::Object(Arc::new(object))
    }
}

impl From<&str> for Datum {
    fn from(text: &str) -> Self {
        Datum::Str(text.into())
    }
}

impl From<String> for Datum {
    fn from(text: String) -> Self {
        Datum::Str(text.into())
    }
}

impl From<bool> for Datum {
    fn from(value: bool) -> Self {
        Datum::Bool(value)
    }
}

impl From<Vec<Datum>> for Datum {
    fn from(items: Vec<Datum>) -> Self {
        Datum::array(items)
    }
}

/// An object of constant fields, for answers that the server makes itself.
pub(crate) fn object<const N: usize>(fields: [(&str, Datum); N]) -> Datum {
    let mut object = Object::with_capacity(N);
    for (name, value) in fields {
        object.set(name, value);
    }
    object.into()
}

impl Datum {
    pub(crate) fn array(items: Vec<Datum>) -> Datum {
        let depth = items.iter().map(Datum::depth).max().unwrap_or(0).saturating_add(1);
        Datum::Array(Arc::new(Array { items, depth }))
    }

    pub(crate) fn count(number: usize) -> Datum {
        Datum::Num(number as f64)
    }

    /// A number, which must be finite.
    pub(crate) fn number(value: f64) -> Result<Datum> {
        if value.is_finite() {
            Ok(Datum::Num(value))
        } else {
            Err(QueryError::logic(format!("Non-finite number: {}", print::general(value))))
        }
    }

    /// Levels of nesting: 0 for a scalar. Known without a walk.
    pub(crate) fn depth(&self) -> u16 {
        match self {
            Datum::Array(array) => array.depth,
            Datum::Object(object) => object.depth,
            Datum::Literal(value) => value.as_ref().as_ref().map_or(0, Datum::depth).saturating_add(1),
            _ => 0,
        }
    }

    /// The type's name as TYPE_OF gives it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Datum::MinVal => "MINVAL",
            Datum::Array(_) => "ARRAY",
            Datum::Bool(_) => "BOOL",
            Datum::Null => "NULL",
            Datum::Num(_) => "NUMBER",
            Datum::Object(_) => "OBJECT",
            Datum::Binary(_) => "PTYPE<BINARY>",
            Datum::Time(_) => "PTYPE<TIME>",
            Datum::Str(_) => "STRING",
            Datum::MaxVal => "MAXVAL",
            Datum::Literal(_) => "PTYPE<LITERAL>",
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// What a condition takes it for: everything but null and false is true.
    pub(crate) fn truthy(&self) -> bool {
        !matches!(self, Datum::Null | Datum::Bool(false))
    }

    /// An error about this value's type: of a null, DEFAULT may catch it.
    pub(crate) fn type_error(&self, message: impl Into<String>) -> QueryError {
        QueryError::new(if self.is_null() { Class::NonExistence } else { Class::Logic }, message)
    }

    /// The error for a value that should have had another type.
    pub(crate) fn expected(&self, wanted: &str) -> QueryError {
        self.type_error(format!("Expected type {wanted} but found {}.", self.type_name()))
    }

    pub(crate) fn as_num(&self) -> Result<f64> {
        match self {
            Datum::Num(number) => Ok(*number),
            other => Err(other.expected("NUMBER")),
        }
    }

    pub(crate) fn as_int(&self) -> Result<i64> {
        const LIMIT: f64 = 9_007_199_254_740_992.0;
        let number = self.as_num()?;
        if number.fract() == 0.0 && number.abs() <= LIMIT {
            return Ok(number as i64);
        }
        let hint = if number < -LIMIT {
            " (<-2^53)"
        } else if number > LIMIT {
            " (>2^53)"
        } else {
            ""
        };
        Err(QueryError::logic(format!("Number not an integer{hint}: {}", print::general(number))))
    }

    pub(crate) fn as_str(&self) -> Result<&Arc<str>> {
        match self {
            Datum::Str(text) => Ok(text),
            other => Err(other.expected("STRING")),
        }
    }

    pub(crate) fn as_array(&self) -> Result<&Arc<Array>> {
        match self {
            Datum::Array(array) => Ok(array),
            other => Err(other.expected("ARRAY")),
        }
    }

    pub(crate) fn as_object(&self) -> Result<&Arc<Object>> {
        match self {
            Datum::Object(object) => Ok(object),
            other => Err(other.expected("OBJECT")),
        }
    }

    pub(crate) fn as_time(&self) -> Result<&Time> {
        match self {
            Datum::Time(time) => Ok(time),
            other => Err(QueryError::logic(format!("Not a TIME pseudotype: `{}`.", print::truncated(other)))),
        }
    }

    /// A field of an object, which must be there.
    pub(crate) fn field(&self, name: &str) -> Result<Datum> {
        self.as_object()?.get(name).cloned().ok_or_else(|| {
            QueryError::non_existence(format!("No attribute `{name}` in object:\n{}", print::pretty(self)))
        })
    }

    fn rank(&self) -> u8 {
        match self {
            Datum::MinVal => 0,
            Datum::Array(_) => 1,
            Datum::Bool(_) => 2,
            Datum::Null => 3,
            Datum::Num(_) => 4,
            Datum::Object(_) => 5,
            Datum::Binary(_) => 6,
            Datum::Literal(_) => 7,
            Datum::Time(_) => 8,
            Datum::Str(_) => 9,
            Datum::MaxVal => 10,
        }
    }
}

impl PartialEq for Datum {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Datum {}

impl PartialOrd for Datum {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Datum {
    /// By the types' names, then by value; times by the moment alone.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Datum::Array(a), Datum::Array(b)) => a.iter().cmp(b.iter()),
            (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
            (Datum::Num(a), Datum::Num(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Datum::Object(a), Datum::Object(b)) => a.fields.cmp(&b.fields),
            (Datum::Binary(a), Datum::Binary(b)) => a.cmp(b),
            (Datum::Time(a), Datum::Time(b)) => a.epoch.partial_cmp(&b.epoch).unwrap_or(Ordering::Equal),
            (Datum::Str(a), Datum::Str(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Datum::Literal(a), Datum::Literal(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}
