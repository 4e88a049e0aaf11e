//! The election of the sync master, and the epoch that fences its predecessors.
//!
//! One atomic statement elects and renews, judged by the server's clock. The winner raises the epoch; every assignment and
//! lock that it writes carries it, and an older one is refused. A master judges its own tenure by its monotonic clock: it steps
//! down at [`Election::valid_until`], half a ttl after the start of its last successful renewal.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use trough_core::{
    NodeId,
    protocol::PROTOCOL,
    records::{SYNC_MASTER_ID, Time},
};
use trough_reql::r;

use super::{Catalog, CatalogError, Change, Result, Rows, SERVICES, TROUGH, changed_rows, document, majority, of_ours};

/// A process that wants to be (or to stay) the sync master.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// A UUID, new for each process.
    pub holder: String,
    /// Its node.
    pub node: NodeId,
    /// Base URL of its segment manager, `http://HOST:PORT/`.
    pub url: String,
    /// The port of `url`.
    pub port: u16,
    /// How long it stays master without renewing, in seconds.
    pub ttl: f64,
    /// The node's load average per core.
    pub load: f64,
    /// The machine's name.
    pub host: String,
}

/// The row `trough-sync-master`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Master {
    /// `trough-sync-master`.
    pub id: String,
    /// Its node.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// Base URL of its segment manager.
    pub url: String,
    /// The port of `url`.
    #[serde(default)]
    pub port: Option<u16>,
    /// Seconds after `last_heartbeat` that it stays master.
    pub ttl: f64,
    /// Its process (a UUID); a Python master has none.
    #[serde(default)]
    pub holder: Option<String>,
    /// When it was elected.
    #[serde(default)]
    pub first_heartbeat: Option<Time>,
    /// When it last renewed.
    #[serde(default)]
    pub last_heartbeat: Option<Time>,
}

/// What an election gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Election {
    /// Whether the candidate is master now.
    pub mine: bool,
    /// Whether this statement made it master (it was not before): it must raise the epoch before it does anything.
    pub won: bool,
    /// The master's row as it stands.
    pub master: Master,
    /// Until when, by this process's monotonic clock, the candidate may act as master if it is mine.
    pub valid_until: Instant,
}

impl Catalog {
    /// Elects or renews in one atomic statement: a missing or run-out mastership becomes the candidate's, its own is renewed, and
    /// another's living one is left alone. Judged by the server's clock alone.
    ///
    /// # Errors
    /// [`CatalogError`]; the candidate then does not know, and is master no longer than its last `valid_until`.
    pub async fn elect(&self, candidate: &Candidate) -> Result<Election> {
        const WHAT: &str = "elect the sync master";
        let started = Instant::now();
        let me = document(
            json!({
                "id": SYNC_MASTER_ID, "holder": candidate.holder, "node": candidate.node, "url": candidate.url,
                "port": candidate.port, "ttl": candidate.ttl, "load": candidate.load, "host": candidate.host,
                "pid": std::process::id(), "protocol": PROTOCOL,
            }),
            [("first_heartbeat", r::now()), ("last_heartbeat", r::now())],
        );
        let statement = r::table(SERVICES)
            .get(SYNC_MASTER_ID)
            .replace(|old| {
                let age = r::now().sub(old.clone().g("last_heartbeat"));
                let vacant = old.clone().eq(Json::Null).or(age.gt(old.clone().g("ttl")));
                let mine = old.clone().g("holder").default(Json::Null).eq(candidate.holder.as_str());
                let renewed = old.clone().merge(r::object([("last_heartbeat", r::now())]));
                r::branch(vacant, me, r::branch(mine, renewed, old))
            })
            .return_changes("always")
            .durability("hard");
        let summary = self.write(WHAT, &statement).await?;
        let master: Master = changed_rows(WHAT, &summary)?
            .pop()
            .ok_or_else(|| CatalogError::Record { what: WHAT, why: "no row came back".into() })?;
        let mine = master.holder.as_deref() == Some(candidate.holder.as_str());
        let won = mine && master.first_heartbeat == master.last_heartbeat && summary.inserted + summary.replaced > 0;
        let valid_until = started + Duration::from_secs_f64((candidate.ttl / 2.0).clamp(0.0, 1e6));
        Ok(Election { mine, won, master, valid_until })
    }

    /// The master's row, and whether it runs by the server's clock.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn master(&self) -> Result<Option<(Master, bool)>> {
        let row: Option<Master> =
            self.read_one("read the sync master", &majority(SERVICES).get(SYNC_MASTER_ID)).await?;
        let Some(master) = row else { return Ok(None) };
        let now = self.server_now().await?;
        let runs = master.last_heartbeat.as_ref().is_some_and(|at| now - at.epoch_time <= master.ttl);
        Ok(Some((master, runs)))
    }

    /// Follows the master's row, beginning with it as it stands.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn master_feed(&self) -> Result<Rows<Change<Master>>> {
        self.follow("follow the sync master", r::table(SERVICES).get(SYNC_MASTER_ID)).await
    }

    /// Raises the epoch by one for the process that has just become master; the new epoch, to be carried by all it writes.
    ///
    /// # Errors
    /// [`CatalogError::NotMaster`] if `holder` is not the living master; else [`CatalogError::Reql`].
    pub async fn raise_epoch(&self, holder: &str) -> Result<u64> {
        const WHAT: &str = "raise the epoch";
        loop {
            match self.master().await? {
                Some((master, true)) if master.holder.as_deref() == Some(holder) => {}
                Some((master, _)) => return Err(CatalogError::NotMaster { what: WHAT, master: master.url }),
                None => return Err(CatalogError::NotMaster { what: WHAT, master: "nobody".into() }),
            }
            let before = self.current_epoch().await?;
            let next = json!({"id": "epoch", "epoch": before + 1, "holder": holder});
            let statement = r::table(TROUGH)
                .get("epoch")
                .replace(|old| {
                    let unchanged = old.clone().g("epoch").default(0).eq(before);
                    r::branch(unchanged, r::expr(next), old)
                })
                .return_changes("always")
                .durability("hard");
            let summary = self.write(WHAT, &statement).await?;
            if summary.inserted + summary.replaced > 0 {
                return Ok(before + 1);
            }
            // Another candidate raised it in between; whether we still are master is looked at again.
        }
    }

    /// The highest epoch that was raised; 0 before the first master.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn current_epoch(&self) -> Result<u64> {
        #[derive(Deserialize)]
        struct Epoch {
            epoch: u64,
        }
        let row: Option<Epoch> = of_ours(self.read_one("read the epoch", &majority(TROUGH).get("epoch")).await)?;
        Ok(row.map_or(0, |e| e.epoch))
    }

    /// Gives the mastership up, if it is `holder`'s; whether it was.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn resign(&self, holder: &str) -> Result<bool> {
        let statement = r::table(SERVICES)
            .get(SYNC_MASTER_ID)
            .replace(|old| {
                let mine = old.clone().g("holder").default(Json::Null).eq(holder);
                r::branch(old.clone().eq(Json::Null), old.clone(), r::branch(mine, Json::Null, old))
            })
            .durability("hard");
        Ok(self.write("resign", &statement).await?.deleted > 0)
    }
}
