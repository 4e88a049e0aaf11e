//! Write locks: which node alone may write a segment.

use std::collections::HashMap;

use serde_json::{Value as Json, json};
use trough_core::{
    NodeId, SegmentId,
    records::{Lock, Service},
};
use trough_reql::{Expr, r};

use super::{
    Catalog, CatalogError, Change, LOCK, MAX_KEYS, Result, Rows, before_change, by_ids, changed_rows, document,
    error::FENCED, majority, nodes::NodeStatus, to_json,
};

/// Seconds that must pass after a holder's lease ended before another node takes its lock over: longer than a
/// holder may go on before it notices that its lease is gone.
pub const TAKEOVER_MARGIN: f64 = 10.0;

/// What became of one wish for a lock.
#[derive(Clone, Debug, PartialEq)]
pub enum LockOutcome {
    /// The caller holds it.
    Acquired {
        /// The lock as it stands.
        lock: Lock,
        /// What stood before, if anything: this holder's own lock, one of an earlier process of the node, or a dead node's.
        former: Option<Lock>,
    },
    /// Another node holds it, and its lease (with the margin) still runs.
    Held(Lock),
}

impl LockOutcome {
    /// The lock as it stands.
    pub fn lock(&self) -> &Lock {
        match self {
            Self::Acquired { lock, .. } | Self::Held(lock) => lock,
        }
    }
}

/// A lock as it stands, and what stood before this caller's statement.
struct Stand {
    lock: Lock,
    former: Option<Lock>,
}

impl Catalog {
    /// Takes the write locks of the segments for the process `holder` of `node`, one atomic insert per [`MAX_KEYS`]; the outcomes
    /// stand in the order of `segments`. A lock that this holder has stays as it is (but for a higher epoch); one of an
    /// earlier process of the same node is taken over with its fence raised; one of another node only
    /// [`TAKEOVER_MARGIN`] seconds after that node's lease ended by the server's clock.
    ///
    /// # Errors
    /// [`CatalogError::Fenced`] if a newer master's epoch stands in one of the locks: locks that were taken before
    /// that was seen stay taken. Else [`CatalogError::Reql`].
    pub async fn acquire_locks(
        &self,
        segments: &[SegmentId],
        node: &NodeId,
        holder: &str,
        epoch: u64,
    ) -> Result<Vec<LockOutcome>> {
        self.acquire_locks_unless(segments, node, holder, epoch, &|_| false).await
    }

    /// The same, but never from a node that the caller knows to have been alive of late (`spared`). The server's clock alone does not tell: it
    /// may have been set, and a server that was away itself makes everybody look dead until they have renewed.
    ///
    /// # Errors
    /// As [`Catalog::acquire_locks`].
    pub async fn acquire_locks_unless(
        &self,
        segments: &[SegmentId],
        node: &NodeId,
        holder: &str,
        epoch: u64,
        spared: &(dyn Fn(&NodeId) -> bool + Sync),
    ) -> Result<Vec<LockOutcome>> {
        let mut outcomes = Vec::with_capacity(segments.len());
        for batch in segments.chunks(MAX_KEYS) {
            let mut stands = self.insert_locks(batch, node, holder, epoch).await?;
            self.take_over(&mut stands, node, holder, epoch, spared).await?;
            for segment in batch {
                let Stand { lock, former } = stands.remove(segment).ok_or_else(|| CatalogError::Record {
                    what: "acquire locks",
                    why: format!("the lock of segment {segment} vanished while it was taken"),
                })?;
                let mine = &lock.node == node && lock.holder.as_deref() == Some(holder);
                outcomes.push(if mine { LockOutcome::Acquired { lock, former } } else { LockOutcome::Held(lock) });
            }
        }
        Ok(outcomes)
    }

    async fn insert_locks(
        &self,
        segments: &[SegmentId],
        node: &NodeId,
        holder: &str,
        epoch: u64,
    ) -> Result<HashMap<SegmentId, Stand>> {
        const WHAT: &str = "acquire locks";
        let rows = segments.iter().map(|segment| {
            let fields = json!({
                "id": Lock::row_id(segment), "node": node, "segment": segment, "under_promotion": false,
                "holder": holder, "fence": 1, "epoch": epoch,
            });
            document(fields, [("acquired_on", r::now())])
        });
        let insert = r::table(LOCK)
            .insert(r::array(rows))
            .conflict_fn(|_, old, new| {
                let old_epoch = old.clone().g("epoch").default(0);
                let fenced = r::error(format!("{FENCED} a lock carries a newer epoch than {epoch}"));
                let next = new.clone().merge(r::object([("fence", old.clone().g("fence").default(0).add(1))]));
                let renewed = old.clone().merge(r::object([("epoch", new.clone().g("epoch"))]));
                let same_holder = old.clone().g("holder").default("").eq(new.clone().g("holder"));
                let own = r::branch(same_holder, renewed, next);
                r::branch(
                    old.clone().g("node").eq(new.clone().g("node")),
                    r::branch(old_epoch.gt(new.g("epoch")), fenced, own),
                    old,
                )
            })
            .return_changes("always")
            .durability("hard");
        let summary = self.write(WHAT, &insert).await?;
        let before = before_change::<Lock>(WHAT, &summary)?;
        let mut former: HashMap<SegmentId, Lock> = before.into_iter().map(|l| (l.segment.clone(), l)).collect();
        let stand = |lock: Lock| (lock.segment.clone(), Stand { former: former.remove(&lock.segment), lock });
        let mut stands: HashMap<_, _> = changed_rows::<Lock>(WHAT, &summary)?.into_iter().map(stand).collect();
        let missing: Vec<SegmentId> = segments.iter().filter(|s| !stands.contains_key(*s)).cloned().collect();
        // Whatever stood before: what is found here was not changed.
        let found = self.locks_of_segments(&missing).await?.into_iter();
        stands.extend(found.map(|lock| (lock.segment.clone(), Stand { former: Some(lock.clone()), lock })));
        Ok(stands)
    }

    /// Replaces those locks in `stands` that belong to nodes dead for longer than the margin.
    async fn take_over(
        &self,
        stands: &mut HashMap<SegmentId, Stand>,
        node: &NodeId,
        holder: &str,
        epoch: u64,
        spared: &(dyn Fn(&NodeId) -> bool + Sync),
    ) -> Result<()> {
        const WHAT: &str = "take over locks";
        if stands.values().all(|stand| &stand.lock.node == node || spared(&stand.lock.node)) {
            return Ok(());
        }
        let nodes = self.nodes().await?;
        let ended = |who: &NodeId| {
            // No row: stopped in order, or removed by the master after lease and margin.
            nodes.iter().find(|n| n.node() == Some(who)).is_none_or(|n: &NodeStatus| n.dead_for(TAKEOVER_MARGIN))
        };
        let locks = stands.values().map(|stand| &stand.lock);
        let dead: Vec<Lock> =
            locks.filter(|l| &l.node != node && !spared(&l.node) && ended(&l.node)).cloned().collect();
        for lock in dead {
            let fields = json!({
                "id": lock.id, "node": node, "segment": lock.segment, "under_promotion": false, "holder": holder,
                "fence": lock.fence + 1, "epoch": epoch,
            });
            let next = document(fields, [("acquired_on", r::now())]);
            let statement = r::table(LOCK)
                .get(lock.id.as_str())
                .replace(|old| {
                    let fenced = r::error(format!("{FENCED} {} carries a newer epoch than {epoch}", lock.id));
                    let free = old.clone().eq(Json::Null);
                    let newer = old.clone().g("epoch").default(0).gt(epoch);
                    r::branch(
                        free,
                        next.clone(),
                        r::branch(same_lock(&old, &lock), r::branch(newer, fenced, next), old),
                    )
                })
                .return_changes("always")
                .durability("hard");
            let summary = self.write(WHAT, &statement).await?;
            if let Some(now) = changed_rows::<Lock>(WHAT, &summary)?.pop() {
                tracing::info!(segment = %lock.segment, from = %lock.node, to = %now.node, fence = now.fence, "lock of a dead node changed hands");
                stands.insert(lock.segment.clone(), Stand { lock: now, former: Some(lock) });
            }
        }
        Ok(())
    }

    /// A segment's lock, if there is one.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn lock(&self, segment: &SegmentId) -> Result<Option<Lock>> {
        self.read_one("read a lock", &majority(LOCK).get(Lock::row_id(segment))).await
    }

    /// The locks of the segments that have one.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn locks_of_segments(&self, segments: &[SegmentId]) -> Result<Vec<Lock>> {
        let mut all = Vec::new();
        for batch in segments.chunks(MAX_KEYS) {
            let ids: Vec<String> = batch.iter().map(Lock::row_id).collect();
            let query = by_ids(majority(LOCK), ids.iter().map(String::as_str));
            all.extend(self.read_vec::<Lock>("read locks", &query).await?);
        }
        Ok(all)
    }

    /// A node's locks, as a stream.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn locks_of_node(&self, node: &NodeId) -> Result<Rows<Lock>> {
        self.read_rows("read a node's locks", &majority(LOCK).get_all([node.as_str()]).index("node")).await
    }

    /// All locks, as a stream.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn locks(&self) -> Result<Rows<Lock>> {
        self.read_rows("read all locks", &majority(LOCK)).await
    }

    /// Whether the lock still stands as the caller knows it (node, holder and fence).
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn holds_lock(&self, lock: &Lock) -> Result<bool> {
        let now = self.lock(&lock.segment).await?;
        Ok(now.is_some_and(|l| l.node == lock.node && l.holder == lock.holder && l.fence == lock.fence))
    }

    /// Gives a lock back, only if node, holder and fence still are the caller's; whether they were.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn release_lock(&self, lock: &Lock) -> Result<bool> {
        let statement = r::table(LOCK)
            .get(lock.id.as_str())
            .replace(|old| {
                let mine = same_lock(&old, lock);
                r::branch(old.clone().eq(Json::Null), old.clone(), r::branch(mine, Json::Null, old))
            })
            .durability("hard");
        Ok(self.write("release a lock", &statement).await?.deleted > 0)
    }

    /// Gives several locks back, each as [`Catalog::release_lock`] does; how many were the caller's.
    ///
    /// # Errors
    /// [`CatalogError`]; batches before the failed one are released.
    pub async fn release_locks(&self, locks: &[Lock]) -> Result<u64> {
        let mut released = 0;
        for batch in locks.chunks(MAX_KEYS) {
            let known: serde_json::Map<String, Json> = batch
                .iter()
                .map(|l| (l.id.clone(), json!({"node": l.node, "holder": l.holder, "fence": l.fence})))
                .collect();
            let statement = by_ids(r::table(LOCK), batch.iter().map(|l| l.id.as_str()))
                .replace(|old| {
                    let mine = r::expr(Json::Object(known)).g(old.clone().g("id"));
                    let same = identity(&old).eq(mine);
                    r::branch(same, Json::Null, old)
                })
                .durability("hard");
            released += self.write("release locks", &statement).await?.deleted;
        }
        Ok(released)
    }

    /// Puts `former` back in the place of a lock that was taken over from it, only if `lock` still stands: whoever took it over has not
    /// written, and the former holder may have what was never promoted. Whether it did.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn restore_lock(&self, lock: &Lock, former: &Lock) -> Result<bool> {
        let row = to_json(former);
        let statement = r::table(LOCK)
            .get(lock.id.as_str())
            .replace(|old| {
                let mine = same_lock(&old, lock);
                r::branch(old.clone().eq(Json::Null), old.clone(), r::branch(mine, r::expr(row), old))
            })
            .durability("hard");
        Ok(self.write("put a lock back", &statement).await?.replaced > 0)
    }

    /// Sets or takes back the mark that a promotion is running, only if node, holder and fence are the caller's and the mark is not yet as
    /// wished; whether the caller changed it. False for `true` therefore means: already being promoted, or the lock is lost.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn set_under_promotion(&self, lock: &Lock, under_promotion: bool) -> Result<bool> {
        let statement = r::table(LOCK)
            .get(lock.id.as_str())
            .replace(|old| {
                let wished = old.clone().merge(r::object([("under_promotion", Expr::from(under_promotion))]));
                let mine = same_lock(&old, lock);
                r::branch(old.clone().eq(Json::Null), old.clone(), r::branch(mine, wished, old))
            })
            .durability("hard");
        Ok(self.write("mark a promotion", &statement).await?.replaced > 0)
    }

    /// Follows all locks, beginning with all of them.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn lock_feed(&self) -> Result<Rows<Change<Lock>>> {
        self.follow("follow the locks", r::table(LOCK)).await
    }

    /// Whether a node may still count on its locks: its lease runs by the server's clock.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn lease_runs(&self, node: &NodeId) -> Result<bool> {
        Ok(self.node(node).await?.is_some_and(|n| n.alive))
    }

    /// The id of a node's lease, for those that watch a single row.
    pub fn lease_id(node: &NodeId) -> String {
        Service::node_id(node)
    }
}

/// What tells two tenures of a lock apart; a Python lock has no holder and no fence.
fn identity(old: &Expr) -> Expr {
    r::object([
        ("node", old.clone().g("node")),
        ("holder", old.clone().g("holder").default(Json::Null)),
        ("fence", old.clone().g("fence").default(0)),
    ])
}

fn same_lock(old: &Expr, lock: &Lock) -> Expr {
    identity(old).eq(r::expr(json!({"node": lock.node, "holder": lock.holder, "fence": lock.fence})))
}
