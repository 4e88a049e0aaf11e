//! One durable transaction for the requests that wait together.

use tokio::sync::oneshot;
use trough_core::{ErrorCode, SegmentError, wire::WriteResult};

use crate::{
    apply::{self, Done},
    auth::SAVEPOINT,
    control::Control,
    engine::{Guard, Inner, SegmentFile},
    options::Limits,
    sql,
    statement::Failure,
    sync::Pending,
    write_conn::WriteConn,
    writer::{Desk, Work},
};

/// A write that waits.
pub(crate) struct Request {
    pub(crate) file: SegmentFile,
    pub(crate) work: Work,
    pub(crate) guard: Guard,
    pub(crate) reply: oneshot::Sender<WriteResult>,
}

impl Request {
    fn refuse(self, error: SegmentError) {
        // A client that is gone needs no answer.
        let _ = self.reply.send(WriteResult::Err { error });
    }

    /// The answer to a committed request, to be given when it is durable.
    fn committed(self, done: Done) -> Pending {
        let Done { changes, returned, packed } = done;
        let result = WriteResult::Ok { changes, returned, packed };
        Pending { path: self.file.path, reply: self.reply, result }
    }
}

/// With so much waiting for a thread, single fsyncs are what everything would wait for.
const MANY: usize = 8;

/// What is wrong with a request whatever the segment holds.
pub(crate) fn check(work: &Work, limits: &Limits) -> Result<(), SegmentError> {
    match work {
        Work::Script(text) if sql::is_blank(text) => {
            Err(SegmentError::new(ErrorCode::BadRequest, "No query provided."))
        }
        Work::Script(text) => sql::check_text(text, limits),
        Work::Statements(statements) => statements.iter().try_for_each(|statement| {
            sql::check_text(&statement.sql, limits)?;
            let word = sql::first_word(&statement.sql).unwrap_or_default().to_ascii_uppercase();
            if ["BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"].contains(&word.as_str()) {
                let text = format!("{word} has no place here: the statements of a request are one transaction");
                return Err(SegmentError::new(ErrorCode::BadSql, text));
            }
            Ok(())
        }),
    }
}

/// Commits the requests, opening the write connection if need be, and answers each.
pub(crate) fn commit(inner: &Inner, desk: &mut Desk, mut requests: Vec<Request>) {
    let Some(file) = requests.first().map(|request| request.file.clone()) else { return };
    if desk.conn.as_ref().is_some_and(|conn| !conn.is_on(&file))
        && let Some(replaced) = desk.conn.take()
    {
        // Another file lies at the path: nothing may be written into the old one any more.
        tracing::warn!(segment = %file.id, "the file was replaced under the writer");
        drop(replaced);
    }
    let sync = inner.write.waiting() < MANY;
    if desk.conn.is_none() {
        match WriteConn::open(inner, &file, sync) {
            Ok(conn) => desk.conn = Some(conn),
            Err(error) => {
                return requests.into_iter().for_each(|request| request.refuse(error.clone()));
            }
        }
    }
    let conn = desk.conn.as_ref().expect("opened above");
    if let Err(e) = conn.set_sync(sync) {
        let error = crate::conn::explain(&file.id, &file.path, &e);
        return requests.into_iter().for_each(|request| request.refuse(error.clone()));
    }
    // Each round settles at least one request, so this ends.
    let mut alone: Vec<Request> = Vec::new();
    loop {
        if requests.is_empty() {
            match alone.pop() {
                Some(request) => requests.push(request),
                None => break,
            }
        }
        match round(inner, conn, requests) {
            Round::Committed => {
                desk.writes += 1;
                desk.settled = None;
                requests = Vec::new();
            }
            Round::Nothing => requests = Vec::new(),
            Round::Again(rest) => requests = rest,
            Round::Alone(rest) => {
                requests = Vec::new();
                alone.extend(rest.into_iter().rev());
            }
        }
    }
    conn.current.set(None);
    conn.checkpoint_if_due(inner, &file.id);
}

/// Answers writes that are durable.
fn answer(pending: Vec<Pending>) {
    for write in pending {
        // A client that is gone needs no answer.
        let _ = write.reply.send(write.result);
    }
}

enum Round {
    /// Durable, and everybody answered.
    Committed,
    /// Nothing was written, and everybody answered.
    Nothing,
    /// The transaction was lost; the one to blame was answered, the others are to be run again.
    Again(Vec<Request>),
    /// The commit failed; each is to be tried by itself.
    Alone(Vec<Request>),
}

/// One try at one transaction.
fn round(inner: &Inner, conn: &WriteConn, requests: Vec<Request>) -> Round {
    let file = match requests.first() {
        Some(request) => request.file.clone(),
        None => return Round::Nothing,
    };
    // Only a panic can have left a transaction open.
    roll_back(conn);
    if let Err(e) = conn.own("BEGIN IMMEDIATE") {
        let error = crate::conn::explain(&file.id, &file.path, &e);
        requests.into_iter().for_each(|request| request.refuse(error.clone()));
        return Round::Nothing;
    }
    let several = requests.len() > 1;
    let mut done: Vec<(Request, Done)> = Vec::with_capacity(requests.len());
    let mut waiting = requests.into_iter();
    while let Some(request) = waiting.next() {
        match attempt(inner, conn, &request, several) {
            Ok(result) => done.push((request, result)),
            Err(Lost::Request(error)) => request.refuse(error),
            Err(Lost::Transaction(error)) => {
                roll_back(conn);
                request.refuse(error);
                return Round::Again(done.into_iter().map(|(request, _)| request).chain(waiting).collect());
            }
        }
    }
    // The lock may have gone while the statements ran: asked once more, as late as can be.
    let (kept, refused): (Vec<_>, Vec<_>) = done
        .into_iter()
        .map(|(request, done)| ((request.guard)(), request, done))
        .partition(|(guard, ..)| guard.is_ok());
    if !refused.is_empty() {
        roll_back(conn);
        for (guard, request, _) in refused {
            if let Err(error) = guard {
                request.refuse(error);
            }
        }
        return Round::Again(kept.into_iter().map(|(_, request, _)| request).collect());
    }
    if kept.is_empty() {
        roll_back(conn);
        return Round::Nothing;
    }
    if let Err(e) = conn.own("COMMIT") {
        roll_back(conn);
        if kept.len() > 1 {
            return Round::Alone(kept.into_iter().map(|(_, request, _)| request).collect());
        }
        let error = crate::conn::explain(&file.id, &file.path, &e);
        kept.into_iter().for_each(|(_, request, _)| request.refuse(error.clone()));
        return Round::Nothing;
    }
    inner.writers.count(kept.len());
    let pending = kept.into_iter().map(|(_, request, done)| request.committed(done)).collect();
    if conn.syncs() {
        answer(pending);
    } else {
        inner.syncer.submit(pending);
    }
    Round::Committed
}

/// Ends the transaction, if SQLite did not end it already.
fn roll_back(conn: &WriteConn) {
    if !conn.conn.is_autocommit()
        && let Err(e) = conn.own("ROLLBACK")
    {
        tracing::error!(error = %e, "cannot roll back");
    }
}

/// What a request's failure took with it.
enum Lost {
    /// Itself.
    Request(SegmentError),
    /// The whole transaction.
    Transaction(SegmentError),
}

/// Runs one request within the transaction; if it fails, nothing of it is left.
fn attempt(inner: &Inner, conn: &WriteConn, request: &Request, several: bool) -> Result<Done, Lost> {
    (request.guard)().map_err(Lost::Request)?;
    let control = Control::new(inner.options.limits.query_timeout, None, None);
    let own = |statement: &str| {
        let lost = |e| Lost::Transaction(crate::errors::sqlite(&request.file.id, &e));
        conn.own(&format!("{statement} {SAVEPOINT}")).map_err(lost)
    };
    if several {
        own("SAVEPOINT")?;
    }
    conn.current.set(Some(control.clone()));
    let result = match &request.work {
        Work::Script(text) => apply::script(conn, text),
        Work::Statements(list) => apply::statements(conn, &request.file.id, list, &inner.options.limits),
    };
    conn.current.set(None);
    match result {
        Ok(done) => {
            if several {
                own("RELEASE")?;
            }
            Ok(done)
        }
        Err(failure) => {
            let interrupted = matches!(&failure, Failure::Sqlite(e)
                if e.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted));
            let error = match control.stop_reason() {
                Some(reason) if interrupted => reason,
                _ => explain(&request.file, failure),
            };
            // Some failures end the whole transaction (ON CONFLICT ROLLBACK, a full disk, an interrupt).
            let gone = conn.conn.is_autocommit() || matches!(error.code, ErrorCode::DiskFull | ErrorCode::Io);
            if gone || !several {
                return Err(Lost::Transaction(error));
            }
            own("ROLLBACK TO")?;
            own("RELEASE")?;
            Err(Lost::Request(error))
        }
    }
}

/// The text for a failed write; what the authorizer refused is named better than SQLite does.
fn explain(file: &SegmentFile, failure: Failure) -> SegmentError {
    let mut error = match failure {
        Failure::Sqlite(e) => crate::conn::explain(&file.id, &file.path, &e),
        Failure::Ours(e) => e,
    };
    if error.code == ErrorCode::Forbidden && error.message == "not authorized" {
        error.message =
            "not authorized: a write may not ATTACH or DETACH, load extensions, make anything temporary, ROLLBACK (it is one transaction, \
                         all or nothing) or set pragmas that change how the file is kept"
                .into();
    }
    error
}
