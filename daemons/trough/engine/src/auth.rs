//! What SQLite's authorizer lets clients do: on read connections nothing that writes or leaves the file, on write
//! connections nothing that leaves the file or weakens its durability.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rusqlite::{
    Connection, Result,
    hooks::{AuthAction, AuthContext, Authorization, TransactionOperation},
};

/// Pragmas that only tell something, with an argument or without.
const TELLING: &[&str] = &[
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "page_count",
    "pragma_list",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Pragmas that tell something as long as they have no argument.
const TELLING_BARE: &[&str] = &[
    "application_id",
    "auto_vacuum",
    "encoding",
    "foreign_keys",
    "journal_mode",
    "max_page_count",
    "page_size",
    "recursive_triggers",
    "schema_version",
    "synchronous",
    "user_version",
];

/// Pragmas with an argument that a script may use: they are part of the data or do no harm.
const WRITABLE: &[&str] =
    &["application_id", "defer_foreign_keys", "foreign_keys", "optimize", "recursive_triggers", "user_version"];

/// Names of savepoints that are the engine's own.
pub(crate) const SAVEPOINT: &str = "trough_request";

fn listed(list: &[&str], name: &str) -> bool {
    list.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn telling(name: &str, value: Option<&str>) -> bool {
    listed(TELLING, name) || value.is_none() && listed(TELLING_BARE, name)
}

fn function(name: &str) -> Authorization {
    if name.eq_ignore_ascii_case("load_extension") || name.eq_ignore_ascii_case("fts3_tokenizer") {
        Authorization::Deny
    } else {
        Authorization::Allow
    }
}

fn reading(ctx: AuthContext<'_>) -> Authorization {
    match ctx.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Function { function_name } => function(function_name),
        AuthAction::Pragma { pragma_name, pragma_value } if telling(pragma_name, pragma_value) => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

/// Puts a connection under the rules for reading.
pub(crate) fn guard_reads(conn: &Connection) -> Result<()> {
    conn.authorizer(Some(reading))
}

/// Lets the engine itself do on a write connection what clients must not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trusted(Arc<AtomicBool>);

impl Trusted {
    /// Runs `work` without the rules.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.store(true, Ordering::Relaxed);
        let result = work();
        self.0.store(false, Ordering::Relaxed);
        result
    }
}

fn writing(ctx: AuthContext<'_>) -> Authorization {
    match ctx.action {
        AuthAction::Attach { .. } | AuthAction::Detach { .. } | AuthAction::Unknown { .. } => Authorization::Deny,
        // What is temporary would stay on the connection: a table of the same name would swallow the next client's rows.
        AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. } => Authorization::Deny,
        // The same, written as a name in the schema `temp`; of a trigger only the row that describes it tells.
        AuthAction::CreateIndex { .. }
        | AuthAction::CreateTable { .. }
        | AuthAction::CreateTrigger { .. }
        | AuthAction::CreateView { .. }
        | AuthAction::CreateVtable { .. }
        | AuthAction::Insert { .. }
            if ctx.database_name == Some("temp") =>
        {
            Authorization::Deny
        }
        AuthAction::Function { function_name } => function(function_name),
        AuthAction::Pragma { pragma_name, pragma_value } => {
            if telling(pragma_name, pragma_value) || listed(WRITABLE, pragma_name) {
                Authorization::Allow
            } else {
                Authorization::Deny
            }
        }
        // A script is one transaction: its own brackets do nothing, and it cannot throw away its neighbours' work.
        AuthAction::Transaction { operation: TransactionOperation::Begin } => Authorization::Ignore,
        AuthAction::Transaction { operation: TransactionOperation::Unknown } => Authorization::Ignore,
        AuthAction::Transaction { operation: TransactionOperation::Rollback } => Authorization::Deny,
        AuthAction::Savepoint { savepoint_name, .. } if savepoint_name.eq_ignore_ascii_case(SAVEPOINT) => {
            Authorization::Deny
        }
        _ => Authorization::Allow,
    }
}

/// Puts a connection under the rules for writing; gives what suspends them.
pub(crate) fn guard_writes(conn: &Connection) -> Result<Trusted> {
    let trusted = Trusted::default();
    let suspended = trusted.0.clone();
    conn.authorizer(Some(
        move |ctx: AuthContext<'_>| {
            if suspended.load(Ordering::Relaxed) { Authorization::Allow } else { writing(ctx) }
        },
    ))?;
    Ok(trusted)
}
