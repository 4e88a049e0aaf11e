//! Planning of a base relation's scan: which conditions run where, what it may cost, and the plan itself.

use std::collections::BTreeSet;

use pgrx::{pg_guard, pg_sys};
use trough_pushdown::{Keys, Shipper, Spent, statement};

use crate::{
    compat::{self, Cost, ScanPath},
    estimate, guc, join, memory, modify,
    order::{self, Arrangement},
    pg,
    plandata::{Output, ScanPlan, SegmentKeys, Source},
    python,
    relation::{self, Relation, Semi, Tables},
    table,
    upper::{self, Upper},
    walk::{self, Walker},
};

/// What is kept of a relation: of foreign tables, or of an aggregation over them.
pub(crate) enum Planning {
    /// Foreign tables.
    Scan(Relation),
    /// An aggregation.
    Upper(Upper),
    /// What ORDER BY makes of a relation of ours, which has no paths of ours.
    Sorted(*mut pg_sys::RelOptInfo),
}

/// What of a query may run elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ships {
    /// Whatever means the same in SQLite.
    All,
    /// Conditions on segments only: plain rows are fetched of the segments that they leave.
    Segments,
    /// Nothing: plain rows are fetched of all segments.
    Nothing,
}

/// Conditions by where they run.
#[derive(Clone, Default)]
pub(crate) struct Split {
    /// In SQLite, and nowhere else.
    pub(crate) remote: Vec<*mut pg_sys::Expr>,
    /// In SQLite as a superset, and here again.
    pub(crate) both: Vec<*mut pg_sys::Expr>,
    /// Here, once per segment.
    pub(crate) segment: Vec<*mut pg_sys::Expr>,
    /// Here, per row.
    pub(crate) local: Vec<*mut pg_sys::Expr>,
    /// Semi joins and anti joins in SQLite.
    pub(crate) semis: Vec<Semi>,
    /// How much of SQLite's limits the conditions above take.
    pub(crate) spent: Spent,
}

impl Split {
    /// The conditions that PostgreSQL evaluates per row.
    pub(crate) fn per_row(&self) -> impl Iterator<Item = *mut pg_sys::Expr> {
        self.local.iter().chain(&self.both).copied()
    }

    /// Sorts a condition in.
    ///
    /// # Safety
    /// `clause` is a valid expression over the relation.
    pub(crate) unsafe fn add(&mut self, clause: *mut pg_sys::Expr, tables: &Tables, ships: Ships) {
        if ships == Ships::Nothing {
            self.local.push(clause);
            return;
        }
        // SAFETY: as for the caller.
        unsafe {
            if walk::only_segment(clause.cast(), tables) {
                self.segment.push(clause);
                return;
            }
            if ships == Ships::Segments {
                self.local.push(clause);
                return;
            }
            let expr = Walker::new(tables).expr(clause.cast());
            let mut shipper = Shipper::new(tables.scope(), &walk::collation);
            match shipper.condition(&expr) {
                Ok(shipped) if !self.spent.add(&shipped.sql, shipper.params().len()) => self.local.push(clause),
                Ok(shipped) if shipped.exact => self.remote.push(clause),
                Ok(_) => self.both.push(clause),
                Err(_) => self.local.push(clause),
            }
        }
    }
}

/// Fixed cost of asking the cluster.
pub(crate) const STARTUP: f64 = 100.0;
/// The same where values name the segments: one request, about 0.2 ms.
pub(crate) const LOOKUP: f64 = 25.0;
/// Cost of a row read in SQLite.
pub(crate) const SCANNED: f64 = 0.002;
/// Cost of a row brought here.
pub(crate) const FETCHED: f64 = 0.02;
/// Rows of a table that nobody has counted.
const UNCOUNTED: f64 = 1_000_000.0;

/// What was kept of a relation.
///
/// # Safety
/// The relation is one of ours.
pub(crate) unsafe fn planning<'a>(rel: *mut pg_sys::RelOptInfo) -> Option<&'a Planning> {
    // SAFETY: only this module and `upper` set `fdw_private`, to a Planning owned by the planner's context.
    unsafe { (*rel).fdw_private.cast::<Planning>().as_ref() }
}

/// `GetForeignRelSize`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn get_foreign_rel_size(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    relid: pg_sys::Oid,
) {
    // SAFETY: the planner's structures.
    unsafe {
        let tables = Tables::one((*rel).relid, table::load(relid));
        // The rows of a table that is written are found with functions of ours anyway.
        let written = pg_sys::bms_is_member((*rel).relid as i32, (*root).all_result_relids);
        let asks = guc::PUSHDOWN.get() && !written;
        let python = if asks { python::alone(rel, tables.first()) } else { None };
        let ships = match &python {
            _ if !guc::PUSHDOWN.get() => Ships::Nothing,
            Some(_) => Ships::Segments,
            None => Ships::All,
        };
        let split = split((*rel).baserestrictinfo, &tables, ships);
        if (*rel).tuples <= 0.0 {
            (*rel).tuples = tables.first().estimated_rows.unwrap_or(UNCOUNTED);
        }
        pg_sys::set_baserel_size_estimates(root, rel);
        let segments = pg::make_list(split.segment.iter().copied());
        let share =
            pg_sys::clauselist_selectivity(root, segments, 0, pg_sys::JoinType::JOIN_INNER, std::ptr::null_mut());
        let scanned = ((*rel).tuples * share).max(1.0);
        let relation =
            Relation { tables, source: relation::Source::Table(0), split, scanned, ships, python, name: None };
        if relation.tables.first().use_remote_estimate
            && ships == Ships::All
            && let Some(rows) = estimate::rows(root, rel, &relation, &relation.split)
        {
            let local = pg::make_list(relation.split.local.iter().copied());
            let left =
                pg_sys::clauselist_selectivity(root, local, 0, pg_sys::JoinType::JOIN_INNER, std::ptr::null_mut());
            (*rel).rows = pg_sys::clamp_row_est(rows * left);
            (*rel).tuples = (*rel).tuples.max(rows);
        }
        (*rel).fdw_private = memory::own(pg_sys::CurrentMemoryContext, Planning::Scan(relation)).cast();
    }
}

/// Sorts the conditions in a list of `RestrictInfo`s.
///
/// # Safety
/// The conditions are valid expressions over the tables.
pub(crate) unsafe fn split(infos: *mut pg_sys::List, tables: &Tables, ships: Ships) -> Split {
    let mut split = Split::default();
    // SAFETY: as for the caller.
    unsafe {
        for info in pg::list::<pg_sys::RestrictInfo>(infos) {
            if !(*info).pseudoconstant {
                split.add((*info).clause, tables, ships);
            }
        }
    }
    split
}

/// `GetForeignPaths`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn get_foreign_paths(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    _relid: pg_sys::Oid,
) {
    // SAFETY: the planner's structures; `fdw_private` was set by get_foreign_rel_size.
    unsafe {
        let Some(Planning::Scan(base)) = planning(rel) else { return };
        let cost = scan_cost(root, rel, &base.split, &base.tables, base.scanned, (*rel).rows);
        let path = ScanPath { required_outer: (*rel).lateral_relids, ..ScanPath::default() };
        pg_sys::add_path(rel, compat::foreign_scan_path(root, rel, cost, &path));
        // The rows of a table that is written come with their identity, which has no place in a sorted scan.
        if !pg_sys::bms_is_member((*rel).relid as i32, (*root).all_result_relids) {
            order::add_sorted_paths(root, rel, base, cost);
        }
        join::parameterized::add_paths(root, rel, base);
    }
}

/// What a scan of one table costs that reads `scanned` rows in SQLite and gives `rows`.
///
/// # Safety
/// The arguments are the planner's; the conditions are valid expressions over the relation, and may read others.
pub(crate) unsafe fn scan_cost(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    split: &Split,
    tables: &Tables,
    scanned: f64,
    rows: f64,
) -> Cost {
    // SAFETY: as for the caller.
    unsafe {
        let mut quals = pg_sys::QualCost::default();
        pg_sys::cost_qual_eval(&mut quals, pg::make_list(split.per_row()), root);
        let fetched = if split.per_row().next().is_none() {
            rows
        } else {
            let remote = pg::make_list(split.remote.iter().chain(&split.segment).copied());
            let inner = pg_sys::JoinType::JOIN_INNER;
            let share = pg_sys::clauselist_selectivity(root, remote, (*rel).relid as i32, inner, std::ptr::null_mut());
            ((*rel).tuples * share).max(rows)
        };
        let startup = if keys(split, tables).is_finite() { LOOKUP } else { STARTUP } + quals.startup;
        let per_row = FETCHED + quals.per_tuple + pg_sys::cpu_tuple_cost;
        Cost { rows, startup, total: startup + scanned * SCANNED + fetched * per_row }
    }
}

/// Which segments can hold rows, by all conditions; the slots are of no statement.
///
/// # Safety
/// The conditions are valid expressions over the tables.
pub(crate) unsafe fn keys(split: &Split, tables: &Tables) -> Keys {
    let mut walker = Walker::new(tables);
    let all = split.remote.iter().chain(&split.both).chain(&split.segment).chain(&split.local);
    // SAFETY: as for the caller.
    let exprs: Vec<_> = all.map(|clause| unsafe { walker.expr((*clause).cast()) }).collect();
    Keys::intersect(exprs.iter().map(|expr| Keys::of(expr, tables.scope(), &walk::collation)))
}

/// `GetForeignPlan`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn get_foreign_plan(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    _relid: pg_sys::Oid,
    path: *mut pg_sys::ForeignPath,
    tlist: *mut pg_sys::List,
    clauses: *mut pg_sys::List,
    outer_plan: *mut pg_sys::Plan,
) -> *mut pg_sys::ForeignScan {
    // SAFETY: the planner's structures; `fdw_private` was set when the relation was sized.
    unsafe {
        match planning(rel) {
            Some(Planning::Scan(join)) if join.name.is_some() => {
                let arrangement = Arrangement::of(root, path);
                join::inside::plan(join, rel, tlist, &arrangement, outer_plan)
            }
            Some(Planning::Scan(base)) => base_plan(root, rel, base, path, tlist, clauses, outer_plan),
            Some(Planning::Upper(upper)) => upper::plan(upper, path, tlist, outer_plan),
            Some(Planning::Sorted(_)) | None => unreachable!("only relations of the other kinds have paths of ours"),
        }
    }
}

/// Prints conditions that run in SQLite and collects the sets of segments of all.
///
/// # Safety
/// The conditions are valid expressions over the tables.
pub(crate) unsafe fn print_conditions(
    split: &Split,
    tables: &Tables,
    ships: Ships,
    walker: &mut Walker<'_>,
    shipper: &mut Shipper<'_>,
) -> (Vec<String>, SegmentKeys) {
    let mut implied = Vec::new();
    let mut conditions = Vec::new();
    let mut keys = Vec::new();
    // SAFETY: as for the caller.
    unsafe {
        for clause in split.remote.iter().chain(&split.both) {
            let expr = walker.expr((*clause).cast());
            let shipped = shipper.condition(&expr).expect("the same condition was shipped before");
            conditions.push(shipped.sql);
            keys.push(Keys::of(&expr, tables.scope(), &walk::collation));
        }
        for semi in &split.semis {
            let sql = tables.print_semi(semi, walker, shipper);
            conditions.push(sql.expect("joins were printed when their paths were made"));
        }
        if ships != Ships::Nothing {
            for (i, clause) in split.segment.iter().chain(&split.local).enumerate() {
                let expr = walker.expr((*clause).cast());
                keys.push(Keys::of(&expr, tables.scope(), &walk::collation));
                if i < split.segment.len() && Keys::is_exact(&expr, tables.scope(), &walk::collation) {
                    implied.push(i);
                }
            }
        }
    }
    (conditions, SegmentKeys { keys: Keys::intersect(keys), implied })
}

/// A scan's plan, and its `fdw_exprs`. `wanted` has an entry per attribute of the scan's tuple that must have a value:
/// the attribute's index, and the scope's index of the column.
///
/// # Safety
/// The conditions are valid expressions over the relation's tables; the arrangement ships.
pub(crate) unsafe fn scan_plan(
    relation: &Relation,
    split: &Split,
    wanted: &[(usize, usize)],
    arrangement: &Arrangement,
) -> (ScanPlan, *mut pg_sys::List) {
    let tables = &relation.tables;
    let mut walker = Walker::new(tables);
    let mut shipper = Shipper::new(tables.scope(), &walk::collation);
    let from = relation.from(&mut walker, &mut shipper);
    // SAFETY: as for the caller.
    let (conditions, keys) = unsafe { print_conditions(split, tables, relation.ships, &mut walker, &mut shipper) };
    // SAFETY: as for the caller.
    let arranged = unsafe { order::print(arrangement, tables, &keys.keys, &mut walker, &mut shipper) }
        .expect("the arrangement was printed when the path was made");
    let mut outputs = Vec::new();
    let mut columns = Vec::new();
    for (attribute, index) in wanted {
        let Some(stored) = tables.stored(*index) else { continue };
        let segment = tables.scope().column(*index).is_some_and(|c| c.segment);
        // Rows that a worker picked do not say which segment they are of.
        let source = if segment && !arranged.order.reduces() {
            Source::Segment
        } else {
            columns.push(*index);
            Source::Column(stored)
        };
        outputs.push(Output { attribute: *attribute, source });
    }
    let scanned =
        statement::scan(&from, tables.scope(), &columns, &conditions, &shipper.form_checks(), &arranged.order);
    let slots = walker.into_slots();
    let plan = ScanPlan {
        map: scanned.statement.map,
        reduce: scanned.statement.reduce,
        bytewise: shipper.is_bytewise(),
        params: shipper.into_params(),
        enough: arranged.enough,
        width: scanned.width,
        outputs,
        slots: slots.len(),
        keys,
        python: relation.python.clone(),
        ..ScanPlan::of(tables)
    };
    // SAFETY: as for the caller.
    (plan, unsafe { expressions(&slots, &split.segment, tables) })
}

unsafe fn base_plan(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    base: &Relation,
    path: *mut pg_sys::ForeignPath,
    tlist: *mut pg_sys::List,
    clauses: *mut pg_sys::List,
    outer_plan: *mut pg_sys::Plan,
) -> *mut pg_sys::ForeignScan {
    // SAFETY: the planner's structures.
    unsafe {
        let relid = (*rel).relid;
        // The clauses are the relation's own and, on a parameterized path, those of the join.
        let mut split = split(clauses, &base.tables, base.ships);
        for condition in join::batch::batch_conditions(path) {
            split.add(condition, &base.tables, base.ships);
        }
        let mut wanted = BTreeSet::new();
        let mut used = std::ptr::null_mut();
        for expr in pg::list::<pg_sys::Node>((*(*rel).reltarget).exprs).chain(split.per_row().map(|e| e.cast())) {
            pg_sys::pull_varattnos(expr, relid, &mut used);
        }
        let mut member = -1;
        loop {
            member = pg_sys::bms_next_member(used, member);
            if member < 0 {
                break;
            }
            match member + pg_sys::FirstLowInvalidHeapAttributeNumber {
                0 => wanted.extend(0..base.tables.scope().len()),
                attribute if attribute > 0 => {
                    wanted.insert(attribute as usize - 1);
                }
                _ => {}
            }
        }
        let wanted: Vec<_> = wanted.into_iter().map(|index| (index, index)).collect();
        let (mut plan, exprs) = scan_plan(base, &split, &wanted, &Arrangement::of(root, path));
        if let Some((identity, columns)) = modify::identity(root, relid, used, base.tables.first()) {
            plan.with_identity(matches!(identity, modify::Identity::Rowid(_)), &columns);
        }
        let quals = pg::make_list(split.per_row());
        let recheck = pg::make_list(split.remote.iter().chain(&split.segment).copied());
        pg_sys::make_foreignscan(tlist, quals, relid, exprs, plan.to_list(), std::ptr::null_mut(), recheck, outer_plan)
    }
}

/// `fdw_exprs`: the values, then the conditions on segments, which read the segment's name where a domain's check would
/// read its value.
///
/// # Safety
/// The expressions are valid.
pub(crate) unsafe fn expressions(
    slots: &[*mut pg_sys::Node],
    segment: &[*mut pg_sys::Expr],
    tables: &Tables,
) -> *mut pg_sys::List {
    // SAFETY: as for the caller; conditions are copied before they are changed.
    unsafe {
        let conditions = segment.iter().map(|clause| segment_condition(*clause, tables));
        pg::make_list(slots.iter().copied().chain(conditions))
    }
}

/// A condition on segments as it is evaluated: it reads the segment's name where a domain's check would read its value.
///
/// # Safety
/// `clause` is a valid expression.
pub(crate) unsafe fn segment_condition(clause: *mut pg_sys::Expr, tables: &Tables) -> *mut pg_sys::Node {
    // SAFETY: as for the caller; the condition is copied before it is changed.
    unsafe {
        let copy = pg_sys::copyObjectImpl(clause.cast()).cast::<pg_sys::Node>();
        replace_segment(copy, tables);
        copy
    }
}

/// Turns each reading of the segment column into a CoerceToDomainValue, in place. That node takes its value from the
/// expression context and occurs in no ordinary expression; conditions with domain coercions are not taken.
unsafe fn replace_segment(node: *mut pg_sys::Node, tables: &Tables) {
    const { assert!(size_of::<pg_sys::CoerceToDomainValue>() <= size_of::<pg_sys::Var>()) };
    if node.is_null() {
        return;
    }
    // SAFETY: the tree is a private copy; the new node fits into the old one's memory.
    unsafe {
        if pg::tag(node) == pg_sys::NodeTag::T_Var {
            let var = std::ptr::read(node.cast::<pg_sys::Var>());
            // What belongs to another table is a parameter to come.
            if !tables.is_segment(&var) {
                return;
            }
            let value = node.cast::<pg_sys::CoerceToDomainValue>();
            (*value).xpr.type_ = pg_sys::NodeTag::T_CoerceToDomainValue;
            (*value).typeId = var.vartype;
            (*value).typeMod = var.vartypmod;
            (*value).collation = var.varcollid;
            (*value).location = -1;
            return;
        }
        compat::walk_children(node, &mut |child| {
            replace_segment(child, tables);
            false
        });
    }
}
