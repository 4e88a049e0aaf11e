//! Settings of a session: `pg_trough.*`. docs/SQL.md lists them.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

/// Whether conditions, aggregates and segment conditions are evaluated where the data is.
pub(crate) static PUSHDOWN: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Whether aggregates are (with `pushdown` on).
pub(crate) static AGGREGATES: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Whether foreign tables are joined inside the segments (with `pushdown` on).
pub(crate) static JOINS: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Whether a join asks for the segments that many rows of its other side name at once (with `pushdown` on).
pub(crate) static BATCHES: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Requests in flight per scan.
pub(crate) static MAX_IN_FLIGHT: GucSetting<i32> = GucSetting::<i32>::new(16);
/// Bytes of answers held per scan before workers must wait.
pub(crate) static BUFFER: GucSetting<i32> = GucSetting::<i32>::new(16 * 1024);
/// Bytes of rows held per INSERT or COPY before they go to a temporary file.
pub(crate) static WRITE_BUFFER: GucSetting<i32> = GucSetting::<i32>::new(128 * 1024);
/// How long one request to a worker may take.
pub(crate) static REQUEST_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(0);
/// The trace of this session's statements.
pub(crate) static TRACEPARENT: GucSetting<Option<std::ffi::CString>> =
    GucSetting::<Option<std::ffi::CString>>::new(None);

/// Segments that ANALYZE samples.
pub(crate) static ANALYZE_SEGMENTS: GucSetting<i32> = GucSetting::<i32>::new(1000);

/// Defines them.
pub(crate) fn register() {
    GucRegistry::define_string_guc(
        c"pg_trough.traceparent",
        c"The trace (W3C traceparent) that requests to workers carry, and errors name.",
        c"Empty makes one for each statement. A comment traceparent='...' in the statement goes before it.",
        &TRACEPARENT,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_bool_guc(
        c"pg_trough.pushdown",
        c"Evaluates conditions and aggregates in SQLite, and asks only the segments that a condition allows.",
        c"Off fetches plain rows of every segment, to hold pushdown against no pushdown.",
        &PUSHDOWN,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
    GucRegistry::define_bool_guc(
        c"pg_trough.aggregate_pushdown",
        c"Computes aggregates in parts in SQLite.",
        c"Needs pg_trough.pushdown.",
        &AGGREGATES,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
    GucRegistry::define_bool_guc(
        c"pg_trough.join_pushdown",
        c"Joins foreign tables on equal segments in SQLite.",
        c"Needs pg_trough.pushdown.",
        &JOINS,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
    GucRegistry::define_bool_guc(
        c"pg_trough.batched_joins",
        c"Joins on the segment column ask for the segments of many rows at once.",
        c"Needs pg_trough.pushdown.",
        &BATCHES,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
    GucRegistry::define_int_guc(
        c"pg_trough.max_in_flight",
        c"Requests to workers that one scan has in flight at most.",
        c"",
        &MAX_IN_FLIGHT,
        1,
        1024,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"pg_trough.buffer",
        c"Memory that one scan holds answers in, before workers must wait.",
        c"",
        &BUFFER,
        64,
        i32::MAX / 2,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"pg_trough.write_buffer",
        c"Memory that one INSERT or COPY holds rows in; further ones wait in a temporary file.",
        c"",
        &WRITE_BUFFER,
        64,
        i32::MAX / 2,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"pg_trough.request_timeout",
        c"How long one request to a worker may take; 0 is as long as the server option request_timeout says.",
        c"statement_timeout bounds the whole statement.",
        &REQUEST_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"pg_trough.analyze_segments",
        c"Segments that ANALYZE samples at most.",
        c"",
        &ANALYZE_SEGMENTS,
        1,
        i32::MAX / 2,
        GucContext::Userset,
        GucFlags::empty(),
    );
    #[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17", feature = "pg18"))]
    // SAFETY: called while the library is loaded, with a literal.
    unsafe {
        pgrx::pg_sys::MarkGUCPrefixReserved(c"pg_trough".as_ptr());
    }
}
