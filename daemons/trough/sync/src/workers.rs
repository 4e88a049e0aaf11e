//! From node rows to workers as planning sees them, with memory of those that went away.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use trough_client::catalog::NodeStatus;

use crate::{
    model::{Model, NodeIx, Ring},
    plan::{Presence, WorkerView},
};

/// Remembers workers whose rows are gone, so that they too are given grace.
#[derive(Debug, Default)]
pub(crate) struct WorkerMemory {
    known: HashMap<NodeIx, (Instant, WorkerView)>,
}

impl WorkerMemory {
    /// The workers: those with a row, judged by its age; and those without one that had one, or that have
    /// assignments, for as long as the grace runs.
    pub(crate) fn workers(
        &mut self,
        model: &mut Model,
        nodes: &[NodeStatus],
        grace: Duration,
        now: Instant,
    ) -> Vec<WorkerView> {
        let mut present = Vec::new();
        for status in nodes {
            let Some(name) = status.node() else { continue };
            let service = &status.service;
            let view = WorkerView {
                node: model.nodes.intern(name),
                cold: service.cold_storage == Some(true),
                presence: Presence::of(status.age_seconds, service.ttl, grace.as_secs_f64()),
                draining: service.draining,
                weight: service.available_bytes.unwrap_or(0).max(1),
                zone: service.zone.clone(),
            };
            self.known.insert(view.node, (now, view.clone()));
            present.push(view);
        }
        for view in self.strangers(model, &present) {
            self.known.entry(view.node).or_insert((now, view));
        }
        let vanished = |node: &NodeIx| present.iter().all(|w| w.node != *node);
        let mut workers = present.clone();
        let mut over = Vec::new();
        for (node, (seen, view)) in self.known.iter_mut().filter(|(node, _)| vanished(node)) {
            // One whose grace was over before its row was removed gets no second one.
            if view.presence == Presence::Gone || now.duration_since(*seen) >= grace {
                view.presence = Presence::Gone;
                over.push(*node);
            }
            let presence = if view.presence == Presence::Gone { Presence::Gone } else { Presence::Grace };
            workers.push(WorkerView { presence, ..view.clone() });
        }
        if !over.is_empty() {
            let assigned: HashSet<NodeIx> =
                model.segments().flat_map(|ix| model.rows(ix)).map(|row| row.node).collect();
            let forgotten = |node: &NodeIx| over.contains(node) && !assigned.contains(node);
            self.known.retain(|node, _| !forgotten(node));
            workers.retain(|w| !forgotten(&w.node));
        }
        workers.sort_by_key(|w| w.node);
        workers
    }

    /// Nodes that have assignments but neither a row nor a memory: a master that has just begun cannot know how
    /// long they have been gone. They count as of average weight.
    fn strangers(&self, model: &Model, present: &[WorkerView]) -> Vec<WorkerView> {
        let known = |node: NodeIx| present.iter().any(|w| w.node == node) || self.known.contains_key(&node);
        let unknown: Vec<bool> = (0..model.nodes.len()).map(|n| !known(n as NodeIx)).collect();
        if !unknown.contains(&true) {
            return Vec::new();
        }
        let hot: Vec<u64> = present.iter().filter(|w| !w.cold).map(|w| w.weight).collect();
        let weight = hot.iter().sum::<u64>().checked_div(hot.len() as u64).unwrap_or(1).max(1);
        let mut found: HashMap<NodeIx, bool> = HashMap::new();
        for ix in model.segments() {
            for row in model.rows(ix).iter().filter(|r| unknown[usize::from(r.node)]) {
                found.insert(row.node, row.ring == Ring::Cold);
            }
        }
        found
            .into_iter()
            .map(|(node, cold)| WorkerView {
                node,
                cold,
                presence: Presence::Grace,
                draining: false,
                weight,
                zone: None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use trough_core::{NodeId, records::Service};

    use super::*;
    use crate::model::{Row, tests::segment};

    fn status(name: &str, age: f64) -> NodeStatus {
        let node = NodeId::new(name).expect("valid");
        let service = Service {
            id: Service::node_id(&node),
            node: Some(node),
            ttl: 30.0,
            available_bytes: Some(500),
            ..Service::default()
        };
        NodeStatus { alive: age < service.ttl, age_seconds: age, service }
    }

    #[test]
    fn a_vanished_row_and_an_unknown_node_are_given_grace() {
        let mut model = Model::new("/d");
        let ix = model.intern(&segment("s"));
        let node = model.nodes.intern(&NodeId::new("old").expect("valid"));
        let row = Row {
            node,
            ring: Ring::Hot(0),
            bytes: 1,
            mtime_ms: None,
            sha256: None,
            generation: 1,
            assigned_on: None,
            live: false,
        };
        let record = model.assignment(ix, &row, 1);
        model.load(&record);
        let mut memory = WorkerMemory::default();
        let (grace, t0) = (Duration::from_secs(60), Instant::now());
        let presence = |workers: &[WorkerView], model: &Model, name: &str| {
            let ix = model.nodes.get(&NodeId::new(name).expect("valid")).expect("known");
            workers.iter().find(|w| w.node == ix).map(|w| (w.presence, w.weight))
        };
        let workers = memory.workers(&mut model, &[status("a", 1.0), status("b", 40.0)], grace, t0);
        assert_eq!(presence(&workers, &model, "a"), Some((Presence::Alive, 500)));
        assert_eq!(presence(&workers, &model, "b"), Some((Presence::Grace, 500)));
        assert_eq!(presence(&workers, &model, "old"), Some((Presence::Grace, 500)));
        let workers = memory.workers(&mut model, &[status("b", 95.0)], grace, t0 + Duration::from_secs(59));
        assert_eq!(presence(&workers, &model, "a"), Some((Presence::Grace, 500)), "stopped in order, may be back");
        assert_eq!(presence(&workers, &model, "b"), Some((Presence::Gone, 500)));
        let workers = memory.workers(&mut model, &[], grace, t0 + Duration::from_secs(60));
        assert_eq!(presence(&workers, &model, "old"), Some((Presence::Gone, 500)));
        assert_eq!(presence(&workers, &model, "b"), None, "its grace was over when its row was removed");
        model.unload(ix, node);
        let workers = memory.workers(&mut model, &[], grace, t0 + Duration::from_secs(61));
        assert_eq!(workers, []);
        // Back again, it is a worker like any other.
        let workers = memory.workers(&mut model, &[status("b", 1.0)], grace, t0 + Duration::from_secs(70));
        assert_eq!(presence(&workers, &model, "b"), Some((Presence::Alive, 500)));
    }
}
