//! EXPLAIN: the SQLite statements, the conditions on segments, and with ANALYZE what was done.

use pgrx::{pg_guard, pg_sys};

use crate::{modify, pg, plandata::ScanPlan, python, scan};

/// Shows a text.
///
/// # Safety
/// EXPLAIN's state.
pub(crate) unsafe fn text(label: &str, value: &str, es: *mut pg_sys::ExplainState) {
    let (label, value) = (pg::cstring(label), pg::cstring(value));
    unsafe { pg_sys::ExplainPropertyText(label.as_ptr(), value.as_ptr(), es) }
}

/// Shows a number.
///
/// # Safety
/// EXPLAIN's state.
pub(crate) unsafe fn number(label: &str, unit: Option<&str>, value: u64, es: *mut pg_sys::ExplainState) {
    let (label, unit) = (pg::cstring(label), unit.map(pg::cstring));
    let unit = unit.as_ref().map_or(std::ptr::null(), |u| u.as_ptr());
    unsafe { pg_sys::ExplainPropertyInteger(label.as_ptr(), unit, value as i64, es) }
}

/// `ExplainForeignScan`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn explain_foreign_scan(
    node: *mut pg_sys::ForeignScanState,
    es: *mut pg_sys::ExplainState,
) {
    // SAFETY: EXPLAIN's structures; the plan is ours.
    unsafe {
        let foreign = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
        let plan = ScanPlan::from_list((*foreign).fdw_private);
        if let Some(relations) = &plan.relations {
            text("Relations", relations, es);
        }
        python::explain(&plan, es);
        statements(foreign, &plan, &[("SQLite SQL", Some(&plan.map)), ("Reduce SQL", plan.reduce.as_ref())], es);
        if (*es).analyze
            && let Some(told) = scan::told(node)
        {
            let stats = told.stats;
            number("Segments", None, stats.segments, es);
            for (label, count) in [("Segments Missing", stats.unknown), ("Segments Failed", stats.failed)] {
                if count > 0 {
                    number(label, None, count, es);
                }
            }
            // All others are on hot workers.
            if stats.cold > 0 {
                number("Cold Copies", None, stats.cold, es);
            }
            number("Workers", None, stats.workers, es);
            number("Retries", None, stats.retries, es);
            number("Rows Fetched", None, stats.rows, es);
            number("Bytes Fetched", None, stats.bytes, es);
            if scan::replays(node) > 0 {
                number("Runs Without Requests", None, scan::replays(node), es);
            }
        }
    }
}

/// What a plan asks of segments: its conditions on them, and with VERBOSE its statements and their parameters.
///
/// # Safety
/// EXPLAIN's structures; the plan is the node's.
pub(crate) unsafe fn statements(
    foreign: *mut pg_sys::ForeignScan,
    plan: &ScanPlan,
    statements: &[(&str, Option<&String>)],
    es: *mut pg_sys::ExplainState,
) {
    // SAFETY: as for the caller.
    unsafe {
        let exprs: Vec<_> = pg::list::<pg_sys::Node>((*foreign).fdw_exprs).collect();
        let shown = |expr: *mut pg_sys::Node| shown(expr, foreign, es);
        let segment = segment_name(plan);
        let conditions: Vec<_> = exprs[plan.slots..].iter().map(|expr| with_segment(&shown(*expr), &segment)).collect();
        if !conditions.is_empty() {
            text("Segment Conditions", &conditions.join(" AND "), es);
        }
        if (*es).verbose {
            for (label, sql) in statements {
                if let Some(sql) = sql {
                    text(label, sql, es);
                }
            }
            if !plan.params.is_empty() || plan.enough.is_some() {
                let mut list: Vec<_> = plan
                    .params
                    .iter()
                    .enumerate()
                    .map(|(i, param)| {
                        let element = param.element.map(|e| format!("[{}]", e + 1)).unwrap_or_default();
                        format!("?{} = {}{element}", i + 1, shown(exprs[param.slot]))
                    })
                    .collect();
                if let Some(enough) = plan.enough {
                    let rows = [Some(enough.limit), enough.offset].into_iter().flatten().map(|slot| shown(exprs[slot]));
                    list.push(format!("?{} = {}", list.len() + 1, rows.collect::<Vec<_>>().join(" + ")));
                }
                text("SQLite Parameters", &list.join(", "), es);
            }
        }
    }
}

/// An expression of a plan as PostgreSQL writes it.
///
/// # Safety
/// EXPLAIN's structures; the expression is the plan's.
pub(crate) unsafe fn shown(
    expr: *mut pg_sys::Node,
    foreign: *mut pg_sys::ForeignScan,
    es: *mut pg_sys::ExplainState,
) -> String {
    // SAFETY: as for the caller.
    unsafe {
        let ancestors = std::ptr::null_mut();
        let context = pg_sys::set_deparse_context_plan((*es).deparse_cxt, foreign.cast(), ancestors);
        // PostgreSQL has this name for what no query can write; here it is a lookup join's batch of keys.
        pg::text(pg_sys::deparse_expression(expr, context, false, false)).replace("CASE_TEST_EXPR", "keys of the join")
    }
}

fn segment_name(plan: &ScanPlan) -> String {
    let table = crate::table::load(plan.relid.into());
    let relid = table.relid;
    match table.table.segment_column() {
        // SAFETY: the attribute exists; the name is palloc'ed.
        Some(index) => unsafe {
            pg::text(pg_sys::quote_identifier(pg_sys::get_attname(relid, index as i16 + 1, false)))
        },
        None => "segment".to_owned(),
    }
}

/// Conditions on segments read the name where a domain's check reads `VALUE`; shown is the column's name.
fn with_segment(condition: &str, name: &str) -> String {
    const VALUE: &str = "VALUE";
    let mut out = String::with_capacity(condition.len());
    let mut quote = None;
    let mut rest = condition;
    while let Some(c) = rest.chars().next() {
        let before = out.chars().next_back();
        let bounded = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        if quote.is_none()
            && let Some(after) = rest.strip_prefix(VALUE)
            && bounded(before)
            && bounded(after.chars().next())
        {
            out.push_str(name);
            rest = after;
            continue;
        }
        match quote {
            Some(q) if q == c => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ => {}
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// `ExplainForeignModify`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn explain_foreign_modify(
    _state: *mut pg_sys::ModifyTableState,
    rel: *mut pg_sys::ResultRelInfo,
    _private: *mut pg_sys::List,
    _index: i32,
    es: *mut pg_sys::ExplainState,
) {
    // SAFETY: EXPLAIN's structures.
    unsafe {
        if (*es).verbose
            && let Some(sql) = modify::sql(rel)
        {
            text("SQLite SQL", &sql, es);
        }
    }
}
