//! Nodes and their leases.

use std::collections::HashSet;

use serde_json::{Value as Json, json};
use trough_core::{
    NodeId,
    records::{ROLE_NODES, Service},
};
use trough_reql::r;

use super::{Catalog, Change, Result, Rows, SERVICES, TROUGH, by_ids, document, of_ours, to_json};

/// The field of a node's row that says that its service rows were deleted; the next renewal, which may come from a node that was alive all the
/// time, takes it away.
pub(crate) const REAPED: &str = "reaped";

/// A node's row, judged by the server's clock.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStatus {
    /// The row.
    pub service: Service,
    /// Whether its lease is running.
    pub alive: bool,
    /// Seconds since it was renewed.
    pub age_seconds: f64,
}

impl NodeStatus {
    /// The node's name; rows without one are never given out.
    pub fn node(&self) -> Option<&NodeId> {
        self.service.node.as_ref()
    }

    /// Whether the lease ended at least `margin_seconds` ago.
    pub fn dead_for(&self, margin_seconds: f64) -> bool {
        self.age_seconds > self.service.ttl + margin_seconds
    }
}

impl Catalog {
    /// Renews a node's lease: writes its row with the server's time as `last_heartbeat`; `first_heartbeat` is kept. To be called at a
    /// third of `service.ttl`, with `id` = [`Service::node_id`] and `role` = [`ROLE_NODES`]. Gives whether the node's service rows may have
    /// been deleted since the last time: the row was not there, or carried the mark of [`Catalog::delete_node_services`].
    ///
    /// # Errors
    /// [`super::CatalogError`]; the lease then still runs from the last success.
    pub async fn heartbeat_node(&self, service: &Service) -> Result<bool> {
        let row = document(to_json(service), [("first_heartbeat", r::now()), ("last_heartbeat", r::now())]);
        let upsert = r::table(SERVICES)
            .insert(row)
            .conflict_fn(|_, old, new| {
                let first = old.g("first_heartbeat").default(new.clone().g("first_heartbeat"));
                new.merge(r::object([("first_heartbeat", first)]))
            })
            .return_changes("always")
            .durability("soft");
        let summary = self.write("renew a node's lease", &upsert).await?;
        let before = summary.changes.iter().flatten().next().and_then(|change| change.get("old_val"));
        Ok(before.is_none_or(|row| row.is_null() || row.get(REAPED).is_some()))
    }

    /// Deletes a node's own row: a worker that stops in order is gone at once. Its service rows stay until
    /// [`Catalog::delete_node_services`].
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn remove_node(&self, node: &NodeId) -> Result<()> {
        self.write("remove a node", &r::table(SERVICES).get(Service::node_id(node)).delete()).await?;
        Ok(())
    }

    /// Deletes a node's own row if its lease ended at least `margin_seconds` ago by the server's clock, in one atomic step;
    /// whether it did. A missing row therefore always means: stopped in order, or dead for longer than the margin.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn remove_dead_node(&self, node: &NodeId, margin_seconds: f64) -> Result<bool> {
        let statement = r::table(SERVICES).get(Service::node_id(node)).replace(|old| {
            let age = r::now().sub(old.clone().g("last_heartbeat"));
            let dead = age.gt(old.clone().g("ttl").add(margin_seconds));
            r::branch(old.clone().eq(Json::Null), old.clone(), r::branch(dead, Json::Null, old))
        });
        Ok(self.write("remove a dead node", &statement).await?.deleted > 0)
    }

    /// Every node's row, with whether its lease runs by the server's clock. Those that an operator drains
    /// ([`Catalog::set_draining`]) are marked.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn nodes(&self) -> Result<Vec<NodeStatus>> {
        const WHAT: &str = "read the nodes";
        let rows: Vec<Service> = self.read_vec(WHAT, &r::table(SERVICES).get_all([ROLE_NODES]).index("role")).await?;
        // Asked after the rows, so that no row is younger than the clock.
        let now = self.server_now().await?;
        let drain_ids: Vec<String> = rows.iter().filter_map(|s| s.node.as_ref()).map(drain_id).collect();
        let mut drained = HashSet::new();
        for ids in drain_ids.chunks(super::MAX_KEYS) {
            let read = self.read_vec(WHAT, &by_ids(r::table(TROUGH), ids.iter().map(String::as_str))).await;
            let marks: Vec<Json> = of_ours(read)?;
            drained.extend(marks.iter().filter_map(|m| m.get("node")?.as_str().map(str::to_owned)));
        }
        Ok(rows
            .into_iter()
            .filter(|s| s.node.is_some())
            .map(|mut service| {
                service.draining |= service.node.as_ref().is_some_and(|n| drained.contains(n.as_str()));
                judge(service, now)
            })
            .collect())
    }

    /// One node's row, or none.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn node(&self, node: &NodeId) -> Result<Option<NodeStatus>> {
        let row: Option<Service> =
            self.read_one("read a node", &r::table(SERVICES).get(Service::node_id(node))).await?;
        let now = self.server_now().await?;
        Ok(row.map(|service| judge(service, now)))
    }

    /// Follows the node rows, beginning with all of them.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn node_feed(&self) -> Result<Rows<Change<Service>>> {
        self.follow("follow the nodes", r::table(SERVICES).get_all([ROLE_NODES]).index("role")).await
    }

    /// Marks a node as drained (it gets nothing new and its segments move away), or takes the mark back.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn set_draining(&self, node: &NodeId, draining: bool) -> Result<()> {
        let id = drain_id(node);
        let statement = if draining {
            r::table(TROUGH).insert(r::expr(json!({"id": id, "node": node}))).conflict("replace")
        } else {
            r::table(TROUGH).get(id).delete()
        };
        self.write("drain a node", &statement).await?;
        Ok(())
    }
}

fn drain_id(node: &NodeId) -> String {
    format!("drain:{node}")
}

/// Whether a row is alive at the server's time `now`.
pub(super) fn judge(service: Service, now: f64) -> NodeStatus {
    // A row without a heartbeat never lived.
    let age_seconds = service.last_heartbeat.as_ref().map_or(f64::INFINITY, |at| (now - at.epoch_time).max(0.0));
    NodeStatus { alive: age_seconds < service.ttl, age_seconds, service }
}
