//! The one thread that writes. It takes whatever jobs are waiting, runs them in one transaction, each under a savepoint of
//! its own, commits them with one fsync, tells the changefeeds and then the clients. A group in which every job
//! allows it is committed without the fsync.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, params};

use super::catalog::{Catalog, Index, Table};
use super::{Store, scan, stopped};
use crate::datum::{Datum, json, key};
use crate::error::{Class, QueryError, Result};
use crate::feed::{Change, FeedQueue, Feeds};

/// Most jobs in one transaction.
const GROUP: usize = 1024;

/// What a job does.
pub(crate) type Work = Box<dyn FnOnce(&mut Tx<'_>) -> Result<Datum> + Send>;
/// Who is told.
pub(crate) type Done = Box<dyn FnOnce(Result<Datum>) + Send>;

enum Message {
    Job {
        work: Work,
        soft: bool,
        done: Done,
    },
    /// Registers a feed, if there is one, between two commits.
    Between {
        queue: Option<Arc<FeedQueue>>,
        done: Box<dyn FnOnce(Result<i64>) + Send>,
    },
    /// Does nothing: wakes the thread, which then sees that it should stop.
    Stop,
}

/// Where jobs are handed in.
pub(crate) struct Writer {
    inbox: Arc<Inbox>,
}

#[derive(Default)]
struct Inbox {
    waiting: Mutex<(VecDeque<Message>, bool)>,
    arrived: Condvar,
}

/// The receiving end.
pub(crate) struct Receiver(Arc<Inbox>);

impl Writer {
    pub(crate) fn new() -> (Writer, Receiver) {
        let inbox = Arc::new(Inbox::default());
        (Writer { inbox: inbox.clone() }, Receiver(inbox))
    }

    fn send(&self, message: Message) {
        let mut waiting = self.inbox.waiting.lock();
        if waiting.1 {
            drop(waiting);
            refuse(message);
            return;
        }
        waiting.0.push_back(message);
        drop(waiting);
        self.inbox.arrived.notify_one();
    }

    /// Hands in a job; `done` is called on the writer's thread once it is committed or has failed.
    pub(crate) fn submit(&self, soft: bool, work: Work, done: Done) {
        self.send(Message::Job { work, soft, done });
    }

    /// Runs a job and waits for it. Blocks.
    pub(crate) fn run(&self, soft: bool, work: Work) -> Result<Datum> {
        wait_for(|done| self.submit(soft, work, done))
    }

    /// Registers a feed; gives the number of the last commit before its first change. Blocks.
    pub(crate) fn subscribe(&self, queue: Arc<FeedQueue>) -> Result<i64> {
        wait_for(|done| self.send(Message::Between { queue: Some(queue), done }))
    }

    /// Waits until feeds have all changes that can be read by now. Blocks.
    pub(crate) fn settled(&self) -> Result<()> {
        self.commits().map(drop)
    }

    /// The number of the last commit, once feeds have all changes up to it. Blocks.
    pub(crate) fn commits(&self) -> Result<i64> {
        wait_for(|done| self.send(Message::Between { queue: None, done }))
    }

    /// Lets the thread finish what it has begun and refuse the rest.
    pub(crate) fn stop(&self) {
        self.send(Message::Stop);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn wait_for<T: Send + 'static>(start: impl FnOnce(Box<dyn FnOnce(Result<T>) + Send>)) -> Result<T> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    start(Box::new(move |answer| {
        // Nobody waits any more: then nobody needs the answer.
        let _ = sender.send(answer);
    }));
    receiver.recv().unwrap_or_else(|_| Err(stopped()))
}

fn refuse(message: Message) {
    match message {
        Message::Job { done, .. } => done(Err(stopped())),
        Message::Between { done, .. } => done(Err(stopped())),
        Message::Stop => {}
    }
}

/// Starts the thread. It ends when told to or when the store is gone.
pub(crate) fn start(store: &Arc<Store>, connection: Connection, receiver: Receiver) -> std::io::Result<JoinHandle<()>> {
    let weak = Arc::downgrade(store);
    let feeds = store.feeds.clone();
    std::thread::Builder::new()
        .name("meta-writer".into())
        .stack_size(crate::server::pool::STACK_BYTES)
        .spawn(move || write_loop(&weak, &feeds, connection, &receiver.0))
}

fn write_loop(store: &Weak<Store>, feeds: &Feeds, connection: Connection, inbox: &Inbox) {
    let mut soft_mode = false;
    loop {
        let mut group = Vec::new();
        let mut between = None;
        let mut stop = false;
        {
            let mut waiting = inbox.waiting.lock();
            while waiting.0.is_empty() {
                inbox.arrived.wait(&mut waiting);
            }
            while group.len() < GROUP {
                match waiting.0.pop_front() {
                    Some(Message::Job { work, soft, done }) => group.push((work, soft, done)),
                    Some(Message::Between { queue, done }) => {
                        between = Some((queue, done));
                        break;
                    }
                    Some(Message::Stop) => {
                        waiting.1 = true;
                        stop = true;
                        break;
                    }
                    None => break,
                }
            }
        }
        let Some(store) = store.upgrade() else { return };
        if !group.is_empty() {
            let soft = group.iter().all(|job| job.1);
            if soft != soft_mode {
                let mode = if soft { "NORMAL" } else { "FULL" };
                if let Err(error) = connection.execute_batch(&format!("PRAGMA synchronous = {mode}")) {
                    tracing::error!(%error, "could not change the metadata database's durability");
                    group.into_iter().for_each(|job| job.2(Err(QueryError::from(rusqlite::Error::InvalidQuery))));
                    continue;
                }
                soft_mode = soft;
            }
            commit_group(&store, feeds, &connection, group);
        }
        if let Some((queue, done)) = between {
            let answer = scan::commit_number(&connection);
            if let (Ok(_), Some(queue)) = (&answer, queue) {
                feeds.add(&queue);
            }
            done(answer);
        }
        if stop {
            let rest = std::mem::take(&mut inbox.waiting.lock().0);
            rest.into_iter().for_each(refuse);
            feeds.close_all();
            let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
            return;
        }
    }
}

fn commit_group(store: &Store, feeds: &Feeds, connection: &Connection, group: Vec<(Work, bool, Done)>) {
    let mut answers: Vec<(Done, Result<Datum>)> = Vec::with_capacity(group.len());
    let fail_all = |answers: Vec<(Done, Result<Datum>)>, error: QueryError| {
        tracing::error!(error = %error.message, "a metadata transaction failed");
        if !connection.is_autocommit() {
            let _ = connection.execute_batch("ROLLBACK");
        }
        // What had failed by itself keeps its own reason.
        answers.into_iter().for_each(|(done, answer)| done(answer.and(Err(error.clone()))));
    };
    let begin = connection.execute_batch("BEGIN IMMEDIATE").map_err(QueryError::from);
    let number = begin.and_then(|()| scan::commit_number(connection)).map(|number| number + 1);
    let number = match number {
        Ok(number) => number,
        Err(error) => {
            let answers = group.into_iter().map(|(_, _, done)| (done, Ok(Datum::Null))).collect();
            return fail_all(answers, error);
        }
    };
    let mut tx = Tx {
        connection,
        catalog: store.catalog(),
        feeds,
        changes: Vec::new(),
        dropped: Vec::new(),
        number,
        synced: false,
    };
    let mut broken = None;
    let before = connection.total_changes();
    for (work, _, done) in group {
        if broken.is_some() {
            answers.push((done, Ok(Datum::Null)));
            continue;
        }
        match tx.guarded(work) {
            Ok(answer) => answers.push((done, answer)),
            Err(error) => {
                answers.push((done, Ok(Datum::Null)));
                broken = Some(error);
            }
        }
    }
    let Tx { catalog, changes, dropped, synced, .. } = tx;
    let wrote = synced || connection.total_changes() != before;
    if let Some(error) = broken {
        return fail_all(answers, error);
    }
    let committed = if wrote {
        connection
            .prepare_cached("UPDATE facts SET value = ?1 WHERE name = 'commit'")
            .and_then(|mut statement| statement.execute([number]))
            .and_then(|_| connection.execute_batch("COMMIT"))
    } else {
        connection.execute_batch("ROLLBACK")
    };
    if let Err(error) = committed {
        let class = match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Class::OpFailed,
            _ => Class::OpIndeterminate,
        };
        return fail_all(answers, QueryError::new(class, format!("The write could not be stored: {error}.")));
    }
    *store.catalog.write() = catalog;
    feeds.publish(changes);
    feeds.drop_tables(&dropped);
    answers.into_iter().for_each(|(done, answer)| done(answer));
}

/// The transaction that jobs run in.
pub(crate) struct Tx<'a> {
    pub(crate) connection: &'a Connection,
    /// The catalog as this transaction leaves it.
    pub(crate) catalog: Arc<Catalog>,
    feeds: &'a Feeds,
    changes: Vec<Change>,
    /// Tables that are gone when this commits.
    pub(crate) dropped: Vec<i64>,
    number: i64,
    synced: bool,
}

impl Tx<'_> {
    /// Runs one job under a savepoint: if it fails or panics, nothing of it stays. The outer error is for a
    /// transaction that cannot go on.
    fn guarded(&mut self, work: Work) -> Result<Result<Datum>> {
        self.connection.prepare_cached("SAVEPOINT job")?.execute([])?;
        let (catalog, changes, dropped) = (self.catalog.clone(), self.changes.len(), self.dropped.len());
        let answer = std::panic::catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|_| {
            tracing::error!("a metadata job panicked");
            Err(QueryError::internal("The server failed to run this write."))
        });
        if answer.is_err() {
            self.connection.prepare_cached("ROLLBACK TO job")?.execute([])?;
            self.catalog = catalog;
            self.changes.truncate(changes);
            self.dropped.truncate(dropped);
        }
        self.connection.prepare_cached("RELEASE job")?.execute([])?;
        Ok(answer)
    }

    /// Commits the transaction even if nothing in it changed anything.
    pub(crate) fn sync(&mut self) {
        self.synced = true;
    }

    /// Replaces a document by another, puts a new one or removes it, in the table, its indexes and its feeds.
    pub(crate) fn put(&mut self, table: &Table, key: &[u8], old: Option<&Datum>, new: Option<&Datum>) -> Result<()> {
        match new {
            Some(doc) => {
                let mut bytes = Vec::with_capacity(256);
                json::write(doc, &mut bytes)?;
                self.connection
                    .prepare_cached("INSERT OR REPLACE INTO documents(table_num, key, doc) VALUES (?1, ?2, ?3)")?
                    .execute(params![table.num, key, bytes])?;
            }
            None => {
                self.connection
                    .prepare_cached("DELETE FROM documents WHERE table_num = ?1 AND key = ?2")?
                    .execute(params![table.num, key])?;
            }
        }
        for index in table.indexes.values() {
            let before = old.map(|doc| entries(index, doc, key)).unwrap_or_default();
            let after = new.map(|doc| entries(index, doc, key)).unwrap_or_default();
            for entry in before.iter().filter(|entry| !after.contains(entry)) {
                self.connection
                    .prepare_cached("DELETE FROM entries WHERE index_num = ?1 AND entry = ?2")?
                    .execute(params![index.num, entry])?;
            }
            for entry in after.iter().filter(|entry| !before.contains(entry)) {
                self.add_entry(index.num, entry, key)?;
            }
        }
        if self.feeds.watched(table.num) {
            self.changes.push(Change {
                table: table.num,
                key: key.to_vec(),
                old: old.cloned(),
                new: new.cloned(),
                commit: self.number,
            });
        }
        Ok(())
    }

    fn add_entry(&self, index: i64, entry: &[u8], key: &[u8]) -> Result<()> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO entries(index_num, entry, key) VALUES (?1, ?2, ?3)")?
            .execute(params![index, entry, key])?;
        Ok(())
    }

    /// Fills a new index from its table's documents.
    pub(crate) fn build_index(&mut self, table: &Table, index: &Index) -> Result<()> {
        let mut range = Some(scan::Range::all());
        while let Some(next) = range {
            let page = scan::page(self.connection, table, scan::Space::Primary, &next, false, 1000)?;
            for row in &page.rows {
                for entry in entries(index, &row.doc, &row.place) {
                    self.add_entry(index.num, &entry, &row.place)?;
                }
            }
            range = page.rest;
        }
        Ok(())
    }
}

/// A document's entries in an index: each the encoded value, the document's key and a number that tells equal
/// values of one document apart.
pub(crate) fn entries(index: &Index, doc: &Datum, primary: &[u8]) -> Vec<Vec<u8>> {
    crate::eval::index_values(index, doc)
        .iter()
        .enumerate()
        .map(|(at, value)| {
            let mut entry = key::encoded(value);
            entry.extend_from_slice(primary);
            entry.extend_from_slice(&(at as u32).to_be_bytes());
            entry
        })
        .collect()
}
