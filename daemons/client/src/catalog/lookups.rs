//! What discovery looks up goes on while a table has no primary replica: any replica's answer serves then. Nothing can be written
//! meanwhile, so hardly anything can be old; and workers follow the locks themselves.

use std::time::Duration;

use futures::future::select_ok;
use serde::de::DeserializeOwned;
use trough_core::{
    SegmentId,
    records::{Lock, ROLE_NODES, Service},
};
use trough_reql::{Expr, r};

use super::{Catalog, LOCK, Result, SERVICES, by_ids, majority};

/// How long the primary replica has before any other is asked as well. One that stands still is found out after some ten seconds.
const PRIMARY: Duration = Duration::from_secs(2);

impl Catalog {
    /// The service rows of at most [`super::MAX_KEYS`] segments.
    pub(crate) async fn look_up_services(&self, segments: &[SegmentId]) -> Result<Vec<Service>> {
        let of = |table: Expr| table.get_all(segments.iter().map(|s| Expr::from(s.as_str()))).index("segment");
        self.look_up("read the services of segments", of(r::table(SERVICES)), of(outdated(SERVICES))).await
    }

    /// The locks of at most [`super::MAX_KEYS`] segments.
    pub(crate) async fn look_up_locks(&self, segments: &[SegmentId]) -> Result<Vec<Lock>> {
        let ids: Vec<String> = segments.iter().map(Lock::row_id).collect();
        let of = |table: Expr| by_ids(table, ids.iter().map(String::as_str));
        self.look_up("read locks", of(majority(LOCK)), of(outdated(LOCK))).await
    }

    /// The nodes' rows as they stand, with the server's clock at about the same moment.
    pub(crate) async fn node_rows_and_clock(&self) -> Result<(Vec<Service>, f64)> {
        let of = |table: Expr| table.get_all([ROLE_NODES]).index("role");
        let rows = self.look_up("read the nodes", of(r::table(SERVICES)), of(outdated(SERVICES)));
        futures::try_join!(rows, self.server_now())
    }

    async fn look_up<T: DeserializeOwned>(&self, what: &'static str, sure: Expr, any: Expr) -> Result<Vec<T>> {
        let mut asked = Box::pin(self.read_vec(what, &sure));
        match tokio::time::timeout(PRIMARY, &mut asked).await {
            Ok(answer) => answer,
            Err(_) => select_ok([asked, Box::pin(self.read_vec(what, &any))]).await.map(|(rows, _)| rows),
        }
    }
}

fn outdated(table: &str) -> Expr {
    r::table(table).opt("read_mode", "outdated")
}
