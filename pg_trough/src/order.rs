//! ORDER BY and LIMIT: scans whose rows come sorted (of one segment), and scans that fetch only the first rows of each
//! segment and worker, over which PostgreSQL's own Sort and Limit have the last word.

use pgrx::pg_sys;
use trough_pushdown::{
    Expr, Keys, Order, Shipper,
    order::{self, Key, Sort},
};

use crate::{
    compat::{self, Cost, ScanPath},
    memory, pg,
    plan::{self, Planning, Ships},
    plandata::{Enough, Wanted},
    relation::{Relation, Tables},
    upper,
    walk::{self, Walker},
};

/// In a path's `fdw_private`: the scan is sorted as the path's keys or, if it has none, as the query's ORDER BY.
const SORTED: &str = "sorted";
/// In a path's `fdw_private`: the scan gives no more rows than the query's LIMIT and OFFSET need.
const LIMITED: &str = "limited";

/// What a path promises of its rows' order and number.
#[derive(Clone, Copy)]
pub(crate) struct Arrangement {
    /// Sorted so, within each segment.
    pathkeys: *mut pg_sys::List,
    /// LIMIT, then OFFSET, each null if there is none.
    limit: Option<(*mut pg_sys::Node, *mut pg_sys::Node)>,
    /// The relation.
    rel: *mut pg_sys::RelOptInfo,
}

impl Arrangement {
    /// All rows in any order.
    pub(crate) fn any(rel: *mut pg_sys::RelOptInfo) -> Self {
        Self { pathkeys: std::ptr::null_mut(), limit: None, rel }
    }

    /// What a path of ours says.
    ///
    /// # Safety
    /// The arguments are the planner's.
    pub(crate) unsafe fn of(root: *mut pg_sys::PlannerInfo, path: *mut pg_sys::ForeignPath) -> Self {
        // SAFETY: as for the caller.
        unsafe {
            let says = |word: &str| {
                pg::list::<pg_sys::Node>((*path).fdw_private)
                    .any(|node| pg::is_a(node, pg_sys::NodeTag::T_String) && compat::string_value(node) == word)
            };
            let pathkeys = match says(SORTED) {
                false => std::ptr::null_mut(),
                true if !(*path).path.pathkeys.is_null() => (*path).path.pathkeys,
                true => (*root).sort_pathkeys,
            };
            let parse = (*root).parse;
            let limit = says(LIMITED).then(|| ((*parse).limitCount, (*parse).limitOffset));
            Self { pathkeys, limit, rel: (*path).path.parent }
        }
    }
}

/// An arrangement, printed.
#[derive(Default)]
pub(crate) struct Arranged {
    /// For SQLite.
    pub(crate) order: Order,
    /// The values that make the limit.
    pub(crate) enough: Option<Enough>,
}

/// Prints an arrangement of rows of the segments in `keys`; none if it cannot be shipped. The limit's parameter follows
/// all others, so nothing may be printed after it.
///
/// # Safety
/// The arrangement is the planner's.
pub(crate) unsafe fn print(
    arrangement: &Arrangement,
    tables: &Tables,
    keys: &Keys,
    walker: &mut Walker<'_>,
    shipper: &mut Shipper<'_>,
) -> Option<Arranged> {
    // SAFETY: as for the caller.
    unsafe {
        let mut order = Order { single: keys.is_single(), ..Order::default() };
        let count = pg::list_len(arrangement.pathkeys);
        for (i, pathkey) in pg::list::<pg_sys::PathKey>(arrangement.pathkeys).enumerate() {
            order.keys.push(sort_key(pathkey, arrangement.rel, tables, i + 1 == count, walker, shipper)?);
        }
        let mut enough = None;
        if let Some((limit_node, offset_node)) = arrangement.limit {
            let mut slot = |node: *mut pg_sys::Node| match walker.expr(node) {
                Expr::Value(value) => Some(value.slot),
                _ => None,
            };
            let limit = slot(limit_node)?;
            let offset = if offset_node.is_null() { None } else { Some(slot(offset_node)?) };
            let constant = [limit_node, offset_node].map(|node| constant(node));
            order.many = match constant {
                [Some(limit), Some(offset)] => {
                    Wanted::First(limit.saturating_add(offset)).segments_to_pick_from().is_none()
                }
                _ => false,
            };
            order.limit = Some(shipper.params().len() + 1);
            enough = Some(Enough { limit, offset, first: !order.keys.is_empty() });
        }
        Some(Arranged { order, enough })
    }
}

/// How many rows a LIMIT or OFFSET means that is constant; no OFFSET is 0.
unsafe fn constant(node: *mut pg_sys::Node) -> Option<u64> {
    // SAFETY: the cast follows the tag; LIMIT and OFFSET are of type bigint.
    unsafe {
        if node.is_null() {
            return Some(0);
        }
        let constant = node.cast::<pg_sys::Const>();
        let known = pg::is_a(node, pg_sys::NodeTag::T_Const) && !(*constant).constisnull;
        known.then(|| ((*constant).constvalue.value() as i64).max(0) as u64)
    }
}

/// A sort key by whichever of its equal expressions can be shipped.
unsafe fn sort_key(
    pathkey: *mut pg_sys::PathKey,
    rel: *mut pg_sys::RelOptInfo,
    tables: &Tables,
    last: bool,
    walker: &mut Walker<'_>,
    shipper: &mut Shipper<'_>,
) -> Option<Key> {
    // SAFETY: the planner's structures.
    unsafe {
        let class = (*pathkey).pk_eclass;
        if (*class).ec_has_volatile {
            return None;
        }
        let sort = Sort {
            opfamily: (*pathkey).pk_opfamily.into(),
            collation: (*class).ec_collation.into(),
            descending: compat::is_descending(pathkey),
            nulls_first: (*pathkey).pk_nulls_first,
        };
        let several = tables.members().len() > 1;
        pg::list::<pg_sys::EquivalenceMember>((*class).ec_members).find_map(|member| {
            let ours = !(*member).em_is_child
                && !(*member).em_relids.is_null()
                && pg_sys::bms_is_subset((*member).em_relids, (*rel).relids)
                // Above an outer join, only what the join gives is what is sorted by.
                && (!several || gives(rel, (*member).em_expr));
            if !ours {
                return None;
            }
            order::key(&walker.expr((*member).em_expr.cast()), sort, last, shipper).ok()
        })
    }
}

/// Whether an expression is among what a relation gives.
unsafe fn gives(rel: *mut pg_sys::RelOptInfo, expr: *mut pg_sys::Expr) -> bool {
    // SAFETY: the planner's structures.
    unsafe {
        let wanted = strip(expr);
        pg::list::<pg_sys::Expr>((*(*rel).reltarget).exprs).any(|e| pg_sys::equal(strip(e).cast(), wanted.cast()))
    }
}

/// As the planner does where it looks for what is sorted by.
unsafe fn strip(mut expr: *mut pg_sys::Expr) -> *mut pg_sys::Expr {
    // SAFETY: the cast follows the tag.
    unsafe {
        while pg::is_a(expr.cast(), pg_sys::NodeTag::T_RelabelType) {
            expr = (*expr.cast::<pg_sys::RelabelType>()).arg;
        }
        expr
    }
}

/// Whether an arrangement can be shipped for a relation, and whether its rows are then sorted as a whole.
unsafe fn ships(arrangement: &Arrangement, relation: &Relation) -> Option<Order> {
    let tables = &relation.tables;
    let mut walker = Walker::new(tables);
    let mut shipper = Shipper::new(tables.scope(), &walk::collation);
    // SAFETY: the relation's conditions and the arrangement are the planner's.
    unsafe {
        let keys = plan::keys(&relation.split, tables);
        print(arrangement, tables, &keys, &mut walker, &mut shipper).map(|arranged| arranged.order)
    }
}

/// A query's LIMIT as it may be shipped.
struct Limit {
    count: *mut pg_sys::Node,
    offset: *mut pg_sys::Node,
    /// How many rows are needed, as estimated.
    rows: f64,
}

/// The LIMIT of a query in which nothing but sorting stands between the rows of FROM and the Limit.
unsafe fn limit(root: *mut pg_sys::PlannerInfo, rows: f64) -> Option<Limit> {
    // SAFETY: the planner's structures.
    unsafe {
        let parse = (*root).parse;
        let (count, offset) = ((*parse).limitCount, (*parse).limitOffset);
        let plain = !count.is_null()
            && (*parse).limitOption == pg_sys::LimitOption::LIMIT_OPTION_COUNT
            && (*parse).commandType == pg_sys::CmdType::CMD_SELECT
            && (*parse).rowMarks.is_null()
            && !(*parse).hasAggs
            && !(*parse).hasWindowFuncs
            && !(*parse).hasTargetSRFs
            && (*parse).groupClause.is_null()
            && (*parse).groupingSets.is_null()
            && (*parse).havingQual.is_null()
            && (*parse).distinctClause.is_null()
            && (*parse).setOperations.is_null();
        let once =
            |node: *mut pg_sys::Node| !pg_sys::contain_volatile_functions(node) && !pg_sys::contain_subplans(node);
        let needed = if (*root).limit_tuples > 0.0 { (*root).limit_tuples } else { rows * 0.1 };
        (plain && once(count) && once(offset)).then_some(Limit {
            count,
            offset,
            rows: needed.clamp(1.0, rows.max(1.0)),
        })
    }
}

/// Adds paths of a base relation whose rows come sorted as the query wants them: those of one segment. If nothing but the
/// query's LIMIT is above, they are no more than needed; so `min` and `max` read one row.
///
/// # Safety
/// The arguments are the planner's, `cost` that of all rows.
pub(crate) unsafe fn add_sorted_paths(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    relation: &Relation,
    cost: Cost,
) {
    // SAFETY: the planner's structures.
    unsafe {
        let pathkeys = (*root).query_pathkeys;
        if relation.ships != Ships::All || pathkeys.is_null() {
            return;
        }
        let sorted = Arrangement { pathkeys, limit: None, rel };
        if !ships(&sorted, relation).is_some_and(|order| order.single) {
            return;
        }
        let cost = Cost { total: cost.total + sorting(cost.rows, cost.rows), ..cost };
        let path = ScanPath { pathkeys, private: words(&[SORTED]), ..ScanPath::default() };
        pg_sys::add_path(rel, compat::foreign_scan_path(root, rel, cost, &path));

        // Queries with an upper level get their limited scan there; those that the planner makes of min and max have none.
        let alone = pg_sys::bms_equal((*root).all_baserels, (*rel).relids);
        if let Some(limit) = limit(root, (*rel).rows)
            && relation.is_exact()
            && alone
            && (*root).sort_pathkeys == pathkeys
        {
            let limited = Arrangement { limit: Some((limit.count, limit.offset)), ..sorted };
            if ships(&limited, relation).is_some() {
                let cost = limited_cost(relation, (*rel).rows, &limit, true);
                let path = ScanPath { pathkeys, private: words(&[SORTED, LIMITED]), ..ScanPath::default() };
                pg_sys::add_path(rel, compat::foreign_scan_path(root, rel, cost, &path));
            }
        }
    }
}

/// Cost of sorting so many rows in SQLite when only the first of them are wanted.
fn sorting(rows: f64, wanted: f64) -> f64 {
    rows * plan::SCANNED * 0.1 * wanted.min(rows).max(2.0).log2()
}

/// The cost of fetching only what a LIMIT needs. Each worker sends so many rows, or each segment if workers do not pick.
fn limited_cost(relation: &Relation, rows: f64, limit: &Limit, single: bool) -> Cost {
    let startup = startup(relation);
    let total = startup + relation.scanned * plan::SCANNED + sorting(rows, limit.rows);
    let rows = if single { limit.rows } else { (limit.rows * 4.0).min(rows) };
    Cost { rows, startup, total: total + rows * plan::FETCHED }
}

unsafe fn words(words: &[&str]) -> *mut pg_sys::List {
    unsafe { pg::make_list(words.iter().map(|word| pg::string_node(word))) }
}

/// Notes which scan an ORDER BY sorts, for the last stage.
///
/// # Safety
/// The planner's relations.
pub(crate) unsafe fn note_sorted(input: *mut pg_sys::RelOptInfo, output: *mut pg_sys::RelOptInfo) {
    // SAFETY: the allocation lives as long as the planner's structures.
    unsafe {
        (*output).fdw_private = memory::own(pg_sys::CurrentMemoryContext, Planning::Sorted(input)).cast();
    }
}

/// Adds Limit over Sort over a scan that fetches only the first rows of each segment and worker, or Limit over one that
/// fetches no more than so many of each segment.
///
/// # Safety
/// The planner's structures, `rel` the scan's relation.
pub(crate) unsafe fn add_limited_paths(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut pg_sys::FinalPathExtraData,
) {
    // SAFETY: the planner's structures.
    unsafe {
        let Some(Planning::Scan(relation)) = plan::planning(rel) else { return };
        let exact = relation.is_exact() && !upper::has_pseudoconstants(root, rel);
        if !exact || !(*extra).limit_needed || !(*rel).lateral_relids.is_null() {
            return;
        }
        let Some(limit) = limit(root, (*rel).rows) else { return };
        let pathkeys = (*root).sort_pathkeys;
        let arrangement = Arrangement { pathkeys, limit: Some((limit.count, limit.offset)), rel };
        let Some(order) = ships(&arrangement, relation) else { return };
        let sorted = pathkeys.is_null() || order.single;
        let (cost, private) = match pathkeys.is_null() {
            true => (any_rows_cost(relation, (*rel).rows, &limit), words(&[LIMITED])),
            false => (limited_cost(relation, (*rel).rows, &limit, order.single), words(&[SORTED, LIMITED])),
        };
        let target = (*rel).reltarget;
        let own_keys = if order.single { pathkeys } else { std::ptr::null_mut() };
        let mut path = if (*rel).reloptkind == pg_sys::RelOptKind::RELOPT_BASEREL {
            let path = ScanPath { target, pathkeys: own_keys, private, ..ScanPath::default() };
            compat::foreign_scan_path(root, rel, cost, &path)
        } else {
            let path = compat::foreign_upper_path(root, rel, target, cost, private);
            (*path).pathkeys = own_keys;
            path
        };
        if !sorted {
            path = pg_sys::create_sort_path(root, output, path, pathkeys, limit.rows).cast();
        }
        let wanted = final_target(root);
        if !pg_sys::equal((*wanted).exprs.cast(), (*target).exprs.cast()) {
            path = pg_sys::create_projection_path(root, output, path, wanted).cast();
        }
        let option = pg_sys::LimitOption::LIMIT_OPTION_COUNT;
        let (offset_rows, count_rows) = ((*extra).offset_est, (*extra).count_est);
        let path =
            pg_sys::create_limit_path(root, output, path, limit.offset, limit.count, option, offset_rows, count_rows);
        pg_sys::add_path(output, path.cast());
    }
}

/// The cost of so many rows, whichever come first: always a little below that of stopping a scan of all.
fn any_rows_cost(relation: &Relation, rows: f64, limit: &Limit) -> Cost {
    let run = relation.scanned * plan::SCANNED + rows * plan::FETCHED;
    let share = (limit.rows / rows.max(1.0)).min(1.0);
    let startup = startup(relation);
    Cost { rows: limit.rows, startup, total: startup + 0.9 * share * run }
}

fn startup(relation: &Relation) -> f64 {
    // SAFETY: the relation's conditions are the planner's.
    let keys = unsafe { plan::keys(&relation.split, &relation.tables) };
    if keys.is_finite() { plan::LOOKUP } else { plan::STARTUP }
}

/// What the query gives.
unsafe fn final_target(root: *mut pg_sys::PlannerInfo) -> *mut pg_sys::PathTarget {
    // SAFETY: set before the last stages.
    unsafe { (*root).upper_targets[pg_sys::UpperRelationKind::UPPERREL_FINAL as usize] }
}
