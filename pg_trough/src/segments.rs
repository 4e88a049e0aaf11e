//! Which segments a scan asks, worked out when it starts: by the values in its conditions where they name segments, and
//! by PostgreSQL evaluating the conditions on each segment's name.

use std::collections::BTreeSet;

use pgrx::pg_sys;
use trough_client::{SegmentPattern, SegmentSet};
use trough_core::SegmentId;
use trough_pushdown::Keys;

use crate::{cluster::Cluster, encode, pg, plandata::ScanPlan, table};

/// A scan's values, by slot: the datum and its type.
pub(crate) type Values = [(Option<pg_sys::Datum>, pg_sys::Oid)];

/// The segments to ask.
pub(crate) struct Chosen {
    /// These; none if it is known that there are none.
    pub(crate) set: Option<SegmentSet>,
    /// Whether the query named them, rather than that they were listed.
    pub(crate) named: bool,
    /// How many names were given that no segment can have, and the first.
    pub(crate) impossible: Option<(String, u64)>,
}

/// The segments to ask.
///
/// # Safety
/// The values are evaluated, the conditions are initialised, and the context is the scan's.
pub(crate) unsafe fn choose(
    plan: &ScanPlan,
    values: &Values,
    conditions: &[*mut pg_sys::ExprState],
    context: *mut pg_sys::ExprContext,
    cluster: &Cluster,
) -> Chosen {
    let mut patterns: Vec<_> = plan.patterns.iter().map(|p| table::segment_pattern(p)).collect();
    // SAFETY: as for the caller.
    unsafe {
        if let Some(named) = named(&plan.keys.keys, values) {
            // Such a condition may be a list as long as the names: it is not gone through once per name.
            let implied = &plan.keys.implied;
            let conditions: Vec<_> =
                conditions.iter().enumerate().filter(|(i, _)| !implied.contains(i)).map(|(_, c)| *c).collect();
            let mut ids = Vec::with_capacity(named.len());
            let mut impossible = None;
            for name in named {
                if !patterns.iter().all(|p| p.matches(&name)) || !holds(&conditions, context, &name) {
                    continue;
                }
                match SegmentId::new(&name) {
                    Ok(id) => ids.push(id),
                    // What cannot be a segment's name names none.
                    Err(_) => impossible.get_or_insert((name, 0)).1 += 1,
                }
            }
            let set = (!ids.is_empty()).then_some(SegmentSet::Ids(ids));
            return Chosen { set, named: true, impossible };
        }
        patterns.extend(prefix(&plan.keys.keys).map(SegmentPattern::Prefix));
        let listed = match patterns.len() {
            0 => SegmentPattern::All,
            1 => patterns.remove(0),
            _ => SegmentPattern::And(patterns),
        };
        if conditions.is_empty() {
            return Chosen { set: Some(SegmentSet::Pattern(listed)), named: false, impossible: None };
        }
        let mut ids = cluster.list(listed);
        ids.retain(|id| holds(conditions, context, id.as_str()));
        Chosen { set: (!ids.is_empty()).then_some(SegmentSet::Ids(ids)), named: false, impossible: None }
    }
}

/// The names in a set, if its values list them.
unsafe fn named(keys: &Keys, values: &Values) -> Option<BTreeSet<String>> {
    // SAFETY: slots of such sets hold texts and arrays of texts.
    unsafe {
        match keys {
            Keys::All | Keys::Prefix(_) => None,
            Keys::One(slot) => Some(values[*slot].0.map(|datum| encode::text(datum)).into_iter().collect()),
            Keys::Each(slot) => Some(match values[*slot].0 {
                None => BTreeSet::new(),
                Some(array) => {
                    encode::elements(array).1.into_iter().flatten().map(|datum| encode::text(datum)).collect()
                }
            }),
            Keys::Union(sets) => {
                let mut all = BTreeSet::new();
                for set in sets {
                    all.append(&mut named(set, values)?);
                }
                Some(all)
            }
            Keys::Intersect(sets) => sets
                .iter()
                .filter_map(|set| named(set, values))
                .reduce(|a, b| a.into_iter().filter(|name| b.contains(name)).collect()),
        }
    }
}

/// A text that the names of all segments in a set begin with.
fn prefix(keys: &Keys) -> Option<String> {
    match keys {
        Keys::Prefix(prefix) => Some(prefix.clone()),
        Keys::Intersect(sets) => sets.iter().find_map(prefix),
        _ => None,
    }
}

/// Whether all conditions hold for a segment's name.
unsafe fn holds(conditions: &[*mut pg_sys::ExprState], context: *mut pg_sys::ExprContext, id: &str) -> bool {
    if conditions.is_empty() {
        return true;
    }
    pgrx::check_for_interrupts!();
    // SAFETY: the conditions read the name as a domain's value; their results and the name live in per-tuple memory.
    unsafe {
        let before = pg_sys::MemoryContextSwitchTo((*context).ecxt_per_tuple_memory);
        (*context).domainValue_datum = segment_datum(id);
        (*context).domainValue_isNull = false;
        let holds = conditions.iter().all(|condition| {
            let mut null = false;
            let evaluate = (**condition).evalfunc.expect("ExecInitExpr sets it");
            let result = evaluate(*condition, context, &mut null);
            !null && result.value() != 0
        });
        pg_sys::MemoryContextSwitchTo(before);
        pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
        holds
    }
}

/// A segment's name as a text, in the current memory context.
pub(crate) fn segment_datum(id: &str) -> pg_sys::Datum {
    // SAFETY: a conversion's result is NUL-terminated; the database's encoding is set in every backend.
    unsafe {
        let encoding = pg_sys::GetDatabaseEncoding();
        if encoding == pg_sys::pg_enc::PG_UTF8 as i32 {
            return pg::make_varlena(id.as_bytes());
        }
        let text = pg::cstring(id);
        let converted = pg_sys::pg_any_to_server(text.as_ptr(), id.len() as i32, pg_sys::pg_enc::PG_UTF8 as i32);
        pg::make_varlena(std::ffi::CStr::from_ptr(converted).to_bytes())
    }
}

/// A segment's name as a text, in memory of its own: for a name that is used for many rows.
pub(crate) fn words(text: &str) -> Vec<u64> {
    let datum = segment_datum(text);
    // SAFETY: a fresh four-byte-header varlena; it is copied and freed.
    unsafe {
        let bytes = pgrx::varsize_any(datum.cast_mut_ptr());
        let mut words = vec![0u64; bytes.div_ceil(8)];
        std::ptr::copy_nonoverlapping(datum.cast_mut_ptr::<u8>(), words.as_mut_ptr().cast(), bytes);
        pg_sys::pfree(datum.cast_mut_ptr());
        words
    }
}
