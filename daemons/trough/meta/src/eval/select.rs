//! Choosing documents: DB, TABLE, GET, GET_ALL, BETWEEN.

use std::collections::BTreeMap;
use std::sync::Arc;

use trough_reql::proto::term_type as t;

use super::stream::Stream;
use super::val::{Single, Slice, Val};
use super::{Args, Exec, system};
use crate::datum::{Datum, Object};
use crate::error::{QueryError, Result};
use crate::store::catalog::Table;
use crate::store::scan::{Range, Space};

pub(super) fn select(ex: &Exec, args: &mut Args) -> Result<Val> {
    match args.call.op {
        t::DB => {
            let name = name(args, ex, 0, "Database")?;
            if name.as_ref() == system::DATABASE {
                return Ok(Val::Db(system::database()));
            }
            Ok(Val::Db(ex.catalog()?.database(&name)?.clone()))
        }
        t::TABLE => table(ex, args),
        t::GET => {
            let table = args.val(ex, 0)?.table(ex).map_err(|error| error.at(crate::error::Frame::Arg(0)))?;
            let key = args.datum(ex, 1)?;
            Ok(Val::Single(Single::new(table, key)))
        }
        t::GET_ALL => get_all(ex, args),
        _ => between(ex, args),
    }
}

/// An argument that names a database, a table or an index.
pub(super) fn name(args: &mut Args, ex: &Exec, at: usize, what: &str) -> Result<Arc<str>> {
    let name = args.text(ex, at)?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        let message = format!("{what} name `{name}` invalid (Use A-Z, a-z, 0-9, _ and - only).");
        return Err(QueryError::logic(message).at(crate::error::Frame::Arg(at)));
    }
    if name.len() > 127 {
        return Err(QueryError::logic(format!("{what} name `{name}` too long (Maximum: 127 characters).")));
    }
    Ok(name)
}

/// The database that a term without one means.
pub(super) fn default_db(ex: &Exec, args: &Args) -> Result<String> {
    match args.opt_val(ex, "db")? {
        Some(Val::Db(db)) => Ok(db.name.clone()),
        Some(other) => Err(other.wrong(ex, "DATABASE")),
        None => Ok("test".into()),
    }
}

fn table(ex: &Exec, args: &mut Args) -> Result<Val> {
    if args.call.opt("use_outdated").is_some() {
        return Err(QueryError::logic(
            "The `use_outdated` optarg is no longer supported.  Use the `read_mode` optarg instead.",
        ));
    }
    if let Some(mode) = args.opt_text(ex, "read_mode")?
        && !matches!(mode.as_ref(), "majority" | "single" | "outdated" | "_debug_direct")
    {
        return Err(QueryError::logic(format!(
            "Read mode `{mode}` unrecognized (options are \"majority\", \"single\", and \"outdated\")."
        )));
    }
    if let Some(format) = args.opt_text(ex, "identifier_format")?
        && !matches!(format.as_ref(), "name" | "uuid")
    {
        return Err(QueryError::logic(format!(
            "Identifier format `{format}` unrecognized (options are \"name\" and \"uuid\")."
        )));
    }
    let (db, at) =
        if args.len() == 2 { (args.val(ex, 0)?.db(ex)?.name.clone(), 1) } else { (default_db(ex, args)?, 0) };
    let name = name(args, ex, at, "Table")?;
    if db == system::DATABASE {
        return system::table(&name).map(Val::Table);
    }
    Ok(Val::Table(ex.catalog()?.table(&db, &name)?.clone()))
}

fn get_all(ex: &Exec, args: &mut Args) -> Result<Val> {
    let table = args.val(ex, 0)?.table(ex)?;
    let index = args.opt_text(ex, "index")?;
    let space = space(&table, index.as_deref())?;
    let mut keys: BTreeMap<Datum, usize> = BTreeMap::new();
    for at in 1..args.len() {
        let key = args.datum(ex, at)?;
        if key.is_null() {
            return Err(QueryError::non_existence("Keys cannot be NULL."));
        }
        // No document has a bound for a key.
        if matches!(key, Datum::MinVal | Datum::MaxVal) {
            continue;
        }
        if space != Space::Primary && matches!(key, Datum::Object(_)) {
            return Err(key.type_error(format!(
                "Secondary keys must be a number, string, bool, pseudotype, or array (got type {}):\n{}",
                key.type_name(),
                crate::datum::print::truncated(&key)
            )));
        }
        *keys.entry(key).or_default() += 1;
    }
    if let Some(kind) = system::kind(&table) {
        let mut rows = Vec::new();
        for (key, times) in keys {
            rows.extend(system::get(ex, kind, &key)?.into_iter().flat_map(|row| vec![row; times]));
        }
        return Ok(Val::Selection(table, Stream::from_vec(rows)));
    }
    let stream = Stream::keys(table.clone(), space, keys.into_iter().collect())?;
    Ok(Val::Selection(table, stream))
}

/// What an index's name means for a table.
pub(super) fn space(table: &Table, index: Option<&str>) -> Result<Space> {
    match index {
        Some(name) if name != table.primary_key.as_ref() => Ok(Space::Index(table.index(name)?.num)),
        _ => Ok(Space::Primary),
    }
}

fn between(ex: &Exec, args: &mut Args) -> Result<Val> {
    let slice = args.val(ex, 0)?.slice(ex)?;
    let (left_open, right_open) = (args.open(ex, "left_bound", false)?, args.open(ex, "right_bound", true)?);
    let old = args.call.op == t::BETWEEN_DEPRECATED;
    let mut bound = |at: usize, unbounded: Datum| {
        let value = args.datum(ex, at)?;
        if !value.is_null() {
            return Ok(value);
        }
        if old {
            return Ok(unbounded);
        }
        Err(QueryError::logic("Cannot use `null` in BETWEEN, use `r.minval` or `r.maxval` to denote unboundedness."))
    };
    let (low, high) = (bound(1, Datum::MinVal)?, bound(2, Datum::MaxVal)?);
    let index = args.opt_text(ex, "index")?;
    let primary = slice.table.primary_key.clone();
    let index = index.or_else(|| slice.index.clone()).unwrap_or(primary);
    if slice.range.is_some() {
        return Err(QueryError::logic("Cannot perform multiple BETWEENs on the same table."));
    }
    if let Some(ordered) = slice.index.as_ref().filter(|ordered| **ordered != index) {
        return Err(QueryError::logic(format!(
            "Cannot call BETWEEN on index `{index}` after ordering on index `{ordered}`."
        )));
    }
    let slice = Slice { index: Some(index), range: Some(Range::between(&low, left_open, &high, right_open)), ..slice };
    slice.space()?;
    Ok(Val::Slice(slice))
}

/// A row of a table of the system: an object of these fields.
pub(super) fn row(fields: Vec<(&str, Datum)>) -> Datum {
    let mut object = Object::with_capacity(fields.len());
    for (name, value) in fields {
        object.set(name, value);
    }
    object.into()
}
