//! Tables that RethinkDB made twice. Two clients that create a table of one name at the same moment both succeed there; from
//! then on the name is ambiguous, and every query on it fails. Whoever prepares the tables puts that right: the one with the
//! first id keeps the name, the others are renamed, their rows move over, and they go. Several may do so at once.

use serde::Deserialize;
use trough_reql::r;

use super::{Catalog, CatalogError, Result};

/// A row of `table_config`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Config {
    id: String,
    name: String,
}

/// A table that is one too many.
#[derive(Debug, PartialEq, Eq)]
struct Twin {
    id: String,
    /// The table that its rows belong to.
    table: String,
    /// What it is called until it goes.
    aside: String,
}

/// The tables that are one too many of each of `names`, with those that an earlier attempt renamed.
fn twins(mut configs: Vec<Config>, names: &[&str]) -> Vec<Twin> {
    configs.sort_by(|a, b| a.id.cmp(&b.id));
    let mut found = Vec::new();
    for table in names {
        let prefix = format!("{table}_twin_");
        let same = configs.iter().filter(|c| c.name == *table).skip(1);
        for config in same.chain(configs.iter().filter(|c| c.name.starts_with(&prefix))) {
            let aside = format!("{prefix}{}", config.id.replace('-', ""));
            found.push(Twin { id: config.id.clone(), table: (*table).to_owned(), aside });
        }
    }
    found
}

impl Catalog {
    /// Leaves one table of those of the same name.
    pub(super) async fn unite_twins(&self, db: &str, names: &[&str]) -> Result<()> {
        const WHAT: &str = "unite tables made twice";
        let system = r::db("rethinkdb").table("table_config");
        let ours = system.clone().filter_obj(r::object([("db", db)])).pluck(["id", "name"]);
        // A user who may not read this database has to be content with what the server says of the tables.
        let Ok(configs) = self.read_vec::<Config>(WHAT, &ours).await else { return Ok(()) };
        for twin in twins(configs, names) {
            tracing::warn!(
                table = twin.table,
                id = twin.id,
                "a table was made twice at the same moment; its twins become one"
            );
            let rename = system.clone().get(twin.id.as_str()).update(r::object([("name", twin.aside.as_str())]));
            let (table, aside) = (r::db(db).table(twin.table.as_str()), r::db(db).table(twin.aside.as_str()));
            let moved = table.clone().insert(aside.clone()).conflict_fn(|_, old, _| old).durability("hard");
            for step in [rename, table.wait(), aside.wait(), moved, r::db(db).table_drop(twin.aside.as_str())] {
                match self.client.run(&step).await {
                    Ok(_) => {}
                    // Somebody else was faster.
                    Err(e) if e.to_string().contains("does not exist") => break,
                    Err(e) => return Err(CatalogError::reql(WHAT, e)),
                }
            }
        }
        Ok(())
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
        );
        let aside: Vec<&str> = found.iter().map(|t| t.aside.as_str()).collect();
        assert_eq!(aside, ["lock_twin_b2", "lock_twin_c3"]);
        assert!(found.iter().all(|t| t.table == "lock"));
    }

    #[test]
    fn what_an_attempt_left_is_taken_up_again() {
        let found = twins(vec![config("a-1", "lock"), config("b-2", "lock_twin_b2")], &["lock"]);
        assert_eq!(found, [Twin { id: "b-2".into(), table: "lock".into(), aside: "lock_twin_b2".into() }]);
        assert_eq!(twins(vec![config("a-1", "lock"), config("b-2", "locks")], &["lock"]), []);
    }
}
