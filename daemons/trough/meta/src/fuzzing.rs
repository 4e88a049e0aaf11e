//! The evaluator without a network: a START query's JSON in, an answer's JSON out.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Class, Error, QueryError};
use crate::eval::{About, Exec};
use crate::server::query::{self, Reply};
use crate::server::response::{self, Batch};
use crate::store::Store;

/// The stack that a thread that runs queries needs.
pub const STACK_BYTES: usize = crate::server::pool::STACK_BYTES;

/// Most batches that are taken of one sequence.
const BATCHES: usize = 4;

/// A store and what runs queries on it.
pub struct Sandbox {
    store: Arc<Store>,
    about: Arc<About>,
    writer: Option<JoinHandle<()>>,
    begun: i64,
    timer: Timer,
}

impl Sandbox {
    /// Over the database in `dir`, made if missing, after running `setup`, one query after the other.
    ///
    /// # Errors
    /// If the directory cannot be used or a query of `setup` fails.
    pub fn open(dir: &Path, setup: &[&str]) -> Result<Self, Error> {
        let (store, writer) = Store::open(dir)?;
        let about = Arc::new(About {
            server_id: "00000000-0000-0000-0000-000000000000".into(),
            name: "fuzz".into(),
            port: 0,
            started: crate::datum::time::now(),
            version: "rethinkdb 2.4.4".into(),
        });
        let timer = Timer::start().map_err(Error::Thread)?;
        let mut sandbox = Self { store, about, writer: Some(writer), begun: 0, timer };
        for text in setup {
            sandbox
                .answer(text.as_bytes(), Duration::from_secs(10))
                .map_err(|e| Error::Stuck(format!("{text}: {e}")))?;
        }
        sandbox.begun = sandbox.commits()?;
        Ok(sandbox)
    }

    fn commits(&self) -> Result<i64, Error> {
        self.store.writer().commits().map_err(|e| Error::Stuck(e.to_string()))
    }

    /// Whether something was written since it was opened.
    ///
    /// # Errors
    /// If the writer has stopped.
    pub fn is_written(&self) -> Result<bool, Error> {
        Ok(self.commits()? != self.begun)
    }

    /// Runs a query as a connection would, some batches far, and gives the answers. After `limit` it is cancelled, as by a client
    /// that has gone. To be called on a thread with [`STACK_BYTES`].
    pub fn run(&self, body: &[u8], limit: Duration) -> Vec<Vec<u8>> {
        self.answer(body, limit).unwrap_or_else(|error| vec![response::error(&error).to_vec()])
    }

    fn answer(&self, body: &[u8], limit: Duration) -> Result<Vec<Vec<u8>>, QueryError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        self.timer.cancel_after(limit, &cancelled);
        let reply = query::run(&self.store, &self.about, body, cancelled, false)?;
        let mut answers = Vec::new();
        match reply {
            Reply::None => {}
            Reply::Atom(bytes) => answers.push(bytes.to_vec()),
            Reply::Cursor(query, mut cursor, mut batch) => {
                let ex = Exec::new(&query);
                for _ in 0..BATCHES {
                    match batch {
                        Batch::More(bytes) => answers.push(bytes.to_vec()),
                        Batch::Last(bytes) => {
                            answers.push(bytes.to_vec());
                            break;
                        }
                        Batch::Nothing => break,
                    }
                    batch = cursor.batch(&ex)?;
                }
            }
        }
        for answer in &answers {
            if serde_json::from_slice::<serde_json::Value>(answer).is_err() {
                let text = String::from_utf8_lossy(answer).into_owned();
                return Err(QueryError::new(Class::Internal, format!("the answer is no JSON: {text}")));
            }
        }
        Ok(answers)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.store.writer().stop();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// The query that runs: when it is to be cancelled, and how.
type Current = Arc<Mutex<Option<(Instant, Arc<AtomicBool>)>>>;

/// Cancels the one query that runs, once its time is over.
#[derive(Debug)]
struct Timer {
    current: Current,
    _alive: Arc<()>,
}

impl Timer {
    fn start() -> std::io::Result<Self> {
        let current = Current::default();
        let alive = Arc::new(());
        let (watched, weak) = (current.clone(), Arc::downgrade(&alive));
        std::thread::Builder::new().name("fuzz-timer".into()).spawn(move || {
            while weak.strong_count() > 0 {
                std::thread::sleep(Duration::from_millis(20));
                let current = watched.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((due, cancelled)) = &*current
                    && Instant::now() >= *due
                {
                    cancelled.store(true, Ordering::Relaxed);
                }
            }
        })?;
        Ok(Self { current, _alive: alive })
    }

    fn cancel_after(&self, limit: Duration, cancelled: &Arc<AtomicBool>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now() + limit, cancelled.clone()));
    }
}
