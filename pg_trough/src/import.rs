//! `IMPORT FOREIGN SCHEMA`: a foreign table for each table and view of a registered trough schema.
//!
//! The tables are made here, by SQL, and not by the commands that the callback may return, since those may only be CREATE
//! FOREIGN TABLE and comments come along.

use pgrx::{PgSqlErrorCode, Spi, pg_guard, pg_sys};
use trough_client::write::{DescribedColumn, SchemaDescription};
use trough_core::SchemaId;
use trough_pushdown::quote_identifier;

use crate::{
    cluster,
    errors::{Failure, OrRaise},
    options, pg, runtime,
};

/// Options of the statement that become options of every table.
const PASSED_ON: &[&str] = &["segments", "schema", "read_only", "invalid_text", "trusted", "estimated_rows"];

/// `ImportForeignSchema`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn import_foreign_schema(
    statement: *mut pg_sys::ImportForeignSchemaStmt,
    server: pg_sys::Oid,
) -> *mut pg_sys::List {
    // SAFETY: the statement that PostgreSQL parsed.
    unsafe {
        let remote = pg::text((*statement).remote_schema);
        let local = pg::text((*statement).local_schema);
        let server_name = pg::text((*statement).server_name);
        let settings = options::settings((*statement).options);
        for setting in &settings {
            if !PASSED_ON.contains(&setting.name.as_str()) {
                let failure = Failure::new(
                    PgSqlErrorCode::ERRCODE_FDW_INVALID_OPTION_NAME,
                    format!("invalid option \"{}\" of IMPORT FOREIGN SCHEMA", setting.name),
                );
                match options::nearest(&setting.name, PASSED_ON.iter().copied()) {
                    Some(near) => failure.hint(format!("Perhaps you meant the option \"{near}\".")).raise(),
                    None => failure.hint(format!("Valid options in this place are: {}.", PASSED_ON.join(", "))).raise(),
                }
            }
        }
        let id = SchemaId::new(&remote)
            .map_err(|e| Failure::new(PgSqlErrorCode::ERRCODE_INVALID_SCHEMA_NAME, e.to_string()))
            .or_raise();
        let cluster = cluster::of(server, pg_sys::GetUserId());
        let description = describe(&cluster, &id);
        let wanted = |name: &str| {
            let name = pg::cstring(name);
            pg_sys::IsImportableForeignTable(name.as_ptr(), statement)
        };
        let mut extra: Vec<(String, String)> = settings.into_iter().map(|s| (s.name, s.value)).collect();
        if !extra.iter().any(|(name, _)| name == "schema") {
            extra.push(("schema".into(), remote.clone()));
        }
        let mut commands = Vec::new();
        for table in description.tables.iter().filter(|t| wanted(&t.name)) {
            let place = Place { local: &local, server: &server_name, extra: &extra };
            commands.extend(place.commands(&table.name, &table.columns, table.strict, &table.sql));
        }
        let mut view_extra = extra.clone();
        view_extra.retain(|(name, _)| name != "read_only");
        view_extra.push(("read_only".into(), "true".into()));
        for view in description.views.iter().filter(|v| wanted(&v.name)) {
            let place = Place { local: &local, server: &server_name, extra: &view_extra };
            commands.extend(place.commands(&view.name, &view.columns, false, &view.sql));
        }
        for command in commands {
            if let Err(error) = Spi::run(&command) {
                Failure::new(PgSqlErrorCode::ERRCODE_FDW_ERROR, format!("import a table: {error}")).raise();
            }
        }
        std::ptr::null_mut()
    }
}

fn describe(cluster: &cluster::Cluster, id: &SchemaId) -> SchemaDescription {
    let client = cluster.manager();
    let schema = id.clone();
    let described = runtime::block_on(async move { client.describe_schema(&schema).await });
    described
        .map_err(|e| match e.code() {
            trough_core::ErrorCode::UnknownSegment => Failure::new(
                PgSqlErrorCode::ERRCODE_FDW_SCHEMA_NOT_FOUND,
                format!("server \"{}\" has no schema \"{id}\"", cluster.server),
            )
            .hint(format!("SELECT * FROM trough.schemas('{}') lists them.", cluster.server)),
            _ => cluster::write_failure(&cluster.server, &e),
        })
        .or_raise()
}

/// Where imported tables go.
struct Place<'a> {
    local: &'a str,
    server: &'a str,
    extra: &'a [(String, String)],
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

impl Place<'_> {
    /// The commands that make a foreign table and its comments.
    fn commands(&self, name: &str, columns: &[DescribedColumn], strict: bool, sql: &str) -> Vec<String> {
        let target = format!("{}.{}", ident(self.local), ident(name));
        // The segment column must not take the name of a column of the table's own.
        let taken = |name: &str| columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
        let mut segment = "segment".to_owned();
        while taken(&segment) {
            segment.insert_str(0, "trough_");
        }
        let mut lines = vec![format!("{} text OPTIONS (segment 'true') NOT NULL", ident(&segment))];
        for column in columns {
            let mapped = map_type(&column.declared, strict);
            let not_null = if column.not_null { " NOT NULL" } else { "" };
            lines.push(format!("{} {}{}{not_null}", ident(&column.name), mapped.name, option_list(mapped.options)));
        }
        let mut options = vec![("table", name)];
        options.extend(self.extra.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut commands = vec![format!(
            "CREATE FOREIGN TABLE {target} ({}) SERVER {}{}",
            lines.join(", "),
            ident(self.server),
            option_list(&options)
        )];
        let comments = comments(sql, columns);
        if let Some(comment) = comments.table {
            commands.push(format!("COMMENT ON FOREIGN TABLE {target} IS {}", literal(&comment)));
        }
        for (column, comment) in comments.columns {
            commands.push(format!("COMMENT ON COLUMN {target}.{} IS {}", ident(&column), literal(&comment)));
        }
        commands
    }
}

/// A PostgreSQL type with the options of its column.
struct Mapped {
    name: &'static str,
    options: &'static [(&'static str, &'static str)],
}

/// The type for a declared type, by SQLite's own rules of affinity; docs/SQL.md has the table.
fn map_type(declared: &str, strict: bool) -> Mapped {
    let upper = declared.to_ascii_uppercase();
    let mapped = |name, options| Mapped { name, options };
    if strict {
        return match upper.as_str() {
            "INT" | "INTEGER" => mapped("bigint", &[("storage", "integer")]),
            "REAL" => mapped("double precision", &[("storage", "real")]),
            "TEXT" => mapped("text", &[("storage", "text")]),
            "BLOB" => mapped("bytea", &[("storage", "blob")]),
            _ => mapped("text", &[("encoding", "any")]),
        };
    }
    let base = upper.split('(').next().unwrap_or_default().trim();
    match base {
        "BOOLEAN" | "BOOL" => return mapped("boolean", &[]),
        "DATE" => return mapped("date", &[("encoding", "iso8601")]),
        "DATETIME" | "TIMESTAMP" | "TIMESTAMPTZ" => {
            return mapped("timestamp with time zone", &[("encoding", "iso8601")]);
        }
        "JSON" => return mapped("json", &[]),
        "JSONB" => return mapped("jsonb", &[]),
        "UUID" => return mapped("uuid", &[("encoding", "text")]),
        _ => {}
    }
    match () {
        () if upper.contains("INT") => mapped("bigint", &[]),
        () if ["CHAR", "CLOB", "TEXT"].iter().any(|t| upper.contains(t)) => mapped("text", &[]),
        () if upper.contains("BLOB") => mapped("bytea", &[]),
        () if upper.is_empty() => mapped("text", &[("encoding", "any")]),
        () if ["REAL", "FLOA", "DOUB"].iter().any(|t| upper.contains(t)) => mapped("double precision", &[]),
        () => mapped("numeric", &[]),
    }
}

/// Comments found in a CREATE TABLE statement.
#[derive(Debug, Default, PartialEq)]
struct Comments {
    table: Option<String>,
    columns: Vec<(String, String)>,
}

/// The `--` comments of a statement: behind a column on its line they are the column's, before the first column the
/// table's.
fn comments(sql: &str, columns: &[DescribedColumn]) -> Comments {
    let mut found = Comments::default();
    let mut table = Vec::new();
    let mut before_columns = true;
    for line in sql.lines() {
        let (code, comment) = match line_comment(line) {
            Some(at) => (&line[..at], Some(line[at + 2..].trim())),
            None => (line, None),
        };
        let code = code.trim().trim_start_matches(['(', ',']).trim_start();
        let column = columns.iter().find(|c| names(code, &c.name));
        before_columns &= column.is_none();
        match (column, comment) {
            (Some(column), Some(comment)) if !comment.is_empty() => {
                found.columns.push((column.name.clone(), comment.to_owned()));
            }
            (None, Some(comment)) if before_columns && !comment.is_empty() => table.push(comment),
            _ => {}
        }
    }
    if !table.is_empty() {
        found.table = Some(table.join(" "));
    }
    found
}

/// Where a line's comment begins, quotes passed over.
fn line_comment(line: &str) -> Option<usize> {
    let mut quote = None;
    let bytes = line.as_bytes();
    for (i, b) in bytes.iter().enumerate() {
        match (quote, b) {
            (Some(q), b) if q == *b => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"' | b'`') => quote = Some(*b),
            (None, b'[') => quote = Some(b']'),
            (None, b'-') if bytes.get(i + 1) == Some(&b'-') => return Some(i),
            _ => {}
        }
    }
    None
}

/// Whether a line of SQL begins with a column's name.
fn names(code: &str, column: &str) -> bool {
    let quoted = [format!("\"{}\"", column.replace('"', "\"\"")), quote_identifier(column), format!("[{column}]")];
    if quoted.iter().any(|q| code.starts_with(q.as_str())) {
        return true;
    }
    let Some((start, rest)) = code.split_at_checked(column.len()) else { return false };
    start.eq_ignore_ascii_case(column) && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}
