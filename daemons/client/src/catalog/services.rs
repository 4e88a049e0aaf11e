//! Service rows: who serves which segment. Each is written once, when a copy becomes healthy, and lives as long as its node's lease.

use std::collections::HashMap;

use futures::StreamExt;
use trough_core::{
    NodeId, SegmentId,
    records::{ROLE_NODES, ROLE_READ, ROW_TTL_FOREVER, Service},
};
use trough_reql::{Expr, r};

use super::{
    Catalog, Change, MAX_KEYS, Result, Rows, SERVICES, by_ids, document,
    nodes::{REAPED, judge},
    to_json,
};

/// A service row together with what counts: whether its own ttl and its node's lease run.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveService {
    /// The row.
    pub service: Service,
    /// Whether the row's ttl and the node's lease both run, by the server's clock.
    pub alive: bool,
    /// Whether the node is a cold worker.
    pub cold: bool,
}

/// The row that says that `node` serves `segment` in `role` (`trough-read` or `trough-write`) at `base_url`
/// (`http://HOST:PORT/`), for as long as the node's lease.
pub fn segment_service(
    role: &str,
    node: &NodeId,
    segment: &SegmentId,
    base_url: &str,
    port: u16,
    load: f64,
) -> Service {
    let base = base_url.trim_end_matches('/');
    Service {
        id: Service::segment_id(role, node, segment),
        role: Some(role.to_owned()),
        node: Some(node.clone()),
        segment: Some(segment.clone()),
        url: Some(format!("{base}/?segment={}", segment.url_encoded())),
        port: Some(port),
        ttl: ROW_TTL_FOREVER,
        load,
        pid: Some(std::process::id()),
        ..Service::default()
    }
}

impl Catalog {
    /// Writes service rows with the server's time as their heartbeat, [`MAX_KEYS`] a statement; one that exists keeps its
    /// `first_heartbeat`. Rows made by [`segment_service`] live as long as their node's lease; with a short ttl (HEARTBEAT:
    /// segment) the same call renews them.
    ///
    /// # Errors
    /// [`super::CatalogError`]; batches before the failed one are written.
    pub async fn advertise(&self, services: &[Service]) -> Result<()> {
        for batch in services.chunks(MAX_KEYS) {
            let rows = batch
                .iter()
                .map(|s| document(to_json(s), [("first_heartbeat", r::now()), ("last_heartbeat", r::now())]));
            let upsert = r::table(SERVICES).insert(r::array(rows)).conflict_fn(|_, old, new| {
                let first = old.g("first_heartbeat").default(new.clone().g("first_heartbeat"));
                new.merge(r::object([("first_heartbeat", first)]))
            });
            self.write("advertise segments", &upsert).await?;
        }
        Ok(())
    }

    /// Deletes service rows by their ids ([`Service::segment_id`]); how many there were.
    ///
    /// # Errors
    /// [`super::CatalogError`]; batches before the failed one are deleted.
    pub async fn withdraw(&self, ids: &[String]) -> Result<u64> {
        let mut deleted = 0;
        for batch in ids.chunks(MAX_KEYS) {
            let delete = by_ids(r::table(SERVICES), batch.iter().map(String::as_str)).delete();
            deleted += self.write("withdraw segments", &delete).await?.deleted;
        }
        Ok(deleted)
    }

    /// Every service row of a segment, live or not.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn services_of_segment(&self, segment: &SegmentId) -> Result<Vec<LiveService>> {
        Ok(self.services_of_segments(std::slice::from_ref(segment)).await?.remove(segment).unwrap_or_default())
    }

    /// Every service row of the segments, live or not; segments without one are absent.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn services_of_segments(&self, segments: &[SegmentId]) -> Result<HashMap<SegmentId, Vec<LiveService>>> {
        let rows = self.raw_services_of_segments(segments).await?;
        let nodes: HashMap<NodeId, (bool, bool)> = self
            .nodes()
            .await?
            .into_iter()
            .filter_map(|n| Some((n.node()?.clone(), (n.alive, n.service.cold_storage == Some(true)))))
            .collect();
        let now = self.server_now().await?;
        let mut by_segment: HashMap<SegmentId, Vec<LiveService>> = HashMap::new();
        for service in rows {
            let (Some(segment), Some(node)) = (service.segment.clone(), service.node.as_ref()) else { continue };
            let (node_alive, cold) = nodes.get(node).copied().unwrap_or((false, false));
            let status = judge(service, now);
            let live = LiveService { alive: status.alive && node_alive, cold, service: status.service };
            by_segment.entry(segment).or_default().push(live);
        }
        Ok(by_segment)
    }

    /// The service rows of the segments as they stand, nothing judged.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn raw_services_of_segments(&self, segments: &[SegmentId]) -> Result<Vec<Service>> {
        let mut all = Vec::new();
        for batch in segments.chunks(MAX_KEYS) {
            let query = r::table(SERVICES).get_all(batch.iter().map(|s| Expr::from(s.as_str()))).index("segment");
            all.extend(self.read_vec::<Service>("read the services of segments", &query).await?);
        }
        Ok(all)
    }

    /// Every row that a node has, its own among them, as a stream.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn services_of_node(&self, node: &NodeId) -> Result<Rows<Service>> {
        self.read_rows("read a node's services", &r::table(SERVICES).get_all([node.as_str()]).index("node")).await
    }

    /// Every `trough-read` row whose segment matches the regular expression (RE2, unanchored), as a stream.
    ///
    /// # Errors
    /// [`super::CatalogError`], also for an expression that the server does not understand.
    pub async fn stream_read_services(&self, matching: Option<&str>) -> Result<Rows<Service>> {
        let rows = r::table(SERVICES).get_all([ROLE_READ]).index("role");
        let query = match matching {
            None => rows,
            Some(pattern) => rows.filter(|row| row.g("segment").match_(pattern)),
        };
        self.read_rows("read the read services", &query).await
    }

    /// The read and write rows of every segment whose id begins with `prefix`, as a stream in the order of the ids, byte by byte. The
    /// server reads them a page at a time.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn services_in_order(&self, prefix: &str) -> Result<Rows<Service>> {
        let (low, high) = match prefix {
            "" => (r::minval(), r::maxval()),
            _ => (prefix.into(), format!("{prefix}\u{10ffff}").into()),
        };
        let ordered = r::table(SERVICES)
            .between(low, high)
            .index("segment")
            .order_by(std::iter::empty::<Expr>())
            .index("segment")
            .pluck(["id", "role", "node", "segment", "url", "ttl", "last_heartbeat"]);
        self.read_rows("read the services in order", &ordered).await
    }

    /// Every row of the table as a stream.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn all_services(&self) -> Result<Rows<Service>> {
        self.read_rows("read all services", &r::table(SERVICES)).await
    }

    /// Deletes every service row of a node but its own ([`Catalog::remove_node`], [`Catalog::remove_dead_node`]),
    /// [`MAX_KEYS`] a statement; how many there were. It stops before the next statement once the node's lease runs: a worker
    /// that came back keeps its rows, and writes again those that were deleted before.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn delete_node_services(&self, node: &NodeId) -> Result<u64> {
        // Before anything goes: if the node lives after all (the server's clock was set), it writes its rows again.
        let mark = r::object([(REAPED, Expr::from(true))]);
        self.write("mark a node", &r::table(SERVICES).get(Service::node_id(node)).update(mark)).await?;
        let mut rows = self.services_of_node(node).await?.ready_chunks(MAX_KEYS);
        let mut deleted = 0;
        while let Some(chunk) = rows.next().await {
            if self.node(node).await?.is_some_and(|status| status.alive) {
                break;
            }
            let mut ids = Vec::with_capacity(chunk.len());
            for row in chunk {
                let row = row?;
                if row.role.as_deref() != Some(ROLE_NODES) {
                    ids.push(row.id);
                }
            }
            deleted += self.withdraw(&ids).await?;
        }
        Ok(deleted)
    }

    /// Follows the whole table of services, beginning with all of it.
    ///
    /// # Errors
    /// [`super::CatalogError`].
    pub async fn service_feed(&self) -> Result<Rows<Change<Service>>> {
        self.follow("follow the services", r::table(SERVICES)).await
    }
}
