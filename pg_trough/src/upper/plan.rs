//! The plan of an aggregating scan.

use pgrx::pg_sys;
use trough_pushdown::{Grouping, Shipper};

use crate::{
    compat, pg, plan,
    plandata::{ScanPlan, Source},
    walk::{self, Walker},
};

use super::{Upper, print};

/// The plan of an aggregating scan.
///
/// # Safety
/// The arguments are the planner's, `upper` what was kept of the relation.
pub(crate) unsafe fn plan(
    upper: &Upper,
    path: *mut pg_sys::ForeignPath,
    tlist: *mut pg_sys::List,
    outer_plan: *mut pg_sys::Plan,
) -> *mut pg_sys::ForeignScan {
    // SAFETY: the planner's structures.
    unsafe {
        let tag = pg::list::<pg_sys::Node>((*path).fdw_private).next().expect("paths carry their shape's index");
        let index: usize = compat::string_value(tag).parse().expect("an index was written");
        let shape = &upper.shapes[index];
        let relation = &upper.relation;
        let tables = &relation.tables;
        let ships = "the shape was printed when the path was made";
        let once =
            |shipper: &mut Shipper<'_>| print::print(shape, tables, &mut Walker::new(tables), shipper).expect(ships);
        // Conditions on groups read the answer's columns, which follow the tables'.
        let first = once(&mut Shipper::new(tables.scope(), &walk::collation));
        let answers = print::answers(shape, &first, &Grouping::new(first.keys.clone(), &first.aggregates));
        let scope = tables.scope().extended(answers.columns);

        let mut walker = Walker::new(tables);
        let mut shipper = Shipper::new(&scope, &walk::collation);
        // Printed first, as in the SELECT list, so that parameters number from the left.
        let printed = print::print(shape, tables, &mut walker, &mut shipper).expect(ships);
        let grouping = Grouping::new(printed.keys, &printed.aggregates);
        let from = relation.from(&mut walker, &mut shipper);
        let (conditions, keys) =
            plan::print_conditions(&relation.split, tables, plan::Ships::All, &mut walker, &mut shipper);
        let places = answers.places.into_iter().zip(tables.scope().len()..).collect();
        let (having, local) = having(&shape.having, places, &mut walker, &mut shipper);
        let forms = shipper.form_checks();
        let statement = grouping.statement(&from, &conditions, &forms, &having, printed.by_segment);

        let mut outputs = printed.outputs;
        for (mut output, columns) in printed.states.into_iter().zip(grouping.columns()) {
            if let Source::State(_, _, places) | Source::Final(_, _, _, places) = &mut output.source {
                places.clone_from(columns);
            }
            outputs.push(output);
        }
        let slots = walker.into_slots();
        let joined = || pg::relation_name(tables.first().relid);
        let name = relation.name.clone().unwrap_or_else(joined);
        let scan = ScanPlan {
            relations: Some(format!("Aggregate on ({name})")),
            map: statement.map,
            reduce: statement.reduce,
            bytewise: shipper.is_bytewise(),
            params: shipper.into_params(),
            outputs,
            width: grouping.width(),
            slots: slots.len(),
            keys,
            ..ScanPlan::of(tables)
        };
        let mut scan_tlist = std::ptr::null_mut();
        for (i, item) in shape.items.iter().enumerate() {
            let entry = pg_sys::makeTargetEntry(
                pg_sys::copyObjectImpl(item.expr.cast()).cast(),
                i as i16 + 1,
                std::ptr::null_mut(),
                false,
            );
            (*entry).ressortgroupref = item.sortref;
            scan_tlist = pg_sys::lappend(scan_tlist, entry.cast());
        }
        let exprs = plan::expressions(&slots, &relation.split.segment, tables);
        let quals = pg::make_list(local);
        let nil = std::ptr::null_mut();
        pg_sys::make_foreignscan(tlist, quals, 0, exprs, scan.to_list(), scan_tlist, nil, outer_plan)
    }
}

/// The conditions on groups that SQLite can check, printed, and those that are left to PostgreSQL.
unsafe fn having(
    conditions: &[*mut pg_sys::Expr],
    places: Vec<(*mut pg_sys::Node, usize)>,
    walker: &mut Walker<'_>,
    shipper: &mut Shipper<'_>,
) -> (Vec<String>, Vec<*mut pg_sys::Expr>) {
    let (mut shipped, mut local) = (Vec::new(), Vec::new());
    if !places.is_empty() {
        walker.set_places(places);
        for condition in conditions {
            // SAFETY: the planner's expressions.
            let expr = unsafe { walker.expr((*condition).cast()) };
            match shipper.exact_condition(&expr) {
                Ok(sql) => shipped.push(sql),
                Err(_) => local.push(*condition),
            }
        }
    } else {
        local.extend(conditions);
    }
    (shipped, local)
}
