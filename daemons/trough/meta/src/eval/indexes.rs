//! Secondary indexes: making, dropping, renaming, and what there is to tell of them.

use std::sync::Arc;

use rusqlite::params;

use super::admin::change;
use super::select::row;
use super::val::Val;
use super::{Args, Env, Exec, system};
use crate::datum::{Datum, json, object};
use crate::error::{QueryError, Result};
use crate::store::catalog::{Index, Table};
use crate::store::writer::Tx;
use crate::term::{Term, deterministic, to_json};

pub(super) fn index_create(ex: &Exec, args: &mut Args) -> Result<Datum> {
    let table = args.val(ex, 0)?.table(ex)?;
    system::refuse_write(&table)?;
    let name = args.text(ex, 1)?.to_string();
    not_primary(&table, &name)?;
    if args.opt_bool(ex, "geo")? {
        return Err(QueryError::logic(
            "Geospatial indexes are not supported by the embedded metadata server. A real RethinkDB has them.",
        ));
    }
    let multi = args.opt_bool(ex, "multi")?;
    let source = if args.len() == 3 {
        match args.val(ex, 2)? {
            Val::Func(closure) => {
                if !deterministic(&closure.func.body, false) {
                    return Err(QueryError::logic(
                        "Could not prove function deterministic.  Index functions must be deterministic.",
                    ));
                }
                let env: Env = closure.env.clone();
                let own = closure.func.params.clone();
                let outside = move |id: i64| if own.contains(&id) { None } else { env.get(id).cloned() };
                json::to_string(&to_json(&Term::Func(closure.func), &outside))?
            }
            // What INDEX_STATUS gave as an index's function.
            Val::Datum(Datum::Binary(bytes)) => {
                let text =
                    bytes.strip_prefix(FUNCTION_PREFIX.as_bytes()).and_then(|text| std::str::from_utf8(text).ok());
                text.map(str::to_owned).ok_or_else(|| {
                    QueryError::logic(
                        "Cannot create an sindex except from a reql_index_function returned from `index_status` in the \
                         field `function`.",
                    )
                })?
            }
            other => return Err(other.wrong(ex, "FUNCTION")),
        }
    } else {
        Index::field_source(&name)?
    };
    change(
        ex,
        Box::new(move |tx| {
            let mut table = Table::clone(tx.catalog.current(&table)?);
            if table.indexes.contains_key(&name) {
                return Err(QueryError::op_failed(format!(
                    "Index `{name}` already exists on table `{}`.",
                    table.full_name()
                )));
            }
            tx.connection.execute(
                "INSERT INTO catalog_indexes(table_num, name, function, multi) VALUES (?1, ?2, ?3, ?4)",
                params![table.num, name, source, multi],
            )?;
            let index = Index::new(tx.connection.last_insert_rowid(), name.clone(), source, multi)?;
            tx.build_index(&table, &index)?;
            table.indexes.insert(name, Arc::new(index));
            Arc::make_mut(&mut tx.catalog).put_table(table);
            Ok(object([("created", Datum::Num(1.0))]))
        }),
    )
}

/// Begins what INDEX_STATUS gives as an index's function.
const FUNCTION_PREFIX: &str = "$reql_index_function$";

fn not_primary(table: &Table, name: &str) -> Result<()> {
    if name == table.primary_key.as_ref() {
        return Err(QueryError::logic(format!("Index name conflict: `{name}` is the name of the primary key.")));
    }
    Ok(())
}

fn missing_index(table: &Table, name: &str) -> QueryError {
    QueryError::op_failed(format!("Index `{name}` does not exist on table `{}`.", table.full_name()))
}

pub(super) fn index_drop(ex: &Exec, args: &mut Args) -> Result<Datum> {
    let table = args.val(ex, 0)?.table(ex)?;
    let name = args.text(ex, 1)?;
    change(
        ex,
        Box::new(move |tx| {
            let mut table = Table::clone(tx.catalog.current(&table)?);
            let index = table.indexes.remove(name.as_ref()).ok_or_else(|| missing_index(&table, &name))?;
            drop_index(tx, &index)?;
            Arc::make_mut(&mut tx.catalog).put_table(table);
            Ok(object([("dropped", Datum::Num(1.0))]))
        }),
    )
}

fn drop_index(tx: &mut Tx, index: &Index) -> Result<()> {
    tx.connection.execute("DELETE FROM entries WHERE index_num = ?1", [index.num])?;
    tx.connection.execute("DELETE FROM catalog_indexes WHERE num = ?1", [index.num])?;
    Ok(())
}

pub(super) fn index_rename(ex: &Exec, args: &mut Args) -> Result<Datum> {
    let table = args.val(ex, 0)?.table(ex)?;
    let (old, new) = (args.text(ex, 1)?, args.text(ex, 2)?);
    not_primary(&table, &old)?;
    not_primary(&table, &new)?;
    let overwrite = args.opt_bool(ex, "overwrite")?;
    change(
        ex,
        Box::new(move |tx| {
            let mut table = Table::clone(tx.catalog.current(&table)?);
            let refused = || {
                QueryError::op_failed(format!(
                    "Index `{old}` does not exist or index `{new}` already exists on table `{}`.",
                    table.full_name()
                ))
            };
            let index = table.indexes.get(old.as_ref()).cloned().ok_or_else(refused)?;
            if old == new {
                return Ok(object([("renamed", Datum::Num(0.0))]));
            }
            if let Some(other) = table.indexes.get(new.as_ref()).cloned() {
                if !overwrite {
                    return Err(refused());
                }
                drop_index(tx, &other)?;
            }
            tx.connection
                .execute("UPDATE catalog_indexes SET name = ?1 WHERE num = ?2", params![new.as_ref(), index.num])?;
            table.indexes.remove(old.as_ref());
            let renamed = Index::new(index.num, new.to_string(), index.source.clone(), index.multi)?;
            table.indexes.insert(new.to_string(), Arc::new(renamed));
            Arc::make_mut(&mut tx.catalog).put_table(table);
            Ok(object([("renamed", Datum::Num(1.0))]))
        }),
    )
}

pub(super) fn index_status(ex: &Exec, args: &mut Args) -> Result<Datum> {
    let table = args.val(ex, 0)?.table(ex)?;
    let mut names = Vec::new();
    for at in 1..args.len() {
        names.push(args.text(ex, at)?);
    }
    for name in &names {
        table.index(name)?;
    }
    let chosen = table.indexes.values().filter(|index| names.is_empty() || names.iter().any(|n| **n == *index.name));
    let status = |index: &Arc<Index>| {
        let function = format!("{FUNCTION_PREFIX}{}", index.source);
        let multi = if index.multi { ", {multi: true}" } else { "" };
        row(vec![
            ("index", index.name.as_str().into()),
            ("ready", true.into()),
            ("outdated", false.into()),
            ("multi", index.multi.into()),
            ("geo", false.into()),
            ("function", Datum::Binary(function.into_bytes().into())),
            ("query", format!("indexCreate('{}', {}{multi})", index.name, index.source).into()),
        ])
    };
    Ok(Datum::array(chosen.map(status).collect()))
}
