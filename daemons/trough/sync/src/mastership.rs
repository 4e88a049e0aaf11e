//! Who is master: takes part in the election, and tells the rest of the process in what standing it is.
//!
//! Nothing is stored here. The row `trough-sync-master` and the epoch are the metadata's; a [`Term`] is this process's
//! right to act, and it ends by this process's own monotonic clock, whatever the metadata may say meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trough_client::catalog::{Candidate, Catalog, Change, Master};
use trough_http::Beat;

/// One tenure as master, under one epoch. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Term {
    /// The epoch that everything written in this term carries.
    pub epoch: u64,
    ended: CancellationToken,
    /// Milliseconds after `born` until which it is valid.
    valid_ms: Arc<AtomicU64>,
    born: Instant,
}

impl Term {
    fn new(epoch: u64, valid_until: Instant) -> Self {
        let term = Self { epoch, ended: CancellationToken::new(), valid_ms: Arc::default(), born: Instant::now() };
        term.extend(valid_until);
        term
    }

    fn extend(&self, valid_until: Instant) {
        let ms = valid_until.saturating_duration_since(self.born).as_millis() as u64;
        self.valid_ms.store(ms, Ordering::Release);
    }

    /// Until when this process may act without renewing.
    pub fn valid_until(&self) -> Instant {
        self.born + Duration::from_millis(self.valid_ms.load(Ordering::Acquire))
    }

    /// Whether this process may act as master now. To be asked before every write.
    pub fn is_valid(&self) -> bool {
        !self.ended.is_cancelled() && Instant::now() < self.valid_until()
    }

    /// Completes when the term is over.
    pub async fn over(&self) {
        self.ended.cancelled().await;
    }

    /// Ends the term: a newer master has been seen at work.
    pub fn end(&self) {
        self.ended.cancel();
    }
}

/// In what standing this process is.
#[derive(Clone, Debug)]
pub enum Standing {
    /// The election has not been held yet, or the metadata does not answer.
    Unknown,
    /// Another process is master.
    Follower(Master),
    /// This process is.
    Master(Term),
}

impl Standing {
    /// The term, if this process is master and still may act.
    pub fn term(&self) -> Option<&Term> {
        match self {
            Self::Master(term) if term.is_valid() => Some(term),
            _ => None,
        }
    }
}

/// The ttl of a mastership for an election cycle: long enough that a slow answer of the metadata ends no tenure.
pub fn mastership_ttl(election_cycle: Duration) -> Duration {
    (election_cycle * 3).max(Duration::from_secs(9))
}

/// The pause after a round that failed: another server of the metadata may answer already.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes part in the election until `shutdown`, then resigns. A follower asks once per `cycle`, and when the master resigns; a
/// master renews four times within the time that a renewal gives it; after a round that failed both ask soon. `beat` is told of every
/// round.
pub async fn take_part(
    catalog: Catalog,
    candidate: Candidate,
    cycle: Duration,
    standing: watch::Sender<Standing>,
    beat: Beat,
    shutdown: CancellationToken,
) {
    let mut term: Option<Term> = None;
    loop {
        beat.turned();
        let round = hold_election(&catalog, &candidate, &mut term, &standing);
        let held = tokio::select! {
            held = round => held,
            () = shutdown.cancelled() => break,
        };
        let mut pause = match &term {
            Some(term) if term.is_valid() => Duration::from_secs_f64(candidate.ttl / 8.0),
            _ => cycle.min(Duration::from_secs_f64(candidate.ttl)),
        };
        if !held {
            pause = pause.min(AGAIN);
        }
        // A fenced term is over at once; another tenure may begin at the next round.
        let fenced = async {
            match &term {
                Some(term) => term.over().await,
                None => std::future::pending().await,
            }
        };
        let vacant = async {
            match &term {
                Some(_) => std::future::pending().await,
                None => vacated(&catalog).await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = vacant => {}
            () = fenced => {
                tracing::warn!("a newer master is at work, stepping down");
                term = None;
                standing.send_replace(Standing::Unknown);
                tokio::select! {
                    () = tokio::time::sleep(cycle) => {}
                    () = shutdown.cancelled() => break,
                }
            }
            () = shutdown.cancelled() => break,
        }
    }
    if let Some(term) = term {
        term.end();
        standing.send_replace(Standing::Unknown);
        let resigned = tokio::time::timeout(Duration::from_secs(2), catalog.resign(&candidate.holder)).await;
        if !matches!(resigned, Ok(Ok(_))) {
            tracing::info!("could not resign, the mastership ends with its ttl");
        }
    }
}

/// Completes when the master gives its mastership up: another need not wait for the next round.
async fn vacated(catalog: &Catalog) {
    let Ok(mut feed) = catalog.master_feed().await else { return std::future::pending().await };
    while let Some(Ok(change)) = feed.next().await {
        if matches!(change, Change::Row { old: Some(_), new: None }) {
            return;
        }
    }
    // The feed broke: the next round comes all the same.
    std::future::pending().await
}

/// One round; whether the metadata answered. Ends at the term's deadline at the latest, with the term ended if it was not renewed by
/// then.
async fn hold_election(
    catalog: &Catalog,
    candidate: &Candidate,
    term: &mut Option<Term>,
    standing: &watch::Sender<Standing>,
) -> bool {
    let deadline = match term {
        Some(term) => term.valid_until(),
        None => Instant::now() + Duration::from_secs_f64(candidate.ttl),
    };
    let outcome = tokio::time::timeout_at(deadline.into(), catalog.elect(candidate)).await;
    match &outcome {
        Ok(Ok(_)) => metrics::counter!("trough_sync_elections_total").increment(1),
        _ => metrics::counter!("trough_sync_election_failures_total").increment(1),
    }
    let held = matches!(outcome, Ok(Ok(_)));
    match outcome {
        Ok(Ok(election)) if election.mine => {
            if let Some(term) = term.as_ref().filter(|t| t.is_valid() && !election.won) {
                term.extend(election.valid_until);
                return held;
            }
            step_down(term, standing, "the mastership had lapsed in between");
            match tokio::time::timeout_at(election.valid_until.into(), catalog.raise_epoch(&candidate.holder)).await {
                Ok(Ok(epoch)) => {
                    let new = Term::new(epoch, election.valid_until);
                    tracing::info!(epoch, url = candidate.url, "this process is the sync master");
                    metrics::counter!("trough_sync_standing_changes_total").increment(1);
                    *term = Some(new.clone());
                    standing.send_replace(Standing::Master(new));
                }
                Ok(Err(error)) => tracing::warn!(%error, "elected, but the epoch could not be raised"),
                Err(_) => tracing::warn!("elected, but the epoch could not be raised in time"),
            }
        }
        Ok(Ok(election)) => {
            step_down(term, standing, "another process is the sync master");
            let unchanged = matches!(&*standing.borrow(), Standing::Follower(m) if m.url == election.master.url);
            if !unchanged {
                tracing::info!(master = election.master.url, "another process is the sync master");
            }
            standing.send_replace(Standing::Follower(election.master));
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot hold an election");
            if term.as_ref().is_none_or(|t| !t.is_valid()) {
                step_down(term, standing, "the metadata does not answer");
                standing.send_replace(Standing::Unknown);
            }
        }
        Err(_) => {
            step_down(term, standing, "the mastership could not be renewed in time");
            standing.send_replace(Standing::Unknown);
        }
    }
    held
}

fn step_down(term: &mut Option<Term>, standing: &watch::Sender<Standing>, why: &str) {
    if let Some(old) = term.take() {
        old.end();
        standing.send_replace(Standing::Unknown);
        metrics::counter!("trough_sync_standing_changes_total").increment(1);
        tracing::warn!(epoch = old.epoch, why, "stepping down as sync master");
    }
}
