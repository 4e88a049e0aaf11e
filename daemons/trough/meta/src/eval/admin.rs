//! Databases, tables and indexes: making, dropping, listing, waiting, and INFO, CONFIG, STATUS.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::params;
use trough_reql::proto::term_type as t;

use super::select::{default_db, name, row};
use super::val::Val;
use super::{Args, Exec, indexes, system};
use crate::datum::{Datum, Object, json, object};
use crate::error::{QueryError, Result};
use crate::store::catalog::{Database, Table};
use crate::store::scan::{self, Range, Space};
use crate::store::writer::Tx;
use crate::term::{Term, to_json};

pub(super) fn admin(ex: &Exec, args: &mut Args) -> Result<Val> {
    let answer = match args.call.op {
        t::DB_CREATE => db_create(ex, args)?,
        t::DB_DROP => db_drop(ex, args)?,
        t::DB_LIST => {
            let catalog = ex.catalog()?;
            let mut names: Vec<&str> = catalog.databases.keys().map(String::as_str).collect();
            names.push(system::DATABASE);
            names.sort_unstable();
            Datum::array(names.into_iter().map(Datum::from).collect())
        }
        t::TABLE_LIST => {
            let db = if args.len() == 1 { args.val(ex, 0)?.db(ex)?.name.clone() } else { default_db(ex, args)? };
            let tables = |database: &Database| database.tables.keys().map(|name| name.as_str().into()).collect();
            if db == system::DATABASE {
                Datum::array(tables(&system::database()))
            } else {
                Datum::array(tables(ex.catalog()?.database(&db)?))
            }
        }
        t::TABLE_CREATE => table_create(ex, args)?,
        t::TABLE_DROP => table_drop(ex, args)?,
        t::INDEX_CREATE => indexes::index_create(ex, args)?,
        t::INDEX_DROP => indexes::index_drop(ex, args)?,
        t::INDEX_RENAME => indexes::index_rename(ex, args)?,
        t::INDEX_LIST => {
            let table = args.val(ex, 0)?.table(ex)?;
            Datum::array(table.indexes.keys().map(|name| name.as_str().into()).collect())
        }
        t::INDEX_STATUS | t::INDEX_WAIT => indexes::index_status(ex, args)?,
        t::WAIT | t::RECONFIGURE | t::REBALANCE => tables_answer(ex, args)?,
        t::SYNC => {
            let table = args.val(ex, 0)?.table(ex)?;
            // An empty job that wants durability is answered after everything before it is on disk.
            change(
                ex,
                Box::new(move |tx| {
                    tx.catalog.current(&table)?;
                    tx.sync();
                    Ok(object([("synced", Datum::Num(1.0))]))
                }),
            )?
        }
        t::CONFIG => match args.val(ex, 0)? {
            Val::Db(db) => system::db_config(&db),
            other => system::table_config(&ex.query.about, &*other.table(ex)?),
        },
        t::STATUS => {
            let table = args.val(ex, 0)?.table(ex)?;
            system::table_status(&ex.query.about, &table)
        }
        op => {
            let term = t::name(op).unwrap_or("unknown");
            return Err(QueryError::logic(format!(
                "The term {term} is not supported by the embedded metadata server. A real RethinkDB has it."
            )));
        }
    };
    Ok(Val::Datum(answer))
}

/// RethinkDB's limit.
const MAX_SHARDS: i64 = 64;

/// More than any cluster that this server stands in for has.
const MAX_REPLICAS: i64 = 16;

/// Changes the catalog on the writer's thread.
pub(super) fn change(ex: &Exec, work: crate::store::writer::Work) -> Result<Datum> {
    if ex.in_transaction() {
        return Err(QueryError::logic("Cannot nest writes or meta ops in stream operations.  Use FOR_EACH instead."));
    }
    ex.query.may_write()?;
    ex.store()?.writer().run(false, work)
}

fn db_create(ex: &Exec, args: &mut Args) -> Result<Datum> {
    let name = name(args, ex, 0, "Database")?.to_string();
    change(
        ex,
        Box::new(move |tx| {
            if name == system::DATABASE || tx.catalog.databases.contains_key(&name) {
                return Err(QueryError::op_failed(format!("Database `{name}` already exists.")));
            }
            let id = uuid::Uuid::new_v4().to_string();
            tx.connection.execute("INSERT INTO catalog_databases VALUES (?1, ?2)", params![id, name])?;
            let database = Database { id, name: name.clone(), tables: BTreeMap::new() };
            let config = system::db_config(&database);
            Arc::make_mut(&mut tx.catalog).databases.insert(name, Arc::new(database));
            let changes = object([("new_val", config), ("old_val", Datum::Null)]);
            Ok(object([("config_changes", Datum::array(vec![changes])), ("dbs_created", Datum::Num(1.0))]))
        }),
    )
}

fn db_drop(ex: &Exec, args: &mut Args) -> Result<Datum> {
    let name = name(args, ex, 0, "Database")?.to_string();
    change(
        ex,
        Box::new(move |tx| {
            if name == system::DATABASE {
                return Err(QueryError::op_failed(format!("Database `{name}` is special; you can't delete it.")));
            }
            let database = tx.catalog.database(&name)?.clone();
            for table in database.tables.values() {
                remove_table(tx, table)?;
            }
            tx.connection.execute("DELETE FROM catalog_databases WHERE id = ?1", [&database.id])?;
            Arc::make_mut(&mut tx.catalog).databases.remove(&name);
            let changes = object([("new_val", Datum::Null), ("old_val", system::db_config(&database))]);
            Ok(object([
                ("config_changes", Datum::array(vec![changes])),
                ("dbs_dropped", Datum::Num(1.0)),
                ("tables_dropped", Datum::count(database.tables.len())),
            ]))
        }),
    )
}

/// Removes a table's rows from the store.
fn remove_table(tx: &mut Tx, table: &Table) -> Result<()> {
    for index in table.indexes.values() {
        tx.connection.execute("DELETE FROM entries WHERE index_num = ?1", [index.num])?;
    }
    tx.connection.execute("DELETE FROM catalog_indexes WHERE table_num = ?1", [table.num])?;
    tx.connection.execute("DELETE FROM documents WHERE table_num = ?1", [table.num])?;
    tx.connection.execute("DELETE FROM catalog_tables WHERE num = ?1", [table.num])?;
    tx.dropped.push(table.num);
    Ok(())
}

/// The database and name that TABLE_CREATE and TABLE_DROP are about.
fn db_and_name(ex: &Exec, args: &mut Args) -> Result<(String, String)> {
    let (db, at) =
        if args.len() == 2 { (args.val(ex, 0)?.db(ex)?.name.clone(), 1) } else { (default_db(ex, args)?, 0) };
    let table = name(args, ex, at, "Table")?.to_string();
    if db == system::DATABASE {
        let what = if args.call.op == t::TABLE_CREATE { "create new" } else { "drop" };
        return Err(QueryError::op_failed(format!("Database `{db}` is special; you can't {what} tables in it.")));
    }
    Ok((db, table))
}

fn table_create(ex: &Exec, args: &mut Args) -> Result<Datum> {
    let shards = match args.opt(ex, "shards")? {
        None => 1,
        Some(value) => value.as_int()?,
    };
    if shards < 1 {
        return Err(QueryError::logic("Every table must have at least one shard."));
    }
    // More replicas than servers are accepted: whoever moves on to a cluster changes nothing.
    let replicas = match args.opt(ex, "replicas")? {
        None => 1,
        Some(number @ Datum::Num(_)) => number.as_int()?,
        Some(Datum::Object(tags)) => {
            if args.call.opt("primary_replica_tag").is_none() {
                return Err(QueryError::logic("`primary_replica_tag` must be specified when `replicas` is an OBJECT."));
            }
            let mut sum = 0;
            for (tag, count) in tags.iter() {
                if tag.as_ref() != "default" {
                    return Err(QueryError::op_failed(format!("Could not find any servers with server tag `{tag}`.")));
                }
                sum += count.as_int()?;
            }
            sum
        }
        Some(other) => {
            return Err(QueryError::logic(format!(
                "Expected type OBJECT or NUMBER but found {}:\n{}",
                other.type_name(),
                crate::datum::print::pretty(&other)
            )));
        }
    };
    if replicas < 1 {
        return Err(QueryError::op_failed(
            "You must set `replicas` to at least one. `replicas` includes the primary replica; if there are zero \
             replicas, there is nowhere to put the data.",
        ));
    }
    if shards > MAX_SHARDS {
        return Err(QueryError::op_failed(format!("Maximum number of shards is {MAX_SHARDS}.")));
    }
    if replicas > MAX_REPLICAS {
        return Err(QueryError::op_failed(format!(
            "Can't put {replicas} replicas on servers with the tag `default` because there are only 1 servers with the \
             tag `default`. It's impossible to have more replicas of the data than there are servers."
        )));
    }
    let primary_key = args.opt_text(ex, "primary_key")?.unwrap_or_else(|| "id".into());
    let soft = match args.opt_text(ex, "durability")?.as_deref() {
        None | Some("hard") => false,
        Some("soft") => true,
        Some(other) => {
            return Err(QueryError::logic(format!(
                "Durability option `{other}` unrecognized (options are \"hard\" and \"soft\")."
            )));
        }
    };
    let (db, name) = db_and_name(ex, args)?;
    let about = ex.query.about.clone();
    change(
        ex,
        Box::new(move |tx| {
            let database = tx.catalog.database(&db)?;
            if database.tables.contains_key(&name) {
                return Err(QueryError::op_failed(format!("Table `{db}.{name}` already exists.")));
            }
            let id = uuid::Uuid::new_v4().to_string();
            tx.connection.execute(
                "INSERT INTO catalog_tables(id, database, name, primary_key, soft, shards, replicas)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![id, database.id, name, primary_key.as_ref(), soft, shards, replicas],
            )?;
            let num = tx.connection.last_insert_rowid();
            let indexes = BTreeMap::new();
            let table = Table { num, id, database: db, name, primary_key, soft, shards, indexes };
            let config = system::table_config(&about, &table);
            Arc::make_mut(&mut tx.catalog).put_table(table);
            let changes = object([("new_val", config), ("old_val", Datum::Null)]);
            Ok(object([("config_changes", Datum::array(vec![changes])), ("tables_created", Datum::Num(1.0))]))
        }),
    )
}

fn table_drop(ex: &Exec, args: &mut Args) -> Result<Datum> {
    let (db, name) = db_and_name(ex, args)?;
    let about = ex.query.about.clone();
    change(
        ex,
        Box::new(move |tx| {
            let table = tx.catalog.table(&db, &name)?.clone();
            remove_table(tx, &table)?;
            let catalog = Arc::make_mut(&mut tx.catalog);
            if let Some(database) = catalog.databases.get_mut(&db) {
                Arc::make_mut(database).tables.remove(&name);
            }
            let changes = object([("new_val", Datum::Null), ("old_val", system::table_config(&about, &table))]);
            Ok(object([("config_changes", Datum::array(vec![changes])), ("tables_dropped", Datum::Num(1.0))]))
        }),
    )
}

/// WAIT, RECONFIGURE and REBALANCE: one server is always ready, and has nowhere to move anything.
fn tables_answer(ex: &Exec, args: &mut Args) -> Result<Datum> {
    let op = args.call.op;
    if args.len() == 0 {
        let term = crate::term::name(op);
        return Err(QueryError::logic(format!("`{term}` can only be called on a table or database.")));
    }
    let tables: Vec<Arc<Table>> = match args.val(ex, 0)? {
        Val::Db(db) => db.tables.values().cloned().collect(),
        other => vec![other.table(ex)?],
    };
    if op == t::WAIT {
        if let Some(wanted) = args.opt_text(ex, "wait_for")?
            && !matches!(
                wanted.as_ref(),
                "ready_for_outdated_reads" | "ready_for_reads" | "ready_for_writes" | "all_replicas_ready"
            )
        {
            return Err(QueryError::logic(format!(
                "Unknown table readiness state: '{wanted}', must be one of 'ready_for_outdated_reads', \
                 'ready_for_reads', 'ready_for_writes', or 'all_replicas_ready'"
            )));
        }
        return Ok(object([("ready", Datum::count(tables.len()))]));
    }
    let about = &ex.query.about;
    let statuses = tables.iter().map(|table| {
        let status = system::table_status(about, table);
        object([("new_val", status.clone()), ("old_val", status)])
    });
    let statuses = Datum::array(statuses.collect());
    if op == t::REBALANCE {
        return Ok(object([("rebalanced", Datum::count(tables.len())), ("status_changes", statuses)]));
    }
    let dry = args.opt_bool(ex, "dry_run")?;
    let configs = tables.iter().map(|table| {
        let config = system::table_config(about, table);
        object([("new_val", config.clone()), ("old_val", config)])
    });
    let mut out = Object::default();
    out.set("config_changes", Datum::array(configs.collect()));
    out.set("reconfigured", Datum::count(if dry { 0 } else { tables.len() }));
    if !dry {
        out.set("status_changes", statuses);
    }
    Ok(out.into())
}

pub(super) fn info(ex: &Exec, args: &mut Args) -> Result<Val> {
    let value = args.val(ex, 0)?;
    let mut out = Object::default();
    out.set("type", value.type_name(ex)?.into());
    match &value {
        Val::Db(db) => {
            out.set("name", db.name.as_str().into());
            out.set("id", db.id.as_str().into());
        }
        Val::Table(table) => {
            out = info_table(ex, table)?;
        }
        Val::Slice(slice) => {
            out.set("table", info_table(ex, &slice.table)?.into());
            let index = slice.index.as_deref().unwrap_or(&slice.table.primary_key);
            out.set("index", index.into());
        }
        Val::Selection(table, _) => out.set("table", info_table(ex, table)?.into()),
        Val::Single(single) => out.set("table", info_table(ex, &single.table)?.into()),
        Val::Datum(datum) => {
            if let Datum::Binary(bytes) = datum {
                out.set("count", Datum::count(bytes.len()));
            }
            if !datum.is_null() {
                out.set("value", crate::datum::print::pretty(datum).into());
            }
        }
        Val::Func(closure) => {
            let source = to_json(&Term::Func(closure.func.clone()), &|_| None);
            out.set("source_code", json::to_string(&source)?.into());
        }
        Val::Seq(_) | Val::Grouped(_) => {}
    }
    Ok(Val::Datum(out.into()))
}

fn info_table(ex: &Exec, table: &Table) -> Result<Object> {
    let mut out = Object::default();
    out.set("type", "TABLE".into());
    out.set("name", table.name.as_str().into());
    out.set("id", table.id.as_str().into());
    out.set("primary_key", Datum::Str(table.primary_key.clone()));
    out.set("indexes", Datum::array(table.indexes.keys().map(|name| name.as_str().into()).collect()));
    let db = if table.database == system::DATABASE {
        system::database()
    } else {
        ex.catalog()?.database(&table.database)?.clone()
    };
    out.set("db", row(vec![("type", "DB".into()), ("name", db.name.as_str().into()), ("id", db.id.as_str().into())]));
    let count = ex.read(|connection| scan::count(connection, table.num, Space::Primary, &Range::all()))?;
    out.set("doc_count_estimates", Datum::array(vec![Datum::count(count)]));
    Ok(out)
}
