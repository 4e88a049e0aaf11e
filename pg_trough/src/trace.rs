//! The statement's trace: one id for all requests of a client's statement, told in errors, in the workers' logs and by
//! `trough.last_trace()`.
//!
//! It comes from a comment as sqlcommenter writes them (`/*traceparent='00-…'*/`), else from pg_trough.traceparent, else it is made here.

use std::{
    cell::{Cell, RefCell},
    ffi::{CStr, CString, c_char, c_int, c_void},
};

use pgrx::{PgSqlErrorCode, pg_extern, pg_sys};
use trough_core::{Trace, TraceId};

use crate::{
    errors::{Failure, OrRaise as _},
    guc,
};

thread_local! {
    /// The last statement that asked for one, by its start, and its trace.
    static LAST: Cell<Option<(pg_sys::TimestampTz, Trace)>> = const { Cell::new(None) };
}

/// The trace of the statement that runs.
pub(crate) fn current() -> Trace {
    // SAFETY: only reads the current transaction's state.
    let statement = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    if let Some((of, trace)) = LAST.get()
        && of == statement
    {
        return trace;
    }
    let trace = given().or_raise().unwrap_or_else(made);
    LAST.set(Some((statement, trace)));
    trace
}

/// The id that requests of this session carried last.
fn last() -> Option<TraceId> {
    LAST.get().map(|(_, trace)| trace.id())
}

fn given() -> Result<Option<Trace>, Failure> {
    if let Some(trace) = in_comment() {
        return Ok(Some(trace));
    }
    let Some(text) = guc::TRACEPARENT.get() else { return Ok(None) };
    let text = text.to_string_lossy();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| {
        let message = format!("pg_trough.traceparent is {text:?}: {error}");
        Failure::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    })
}

/// The trace in the statement's comments.
fn in_comment() -> Option<Trace> {
    // SAFETY: null, or the text of the client's message, which lives as long as its statement runs.
    let text = unsafe {
        let text = pg_sys::debug_query_string;
        if text.is_null() { None } else { Some(CStr::from_ptr(text)) }
    };
    traceparent_of(text?.to_bytes())
}

/// What a text says behind `traceparent='`, in a comment.
fn traceparent_of(text: &[u8]) -> Option<Trace> {
    const KEY: &[u8] = b"traceparent='";
    let open = text.windows(2).position(|two| two == b"/*")?;
    let at = text[open..].windows(KEY.len()).position(|part| part == KEY)? + open + KEY.len();
    let end = text[at..].iter().position(|byte| *byte == b'\'')? + at;
    std::str::from_utf8(&text[at..end]).ok()?.parse().ok()
}

fn made() -> Trace {
    let mut random = [0u8; 24];
    // SAFETY: the buffer is as long as it says.
    let strong = unsafe { pg_sys::pg_strong_random(random.as_mut_ptr().cast(), random.len()) };
    if !strong {
        Failure::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "could not make a random trace id").raise();
    }
    let (id, span) = random.split_at(16);
    Trace::new(
        u128::from_be_bytes(id.try_into().expect("16 bytes")),
        u64::from_be_bytes(span.try_into().expect("8 bytes")),
    )
}

/// `trough.last_trace()`
#[pg_extern(volatile, sql = false)]
fn trough_last_trace() -> Option<String> {
    last().map(|id| id.to_string())
}

// PostgreSQL's own way to say where an error comes from is a list of callbacks. The error leaves Rust as a panic and is reported
// behind it, so that the callback cannot lie on the stack: there is one, and it lives as long as the process.

unsafe extern "C-unwind" {
    fn set_errcontext_domain(domain: *const c_char) -> c_int;
    fn errcontext_msg(format: *const c_char, ...) -> c_int;
}

struct Callback(std::cell::UnsafeCell<pg_sys::ErrorContextCallback>);

// SAFETY: only the backend's own thread comes here.
unsafe impl Sync for Callback {}

static CALLBACK: Callback = Callback(std::cell::UnsafeCell::new(pg_sys::ErrorContextCallback {
    previous: std::ptr::null_mut(),
    callback: Some(say),
    arg: std::ptr::null_mut(),
}));

thread_local! {
    /// What the next error or warning says of itself.
    static SAID: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// The next error or warning of this thread says which trace it belongs to, if there is one. To be called right before it is raised.
pub(crate) fn arm() {
    let Some(id) = last() else { return };
    SAID.set(CString::new(format!("trough trace {id}")).ok());
    let ours = CALLBACK.0.get();
    // SAFETY: the list is PostgreSQL's, whose frames take themselves off it when they end, however they end; so all of it is alive. Ours is put
    // on it at most once, and goes off it with the frame that lies under it.
    unsafe {
        let mut at = pg_sys::error_context_stack;
        while !at.is_null() {
            if at == ours {
                return;
            }
            at = (*at).previous;
        }
        (*ours).previous = pg_sys::error_context_stack;
        pg_sys::error_context_stack = ours;
    }
}

/// After a warning: the list is as before.
pub(crate) fn disarm() {
    SAID.take();
    let ours = CALLBACK.0.get();
    // SAFETY: as in `arm`.
    unsafe {
        if pg_sys::error_context_stack == ours {
            pg_sys::error_context_stack = (*ours).previous;
        }
    }
}

unsafe extern "C-unwind" fn say(_: *mut c_void) {
    if let Some(text) = SAID.take() {
        // SAFETY: PostgreSQL calls this while it makes the report, and copies the text.
        unsafe {
            set_errcontext_domain(std::ptr::null());
            errcontext_msg(c"%s".as_ptr(), text.as_ptr());
        }
    }
}
