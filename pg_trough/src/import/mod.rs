//! `IMPORT FOREIGN SCHEMA`: a foreign table for each table and view of a registered schema or a live segment.
//!
//! The tables are made here, by SQL, and not by the commands that the callback may return, since those may only be CREATE
//! FOREIGN TABLE and comments come along.

mod comments;
mod names;
mod settings;
mod source;
mod types;

use pgrx::{PgSqlErrorCode, Spi, pg_guard, pg_sys};
use trough_core::describe::{SchemaDescription, TableDescription, TableKind};

use crate::{
    cluster,
    errors::{Failure, OrRaise},
    options, pg,
};
use names::Names;
use settings::Settings;
use source::Source;

/// `ImportForeignSchema`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn import_foreign_schema(
    statement: *mut pg_sys::ImportForeignSchemaStmt,
    server: pg_sys::Oid,
) -> *mut pg_sys::List {
    // SAFETY: the statement that PostgreSQL parsed.
    unsafe {
        let source = Source::parse(&pg::text((*statement).remote_schema)).or_raise();
        let settings = options::settings((*statement).options);
        let mut settings = Settings::parse(settings, source.holds_for_all()).or_raise();
        if let Source::Schema(id) = &source
            && !settings.of_tables.iter().any(|(name, _)| name == "schema")
        {
            settings.of_tables.push(("schema".into(), id.to_string()));
        }
        let cluster = cluster::of(server, pg_sys::GetUserId());
        let description = source.describe(&cluster);
        warn_of_unknown(statement, &description);
        let wanted = |name: &str| {
            let name = pg::cstring(name);
            pg_sys::IsImportableForeignTable(name.as_ptr(), statement)
        };
        for broken in description.broken.iter().filter(|b| wanted(&b.name)) {
            warning(format!("\"{}\" is not imported: SQLite says: {}", broken.name, broken.error)).warn();
        }
        let place =
            Place { local: pg::text((*statement).local_schema), server: pg::text((*statement).server_name), settings };
        let mut names = Names::new(place.settings.fold);
        let mut commands = Vec::new();
        for table in description.tables.iter().chain(&description.views).filter(|t| wanted(&t.name)) {
            let name = names.table(&place.settings.prefix, &table.name);
            commands.extend(place.commands(&name, table));
        }
        for command in commands {
            if let Err(error) = Spi::run(&command) {
                Failure::new(PgSqlErrorCode::ERRCODE_FDW_ERROR, format!("import a table: {error}")).raise();
            }
        }
        std::ptr::null_mut()
    }
}

fn warning(message: String) -> Failure {
    Failure::new(PgSqlErrorCode::ERRCODE_WARNING, message)
}

/// Warns of names in LIMIT TO and EXCEPT that there are not.
///
/// # Safety
/// The statement that PostgreSQL parsed.
unsafe fn warn_of_unknown(statement: *mut pg_sys::ImportForeignSchemaStmt, description: &SchemaDescription) {
    let described = description.tables.iter().chain(&description.views).map(|t| t.name.as_str());
    let known = described.chain(description.broken.iter().map(|b| b.name.as_str()));
    // SAFETY: a list of range variables.
    for named in unsafe { pg::list::<pg_sys::RangeVar>((*statement).table_list) } {
        let name = unsafe { pg::text((*named).relname) };
        if !known.clone().any(|k| k == name) {
            // Without regard to case first: SQLite has none, and PostgreSQL folds what is not quoted.
            let near = known.clone().find(|k| k.eq_ignore_ascii_case(&name));
            let near = near.or_else(|| options::nearest(&name, known.clone()));
            let missing = warning(format!("there is no table \"{name}\" to import"));
            match near {
                Some(near) => missing.hint(format!("Perhaps you meant \"{near}\".")).warn(),
                None => missing.warn(),
            }
        }
    }
}

/// Where imported tables go, and how.
struct Place {
    local: String,
    server: String,
    settings: Settings,
}

/// A name in PostgreSQL, quoted where it must be.
fn ident(name: &str) -> String {
    let name = pg::cstring(name);
    // SAFETY: quote_identifier returns its argument or a palloc'ed copy.
    unsafe { pg::text(pg_sys::quote_identifier(name.as_ptr())) }
}

/// A text in PostgreSQL.
fn literal(text: &str) -> String {
    let text = pg::cstring(text);
    // SAFETY: quote_literal_cstr returns a palloc'ed text.
    unsafe { pg::text(pg_sys::quote_literal_cstr(text.as_ptr())) }
}

fn option_list(options: &[(&str, &str)]) -> String {
    if options.is_empty() {
        return String::new();
    }
    let list: Vec<_> = options.iter().map(|(name, value)| format!("{} {}", ident(name), literal(value))).collect();
    format!(" OPTIONS ({})", list.join(", "))
}

impl Place {
    /// The commands that make a foreign table and its comments.
    fn commands(&self, name: &str, table: &TableDescription) -> Vec<String> {
        let target = format!("{}.{}", ident(&self.local), ident(name));
        let mut names = Names::new(self.settings.fold);
        let segment = self.segment_column(table);
        names.take(&segment);
        let mut lines = vec![format!("{} pg_catalog.text OPTIONS (segment 'true') NOT NULL", ident(&segment))];
        let mut locals = Vec::new();
        for (i, column) in table.columns.iter().enumerate() {
            let local = names.column(&column.name, i + 1);
            let mapped = types::map(column, table.strict, &self.settings.encodings);
            let mut options = Vec::new();
            if local != column.name {
                options.push(("column_name", column.name.as_str()));
            }
            options.extend(mapped.encoding.iter().map(|encoding| ("encoding", encoding.as_str())));
            options.extend(mapped.storage.filter(|_| self.settings.storage).map(|storage| ("storage", storage)));
            if column.generated {
                options.push(("generated", "true"));
            }
            let collate = if mapped.collatable && self.settings.collate { " COLLATE pg_catalog.\"C\"" } else { "" };
            // A module need not keep what its table declares.
            let not_null = column.not_null && self.settings.not_null && table.kind == TableKind::Table;
            let not_null = if not_null { " NOT NULL" } else { "" };
            lines.push(format!("{} {}{}{collate}{not_null}", ident(&local), mapped.name, option_list(&options)));
            locals.push((column.name.as_str(), local));
        }
        let mut options = vec![("table", table.name.as_str())];
        let read_only = table.kind != TableKind::Table;
        let passed = self.settings.of_tables.iter().filter(|(name, _)| !(read_only && name == "read_only"));
        options.extend(passed.map(|(name, value)| (name.as_str(), value.as_str())));
        if read_only {
            options.push(("read_only", "true"));
        }
        let mut commands = vec![format!(
            "CREATE FOREIGN TABLE {target} ({}) SERVER {}{}",
            lines.join(", "),
            ident(&self.server),
            option_list(&options)
        )];
        if self.settings.comments {
            let comments = comments::find(&table.sql, &table.columns);
            if let Some(comment) = comments.table {
                commands.push(format!("COMMENT ON FOREIGN TABLE {target} IS {}", literal(&comment)));
            }
            for (column, comment) in comments.columns {
                let local = locals.iter().find(|(name, _)| *name == column).map_or(&column, |(_, local)| local);
                commands.push(format!("COMMENT ON COLUMN {target}.{} IS {}", ident(local), literal(&comment)));
            }
        }
        commands
    }

    /// The segment column's name, which must not be that of a column of the table's own.
    fn segment_column(&self, table: &TableDescription) -> String {
        let mut names = Names::new(self.settings.fold);
        for (i, column) in table.columns.iter().enumerate() {
            names.column(&column.name, i + 1);
        }
        match &self.settings.segment_column {
            Some(given) if names.has(given) => Failure::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
                format!("table \"{}\" has a column \"{given}\" of its own", table.name),
            )
            .hint("The option segment_column takes another name for the column of the segment.")
            .raise(),
            Some(given) => given.clone(),
            None => {
                let mut segment = "segment".to_owned();
                while names.has(&segment) {
                    segment.insert_str(0, "trough_");
                }
                segment
            }
        }
    }
}
