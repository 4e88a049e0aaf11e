//! What a SQLite database holds, as SQLite tells it: the description that travels, and the statements that ask for it. The
//! sync server asks them of a schema's script run on an empty database, the extension of a live segment.

use serde::{Deserialize, Serialize};

/// The tables and views of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaDescription {
    /// Tables, by name.
    #[serde(default)]
    pub tables: Vec<TableDescription>,
    /// Views, by name.
    #[serde(default)]
    pub views: Vec<TableDescription>,
    /// Views and virtual tables that SQLite cannot describe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<BrokenTable>,
}

/// One table or view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDescription {
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub kind: TableKind,
    /// Its columns, in order; hidden ones are left out.
    #[serde(default)]
    pub columns: Vec<ColumnDescription>,
    /// Declared STRICT: every value has its column's type.
    #[serde(default)]
    pub strict: bool,
    /// Declared WITHOUT ROWID.
    #[serde(default)]
    pub without_rowid: bool,
    /// The statement that makes it.
    #[serde(default)]
    pub sql: String,
}

/// What a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// A table.
    #[default]
    Table,
    /// A view.
    View,
    /// A virtual table: a module of SQLite's makes its rows.
    Virtual,
}

/// One column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDescription {
    /// Its name.
    pub name: String,
    /// Its declared type, as written; empty if there is none.
    #[serde(rename = "type", default)]
    pub declared: String,
    /// Declared NOT NULL (or part of a WITHOUT ROWID table's key).
    #[serde(default)]
    pub not_null: bool,
    /// Its place in the primary key, from 1; 0 if it is not in it.
    #[serde(default)]
    pub primary_key: u32,
    /// The default's SQL text.
    #[serde(default)]
    pub default: Option<String>,
    /// Computed by SQLite: it cannot be inserted.
    #[serde(default)]
    pub generated: bool,
    /// Computed when it is read (VIRTUAL): older versions of SQLite do not check its type even where the table is STRICT.
    #[serde(rename = "virtual", default)]
    pub computed: bool,
    /// It is the rowid by another name: always an integer, never NULL.
    #[serde(default)]
    pub rowid: bool,
}

/// What SQLite cannot describe: a view of a table that is gone, a virtual table whose module is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenTable {
    /// Its name.
    pub name: String,
    /// SQLite's text.
    pub error: String,
}

/// The names of the views and virtual tables of a database, which are described one by one, since SQLite may fail on any.
pub const DOUBTFUL: &str = "SELECT name FROM pragma_table_list \
    WHERE schema = 'main' AND type IN ('view', 'virtual') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";

/// Describes all tables (parameter NULL), or the table, view or virtual table that the parameter names: a row with the
/// JSON of a [`TableDescription`] for each.
pub const DESCRIBE: &str = r#"
SELECT json_object(
    'name', l.name,
    'kind', l.type,
    'strict', json(iif(l.strict, 'true', 'false')),
    'without_rowid', json(iif(l.wr, 'true', 'false')),
    'sql', coalesce((SELECT s.sql FROM sqlite_schema AS s WHERE s.name = l.name AND s.type IN ('table', 'view')), ''),
    'columns', (
        SELECT json_group_array(json_object(
            'name', x.name,
            'type', x.type,
            'not_null', json(iif(x.`notnull`, 'true', 'false')),
            'primary_key', x.pk,
            'default', x.dflt_value,
            'generated', json(iif(x.hidden >= 2, 'true', 'false')),
            'virtual', json(iif(x.hidden = 2, 'true', 'false')),
            -- INTEGER PRIMARY KEY DESC is none: it has an index of its own.
            'rowid', json(iif(
                l.type = 'table' AND NOT l.wr AND x.pk = 1 AND upper(x.type) = 'INTEGER'
                AND NOT EXISTS (SELECT 1 FROM pragma_index_list(l.name) AS i WHERE i.origin = 'pk'), 'true', 'false'))
        ))
        FROM (SELECT * FROM pragma_table_xinfo(l.name) WHERE hidden <> 1 ORDER BY cid) AS x
    ))
FROM pragma_table_list AS l
WHERE l.schema = 'main' AND l.name NOT LIKE 'sqlite\_%' ESCAPE '\' AND iif(?1 IS NULL, l.type = 'table', l.name = ?1)
ORDER BY l.name"#;

impl SchemaDescription {
    /// Adds what one statement's row tells.
    pub fn add(&mut self, table: TableDescription) {
        match table.kind {
            TableKind::View => self.views.push(table),
            TableKind::Table | TableKind::Virtual => self.tables.push(table),
        }
    }

    /// Adds a view or virtual table that cannot be described.
    pub fn add_broken(&mut self, name: String, error: String) {
        self.broken.push(BrokenTable { name, error });
    }
}
