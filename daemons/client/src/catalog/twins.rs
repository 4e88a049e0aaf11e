//! Databases and tables that RethinkDB made twice. Two clients that create one name at the same moment, through different servers of a
//! cluster nearly always, both succeed there; from then on the name is ambiguous, and every query on it fails. Whoever prepares the tables
//! puts that right: one keeps the name, the others are renamed, their rows move over, and they go. Several may do so at once: all
//! choose the same one.

use std::collections::BTreeSet;

use serde::Deserialize;
use trough_reql::{Expr, r};

use super::{Catalog, CatalogError, Result};

/// A row of `table_config` or `db_config`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Config {
    id: String,
    name: String,
}

/// A table or database that is one too many.
#[derive(Debug, PartialEq, Eq)]
struct Twin {
    id: String,
    /// Where what it holds belongs to.
    name: String,
    /// What it is called until it goes.
    aside: String,
}

/// Those that are one too many of each of `names`, with those that an earlier attempt renamed. Of one name, the first by `rank` and
/// id keeps it.
fn twins<R: Ord>(mut configs: Vec<Config>, names: &[&str], rank: impl Fn(&Config) -> R) -> Vec<Twin> {
    configs.sort_by(|a, b| (rank(a), &a.id).cmp(&(rank(b), &b.id)));
    let mut found = Vec::new();
    for name in names {
        let prefix = format!("{name}_twin_");
        let same = configs.iter().filter(|c| c.name == *name).skip(1);
        for config in same.chain(configs.iter().filter(|c| c.name.starts_with(&prefix))) {
            let aside = format!("{prefix}{}", config.id.replace('-', ""));
            found.push(Twin { id: config.id.clone(), name: (*name).to_owned(), aside });
        }
    }
    found
}

impl Catalog {
    /// Leaves one database of those of the same name: one that has all the tables, if there is one.
    pub(super) async fn unite_databases(&self, db: &str, tables: &[&str]) -> Result<()> {
        const WHAT: &str = "unite databases made twice";
        #[derive(Deserialize)]
        struct Of {
            db: String,
            name: String,
        }
        let system = r::db("rethinkdb").table("db_config");
        let Some(configs) = self.configs(WHAT, &system).await? else { return Ok(()) };
        if twins(configs.clone(), &[db], |_| ()).is_empty() {
            return Ok(());
        }
        let by_id = r::db("rethinkdb").table("table_config").opt("identifier_format", "uuid").pluck(["db", "name"]);
        let present: Vec<Of> = self.read_vec(WHAT, &by_id).await?;
        let lacks = |config: &Config| {
            let has = present.iter().filter(|table| table.db == config.id).map(|table| table.name.as_str());
            !has.collect::<BTreeSet<_>>().is_superset(&tables.iter().copied().collect())
        };
        let twins = twins(configs, &[db], lacks);
        self.rename(WHAT, &system, &twins).await?;
        for twin in twins {
            let aside = twin.aside.as_str();
            tracing::info!(
                database = db,
                id = twin.id,
                "a database was made twice at the same moment; they become one"
            );
            let moved = async {
                // Its tables may be doubled, too.
                self.unite_twins(aside, tables).await?;
                for table in self.names(WHAT, &r::db(aside).table_list()).await? {
                    if !tables.contains(&table.as_str()) {
                        tracing::error!(
                            database = aside,
                            table,
                            "a table that trough does not know keeps a database made twice"
                        );
                        return Ok(());
                    }
                    if !self.names(WHAT, &r::db(db).table_list()).await?.contains(&table) {
                        self.create_table(db, &table, 3).await?;
                        self.unite_twins(db, tables).await?;
                    }
                    let (from, to) = (r::db(aside).table(table.as_str()), r::db(db).table(table.as_str()));
                    self.move_rows(WHAT, from, to).await?;
                }
                self.client.run(&r::db_drop(aside)).await.map_err(|e| CatalogError::reql(WHAT, e))?;
                Ok(())
            };
            gone_is_done(moved.await)?;
        }
        Ok(())
    }

    /// Leaves one table of those of the same name.
    pub(super) async fn unite_twins(&self, db: &str, names: &[&str]) -> Result<()> {
        const WHAT: &str = "unite tables made twice";
        let system = r::db("rethinkdb").table("table_config");
        let ours = system.clone().filter_obj(r::object([("db", db)]));
        let Some(configs) = self.configs(WHAT, &ours).await? else { return Ok(()) };
        let twins = twins(configs, names, |_| ());
        // All of them first: the name is ambiguous while two have it.
        self.rename(WHAT, &system, &twins).await?;
        for twin in twins {
            tracing::info!(
                table = twin.name,
                id = twin.id,
                "a table was made twice at the same moment; its twins become one"
            );
            let moved = async {
                let (from, to) = (r::db(db).table(twin.aside.as_str()), r::db(db).table(twin.name.as_str()));
                self.move_rows(WHAT, from, to).await?;
                let gone = r::db(db).table_drop(twin.aside.as_str());
                self.client.run(&gone).await.map_err(|e| CatalogError::reql(WHAT, e))?;
                Ok(())
            };
            gone_is_done(moved.await)?;
        }
        Ok(())
    }

    /// Ids and names; none for a user who may not read them, who has to be content with what the server says of the tables.
    async fn configs(&self, what: &'static str, system: &Expr) -> Result<Option<Vec<Config>>> {
        match self.read_vec(what, &system.clone().pluck(["id", "name"])).await {
            Ok(configs) => Ok(Some(configs)),
            Err(error) if error.is_retryable() => Err(error),
            Err(_) => Ok(None),
        }
    }

    async fn rename(&self, what: &'static str, system: &Expr, twins: &[Twin]) -> Result<()> {
        for twin in twins {
            let named = r::object([("name", twin.aside.as_str())]);
            gone_is_done(self.write(what, &system.clone().get(twin.id.as_str()).update(named)).await.map(|_| ()))?;
        }
        Ok(())
    }

    async fn move_rows(&self, what: &'static str, from: Expr, to: Expr) -> Result<()> {
        for table in [&from, &to] {
            self.client.run(&table.clone().wait()).await.map_err(|e| CatalogError::reql(what, e))?;
        }
        self.write(what, &to.insert(from).conflict_fn(|_, old, _| old).durability("hard")).await?;
        Ok(())
    }
}

/// What is not there any more was united by somebody else who was faster.
fn gone_is_done(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(error) if ["does not exist", "no existing"].iter().any(|gone| error.to_string().contains(gone)) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(id: &str, name: &str) -> Config {
        Config { id: id.into(), name: name.into() }
    }

    #[test]
    fn the_first_id_keeps_the_name() {
        let found = twins(
            vec![config("c-3", "lock"), config("a-1", "lock"), config("b-2", "lock"), config("d-4", "schema")],
            &["lock", "schema", "services"],
            |_| (),
        );
        let aside: Vec<&str> = found.iter().map(|t| t.aside.as_str()).collect();
        assert_eq!(aside, ["lock_twin_b2", "lock_twin_c3"]);
        assert!(found.iter().all(|t| t.name == "lock"));
    }

    #[test]
    fn what_an_attempt_left_is_taken_up_again() {
        let found = twins(vec![config("a-1", "lock"), config("b-2", "lock_twin_b2")], &["lock"], |_| ());
        assert_eq!(found, [Twin { id: "b-2".into(), name: "lock".into(), aside: "lock_twin_b2".into() }]);
        assert_eq!(twins(vec![config("a-1", "lock"), config("b-2", "locks")], &["lock"], |_| ()), []);
    }

    #[test]
    fn a_database_with_all_its_tables_keeps_the_name() {
        let configs = vec![config("a-1", "trough"), config("b-2", "trough"), config("c-3", "other")];
        let found = twins(configs.clone(), &["trough"], |c| c.id != "b-2");
        assert_eq!(found.iter().map(|t| t.aside.as_str()).collect::<Vec<_>>(), ["trough_twin_a1"]);
        let found = twins(configs, &["trough"], |_| true);
        assert_eq!(found.iter().map(|t| t.aside.as_str()).collect::<Vec<_>>(), ["trough_twin_b2"]);
    }
}
