//! What the columns of an aggregating scan are.

use pgrx::pg_sys;

use crate::{compat, pg, relation::Relation};

use super::print;

/// The columns of an aggregating scan's tuple: group keys and aggregates.
#[derive(Clone)]
pub(crate) struct Shape {
    /// The columns.
    pub(crate) items: Vec<Item>,
    /// Whether no group spans segments, so that each is computed whole where it lies; else in parts, for PostgreSQL to
    /// finish.
    pub(crate) whole: bool,
    /// What is asked of a whole group.
    pub(crate) having: Vec<*mut pg_sys::Expr>,
}

/// One column.
#[derive(Clone)]
pub(crate) struct Item {
    /// A group key or an Aggref.
    pub(crate) expr: *mut pg_sys::Expr,
    /// Whether it is a group key.
    pub(crate) key: bool,
    /// The key's reference in the GROUP BY clause; 0 for others.
    pub(crate) sortref: pg_sys::Index,
}

/// The reference of a target's column; 0 for none.
///
/// # Safety
/// The target has such a column.
pub(super) unsafe fn sortref(target: *mut pg_sys::PathTarget, index: usize) -> pg_sys::Index {
    unsafe { if (*target).sortgrouprefs.is_null() { 0 } else { *(*target).sortgrouprefs.add(index) } }
}

/// The reference of a column that is grouped by; 0 for others.
unsafe fn key_ref(target: *mut pg_sys::PathTarget, index: usize, group_clause: *mut pg_sys::List) -> pg_sys::Index {
    unsafe {
        let sortref = sortref(target, index);
        let grouped = sortref != 0
            && !group_clause.is_null()
            && !pg_sys::get_sortgroupref_clause_noerr(sortref, group_clause).is_null();
        if grouped { sortref } else { 0 }
    }
}

/// The group keys of a target.
///
/// # Safety
/// The arguments are the planner's.
pub(super) unsafe fn keys_target(
    grouping: *mut pg_sys::PathTarget,
    clause: *mut pg_sys::List,
) -> *mut pg_sys::PathTarget {
    // SAFETY: the planner's structures.
    unsafe {
        let target = pg_sys::create_empty_pathtarget();
        for (i, expr) in pg::list::<pg_sys::Expr>((*grouping).exprs).enumerate() {
            let sortref = key_ref(grouping, i, clause);
            if sortref != 0 {
                pg_sys::add_column_to_pathtarget(target, expr, sortref);
            }
        }
        target
    }
}

/// What the columns of a target that are no keys, and conditions on groups, are made of: aggregates, and columns that are
/// not parts of keys. Each once.
///
/// # Safety
/// The arguments are the planner's; `keys` holds the target's keys.
pub(super) unsafe fn parts(
    keys: *mut pg_sys::PathTarget,
    target: *mut pg_sys::PathTarget,
    having: *mut pg_sys::List,
) -> Vec<*mut pg_sys::Expr> {
    let mut parts = Vec::new();
    // SAFETY: as for the caller.
    unsafe {
        let keys: Vec<_> = pg::list::<pg_sys::Expr>((*keys).exprs).collect();
        for expr in pg::list::<pg_sys::Node>((*target).exprs).chain(pg::list(having)) {
            collect(expr, &keys, &mut parts);
        }
    }
    parts
}

/// Collects the aggregates and columns of an expression, each once, but nothing of what is among the keys.
///
/// # Safety
/// The expressions are valid.
pub(super) unsafe fn collect(node: *mut pg_sys::Node, keys: &[*mut pg_sys::Expr], found: &mut Vec<*mut pg_sys::Expr>) {
    // SAFETY: as for the caller; the walker visits children only.
    unsafe {
        let is = |known: &*mut pg_sys::Expr| pg_sys::equal((*known).cast(), node.cast());
        if node.is_null() || keys.iter().any(is) {
            return;
        }
        match pg::tag(node) {
            pg_sys::NodeTag::T_Aggref | pg_sys::NodeTag::T_Var | pg_sys::NodeTag::T_PlaceHolderVar => {
                if !found.iter().any(is) {
                    found.push(node.cast());
                }
            }
            _ => {
                compat::walk_children(node, &mut |child| {
                    collect(child, keys, found);
                    false
                });
            }
        }
    }
}

impl Shape {
    /// The shape of a target of keys and transition states; none if it cannot be shipped.
    ///
    /// # Safety
    /// The target is of the relation.
    pub(super) unsafe fn in_parts(target: *mut pg_sys::PathTarget, base: &Relation) -> Option<Self> {
        // SAFETY: as for the caller.
        unsafe {
            let items = pg::list::<pg_sys::Expr>((*target).exprs).enumerate().map(|(i, expr)| {
                let sortref = sortref(target, i);
                Item { expr, key: sortref != 0, sortref }
            });
            let shape = Self { items: items.collect(), whole: false, having: Vec::new() };
            print::ships(&shape, base).then_some(shape)
        }
    }

    /// The shape of different rows of some expressions; none if it cannot be shipped.
    ///
    /// # Safety
    /// The expressions are over the relation.
    pub(super) unsafe fn rows(
        exprs: impl IntoIterator<Item = (*mut pg_sys::Expr, pg_sys::Index)>,
        whole: bool,
        base: &Relation,
    ) -> Option<Self> {
        let items = exprs.into_iter().map(|(expr, sortref)| Item { expr, key: true, sortref }).collect();
        let shape = Self { items, whole, having: Vec::new() };
        // SAFETY: as for the caller.
        unsafe { ((!whole || shape.by_segment(base)) && print::ships(&shape, base)).then_some(shape) }
    }

    /// The shape of a whole aggregation: the segment column is among the keys, and everything else is made of keys and
    /// aggregates. None if it cannot be shipped.
    ///
    /// # Safety
    /// The arguments are the planner's.
    pub(super) unsafe fn whole(
        target: *mut pg_sys::PathTarget,
        group_clause: *mut pg_sys::List,
        having: *mut pg_sys::List,
        base: &Relation,
    ) -> Option<Self> {
        // SAFETY: the planner's structures.
        unsafe {
            let keys = keys_target(target, group_clause);
            let of_keys = pg::list::<pg_sys::Expr>((*keys).exprs).enumerate();
            let mut items: Vec<_> =
                of_keys.map(|(i, expr)| Item { expr, key: true, sortref: sortref(keys, i) }).collect();
            items.extend(parts(keys, target, having).into_iter().map(|expr| Item { expr, key: false, sortref: 0 }));
            let shape = Self { items, whole: true, having: pg::list(having).collect() };
            (shape.by_segment(base) && print::ships(&shape, base)).then_some(shape)
        }
    }

    /// Whether the segment column is among the keys.
    unsafe fn by_segment(&self, base: &Relation) -> bool {
        self.items.iter().any(|item| unsafe {
            item.key
                && pg::is_a(item.expr.cast(), pg_sys::NodeTag::T_Var)
                && base.tables.is_segment(&*item.expr.cast::<pg_sys::Var>())
        })
    }
}
