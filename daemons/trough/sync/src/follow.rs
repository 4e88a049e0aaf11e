//! Keeps the followed tables current while a term lasts. A feed that breaks is begun anew.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use trough_client::catalog::{Change, Result};

use crate::{
    context::Context,
    mastership::Term,
    tables::{Locks, Serving},
};

/// Pause before a broken feed is begun anew.
const RETRY: Duration = Duration::from_secs(1);

/// Follows the services until the term is over.
pub(crate) async fn services(context: Arc<Context>, term: Term) {
    until_over(&term, "services", || async {
        let mut feed = context.catalog.service_feed().await?;
        let mut fresh = Some(Serving::default());
        while let Some(change) = feed.next().await {
            match change? {
                Change::Ready => {
                    if let Some(mut table) = fresh.take() {
                        table.complete = true;
                        *context.serving.write() = table;
                        context.nudge.notify_one();
                    }
                }
                Change::Row { old, new } => match &mut fresh {
                    Some(table) => table.change(old.as_ref(), new.as_ref()),
                    None => {
                        let is_node =
                            |s: &Option<trough_core::records::Service>| s.as_ref().is_some_and(|s| s.segment.is_none());
                        let leases_only = is_node(&old) && is_node(&new);
                        context.serving.write().change(old.as_ref(), new.as_ref());
                        if !leases_only {
                            context.nudge.notify_one();
                        }
                    }
                },
            }
        }
        Ok(())
    })
    .await;
    context.serving.write().complete = false;
}

/// Follows the locks until the term is over; a promotion's end marks its segment.
pub(crate) async fn locks(context: Arc<Context>, term: Term) {
    until_over(&term, "locks", || async {
        let mut feed = context.catalog.lock_feed().await?;
        let mut fresh = Some(Locks::default());
        while let Some(change) = feed.next().await {
            match change? {
                Change::Ready => {
                    if let Some(mut table) = fresh.take() {
                        table.complete = true;
                        *context.locks.write() = table;
                    }
                }
                Change::Row { old, new } => match &mut fresh {
                    Some(table) => drop(table.change(old, new)),
                    None => {
                        let promoted = context.locks.write().change(old, new);
                        context.mark_dirty(promoted);
                    }
                },
            }
        }
        Ok(())
    })
    .await;
    context.locks.write().complete = false;
}

/// Follows what an operator has set until the term is over.
pub(crate) async fn controls(context: Arc<Context>, term: Term) {
    until_over(&term, "controls", || async {
        let mut feed = context.catalog.controls_feed().await?;
        while let Some(change) = feed.next().await {
            if let Change::Row { new, .. } = change? {
                *context.controls.write() = new.unwrap_or_default();
                context.nudge.notify_one();
            }
        }
        Ok(())
    })
    .await;
}

async fn until_over<F: Future<Output = Result<()>>>(term: &Term, what: &str, mut follow: impl FnMut() -> F) {
    loop {
        tokio::select! {
            outcome = follow() => match outcome {
                Ok(()) => tracing::info!(table = what, "feed ended, it is begun anew"),
                Err(error) => tracing::warn!(table = what, %error, "feed broke, it is begun anew"),
            },
            () = term.over() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = term.over() => return,
        }
    }
}
