//! What the service manager is told (sd_notify): ready, the state in words, stopping, and the watchdog's signs of life.

use std::{io, time::Duration};

use sd_notify::NotifyState;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{daemon::Readiness, vitals::Vitals};

/// Signs of life within the time that the watchdog gives.
const SIGNS: u32 = 3;

/// Tells the service manager about this process from now on: that it is ready once `readiness` says so, why it is not, that it
/// stops once `shutdown` says so; and, where the unit has a watchdog, that it is alive, as long as the runtime runs this and
/// no loop of `vitals` stands still. Does nothing where no service manager listens (no NOTIFY_SOCKET).
pub fn supervise(readiness: &Readiness, vitals: &Vitals, shutdown: CancellationToken) -> Option<JoinHandle<()>> {
    std::env::var_os("NOTIFY_SOCKET")?;
    let every = sd_notify::watchdog_enabled().map(|limit| (limit / SIGNS).max(Duration::from_millis(1)));
    Some(tokio::spawn(tell(readiness.subscribe(), vitals.clone(), every, shutdown, sd_notify::notify)))
}

async fn tell(
    mut readiness: watch::Receiver<Result<(), String>>,
    vitals: Vitals,
    every: Option<Duration>,
    shutdown: CancellationToken,
    notify: impl Fn(&[NotifyState<'_>]) -> io::Result<()>,
) {
    let send = |states: &[NotifyState<'_>]| {
        if let Err(error) = notify(states) {
            tracing::warn!(%error, "cannot tell the service manager (NOTIFY_SOCKET)");
        }
    };
    let mut signs = every.map(tokio::time::interval);
    let mut stopping = false;
    let mut was_stuck = false;
    // The first look finds what the daemon says already.
    readiness.mark_changed();
    loop {
        tokio::select! {
            changed = readiness.changed(), if !stopping => {
                let state = readiness.borrow_and_update().clone();
                match state {
                    Ok(()) => send(&[NotifyState::Ready, NotifyState::Status("serving")]),
                    Err(why) => send(&[NotifyState::Status(&why)]),
                }
                if changed.is_err() {
                    return;
                }
            }
            () = shutdown.cancelled(), if !stopping => {
                stopping = true;
                send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
                if signs.is_none() {
                    return;
                }
            }
            // Goes on while the daemon stops: that may take longer than the watchdog gives.
            () = next(&mut signs) => match vitals.stuck() {
                None => {
                    was_stuck = false;
                    send(&[NotifyState::Watchdog]);
                }
                Some(why) => {
                    if !was_stuck {
                        tracing::error!("{why}: the watchdog gets no sign of life");
                        send(&[NotifyState::Status(&why)]);
                    }
                    was_stuck = true;
                }
            },
        }
    }
}

async fn next(signs: &mut Option<tokio::time::Interval>) {
    match signs {
        Some(signs) => drop(signs.tick().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ready_alive_stuck_stopping() {
        let (readiness, vitals, shutdown) = (Readiness::default(), Vitals::default(), CancellationToken::new());
        let beat = vitals.expect("lease", Duration::from_secs(5));
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = told.clone();
        let notify = move |states: &[NotifyState<'_>]| {
            log.lock().extend(states.iter().map(ToString::to_string));
            Ok(())
        };
        let every = Some(Duration::from_secs(1));
        let telling = tokio::spawn(tell(readiness.subscribe(), vitals, every, shutdown.clone(), notify));
        let after = async |seconds: u64| {
            tokio::time::sleep(Duration::from_millis(seconds * 1000 + 1)).await;
            std::mem::take(&mut *told.lock())
        };
        let first = after(0).await;
        assert!(first.contains(&"STATUS=starting".to_owned()) && !first.contains(&"READY=1".to_owned()), "{first:?}");
        readiness.set_ready();
        beat.turned();
        assert_eq!(after(2).await, ["READY=1", "STATUS=serving", "WATCHDOG=1", "WATCHDOG=1"]);
        // Nothing turns any more: the watchdog is not told for longer than the bound.
        let signs = after(20).await;
        assert_eq!(signs.iter().filter(|s| *s == "WATCHDOG=1").count(), 3, "{signs:?}");
        assert!(signs.last().is_some_and(|s| s.starts_with("STATUS=the lease loop has stood still")), "{signs:?}");
        beat.turned();
        shutdown.cancel();
        let last = after(2).await;
        assert_eq!(last[..2], ["STOPPING=1", "STATUS=stopping"]);
        assert!(last.contains(&"WATCHDOG=1".to_owned()), "while it stops it is alive: {last:?}");
        telling.abort();
    }
}
