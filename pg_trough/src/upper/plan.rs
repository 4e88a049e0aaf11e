//! The plan of an aggregating scan.

use pgrx::pg_sys;
use trough_pushdown::{Shipper, statement};

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
        let mut walker = Walker::new(tables);
        let mut shipper = Shipper::new(tables.scope(), &walk::collation);
        // Printed first, as in the SELECT list, so that parameters number from the left.
        let printed = print::print(shape, tables, &mut walker, &mut shipper)
            .expect("the shape was printed when the path was made");
        let from = relation.from(&mut walker, &mut shipper);
        let (conditions, keys) = plan::print_conditions(&relation.split, tables, true, &mut walker, &mut shipper);
        let grouped = statement::grouped(&from, &printed.keys, &printed.aggregates, &conditions, printed.by_segment);
        let mut outputs = printed.outputs;
        for (mut output, columns) in printed.states.into_iter().zip(grouped.columns) {
            if let Source::State(_, _, places) | Source::Final(_, _, _, places) = &mut output.source {
                *places = columns;
            }
            outputs.push(output);
        }
        let slots = walker.into_slots();
        let names: Vec<_> = tables.members().iter().map(|m| pg::relation_name(m.table.relid)).collect();
        let scan = ScanPlan {
            relations: Some(format!("Aggregate on ({})", names.join(", "))),
            map: grouped.statement.map,
            reduce: grouped.statement.reduce,
            params: shipper.into_params(),
            outputs,
            width: grouped.width,
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
        let nil = std::ptr::null_mut();
        pg_sys::make_foreignscan(tlist, nil, 0, exprs, scan.to_list(), scan_tlist, nil, outer_plan)
    }
}
