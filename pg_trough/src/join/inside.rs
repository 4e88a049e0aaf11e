//! Joins of foreign tables on equal segments: SQLite joins them in each segment.

use pgrx::{pg_guard, pg_sys};
use trough_pushdown::{Expr, Shipper, join};

use crate::{
    compat::{self, Cost},
    guc, memory,
    order::Arrangement,
    pg,
    plan::{self, Planning, Ships, Split},
    relation::{Conditions, Member, Relation, Semi, Source, Tables},
    table::OnFault,
    walk::{self, Walker},
};

/// More tables than this are joined here.
const MOST_TABLES: usize = 16;

/// `GetForeignJoinPaths`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn get_foreign_join_paths(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    outer: *mut pg_sys::RelOptInfo,
    inner: *mut pg_sys::RelOptInfo,
    kind: pg_sys::JoinType::Type,
    extra: *mut pg_sys::JoinPathExtraData,
) {
    // SAFETY: the planner's structures.
    unsafe {
        // Rows that are locked would have to be read again one by one; conditions without columns are checked around the
        // scans of single tables.
        if !(*rel).fdw_private.is_null()
            || !guc::PUSHDOWN.get()
            || !guc::JOINS.get()
            || !(*root).rowMarks.is_null()
            || (*root).hasPseudoConstantQuals
            || !(*rel).lateral_relids.is_null()
            || computes_inside(root, rel)
        {
            return;
        }
        let (Some(Planning::Scan(a)), Some(Planning::Scan(b))) = (plan::planning(outer), plan::planning(inner)) else {
            return;
        };
        let sides = Sides { rel, outer: a, inner: b, clauses: (*extra).restrictlist };
        let Some(relation) = sides.join(kind) else { return };
        let cost = cost(root, rel, &relation);
        (*rel).fdw_private = memory::own(pg_sys::CurrentMemoryContext, Planning::Scan(relation)).cast();
        pg_sys::add_path(rel, compat::foreign_join_path(root, rel, cost, (*extra).restrictlist));
    }
}

/// Whether something is computed below the join that is not known above it but by its own name.
///
/// # Safety
/// The planner's structures.
pub(crate) unsafe fn computes_inside(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo) -> bool {
    // SAFETY: the planner's structures.
    unsafe {
        let relids = if (*rel).top_parent_relids.is_null() { (*rel).relids } else { (*rel).top_parent_relids };
        pg::list::<pg_sys::PlaceHolderInfo>((*root).placeholder_list).any(|info| {
            pg_sys::bms_is_subset((*info).ph_eval_at, relids)
                && pg_sys::bms_nonempty_difference(relids, (*info).ph_eval_at)
        })
    }
}

unsafe fn cost(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo, relation: &Relation) -> Cost {
    // SAFETY: the planner's structures.
    unsafe {
        let rows = (*rel).rows;
        let local = pg::make_list(relation.split.per_row());
        let mut quals = pg_sys::QualCost::default();
        pg_sys::cost_qual_eval(&mut quals, local, root);
        let kept = pg_sys::clauselist_selectivity(root, local, 0, pg_sys::JoinType::JOIN_INNER, std::ptr::null_mut());
        let fetched = rows / kept.max(1e-6);
        let named = plan::keys(&relation.split, &relation.tables).is_finite();
        let startup = if named { plan::LOOKUP } else { plan::STARTUP } + quals.startup;
        let per_row = plan::SCANNED + plan::FETCHED + quals.per_tuple + pg_sys::cpu_tuple_cost;
        Cost { rows, startup, total: startup + relation.scanned * plan::SCANNED + fetched * per_row }
    }
}

/// The two sides of a join, and its conditions.
struct Sides<'a> {
    rel: *mut pg_sys::RelOptInfo,
    outer: &'a Relation,
    inner: &'a Relation,
    clauses: *mut pg_sys::List,
}

impl Sides<'_> {
    /// The join as a relation of which everything can be printed; none if it is no join inside segments.
    unsafe fn join(&self, kind: pg_sys::JoinType::Type) -> Option<Relation> {
        use pg_sys::JoinType::{JOIN_ANTI, JOIN_INNER, JOIN_LEFT, JOIN_SEMI};
        let (outer, inner) = (self.outer, self.inner);
        let count = outer.tables.members().len();
        // Where a segment that fails is left out, it must be each table's own failure that leaves that table's rows out.
        let strict = |r: &Relation| r.tables.members().iter().all(|m| m.table.limits.on_failed == OnFault::Error);
        if !strict(outer) || !strict(inner) {
            return None;
        }
        if outer.ships != Ships::All || inner.ships != Ships::All || count + inner.tables.members().len() > MOST_TABLES
        {
            return None;
        }
        // SAFETY: the planner's structures.
        unsafe {
            // Which conditions belong to the join, and which are applied to its rows.
            let (mut joining, mut above) = (Vec::new(), Vec::new());
            let mut same_segment = self.segment_is_fixed();
            for info in pg::list::<pg_sys::RestrictInfo>(self.clauses) {
                let clause = (*info).clause;
                let pushed_down =
                    (*info).is_pushed_down || !pg_sys::bms_is_subset((*info).required_relids, (*self.rel).relids);
                let filters = matches!(kind, JOIN_LEFT | JOIN_ANTI) && pushed_down;
                if !filters && self.equates_segments(clause) {
                    same_segment = true;
                } else if filters {
                    above.push(clause);
                } else {
                    joining.push(clause);
                }
            }
            if !same_segment || !self.has_rows_where_outer_has(kind) {
                return None;
            }

            let mut split = outer.split.clone();
            let shifted = Conditions { exprs: Vec::new(), semis: inner.split.semis.clone() }.shifted(count);
            let source = inner.source.shifted(count);
            let mut on = Conditions { exprs: inner.split.remote.clone(), semis: shifted.semis };
            let mut nullable_names = false;
            if kind != JOIN_INNER && inner.split.per_row().next().is_some() {
                return None;
            }
            match kind {
                JOIN_INNER | JOIN_SEMI => {
                    let own = inner.split.segment.iter().filter(|clause| !self.outer_implies(**clause));
                    split.segment.extend(own);
                }
                JOIN_LEFT | JOIN_ANTI => {
                    for clause in &inner.split.segment {
                        if !self.outer_implies(*clause) {
                            on.exprs.push(*clause);
                            nullable_names = true;
                        }
                    }
                }
                _ => return None,
            }

            let wanted = self.wanted();
            let mut members = outer.tables.members().to_vec();
            for member in inner.tables.members() {
                let mut member = member.clone();
                if kind == JOIN_LEFT && !member.nullable {
                    member.nullable = true;
                    member.marked = nullable_names
                        || joining.iter().chain(&above).any(|clause| reads_segment((*clause).cast(), &member))
                        || wanted.iter().any(|var| reads_segment((*var).cast(), &member));
                }
                members.push(member);
            }
            derive_compared(&mut members, &joining);
            let tables = Tables::new(members);

            // What the rows above hold must be columns; of a semi join's inner side, only the segment, which is the outer's.
            for var in &wanted {
                let index = tables.index(&**var)?;
                let hidden = inner.tables.owns((**var).varno as pg_sys::Index);
                match kind {
                    JOIN_ANTI if hidden => return None,
                    JOIN_SEMI if hidden && !tables.is_segment(&**var) => return None,
                    _ => {}
                }
                tables.stored(index)?;
            }

            let mut whole = outer.source.clone();
            match kind {
                JOIN_INNER => {
                    whole = Source::Join {
                        left: Box::new(whole),
                        right: Box::new(source),
                        outer: false,
                        on: Conditions::default(),
                    };
                    split.remote.append(&mut on.exprs);
                    split.semis.append(&mut on.semis);
                    split.both.extend(&inner.split.both);
                    split.local.extend(&inner.split.local);
                    for clause in joining {
                        split.add(clause, &tables, Ships::All);
                    }
                }
                JOIN_LEFT => {
                    // The conditions of an inner join on the right side stay with it: that side is computed first.
                    let mut right = source;
                    if let Source::Join { outer: false, on: own, .. } = &mut right {
                        *own = std::mem::take(&mut on);
                    }
                    on.exprs.extend(joining);
                    whole = Source::Join { left: Box::new(whole), right: Box::new(right), outer: true, on };
                    for clause in above {
                        split.add(clause, &tables, Ships::All);
                    }
                }
                _ => {
                    on.exprs.extend(joining);
                    split.semis.push(Semi { negated: kind == JOIN_ANTI, source, on });
                    for clause in above {
                        match self.of_inner(clause) {
                            // The rows of the inner side are missing.
                            true if pg::is_a(clause.cast(), pg_sys::NodeTag::T_NullTest)
                                && (*clause.cast::<pg_sys::NullTest>()).nulltesttype
                                    == pg_sys::NullTestType::IS_NULL
                                && !(*clause.cast::<pg_sys::NullTest>()).argisrow
                                && pg::is_a(
                                    (*clause.cast::<pg_sys::NullTest>()).arg.cast(),
                                    pg_sys::NodeTag::T_Var,
                                ) => {}
                            true => return None,
                            false => split.add(clause, &tables, Ships::All),
                        }
                    }
                }
            }
            let word = match kind {
                JOIN_INNER => "INNER",
                JOIN_LEFT => "LEFT",
                JOIN_SEMI => "SEMI",
                _ => "ANTI",
            };
            let name = format!("{} {word} JOIN {}", side_name(outer), side_name(inner));
            let scanned = outer.scanned + inner.scanned;
            let relation =
                Relation { tables, source: whole, split, scanned, ships: Ships::All, python: None, name: Some(name) };
            prints(&relation).then_some(relation)
        }
    }

    /// The variables of both sides that the join's rows hold.
    unsafe fn wanted(&self) -> Vec<*mut pg_sys::Var> {
        // SAFETY: the planner's structures.
        unsafe {
            let flags = pg_sys::PVC_RECURSE_PLACEHOLDERS | pg_sys::PVC_RECURSE_AGGREGATES;
            let vars = pg_sys::pull_var_clause((*(*self.rel).reltarget).exprs.cast(), flags as i32);
            pg::list::<pg_sys::Var>(vars).collect()
        }
    }

    /// Whether a condition says that the segments of both sides are equal.
    unsafe fn equates_segments(&self, clause: *mut pg_sys::Expr) -> bool {
        // SAFETY: the planner's expression; casts follow tags.
        unsafe {
            let Some((a, b)) = text_equality(clause) else { return false };
            let of = |node, tables: &Tables| {
                pg::is_a(node, pg_sys::NodeTag::T_Var) && tables.is_segment(&*node.cast::<pg_sys::Var>())
            };
            let (outer, inner) = (&self.outer.tables, &self.inner.tables);
            of(a, outer) && of(b, inner) || of(a, inner) && of(b, outer)
        }
    }

    /// Whether both sides read the one segment that the same value names.
    unsafe fn segment_is_fixed(&self) -> bool {
        // SAFETY: the planner's expressions.
        unsafe {
            let values = |relation: &Relation| {
                let mut values = Vec::new();
                for clause in &relation.split.segment {
                    let Some((a, b)) = text_equality(*clause) else { continue };
                    let segment = |node| {
                        pg::is_a(node, pg_sys::NodeTag::T_Var)
                            && relation.tables.is_segment(&*node.cast::<pg_sys::Var>())
                    };
                    let free = |node| pg_sys::pull_varnos(std::ptr::null_mut(), node).is_null();
                    if segment(a) && free(b) {
                        values.push(b);
                    } else if segment(b) && free(a) {
                        values.push(a);
                    }
                }
                values
            };
            let inner = values(self.inner);
            values(self.outer).iter().any(|a| inner.iter().any(|b| pg_sys::equal((*a).cast(), (*b).cast())))
        }
    }

    /// Whether the inner tables belong to every segment that the outer ones are read in, where that matters.
    fn has_rows_where_outer_has(&self, kind: pg_sys::JoinType::Type) -> bool {
        let outer = self.outer.tables.patterns();
        matches!(kind, pg_sys::JoinType::JOIN_INNER | pg_sys::JoinType::JOIN_SEMI)
            || self.inner.tables.patterns().iter().all(|pattern| outer.contains(pattern))
    }

    /// Whether a condition on the inner side's segment holds wherever the outer side is read.
    unsafe fn outer_implies(&self, clause: *mut pg_sys::Expr) -> bool {
        // SAFETY: the planner's expressions.
        unsafe {
            let wanted = plan::segment_condition(clause, &self.inner.tables);
            self.outer.split.segment.iter().any(|own| {
                let own = plan::segment_condition(*own, &self.outer.tables);
                pg_sys::equal(own.cast(), wanted.cast())
            })
        }
    }

    /// Whether an expression reads the inner side.
    unsafe fn of_inner(&self, clause: *mut pg_sys::Expr) -> bool {
        // SAFETY: the planner's expression.
        unsafe {
            let flags = pg_sys::PVC_RECURSE_PLACEHOLDERS | pg_sys::PVC_RECURSE_AGGREGATES;
            pg::list::<pg_sys::Var>(pg_sys::pull_var_clause(clause.cast(), flags as i32))
                .any(|var| self.inner.tables.owns((*var).varno as pg_sys::Index))
        }
    }
}

/// A side of a join, for EXPLAIN.
fn side_name(relation: &Relation) -> String {
    match &relation.name {
        Some(name) => format!("({name})"),
        None => format!("({})", pg::relation_name(relation.tables.first().relid)),
    }
}

/// The operands of an equality of texts that is an equality of bytes.
unsafe fn text_equality(clause: *mut pg_sys::Expr) -> Option<(*mut pg_sys::Node, *mut pg_sys::Node)> {
    // SAFETY: the planner's expression; casts follow tags.
    unsafe {
        if !pg::is_a(clause.cast(), pg_sys::NodeTag::T_OpExpr) {
            return None;
        }
        let op = &*clause.cast::<pg_sys::OpExpr>();
        let equal = trough_pushdown::rules::is_text_equality(op.opno.into());
        if !equal || pg::list_len(op.args) != 2 || !walk::collation(op.inputcollid.into()).deterministic {
            return None;
        }
        let plain = |node: *mut pg_sys::Node| match pg::is_a(node, pg_sys::NodeTag::T_RelabelType) {
            true => (*node.cast::<pg_sys::RelabelType>()).arg.cast(),
            false => node,
        };
        let mut args = pg::list::<pg_sys::Node>(op.args);
        Some((plain(args.next()?), plain(args.next()?)))
    }
}

/// Whether an expression reads the segment column of a table.
unsafe fn reads_segment(node: *mut pg_sys::Node, member: &Member) -> bool {
    // SAFETY: the planner's expression.
    unsafe {
        let flags = pg_sys::PVC_RECURSE_PLACEHOLDERS | pg_sys::PVC_RECURSE_AGGREGATES;
        let attribute = member.table.table.segment_column().map(|index| index as i16 + 1);
        pg::list::<pg_sys::Var>(pg_sys::pull_var_clause(node, flags as i32))
            .any(|var| (*var).varno as pg_sys::Index == member.relid && Some((*var).varattno) == attribute)
    }
}

/// Finds the columns that are compared with those of another table and would be in no index.
unsafe fn derive_compared(members: &mut [Member], clauses: &[*mut pg_sys::Expr]) {
    let tables = Tables::new(members.to_vec());
    let place = |index: usize| {
        let mut before = 0;
        for (place, member) in tables.members().iter().enumerate() {
            let len = member.table.table.columns.len();
            if index < before + len {
                return (place, index - before);
            }
            before += len;
        }
        unreachable!("the index is of the scope")
    };
    let mut walker = Walker::new(&tables);
    for clause in clauses {
        // SAFETY: the planner's expression.
        let expr: Expr = unsafe { walker.expr((*clause).cast()) };
        let Some((a, b)) = join::equal_columns(&expr) else { continue };
        for index in [a, b] {
            let (place, column) = place(index);
            let bare = tables.scope().column(index).is_some_and(|c| c.segment || join::is_bare(c));
            if !bare && join::can_derive(&members[place].table.table, column) {
                members[place].derived.insert(column);
            }
        }
    }
}

/// Whether every part of a relation that SQLite computes can be printed.
unsafe fn prints(relation: &Relation) -> bool {
    let tables = &relation.tables;
    let mut walker = Walker::new(tables);
    let mut shipper = Shipper::new(tables.scope(), &walk::collation);
    let Split { remote, both, semis, .. } = &relation.split;
    relation.try_from(&mut walker, &mut shipper).is_ok()
        && semis.iter().all(|semi| tables.print_semi(semi, &mut walker, &mut shipper).is_ok())
        // SAFETY: the planner's expressions.
        && remote.iter().all(|c| shipper.condition(&unsafe { walker.expr((*c).cast()) }).is_ok_and(|s| s.exact))
        && both.iter().all(|c| shipper.condition(&unsafe { walker.expr((*c).cast()) }).is_ok())
}

/// The plan of a join's scan.
///
/// # Safety
/// The arguments are the planner's; `relation` is what was kept of the join.
pub(crate) unsafe fn plan(
    relation: &Relation,
    rel: *mut pg_sys::RelOptInfo,
    tlist: *mut pg_sys::List,
    arrangement: &Arrangement,
    outer_plan: *mut pg_sys::Plan,
) -> *mut pg_sys::ForeignScan {
    // SAFETY: the planner's structures.
    unsafe {
        // The scan's tuple: what the rows above hold, and what conditions read here.
        let mut read = pg_sys::list_copy((*(*rel).reltarget).exprs);
        for clause in relation.split.per_row() {
            read = pg_sys::lappend(read, clause.cast());
        }
        let flags = pg_sys::PVC_RECURSE_PLACEHOLDERS | pg_sys::PVC_RECURSE_AGGREGATES;
        let vars = pg_sys::pull_var_clause(read.cast(), flags as i32);
        let scan_tlist = pg_sys::add_to_flat_tlist(std::ptr::null_mut(), vars);
        let wanted: Vec<_> = pg::list::<pg_sys::TargetEntry>(scan_tlist)
            .enumerate()
            .map(|(attribute, entry)| {
                let var = &*(*entry).expr.cast::<pg_sys::Var>();
                (attribute, relation.tables.index(var).expect("checked when the path was made"))
            })
            .collect();
        let (mut scan, exprs) = plan::scan_plan(relation, &relation.split, &wanted, arrangement);
        scan.relations.clone_from(&relation.name);
        let quals = pg::make_list(relation.split.per_row());
        let nil = std::ptr::null_mut();
        pg_sys::make_foreignscan(tlist, quals, 0, exprs, scan.to_list(), scan_tlist, nil, outer_plan)
    }
}
