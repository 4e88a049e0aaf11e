//! The metadata: reachable, its clock, its servers, its tables with their replicas and indexes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use serde_json::Value as Json;
use trough_client::{Catalog, catalog::TABLES};
use trough_config::Settings;
use trough_reql::{Options, r};

use super::{ANSWER_LIMIT, CLOCK_LIMIT, Report};

/// Whether it answers, and what is wrong with it. None if nothing else can be looked at.
pub(super) async fn check(settings: &Settings, report: &mut Report) -> Option<Catalog> {
    let options = match trough_reql::Options::from_url(&settings.rethinkdb_url()) {
        Ok(options) => options,
        Err(e) => {
            report.fail(format!("RETHINKDB_*: {e}"), "correct RETHINKDB_HOSTS and its companions");
            return None;
        }
    };
    let options = check_hosts(options, report).await;
    let catalog = Catalog::new(trough_reql::Client::new(options));
    let asked = Instant::now();
    let advice =
        "see that RethinkDB (or `trough meta`) runs and that RETHINKDB_HOSTS, _USER, _PASSWORD and _TLS fit it";
    match tokio::time::timeout(ANSWER_LIMIT, catalog.server_now()).await {
        Ok(Ok(now)) => {
            let here =
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
            report.good(format!("answers in {:.1} ms", asked.elapsed().as_secs_f64() * 1000.0));
            if (now - here).abs() > CLOCK_LIMIT {
                report.warn(
                    format!("its clock is {:.1} s apart from this machine's", now - here),
                    "let NTP set both; nothing is decided by this machine's clock, but times will confuse people",
                );
            }
        }
        Ok(Err(e)) => {
            report.fail(e, advice);
            return None;
        }
        Err(_) => {
            report.fail(format!("no answer within {} s", ANSWER_LIMIT.as_secs()), advice);
            return None;
        }
    }
    check_servers(&catalog, report).await;
    match catalog.schemas().await {
        Ok(schemas) => report.good(format!("{} schemas", schemas.len())),
        Err(e) => {
            report.fail(
                format!("the tables of {} cannot be read: {e}", settings.rethinkdb_database),
                "start a sync server: it makes them, and makes one of those that were made twice",
            );
            check_tables(&catalog, settings, report).await;
            return None;
        }
    }
    check_tables(&catalog, settings, report).await;
    Some(catalog)
}

/// Whether each of several hosts answers, and whether their clocks agree; the options with those that do.
async fn check_hosts(mut options: Options, report: &mut Report) -> Options {
    if options.hosts.len() < 2 {
        return options;
    }
    let ask = |host: (String, u16)| {
        let alone = Options { hosts: vec![host.clone()], connect_timeout: ANSWER_LIMIT / 2, ..options.clone() };
        async move {
            let catalog = Catalog::new(trough_reql::Client::new(alone));
            let now = tokio::time::timeout(ANSWER_LIMIT, catalog.server_now()).await;
            let here = Instant::now();
            (host, now.map_err(|_| "no answer".to_owned()).and_then(|now| now.map_err(|e| e.to_string())), here)
        }
    };
    let asked = futures::future::join_all(options.hosts.clone().into_iter().map(ask)).await;
    let mut clocks = Vec::new();
    for ((name, port), now, at) in &asked {
        match now {
            Ok(now) => clocks.push(now + at.elapsed().as_secs_f64()),
            Err(why) => report.warn(
                format!("{name}:{port} does not answer: {why}"),
                "start that RethinkDB server again, or take it out of RETHINKDB_HOSTS; daemons ask the others meanwhile",
            ),
        }
    }
    let apart = clocks.iter().copied().fold(f64::MIN, f64::max) - clocks.iter().copied().fold(f64::MAX, f64::min);
    if apart > CLOCK_LIMIT {
        report.warn(
            format!("the clocks of its servers are {apart:.1} s apart"),
            "let NTP set them: leases and the mastership are judged by the clock of whichever server is asked",
        );
    }
    if !clocks.is_empty() {
        options.hosts = asked.into_iter().filter(|(_, now, _)| now.is_ok()).map(|(host, ..)| host).collect();
    }
    options
}

/// The rows of one of RethinkDB's own tables.
async fn system_table(catalog: &Catalog, name: &str) -> Result<Vec<Json>, String> {
    let rows = catalog.client().run(&r::db("rethinkdb").table(name).coerce_to("array")).await;
    match rows.map_err(|e| e.to_string())? {
        Json::Array(rows) => Ok(rows),
        other => Err(format!("{name} gives {other}")),
    }
}

async fn check_servers(catalog: &Catalog, report: &mut Report) {
    match system_table(catalog, "server_status").await {
        Ok(servers) => {
            let versions: BTreeSet<&str> = servers.iter().filter_map(|s| s["process"]["version"].as_str()).collect();
            let named = versions.iter().copied().collect::<Vec<_>>().join(", ");
            match versions.len() {
                0 | 1 => report.good(format!("{} server(s), {named}", servers.len())),
                _ => report.warn(
                    format!("its {} servers have different versions: {named}", servers.len()),
                    "bring all to one version; mixed ones are for the time of an upgrade",
                ),
            }
        }
        Err(e) => report.warn(
            format!("the servers cannot be listed: {e}"),
            "replicas are not checked; let RETHINKDB_USER read the database `rethinkdb`",
        ),
    }
}

/// Replicas, acknowledgements and indexes of every table.
async fn check_tables(catalog: &Catalog, settings: &Settings, report: &mut Report) {
    let database = settings.rethinkdb_database.as_str();
    let servers = system_table(catalog, "server_status").await.map_or(1, |servers| servers.len());
    let Ok(configs) = system_table(catalog, "table_config").await else { return };
    let mut good = true;
    for (table, indexes) in TABLES {
        let Some(config) = configs.iter().find(|c| c["db"] == database && c["name"] == table) else {
            report.fail(format!("there is no table {table}"), "start a sync server: it makes it");
            good = false;
            continue;
        };
        let found = findings(config, servers, indexes);
        good &= found.is_empty();
        for (what, advice) in found {
            let advice = advice.replace("TABLE", &format!("r.db('{database}').table('{table}')"));
            report.warn(format!("table {table}: {what}"), advice);
        }
    }
    let statuses = system_table(catalog, "table_status").await.unwrap_or_default();
    for status in statuses.iter().filter(|s| s["db"] == database) {
        let (name, is) = (status["name"].as_str().unwrap_or("?"), &status["status"]);
        if is["ready_for_writes"] == false {
            good = false;
            report.fail(
                format!("table {name} takes no writes: too few of its replicas are there"),
                "bring the RethinkDB servers back; workers serve what they have meanwhile",
            );
        } else if is["all_replicas_ready"] == false && lagging(std::slice::from_ref(status)).is_empty() {
            good = false;
            report.warn(format!("table {name}: not all replicas are ready"), "see that every RethinkDB server runs");
        }
    }
    let ours: Vec<Json> = statuses.iter().filter(|s| s["db"] == database).cloned().collect();
    for ((server, state), tables) in lagging(&ours) {
        good = false;
        let tables = tables.into_iter().collect::<Vec<_>>().join(", ");
        let advice = if state == "disconnected" {
            format!(
                "start it again; with another server lost the tables take no writes. If it is gone for good, put a new one in its place \
                 and then: r.db('{database}').reconfigure(shards=1, replicas=3)"
            )
        } else {
            "it catches up by itself; see its log if this stays".to_owned()
        };
        report.warn(format!("RethinkDB server {server} is {state}, with a replica of each of {tables}"), advice);
    }
    if good {
        report.good(format!("{} tables with their indexes", TABLES.len()));
    }
}

/// Servers whose replicas are not ready, each with its state there and the tables, by rows of `table_status`.
fn lagging(statuses: &[Json]) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut found = BTreeMap::<_, BTreeSet<String>>::new();
    for status in statuses {
        let shards = status["shards"].as_array().into_iter().flatten();
        for replica in shards.filter_map(|shard| shard["replicas"].as_array()).flatten() {
            let text = |of: &Json| of.as_str().unwrap_or("?").to_owned();
            if replica["state"] != "ready" {
                let place = (text(&replica["server"]), text(&replica["state"]).replace('_', " "));
                found.entry(place).or_default().insert(text(&status["name"]));
            }
        }
    }
    found
}

/// What is wrong with a table, by its row of `table_config`; TABLE stands for it in the advice.
fn findings(config: &Json, servers: usize, indexes: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let wanted = servers.min(3);
    let shards = config["shards"].as_array().map_or(&[][..], Vec::as_slice);
    let replicas = shards.iter().map(|s| s["replicas"].as_array().map_or(0, Vec::len)).min().unwrap_or(0);
    if replicas < wanted {
        found.push((
            format!("{replicas} replica(s) on {servers} servers: with a server its rows are lost"),
            format!("TABLE.reconfigure(shards=1, replicas={wanted})"),
        ));
    }
    if config["write_acks"] != "majority" {
        found.push((
            format!("write_acks is {}: an acknowledged lock can be lost", config["write_acks"]),
            "TABLE.config().update({'write_acks': 'majority'})".to_owned(),
        ));
    }
    if config["durability"] != "hard" {
        found.push((
            format!("durability is {}: an acknowledged lock can be lost", config["durability"]),
            "TABLE.config().update({'durability': 'hard'})".to_owned(),
        ));
    }
    let has = |index: &str| config["indexes"].as_array().is_some_and(|all| all.iter().any(|i| i == index));
    let missing: Vec<&str> = indexes.iter().copied().filter(|index| !has(index)).collect();
    if !missing.is_empty() {
        found.push((
            format!("lacks the index {}", missing.join(", ")),
            "start a sync server again: it makes what is missing".to_owned(),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn servers_whose_replicas_are_away_are_named() {
        let table = |name: &str, third: &str| {
            let replica = |server: &str, state: &str| json!({"server": server, "state": state});
            json!({"name": name, "shards": [{"replicas": [replica("a", "ready"), replica("b", third)]}]})
        };
        assert!(lagging(&[table("lock", "ready"), json!({"name": "old", "shards": null})]).is_empty());
        let away =
            lagging(&[table("lock", "disconnected"), table("schema", "disconnected"), table("trough", "backfilling")]);
        let named: Vec<String> = away.iter().map(|((s, is), t)| format!("{s} {is} {}", t.len())).collect();
        assert_eq!(named, ["b backfilling 1", "b disconnected 2"]);
    }

    #[test]
    fn tables_are_judged_by_their_configuration() {
        let config = |replicas: &[&str], acks: &str, durability: &str, indexes: &[&str]| json!({"shards": [{"replicas": replicas}], "write_acks": acks, "durability": durability, "indexes": indexes});
        assert!(findings(&config(&["a"], "majority", "hard", &["node"]), 1, &["node"]).is_empty());
        assert!(findings(&config(&["a", "b", "c"], "majority", "hard", &[]), 5, &[]).is_empty());
        let bad = findings(&config(&["a"], "single", "soft", &["role"]), 5, &["segment", "role", "node"]);
        let advice: Vec<&str> = bad.iter().map(|(_, advice)| advice.as_str()).collect();
        assert_eq!(advice[0], "TABLE.reconfigure(shards=1, replicas=3)");
        assert!(advice[1].contains("write_acks") && advice[2].contains("durability"));
        assert_eq!(bad[3].0, "lacks the index segment, node");
        assert_eq!(findings(&config(&["a"], "majority", "hard", &[]), 2, &[]).len(), 1);
    }
}
