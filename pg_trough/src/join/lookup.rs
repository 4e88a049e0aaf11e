//! Planning of lookup joins: rows of the other side are collected, and all segments that a batch of them names are asked at
//! once. PostgreSQL's nested loop would ask for one after the other. Where the join is on another column than the segment's, all
//! segments are asked for the rows that a batch has the values of, so that the others need not be brought here.

use std::ffi::CStr;

use pgrx::{pg_guard, pg_sys};
use serde::{Deserialize, Serialize};
use trough_pushdown::rules::{self, Cmp, Family, Rule};

use crate::{
    compat::{self, Cost, ScanPath},
    guc, memory, pg,
    plan::{self, Planning, Split},
    relation::Relation,
    walk,
};

use super::{
    batch::{BATCH, any_of, sides, variable},
    execute, inside,
};

/// As EXPLAIN shows it.
pub(crate) const NAME: &CStr = c"Trough Lookup Join";
/// Cost of asking one segment more in a request.
const KEY: f64 = 3.0;
/// Cost of looking for one value in one segment.
const SOUGHT: f64 = 0.01;

/// What a plan carries to execution.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Lookup {
    /// Which rows come out.
    pub(crate) kind: Kind,
    /// What the tuple's attributes are: of the outer plan's row, or of the inner one's.
    pub(crate) attributes: Vec<Attribute>,
    /// How many of the expressions are keys: the one by which rows meet, then those of other columns; the rest are conditions.
    pub(crate) keys: usize,
    /// Where an inner row has its value of the first key: mostly its segment.
    pub(crate) meets: usize,
    /// The type of that.
    pub(crate) meets_type: u32,
    /// Outer rows in the first batch.
    pub(crate) first_batch: usize,
}

/// An attribute of a side's row, from 0.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Attribute {
    /// Of the outer side.
    Outer(usize),
    /// Of the inner side, which is the foreign table.
    Inner(usize),
}

/// A kind of join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Both rows.
    Inner,
    /// Both, or the outer one with NULLs.
    Left,
    /// Outer rows that have an inner one.
    Semi,
    /// Outer rows that have none.
    Anti,
}

/// A path of a lookup join.
#[repr(C)]
struct LookupPath {
    /// Must be first.
    custom: pg_sys::CustomPath,
    /// Owned by the planner's context.
    join: *mut Found,
}

/// A join that can be a lookup.
struct Found {
    kind: Kind,
    /// Outer expressions: the one by which rows meet, then those of other columns.
    keys: Vec<*mut pg_sys::Node>,
    /// The conditions besides that on the segment.
    conditions: Vec<*mut pg_sys::Expr>,
    /// Conditions on the rows that come out of an outer join.
    filters: Vec<*mut pg_sys::Expr>,
    /// The inner side's column that the first key equals: the segment's, if the join is on it.
    meets: pg_sys::Var,
    first_batch: usize,
}

static mut PREVIOUS: pg_sys::set_join_pathlist_hook_type = None;

struct PathMethods(pg_sys::CustomPathMethods);
// SAFETY: function pointers and a static name; never written.
unsafe impl Sync for PathMethods {}
static METHODS: PathMethods = PathMethods(pg_sys::CustomPathMethods {
    CustomName: NAME.as_ptr(),
    PlanCustomPath: Some(plan_custom_path),
    ReparameterizeCustomPathByChild: None,
});

/// Registers the planner's hook and the plan node, once, when the library is loaded.
pub(crate) fn register() {
    // SAFETY: the process has one thread.
    unsafe {
        PREVIOUS = pg_sys::set_join_pathlist_hook;
        pg_sys::set_join_pathlist_hook = Some(add_paths);
    }
    execute::register();
}

#[pg_guard]
unsafe extern "C-unwind" fn add_paths(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    outer: *mut pg_sys::RelOptInfo,
    inner: *mut pg_sys::RelOptInfo,
    kind: pg_sys::JoinType::Type,
    extra: *mut pg_sys::JoinPathExtraData,
) {
    // SAFETY: the planner's structures; the previous hook is of the same type.
    unsafe {
        if let Some(previous) = PREVIOUS {
            previous(root, rel, outer, inner, kind, extra);
        }
        let ours = (*inner).relid != 0
            && !(*inner).fdwroutine.is_null()
            && (*(*inner).fdwroutine).GetForeignPaths.is_some_and(|paths| {
                type Paths =
                    unsafe extern "C-unwind" fn(*mut pg_sys::PlannerInfo, *mut pg_sys::RelOptInfo, pg_sys::Oid);
                std::ptr::fn_addr_eq(paths, plan::get_foreign_paths as Paths)
            });
        if !ours
            || !guc::PUSHDOWN.get()
            || !guc::BATCHES.get()
            || !(*root).rowMarks.is_null()
            || (*root).hasPseudoConstantQuals
            || !(*rel).lateral_relids.is_null()
            || !(*inner).lateral_relids.is_null()
            || inside::computes_inside(root, rel)
        {
            return;
        }
        let Some(Planning::Scan(base)) = plan::planning(inner) else { return };
        let outer_path = (*outer).cheapest_total_path;
        if outer_path.is_null() || !(*outer_path).param_info.is_null() || base.ships != plan::Ships::All {
            return;
        }
        use pg_sys::JoinType::{JOIN_ANTI, JOIN_INNER, JOIN_LEFT, JOIN_SEMI, JOIN_UNIQUE_OUTER};
        let (kind, outer_path) = match kind {
            JOIN_INNER => (Kind::Inner, outer_path),
            JOIN_LEFT => (Kind::Left, outer_path),
            JOIN_SEMI => (Kind::Semi, outer_path),
            JOIN_ANTI => (Kind::Anti, outer_path),
            JOIN_UNIQUE_OUTER => {
                (Kind::Inner, pg_sys::create_unique_path(root, outer, outer_path, (*extra).sjinfo).cast())
            }
            _ => return,
        };
        if outer_path.is_null() {
            return;
        }
        lookup_path(root, rel, outer, inner, base, kind, outer_path, (*extra).restrictlist);
    }
}

#[allow(clippy::too_many_arguments)]
unsafe fn lookup_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    outer: *mut pg_sys::RelOptInfo,
    inner: *mut pg_sys::RelOptInfo,
    base: &Relation,
    kind: Kind,
    outer_path: *mut pg_sys::Path,
    restrictions: *mut pg_sys::List,
) {
    // SAFETY: the planner's structures.
    unsafe {
        let (keys, conditions, filters) = (Vec::new(), Vec::new(), Vec::new());
        let mut found = Found {
            kind,
            keys,
            conditions,
            filters,
            meets: pg_sys::Var::default(),
            first_batch: if (*root).tuple_fraction > 0.0 { 64 } else { 1024 },
        };
        let mut batch: Vec<*mut pg_sys::Expr> = Vec::new();
        let mut others = Vec::new();
        for info in pg::list::<pg_sys::RestrictInfo>(restrictions) {
            let clause = (*info).clause;
            let pushed_down = (*info).is_pushed_down || !pg_sys::bms_is_subset((*info).required_relids, (*rel).relids);
            if matches!(kind, Kind::Left | Kind::Anti) && pushed_down {
                found.filters.push(clause);
                continue;
            }
            let sides = sides(info, outer, inner);
            if batch.is_empty()
                && let Some((op, mine, theirs)) = sides
                && let Some(var) = variable(mine)
                && base.tables.is_segment(&*var)
                && rules::is_text_equality(op.opno.into())
                && walk::collation(op.inputcollid.into()).deterministic
                && let Some(condition) = any_of(op.opno, op.inputcollid, var.cast(), theirs, 0)
            {
                found.meets = *var;
                found.keys.push(theirs);
                batch.push(condition);
                continue;
            }
            found.conditions.push(clause);
            others.push(sides);
        }
        let groups = |expr: *mut pg_sys::Node, rows: f64| {
            let exprs = pg::make_list([expr]);
            pg_sys::estimate_num_groups(root, exprs, rows, std::ptr::null_mut(), std::ptr::null_mut()).max(1.0)
        };
        let on_segment = !batch.is_empty();
        if !on_segment {
            let equalities = others.iter().flatten().filter_map(|(op, mine, theirs)| {
                let var = variable(*mine)?;
                let known = groups(*theirs, (*outer_path).rows.max(1.0)) / groups(var.cast(), (*inner).tuples.max(1.0));
                meets(op).then_some((known, *op, var, *theirs))
            });
            // The one that leaves the fewest rows.
            let Some((_, op, var, theirs)) = equalities.min_by(|a, b| a.0.total_cmp(&b.0)) else { return };
            let Some(condition) = any_of(op.opno, op.inputcollid, var.cast(), theirs, 0) else { return };
            if !ships(condition, base) {
                return;
            }
            found.meets = *var;
            found.keys.push(theirs);
            batch.push(condition);
            if (*root).tuple_fraction <= 0.0 {
                found.first_batch = execute::MOST_ROWS;
            }
        }
        if !has_all(rel, outer, inner, &found) {
            return;
        }
        let Some(segment) = segment_variable(inner, base) else { return };
        let segments = groups(segment, (*inner).tuples.max(1.0));
        let outer_rows = (*outer_path).rows.max(1.0);
        let width = f64::from((*(*outer_path).pathtarget).width) + execute::ROW_OVERHEAD as f64;
        let room = f64::from(pg_sys::work_mem) * 1024.0 / width;
        let batches = (outer_rows / room.min(execute::MOST_ROWS as f64)).ceil();
        let rows = outer_rows / batches;
        let named = groups(found.keys[0], outer_rows).min(rows).max(1.0);
        // Equalities with other columns make the rows fewer that are brought here. Each segment is given the whole list,
        // which must not be longer than what it spares.
        if on_segment && rows <= (*inner).rows / segments {
            for (op, mine, theirs) in others.into_iter().flatten() {
                let Some(condition) = any_of(op.opno, op.inputcollid, mine, theirs, found.keys.len()) else { continue };
                if ships(condition, base) {
                    found.keys.push(theirs);
                    batch.push(condition);
                }
            }
        }

        // All of this once per batch. An inner row meets every outer row that names its segment, or has its value.
        let meets = (&raw const found.meets).cast_mut().cast::<pg_sys::Node>();
        let share = match on_segment {
            true => named / segments,
            false => named / groups(meets, (*inner).tuples.max(1.0)),
        };
        let share = share.min(1.0);
        let fetched = match batch.len() {
            1 => ((*inner).rows * share).max(1.0),
            _ => ((*inner).rows * share).min(4.0 * rows.max((*rel).rows / batches)).max(1.0),
        };
        let asking = match on_segment {
            true => plan::LOOKUP + named * KEY + (base.scanned * share).max(1.0) * plan::SCANNED,
            false => plan::STARTUP + named * segments * SOUGHT + base.scanned * plan::SCANNED,
        };
        // The table's own conditions that are not shipped are checked for what is fetched.
        let local = pg::make_list(base.split.per_row());
        let mut own = pg_sys::QualCost::default();
        pg_sys::cost_qual_eval(&mut own, local, root);
        let kept = pg_sys::clauselist_selectivity(root, local, 0, pg_sys::JoinType::JOIN_INNER, std::ptr::null_mut());
        let per_row = plan::FETCHED + own.per_tuple + pg_sys::cpu_tuple_cost;
        let inner_cost = Cost {
            rows: fetched,
            startup: plan::LOOKUP + own.startup,
            total: asking + own.startup + fetched / kept.max(1e-6) * per_row,
        };
        let met = fetched * (rows / named).max(1.0);
        let words = [pg::string_node(BATCH)].into_iter().chain(batch.into_iter().map(|expr| expr.cast()));
        let inner_path = ScanPath { private: pg::make_list(words), ..ScanPath::default() };
        let inner_path = compat::foreign_scan_path(root, inner, inner_cost, &inner_path);

        let mut quals = pg_sys::QualCost::default();
        pg_sys::cost_qual_eval(&mut quals, pg::make_list(found.conditions.iter().chain(&found.filters).copied()), root);
        let path = pg_sys::palloc0(size_of::<LookupPath>()).cast::<LookupPath>();
        let custom = &mut (*path).custom;
        custom.path.type_ = pg_sys::NodeTag::T_CustomPath;
        custom.path.pathtype = pg_sys::NodeTag::T_CustomScan;
        custom.path.parent = rel;
        custom.path.pathtarget = (*rel).reltarget;
        custom.path.rows = (*rel).rows;
        custom.path.startup_cost = (*outer_path).startup_cost + plan::LOOKUP + quals.startup;
        custom.path.total_cost = (*outer_path).total_cost
            + quals.startup
            + batches * (inner_cost.total + met * (quals.per_tuple + pg_sys::cpu_tuple_cost))
            + outer_rows * pg_sys::cpu_tuple_cost
            + (*rel).rows * pg_sys::cpu_tuple_cost;
        custom.flags = compat::CUSTOM_PROJECTION;
        custom.custom_paths = pg::make_list([outer_path, inner_path]);
        custom.methods = &METHODS.0;
        (*path).join = memory::own(pg_sys::CurrentMemoryContext, found);
        pg_sys::add_path(rel, path.cast());
    }
}

/// Whether rows can meet by an equality: two values that it holds for equal are found by the same key.
fn meets(op: &pg_sys::OpExpr) -> bool {
    match rules::operator(op.opno.into()) {
        Some(Rule::Compare(Cmp::Eq, Family::Int)) => true,
        Some(Rule::Compare(Cmp::Eq, Family::Text)) => walk::collation(op.inputcollid.into()).deterministic,
        _ => false,
    }
}

/// Whether a condition that holds a batch's keys is checked in SQLite alone: the list is not known here.
unsafe fn ships(condition: *mut pg_sys::Expr, base: &Relation) -> bool {
    let mut split = Split::default();
    // SAFETY: the condition is over the relation.
    unsafe { split.add(condition, &base.tables, plan::Ships::All) };
    !split.remote.is_empty()
}

/// The segment column of a base relation.
unsafe fn segment_variable(rel: *mut pg_sys::RelOptInfo, base: &Relation) -> Option<*mut pg_sys::Node> {
    let index = base.tables.first().table.segment_column()?;
    let (text, collation) = (pg_sys::TEXTOID, pg_sys::DEFAULT_COLLATION_OID);
    // SAFETY: a node in the planner's memory.
    Some(unsafe { pg_sys::makeVar((*rel).relid as _, index as i16 + 1, text, -1, collation, 0) }.cast())
}

/// Whether everything that the join reads is a column that one of its sides gives.
unsafe fn has_all(
    rel: *mut pg_sys::RelOptInfo,
    outer: *mut pg_sys::RelOptInfo,
    inner: *mut pg_sys::RelOptInfo,
    found: &Found,
) -> bool {
    // SAFETY: as for the caller.
    unsafe {
        let gives = |side: *mut pg_sys::RelOptInfo, var: *mut pg_sys::Var| {
            pg::list::<pg_sys::Node>((*(*side).reltarget).exprs).any(|node| same_variable(node, var))
        };
        let meets = &raw const found.meets;
        gives(inner, meets.cast_mut())
            && variables(pg_sys::list_copy((*(*rel).reltarget).exprs), found)
                .all(|var| gives(outer, var) || gives(inner, var))
    }
}

/// The variables in a list of expressions and in the join's own.
unsafe fn variables(list: *mut pg_sys::List, found: &Found) -> impl Iterator<Item = *mut pg_sys::Var> {
    // SAFETY: valid expressions; the list is ours.
    unsafe {
        let own = found.conditions.iter().chain(&found.filters).map(|expr| expr.cast::<pg_sys::Node>());
        let all = own.chain(found.keys.iter().copied()).fold(list, |list, node| pg_sys::lappend(list, node.cast()));
        let flags = pg_sys::PVC_RECURSE_PLACEHOLDERS | pg_sys::PVC_RECURSE_AGGREGATES;
        pg::list::<pg_sys::Var>(pg_sys::pull_var_clause(all.cast(), flags as i32))
    }
}

/// Whether a node is the variable, whatever outer joins are between.
unsafe fn same_variable(node: *mut pg_sys::Node, var: *const pg_sys::Var) -> bool {
    // SAFETY: the cast follows the tag.
    unsafe {
        pg::is_a(node, pg_sys::NodeTag::T_Var) && {
            let node = &*node.cast::<pg_sys::Var>();
            node.varno == (*var).varno && node.varattno == (*var).varattno && node.varlevelsup == (*var).varlevelsup
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn plan_custom_path(
    _root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    path: *mut pg_sys::CustomPath,
    tlist: *mut pg_sys::List,
    _clauses: *mut pg_sys::List,
    plans: *mut pg_sys::List,
) -> *mut pg_sys::Plan {
    // SAFETY: the path was made by lookup_path, of two paths.
    unsafe {
        let found = &*(*path.cast::<LookupPath>()).join;
        let mut children = pg::list::<pg_sys::Plan>(plans);
        let (outer, inner) = match (children.next(), children.next()) {
            (Some(outer), Some(inner)) => (outer, inner),
            _ => unreachable!("lookup_path made two paths"),
        };
        let place = |plan: *mut pg_sys::Plan, var: *const pg_sys::Var| {
            pg::list::<pg_sys::TargetEntry>((*plan).targetlist)
                .position(|entry| same_variable((*entry).expr.cast(), var))
        };
        let wanted = pg_sys::list_concat_copy((*(*rel).reltarget).exprs, tlist);
        let mut attributes = Vec::new();
        let mut scan_tlist = std::ptr::null_mut();
        for var in variables(wanted, found) {
            if !pg_sys::tlist_member(var.cast(), scan_tlist).is_null() {
                continue;
            }
            attributes.push(match (place(outer, var), place(inner, var)) {
                (Some(at), _) => Attribute::Outer(at),
                (None, Some(at)) => Attribute::Inner(at),
                (None, None) => pgrx::error!("a column of a join is in neither of its plans"),
            });
            let copy = pg_sys::copyObjectImpl(var.cast()).cast();
            let entry = pg_sys::makeTargetEntry(copy, attributes.len() as i16, std::ptr::null_mut(), false);
            scan_tlist = pg_sys::lappend(scan_tlist, entry.cast());
        }
        let lookup = Lookup {
            kind: found.kind,
            attributes,
            keys: found.keys.len(),
            meets: place(inner, &found.meets).expect("has_all looked for it"),
            meets_type: crate::table::base_type(found.meets.vartype).into(),
            first_batch: found.first_batch,
        };
        // An inner join's conditions are shown and checked as those of a scan.
        let (conditions, filters) = match found.kind {
            Kind::Inner => (&[][..], &found.conditions),
            _ => (&found.conditions[..], &found.filters),
        };
        let json = serde_json::to_string(&lookup).expect("plans are plain data");
        let scan = pg_sys::palloc0(size_of::<pg_sys::CustomScan>()).cast::<pg_sys::CustomScan>();
        (*scan).scan.plan.type_ = pg_sys::NodeTag::T_CustomScan;
        (*scan).scan.plan.targetlist = tlist;
        (*scan).scan.plan.qual = pg::make_list(filters.iter().copied());
        (*scan).flags = (*path).flags;
        (*scan).custom_plans = plans;
        (*scan).custom_exprs =
            pg::make_list(found.keys.iter().copied().chain(conditions.iter().map(|expr| expr.cast())));
        (*scan).custom_private = pg::make_list([pg::string_node(&json)]);
        (*scan).custom_scan_tlist = scan_tlist;
        (*scan).methods = execute::methods();
        scan.cast()
    }
}
