//! The write port: the old endpoint, a script in one transaction, and `POST /v1/write`, typed rows for many segments.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::Response,
    routing::post,
};
use trough_config::Role;
use trough_core::{
    ErrorCode, SegmentError, SegmentId,
    wire::{SegmentWrite, WriteRequest, WriteResponse, WriteResult},
};
use trough_engine::{Guard, SegmentFile};
use trough_http::{Caller, Daemon, plain};

use crate::{
    locks::{self, Held},
    request::{
        bad_request, body, decode, few_enough, is_msgpack, json, msgpack, new_error, old_error, segment, starting, text,
    },
    state::Worker,
};

/// The routes of the write port.
pub(crate) fn routes(worker: Arc<Worker>, daemon: &Daemon) -> Router {
    Router::new()
        .route("/", post(old))
        .route("/v1/write", post(write))
        .route_layer(daemon.require_per_segment(Role::Write))
        .with_state(worker)
}

async fn old(State(worker): State<Arc<Worker>>, request: Request) -> Response {
    if !worker.is_started() {
        return starting();
    }
    let begun = Instant::now();
    worker.meters.writes.increment(1);
    let (parts, body) = match body(request, worker.settings.max_body_bytes).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let segment = match segment(&parts) {
        Ok(segment) => segment,
        Err(why) => return bad_request(why),
    };
    if let Err(refusal) = Caller::of(&parts.extensions).and_then(|caller| caller.check_plain(&segment)) {
        return refusal;
    }
    let sql = match text(body) {
        Ok(sql) => sql,
        Err(why) => return bad_request(why),
    };
    let result = script(&worker, &segment, sql).await;
    worker.meters.write_seconds.record(begun.elapsed().as_secs_f64());
    match result {
        Ok(()) => plain(StatusCode::OK, "OK\n"),
        Err(error) => {
            worker.meters.write_errors.increment(1);
            old_error(&named(&segment, error))
        }
    }
}

async fn script(worker: &Arc<Worker>, segment: &SegmentId, sql: String) -> Result<(), SegmentError> {
    let tenure = tenure(worker, segment)?;
    // While this is shared, nobody settles, replaces or releases the segment.
    let _in_flight = tenure.held.gate.read().await;
    tenure.held.note_write();
    let result = worker.engine.write_script(tenure.file, sql, tenure.guard).await;
    let result = result.and_then(|()| locks::still_held(&tenure.held, &worker.lease));
    if let Err(error) = &result {
        note_failure(&tenure.held, error);
    }
    result
}

/// A write that SQLite or the guard refused leaves the file as it was. After any other failure nobody can be sure.
fn note_failure(held: &Held, error: &SegmentError) {
    let refused = matches!(
        error.code,
        ErrorCode::BadRequest
            | ErrorCode::BadSql
            | ErrorCode::NoSuchTable
            | ErrorCode::NoSuchColumn
            | ErrorCode::Forbidden
            | ErrorCode::Constraint
            | ErrorCode::Conflict
            | ErrorCode::TypeMismatch
            | ErrorCode::DataException
            | ErrorCode::Limit
            | ErrorCode::NotWritable
            | ErrorCode::Unavailable
    );
    if refused {
        held.note_refusal();
    }
}

struct Tenure {
    held: Arc<Held>,
    file: SegmentFile,
    guard: Guard,
}

/// The tenure under which this process may write the segment.
fn tenure(worker: &Arc<Worker>, segment: &SegmentId) -> Result<Tenure, SegmentError> {
    let Some(held) = worker.locks.held(segment) else { return Err(not_writable(worker, segment)) };
    let file = worker.hot_file(segment).ok_or_else(|| {
        SegmentError::new(ErrorCode::UnknownSegment, format!("the file of segment '{segment}' is missing on this node"))
    })?;
    let guard = locks::guard(held.clone(), worker.lease.clone());
    Ok(Tenure { held, file, guard })
}

/// As the Python trough says it.
fn not_writable(worker: &Worker, segment: &SegmentId) -> SegmentError {
    let node = worker.locks.foreign(segment).map(|(node, _)| node);
    let lock = node.as_ref().map_or("None".to_owned(), |node| format!("{{'node': '{node}'}}"));
    SegmentError {
        code: ErrorCode::NotWritable,
        message: format!(
            "This node (settings['HOSTNAME']='{}') cannot write to segment '{segment}'. There is no write lock set, or \
             the write lock authorizes another node. Write lock: {lock}",
            worker.node
        ),
        hint: node.and_then(|node| worker.peers.get(&node)).and_then(|peer| peer.write_url),
    }
}

/// Names the segment in failures that a person cannot place otherwise.
fn named(segment: &SegmentId, error: SegmentError) -> SegmentError {
    let place = matches!(error.code, ErrorCode::DiskFull | ErrorCode::Io | ErrorCode::Corrupt | ErrorCode::Internal);
    if !place || error.message.contains(segment.as_str()) {
        return error;
    }
    SegmentError { message: format!("segment '{segment}': {}", error.message), ..error }
}

async fn write(State(worker): State<Arc<Worker>>, request: Request) -> Response {
    if !worker.is_started() {
        return starting();
    }
    let begun = Instant::now();
    let (parts, body) = match body(request, worker.settings.max_body_bytes).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let caller = match Caller::of(&parts.extensions) {
        Ok(caller) => caller,
        Err(refusal) => return refusal,
    };
    let request: WriteRequest = match decode(&parts, body).await {
        Ok(request) => request,
        Err(why) => return new_error(&SegmentError::new(ErrorCode::BadRequest, why)),
    };
    if let Err(error) = few_enough(&worker, request.writes.len()) {
        return new_error(&error);
    }
    worker.meters.writes.increment(request.writes.len() as u64);
    tracing::debug!(segments = request.writes.len(), "write");
    let deadline = request.deadline_ms.map(|ms| begun + std::time::Duration::from_millis(ms));
    // All are submitted at once, and share durable transactions where they can; the results are in order.
    let writes = request.writes.into_iter().map(|one| write_one(&worker, &caller, one, deadline));
    let results = futures::future::join_all(writes).await;
    worker.meters.write_seconds.record(begun.elapsed().as_secs_f64());
    let errors = results.iter().filter_map(|r| if let WriteResult::Err { error } = r { Some(error) } else { None });
    let failed = errors.clone().count();
    worker.meters.write_errors.increment(failed as u64);
    if let Some(first) = errors.clone().next()
        && let Some(held_back) = worker.told.failed.pass()
    {
        tracing::info!(failed, code = ?first.code, error = first.message, held_back, "write failed");
    }
    let accept = parts.headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let response = WriteResponse { results };
    if accept.contains("msgpack") || is_msgpack(&parts) && !accept.contains("json") {
        msgpack(&response)
    } else {
        json(StatusCode::OK, &response)
    }
}

async fn write_one(
    worker: &Arc<Worker>,
    caller: &Caller,
    write: SegmentWrite,
    deadline: Option<Instant>,
) -> WriteResult {
    let SegmentWrite { segment, statements } = write;
    if let Err(error) = caller.check(&segment) {
        return WriteResult::Err { error };
    }
    let tenure = match tenure(worker, &segment) {
        Ok(tenure) => tenure,
        Err(error) => return WriteResult::Err { error },
    };
    let _in_flight = tenure.held.gate.read().await;
    tenure.held.note_write();
    let guard: Guard = match deadline {
        None => tenure.guard,
        Some(deadline) => {
            let (inner, segment) = (tenure.guard, segment.clone());
            Box::new(move || {
                if Instant::now() > deadline {
                    let message = format!("the deadline passed before segment '{segment}' was written; nothing was");
                    return Err(SegmentError::new(ErrorCode::Deadline, message));
                }
                inner()
            })
        }
    };
    let result = match worker.engine.write(tenure.file, statements, guard).await {
        done @ WriteResult::Ok { .. } => match locks::still_held(&tenure.held, &worker.lease) {
            Ok(()) => done,
            Err(error) => WriteResult::Err { error },
        },
        refused => refused,
    };
    match result {
        WriteResult::Err { error } => {
            note_failure(&tenure.held, &error);
            WriteResult::Err { error: named(&segment, error) }
        }
        done => done,
    }
}
