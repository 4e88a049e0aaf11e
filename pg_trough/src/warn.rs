//! Warnings about segments that a scan left out.

use pgrx::PgSqlErrorCode;
use trough_client::{QueryError, query::LeftOut};

use crate::{
    errors::{Failure, of_segment},
    table::{Limits, OnFault},
};

/// How many segments a warning names.
const NAMED: usize = 3;

/// The warnings that a scan ends with, as its table's options ask for: one for segments that failed, one for named ones
/// that do not exist.
pub(crate) fn left_out(server: &str, table: &str, limits: Limits, left_out: &LeftOut) {
    if limits.on_failed == OnFault::Warn && left_out.failed > 0 {
        let message = format!(
            "table \"{table}\": {} could not be read and {}",
            segments(left_out.failed),
            without(left_out.failed)
        );
        let mut failures: Vec<_> = left_out.failures.iter().collect();
        failures.sort_by_key(|(segment, _)| segment);
        let reasons: Vec<String> = failures.iter().take(NAMED).map(|(_, why)| reason(why)).collect();
        let shown = reasons.len() as u64;
        warn(message, details(reasons, left_out.failed - shown), "on_segment_error");
    }
    if limits.on_missing == OnFault::Warn && left_out.unknown > 0 {
        let message =
            format!("server \"{server}\": {} not exist and {}", do_not(left_out.unknown), without(left_out.unknown));
        let mut ids: Vec<_> = left_out.unknown_ids.iter().collect();
        ids.sort_unstable();
        let names: Vec<String> = ids.iter().take(NAMED).map(|id| format!("\"{id}\"")).collect();
        let shown = names.len() as u64;
        warn(message, details(names, left_out.unknown - shown), "on_missing_segment");
    }
}

/// The error for names that no segment can have, where segments that do not exist are errors.
pub(crate) fn impossible(server: &str, name: &str, count: u64) -> Failure {
    let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
    Failure::new(
        PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_CREATE_EXECUTION,
        format!("server \"{server}\": segment {name:?}{more}: there is no such segment"),
    )
}

fn warn(message: String, detail: String, option: &str) {
    Failure::new(PgSqlErrorCode::ERRCODE_WARNING, message)
        .detail(detail)
        .hint(format!("The option {option} says so."))
        .traced()
        .warn();
}

/// What was said of a segment, with its name.
fn reason(why: &QueryError) -> String {
    match why {
        QueryError::Segment { segment, error, .. } => match error.message.strip_prefix("type mismatch: ") {
            Some(place) => format!("segment \"{segment}\", {place}"),
            None => of_segment(segment.as_str(), &error.message),
        },
        other => other.to_string(),
    }
}

fn segments(count: u64) -> String {
    if count == 1 { "a segment".to_owned() } else { format!("{count} segments") }
}

fn do_not(count: u64) -> String {
    if count == 1 { "a named segment does".to_owned() } else { format!("{count} named segments do") }
}

fn without(count: u64) -> &'static str {
    if count == 1 { "has no rows here" } else { "have no rows here" }
}

fn details(mut shown: Vec<String>, more: u64) -> String {
    if shown.is_empty() {
        return "Their names are none that a segment can have.".to_owned();
    }
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    format!("{}.", shown.join("; "))
}
