//! Creating the database, its tables and indexes.

use std::time::{Duration, Instant};

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

/// How long new tables wait for servers that are named and have not joined the others yet: fewer replicas would stay fewer.
const JOINING: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(100);
/// Within this time, chosen at random, whoever did not make the database leaves the next table to others, where there are several servers:
/// what is made through two of them is made twice.
const MAKING: Duration = Duration::from_secs(2);

impl Catalog {
    /// Creates what is missing of the database, its tables and indexes, with the schema `default` (an empty script),
    /// and waits until all of it is ready. Several processes may do it at once, through different servers of one cluster. `replicas`
    /// is used for new tables only; a server with fewer nodes gets as many as it has.
    ///
    /// # Errors
    /// [`CatalogError::Reql`] if the server cannot be asked or refuses.
    pub async fn ensure_tables(&self, replicas: u32) -> Result<()> {
        const WHAT: &str = "create the tables";
        let db = self.client.database().to_owned();
        let names = TABLES.map(|(table, _)| table);
        let mut patience = if self.client.options().hosts.len() > 1 { MAKING } else { Duration::ZERO };
        if !self.names(WHAT, &r::db_list()).await?.contains(&db) {
            self.await_servers(replicas).await;
            // Others start now as well: what they made since must not be made again.
            tokio::time::sleep(patience.mul_f64(fastrand::f64() / 2.0)).await;
            if !self.names(WHAT, &r::db_list()).await?.contains(&db) {
                self.create(WHAT, &r::db_create(&db)).await?;
                patience = Duration::ZERO;
            }
        }
        self.unite_databases(&db, &names).await?;
        let present = self.names(WHAT, &r::db(&db).table_list()).await?;
        for table in names.iter().filter(|table| !present.iter().any(|t| t == *table)) {
            let (began, patience) = (Instant::now(), patience.mul_f64(fastrand::f64()));
            while !self.names(WHAT, &r::db(&db).table_list()).await?.iter().any(|t| t == table) {
                if began.elapsed() >= patience {
                    self.create_table(&db, table, replicas).await?;
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        self.unite_twins(&db, &names).await?;
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
        // One server hears a little later of what was made through another.
        self.unite_databases(&db, &names).await?;
        self.unite_twins(&db, &names).await
    }

    /// Waits until as many servers as the hosts name, and replicas need, are one cluster; not for ever.
    async fn await_servers(&self, replicas: u32) {
        let wanted = (replicas.clamp(1, 3) as usize).min(self.client.options().hosts.len());
        let (began, servers) = (Instant::now(), r::db("rethinkdb").table("server_status").count());
        while let Ok(joined) = self.client.run_as::<usize>(&servers).await
            && joined < wanted
        {
            if began.elapsed() > JOINING {
                tracing::warn!(
                    joined,
                    wanted,
                    "not all servers that RETHINKDB_HOSTS names are there: tables get fewer replicas"
                );
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) async fn create_table(&self, db: &str, table: &str, replicas: u32) -> Result<()> {
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

    pub(super) async fn names(&self, what: &'static str, query: &Expr) -> Result<Vec<String>> {
        let names: Json = self.client.run(query).await.map_err(|e| CatalogError::reql(what, e))?;
        serde_json::from_value(names).map_err(|e| CatalogError::Record { what, why: e.to_string() })
    }
}
