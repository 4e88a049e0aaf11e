//! Write locks that were taken for a provisioning that failed then: nothing was written under them, and they are not kept.
//!
//! A new lock is given back. One that was taken over from another node becomes that node's again: its file may have what was never promoted, and
//! it must find it writable when it comes back. One that was this node's before stays: its file here may have the same. Of one that an earlier process
//! of this node had just taken, nobody knows whose it was; it is given back.

use std::sync::Arc;

use trough_client::CatalogError;
use trough_core::records::Lock;

use crate::state::Worker;

/// What becomes of such a lock.
#[derive(Clone, Debug)]
pub(crate) struct Undo {
    lock: Lock,
    former: Option<Lock>,
}

impl Undo {
    /// For a lock that was just taken; none if it was this node's before.
    pub(crate) fn of(worker: &Worker, lock: &Lock, former: Option<Lock>) -> Option<Self> {
        let ours = former.as_ref().is_some_and(|former| former.node == worker.node);
        (!ours).then(|| Self { lock: lock.clone(), former })
    }

    /// For the lock of a provisioning that an earlier process of this node did not finish.
    pub(crate) fn of_unfinished(lock: Lock) -> Self {
        Self { lock, former: None }
    }

    /// Does it; or has it done later, if the metadata does not answer. The segment must be busy.
    async fn attempt(self, worker: &Worker) {
        if let Err(error) = self.carry_out(worker).await {
            let segment = &self.lock.segment;
            tracing::warn!(%segment, %error, "cannot give back the lock of a failed provisioning, trying again");
            worker.locks.owe(self);
        }
    }

    async fn carry_out(&self, worker: &Worker) -> Result<bool, CatalogError> {
        match &self.former {
            None => worker.catalog.release_lock(&self.lock).await,
            Some(former) => worker.catalog.restore_lock(&self.lock, former).await,
        }
    }
}

/// Does all of them, new locks in one statement for many; or has it done later, if the metadata does not answer. The segments must be busy.
pub(crate) async fn all(worker: &Worker, undos: Vec<Undo>) {
    let (new, taken): (Vec<_>, Vec<_>) = undos.into_iter().partition(|undo| undo.former.is_none());
    let locks: Vec<Lock> = new.iter().map(|undo| undo.lock.clone()).collect();
    if let Err(error) = worker.catalog.release_locks(&locks).await {
        tracing::warn!(%error, locks = locks.len(), "cannot give back locks of failed provisionings, trying again");
        new.into_iter().for_each(|undo| worker.locks.owe(undo));
    }
    for undo in taken {
        undo.attempt(worker).await;
    }
}

/// Does what could not be done.
pub(crate) async fn settle(worker: &Arc<Worker>) {
    for undo in worker.locks.take_owed() {
        let segment = &undo.lock.segment;
        let Some(_busy) = worker.busy.try_acquire(std::slice::from_ref(segment)) else {
            worker.locks.owe(undo);
            continue;
        };
        // Provisioned meanwhile, it is wanted.
        if worker.locks.held(segment).is_none() {
            undo.attempt(worker).await;
        }
    }
}
