//! Creating the database, its tables and indexes.

use serde_json::{Value as Json, json};
use trough_reql::{Expr, r};

use super::{ASSIGNMENT, Catalog, CatalogError, LOCK, Result, SCHEMA, SERVICES, TROUGH};

/// Every table with its indexes. The Python trough creates fewer of them; what is missing is added.
pub const TABLES: [(&str, &[&str]); 5] = [
    (SERVICES, &["segment", "role", "node"]),
    (ASSIGNMENT, &["segment", "node"]),
    (LOCK, &["node"]),
    (SCHEMA, &[]),
    (TROUGH, &[]),
];

impl Catalog {
    /// Creates what is missing of the database, its tables and indexes, with the schema `default` (an empty script),
    /// and waits until all of it is ready. Several processes may do it at once. `replicas` is used for new tables only; a server
    /// with fewer nodes gets as many as it has.
    ///
    /// # Errors
    /// [`CatalogError::Reql`] if the server cannot be asked or refuses.
    pub async fn ensure_tables(&self, replicas: u32) -> Result<()> {
        const WHAT: &str = "create the tables";
        let db = self.client.database().to_owned();
        if !self.names(WHAT, &r::db_list()).await?.contains(&db) {
            self.create(WHAT, &r::db_create(&db)).await?;
        }
        let present = self.names(WHAT, &r::db(&db).table_list()).await?;
        for (table, _) in TABLES.iter().filter(|(table, _)| !present.iter().any(|t| t == table)) {
            // Others start now as well: what they made since must not be made again.
            if !self.names(WHAT, &r::db(&db).table_list()).await?.iter().any(|t| t == table) {
                self.create_table(&db, table, replicas).await?;
            }
        }
        self.unite_twins(&db, &TABLES.map(|(table, _)| table)).await?;
        for (table, indexes) in TABLES {
            self.client.run(&r::table(table).wait()).await.map_err(|e| CatalogError::reql(WHAT, e))?;
            if indexes.is_empty() {
                continue;
            }
            let have = self.names(WHAT, &r::table(table).index_list()).await?;
            for index in indexes.iter().filter(|i| !have.iter().any(|h| h == *i)) {
                self.create(WHAT, &r::table(table).index_create(*index)).await?;
            }
            self.client.run(&r::table(table).index_wait()).await.map_err(|e| CatalogError::reql(WHAT, e))?;
        }
        let default = r::table(SCHEMA).insert(r::expr(json!({"id": "default", "sql": ""})));
        let keep_old = default.conflict_fn(|_, old, _| old);
        self.write(WHAT, &keep_old).await?;
        Ok(())
    }

    async fn create_table(&self, db: &str, table: &str, replicas: u32) -> Result<()> {
        const WHAT: &str = "create a table";
        for replicas in (1..=replicas.clamp(1, 3)).rev() {
            let create = r::db(db).table_create(table).opt("replicas", i64::from(replicas)).opt("shards", 1);
            match self.create(WHAT, &create).await {
                // Too few servers for that many replicas.
                Err(CatalogError::Reql { source, .. }) if replicas > 1 && source.to_string().contains("replicas") => {}
                done => return done,
            }
        }
        Ok(())
    }

    /// Runs a creation; another process that was faster is no failure.
    async fn create(&self, what: &'static str, query: &Expr) -> Result<()> {
        match self.client.run(query).await {
            Ok(_) => Ok(()),
            Err(e) if e.to_string().contains("already exists") => Ok(()),
            Err(e) => Err(CatalogError::reql(what, e)),
        }
    }

    async fn names(&self, what: &'static str, query: &Expr) -> Result<Vec<String>> {
        let names: Json = self.client.run(query).await.map_err(|e| CatalogError::reql(what, e))?;
        serde_json::from_value(names).map_err(|e| CatalogError::Record { what, why: e.to_string() })
    }
}
