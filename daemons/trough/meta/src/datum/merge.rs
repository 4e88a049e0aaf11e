//! MERGE and its relatives over objects: what PLUCK, WITHOUT and HAS_FIELDS mean by a path.

use std::sync::Arc;

use super::{Datum, Object, print};
use crate::error::{QueryError, Result};

/// MERGE: objects field by field, anything else replaces.
pub(crate) fn merge(left: &Datum, right: &Datum) -> Datum {
    match (left, right) {
        (_, Datum::Literal(value)) => value.as_ref().clone().unwrap_or(Datum::Null),
        (Datum::Object(a), Datum::Object(b)) => {
            let mut out = a.as_ref().clone();
            for (name, value) in b.iter() {
                match (out.get(name), value) {
                    (_, Datum::Literal(value)) => match value.as_ref() {
                        Some(value) => out.set(name.clone(), value.clone()),
                        None => out.remove(name),
                    },
                    (Some(old @ Datum::Object(_)), Datum::Object(_)) => {
                        let merged = merge(old, value);
                        out.set(name.clone(), merged);
                    }
                    (_, value) => out.set(name.clone(), without_literals(value)),
                }
            }
            out.into()
        }
        (_, right) => without_literals(right),
    }
}

/// A value as it stands where there is nothing to merge with: literals become what they hold.
fn without_literals(value: &Datum) -> Datum {
    match value {
        Datum::Object(object) if has_literal(value) => {
            let mut out = Object::with_capacity(object.len());
            for (name, value) in object.iter() {
                match value {
                    Datum::Literal(inner) => {
                        if let Some(inner) = inner.as_ref() {
                            out.set(name.clone(), inner.clone());
                        }
                    }
                    other => out.set(name.clone(), without_literals(other)),
                }
            }
            out.into()
        }
        Datum::Literal(inner) => inner.as_ref().clone().unwrap_or(Datum::Null),
        other => other.clone(),
    }
}

/// Whether a literal is anywhere in a value.
pub(crate) fn has_literal(value: &Datum) -> bool {
    match value {
        Datum::Literal(_) => true,
        Datum::Object(object) => object.iter().any(|field| has_literal(&field.1)),
        Datum::Array(items) => items.iter().any(has_literal),
        _ => false,
    }
}

/// Which fields PLUCK, WITHOUT and HAS_FIELDS mean.
#[derive(Debug, Clone)]
pub(crate) enum Path {
    Field(Arc<str>),
    All(Vec<Path>),
    Inside(Vec<(Arc<str>, Path)>),
}

impl Path {
    /// Reads a path: a name, an array of paths, or an object of paths (true: the whole field).
    pub(crate) fn new(datum: &Datum) -> Result<Path> {
        Ok(match datum {
            Datum::Str(name) => Path::Field(name.clone()),
            Datum::Array(items) => Path::All(items.iter().map(Path::new).collect::<Result<_>>()?),
            Datum::Object(object) => {
                let (mut all, mut inside) = (Vec::new(), Vec::new());
                for (name, value) in object.iter() {
                    match value {
                        Datum::Bool(true) => all.push(Path::Field(name.clone())),
                        other => inside.push((name.clone(), Path::new(other)?)),
                    }
                }
                if all.is_empty() {
                    Path::Inside(inside)
                } else {
                    if !inside.is_empty() {
                        all.push(Path::Inside(inside));
                    }
                    Path::All(all)
                }
            }
            other => {
                return Err(QueryError::logic(format!("Invalid path argument `{}`.", print::pretty(other))));
            }
        })
    }

    /// PLUCK. An error inside a nested field leaves that field out.
    pub(crate) fn project(&self, value: &Datum, inside: bool) -> Result<Datum> {
        if let (Datum::Array(items), true) = (value, inside) {
            return Ok(Datum::array(items.iter().map(|item| self.project(item, false)).collect::<Result<Vec<_>>>()?));
        }
        let mut out = Object::default();
        self.project_into(value, inside, &mut out)?;
        Ok(out.into())
    }

    fn project_into(&self, value: &Datum, inside: bool, out: &mut Object) -> Result<()> {
        match self {
            Path::Field(name) => {
                if let Some(field) = value.as_object()?.get(name) {
                    out.set(name.clone(), field.clone());
                }
            }
            Path::All(paths) => {
                for path in paths {
                    if let Datum::Object(part) = path.project(value, inside)? {
                        for (name, value) in part.iter() {
                            out.set(name.clone(), value.clone());
                        }
                    }
                }
            }
            Path::Inside(paths) => {
                for (name, path) in paths {
                    if let Some(field) = value.as_object()?.get(name)
                        && let Ok(part) = path.project(field, true)
                    {
                        out.set(name.clone(), part);
                    }
                }
            }
        }
        Ok(())
    }

    /// WITHOUT.
    pub(crate) fn remove(&self, value: &Datum, inside: bool) -> Result<Datum> {
        if let (Datum::Array(items), true) = (value, inside) {
            return Ok(Datum::array(items.iter().map(|item| self.remove(item, false)).collect::<Result<Vec<_>>>()?));
        }
        let mut out = value.as_object()?.as_ref().clone();
        self.remove_from(&mut out);
        Ok(out.into())
    }

    fn remove_from(&self, out: &mut Object) {
        match self {
            Path::Field(name) => out.remove(name),
            Path::All(paths) => paths.iter().for_each(|path| path.remove_from(out)),
            Path::Inside(paths) => {
                for (name, path) in paths {
                    if let Some(field) = out.get(name)
                        && let Ok(rest) = path.remove(field, true)
                    {
                        out.set(name.clone(), rest);
                    }
                }
            }
        }
    }

    /// HAS_FIELDS: whether every field is there and not null.
    pub(crate) fn present(&self, value: &Datum) -> bool {
        let field = |name: &str| match value {
            Datum::Object(object) => object.get(name),
            _ => None,
        };
        match self {
            Path::Field(name) => field(name).is_some_and(|value| !value.is_null()),
            Path::All(paths) => paths.iter().all(|path| path.present(value)),
            Path::Inside(paths) => {
                paths.iter().all(|(name, path)| field(name).is_some_and(|value| path.present(value)))
            }
        }
    }
}
