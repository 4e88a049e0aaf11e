//! Planning of writes: what one SQLite statement per segment can do, and what is refused.

use pgrx::{pg_guard, pg_sys};
use serde::{Deserialize, Serialize};
use trough_pushdown::{Expr, Shipper, quote_identifier, statement};

use super::{identity::Identity, returning, unsupported};
use crate::{
    compat, pg,
    plan::{self, Planning},
    plandata::ScanPlan,
    relation::Relation,
    table::{self, ForeignTable},
    walk::{self, Walker},
};

/// A write that needs no executor: what its ForeignScan carries.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DirectPlan {
    /// Whether its rows count in the command's tag.
    pub(crate) counts: bool,
    /// The columns that RETURNING reads, if there is one.
    pub(crate) returning: Option<Vec<usize>>,
    /// What is done.
    pub(crate) work: Work,
}

/// What a direct write does.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// Inserts the rows of the plan below.
    Insert {
        /// What stands behind VALUES.
        suffix: String,
    },
    /// Runs a statement in each segment that has such rows.
    Change {
        /// Finds the segments; its parameters are the statement's first.
        probe: Box<ScanPlan>,
        /// The statement.
        sql: String,
        /// The further parameters: the slot of the value, and the index of the column that stores it.
        sets: Vec<(usize, usize)>,
    },
}

impl DirectPlan {
    fn to_list(&self) -> *mut pg_sys::List {
        let json = serde_json::to_string(self).expect("plans are plain data");
        // SAFETY: a list of one String node.
        unsafe { pg::make_list([pg::string_node(&json)]) }
    }

    /// From `fdw_private`.
    ///
    /// # Safety
    /// The list was made by [`plan_direct_modify`].
    pub(crate) unsafe fn from_list(list: *mut pg_sys::List) -> Self {
        let json = unsafe {
            let node = pg::list::<pg_sys::Node>(list).next().expect("to_list makes one element");
            compat::string_value(node)
        };
        serde_json::from_str(&json).expect("to_list wrote it")
    }
}

/// `PlanForeignModify`: row by row, as [`plan_direct_modify`] did not take it.
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn plan_foreign_modify(
    root: *mut pg_sys::PlannerInfo,
    plan: *mut pg_sys::ModifyTable,
    relation: pg_sys::Index,
    _index: i32,
) -> *mut pg_sys::List {
    // SAFETY: the planner's structures.
    unsafe {
        let rte = *(*root).simple_rte_array.add(relation as usize);
        let name = pg::relation_name((*rte).relid);
        match (*plan).operation {
            pg_sys::CmdType::CMD_INSERT | pg_sys::CmdType::CMD_UPDATE | pg_sys::CmdType::CMD_DELETE => {}
            _ => unsupported("MERGE", &name).raise(),
        }
        match (*plan).onConflictAction {
            pg_sys::OnConflictAction::ONCONFLICT_NONE => {}
            pg_sys::OnConflictAction::ONCONFLICT_NOTHING => unsupported("ON CONFLICT DO NOTHING", &name)
                .detail(
                    "The table has row triggers, generated columns or a view with CHECK OPTION, which need each row before \
                     SQLite has seen it.",
                )
                .raise(),
            _ => unsupported("ON CONFLICT DO UPDATE", &name).raise(),
        }
        std::ptr::null_mut()
    }
}

/// `PlanDirectModify`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn plan_direct_modify(
    root: *mut pg_sys::PlannerInfo,
    plan: *mut pg_sys::ModifyTable,
    relation: pg_sys::Index,
    index: i32,
) -> bool {
    // SAFETY: the planner's structures.
    unsafe {
        let lists = (*plan).returningLists;
        let returning = pg::list::<pg_sys::Node>(lists).nth(index as usize);
        match (*plan).operation {
            pg_sys::CmdType::CMD_INSERT => insert(root, plan, relation, returning),
            pg_sys::CmdType::CMD_UPDATE | pg_sys::CmdType::CMD_DELETE => {
                change(root, plan, relation, index as usize, returning).is_some()
            }
            _ => false,
        }
    }
}

/// An INSERT whose caller wants to know what SQLite made of the rows: they are collected below, sent, and then returned.
unsafe fn insert(
    root: *mut pg_sys::PlannerInfo,
    plan: *mut pg_sys::ModifyTable,
    relation: pg_sys::Index,
    returning: Option<*mut pg_sys::Node>,
) -> bool {
    // SAFETY: the planner's structures; the new node takes the place of the plan below.
    unsafe {
        let nothing = match (*plan).onConflictAction {
            pg_sys::OnConflictAction::ONCONFLICT_NONE => false,
            pg_sys::OnConflictAction::ONCONFLICT_NOTHING => true,
            _ => return false,
        };
        if !nothing && returning.is_none() {
            return false;
        }
        let rte = *(*root).simple_rte_array.add(relation as usize);
        let table = table::load((*rte).relid);
        if table.table.segment_column().is_none() {
            return false;
        }
        let returning = returning.map(|list| columns_read(list, relation, &table));
        let mut suffix = if nothing { " ON CONFLICT DO NOTHING".to_owned() } else { String::new() };
        suffix.extend(returning.iter().map(|columns| returning::clause(&table, columns)));
        let direct = DirectPlan { counts: (*plan).canSetTag, returning, work: Work::Insert { suffix } };
        let source = (*plan).plan.lefttree;
        let nil = std::ptr::null_mut();
        let scan = pg_sys::make_foreignscan(nil, nil, relation, nil, direct.to_list(), nil, nil, source);
        (*scan).operation = pg_sys::CmdType::CMD_INSERT;
        (*scan).resultRelation = relation;
        (*scan).fs_server = table.server;
        compat::scan_of_one(scan, relation);
        (*scan).fsSystemCol = true;
        (*scan).scan.plan.startup_cost = (*source).startup_cost;
        (*scan).scan.plan.total_cost = (*source).total_cost;
        (*scan).scan.plan.plan_rows = (*source).plan_rows;
        (*scan).scan.plan.plan_width = (*source).plan_width;
        (*plan).plan.lefttree = scan.cast();
        true
    }
}

/// An UPDATE or DELETE that one statement per segment can do; none if it cannot.
unsafe fn change(
    root: *mut pg_sys::PlannerInfo,
    plan: *mut pg_sys::ModifyTable,
    target: pg_sys::Index,
    index: usize,
    returning: Option<*mut pg_sys::Node>,
) -> Option<()> {
    // SAFETY: the planner's structures; casts follow tags.
    unsafe {
        let scan = scan_below((*plan).plan.lefttree, index)?;
        if (*scan).scan.scanrelid != target || !(*scan).scan.plan.qual.is_null() {
            return None;
        }
        let Some(Planning::Scan(relation)) = plan::planning(*(*root).simple_rel_array.add(target as usize)) else {
            return None;
        };
        if !relation.is_exact() || relation.tables.members().len() != 1 {
            return None;
        }
        let table = relation.tables.first();
        table.table.segment_column()?;
        let update = (*plan).operation == pg_sys::CmdType::CMD_UPDATE;
        let assignments = if update { assignments(root, target) } else { Vec::new() };
        let decide = partition_columns(table);
        if assignments.iter().any(|(column, _)| decide.contains(column)) {
            // Each row is checked: it may have to be in another partition.
            return None;
        }
        let returning = returning.map(|list| columns_read(list, target, table));
        let (work, exprs) = statement(relation, table, update.then_some(&assignments), returning.as_deref())?;
        let direct = DirectPlan { counts: (*plan).canSetTag, returning, work };
        (*scan).operation = (*plan).operation;
        (*scan).resultRelation = target;
        (*scan).fdw_exprs = exprs;
        (*scan).fdw_private = direct.to_list();
        (*scan).scan.plan.async_capable = false;
        (*scan).fsSystemCol = true;
        compute_nothing((*scan).scan.plan.targetlist);
        Some(())
    }
}

/// The scan that feeds a target: the plan below, or one of several that are appended.
unsafe fn scan_below(mut below: *mut pg_sys::Plan, index: usize) -> Option<*mut pg_sys::ForeignScan> {
    // SAFETY: casts follow tags.
    unsafe {
        if pg::is_a(below.cast(), pg_sys::NodeTag::T_Result) && !(*below).lefttree.is_null() {
            below = (*below).lefttree;
            if !pg::is_a(below.cast(), pg_sys::NodeTag::T_Append) {
                return None;
            }
        }
        if pg::is_a(below.cast(), pg_sys::NodeTag::T_Append) {
            below = pg::list::<pg_sys::Plan>((*below.cast::<pg_sys::Append>()).appendplans).nth(index)?;
        }
        pg::is_a(below.cast(), pg_sys::NodeTag::T_ForeignScan).then(|| below.cast())
    }
}

/// What an UPDATE sets: the index of the column, and the expression.
unsafe fn assignments(root: *mut pg_sys::PlannerInfo, target: pg_sys::Index) -> Vec<(usize, *mut pg_sys::Node)> {
    // SAFETY: the planner's structures; the two lists are of one length, the second of integers.
    unsafe {
        let rel = *(*root).simple_rel_array.add(target as usize);
        let (mut tlist, mut numbers) = (std::ptr::null_mut(), std::ptr::null_mut());
        if (*rel).reloptkind == pg_sys::RelOptKind::RELOPT_OTHER_MEMBER_REL {
            pg_sys::get_translated_update_targetlist(root, target, &mut tlist, &mut numbers);
        } else {
            (tlist, numbers) = ((*root).processed_tlist, (*root).update_colnos);
        }
        let number = |i: usize| (*(*numbers).elements.add(i)).int_value;
        pg::list::<pg_sys::TargetEntry>(tlist)
            .take(pg::list_len(numbers))
            .enumerate()
            .map(|(i, entry)| (number(i) as usize - 1, (*entry).expr.cast()))
            .collect()
    }
}

/// The columns that decide in which partition a row is, if the table is one.
unsafe fn partition_columns(table: &ForeignTable) -> Vec<usize> {
    // SAFETY: the planner holds a lock on the table; the constraint's variables are of range table index 1.
    unsafe {
        let relation = pg_sys::table_open(table.relid, pg_sys::NoLock as _);
        let columns = columns_read(compat::partition_constraint(relation).cast(), 1, table);
        pg_sys::table_close(relation, pg_sys::NoLock as _);
        columns
    }
}

/// The statement and its expressions; none if a value depends on the row.
unsafe fn statement(
    relation: &Relation,
    table: &ForeignTable,
    assignments: Option<&Vec<(usize, *mut pg_sys::Node)>>,
    returning: Option<&[usize]>,
) -> Option<(Work, *mut pg_sys::List)> {
    // SAFETY: the expressions are valid, over the relation's table.
    unsafe {
        let tables = &relation.tables;
        let mut walker = Walker::new(tables);
        let mut shipper = Shipper::new(tables.scope(), &walk::collation);
        let from = relation.from(&mut walker, &mut shipper);
        let (conditions, keys) =
            plan::print_conditions(&relation.split, tables, relation.ships, &mut walker, &mut shipper);
        let forms = shipper.form_checks();
        let conditions =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let bytewise = shipper.is_bytewise();
        let params = shipper.into_params();
        let mut sets = Vec::new();
        let mut list = Vec::new();
        for (column, expr) in assignments.into_iter().flatten() {
            let place = table.table.column(*column)?;
            match walker.expr(*expr) {
                Expr::Column(same) if same == *column && place.segment => {}
                Expr::Value(value) if !place.segment && !table.generated[*column] => {
                    sets.push((value.slot, *column));
                    list.push(format!("{} = ?{}", quote_identifier(&place.name), params.len() + sets.len()));
                }
                _ => return None,
            }
        }
        let what = match assignments {
            None => format!("DELETE FROM {from}"),
            // Nothing changes; the executor counts the rows.
            Some(_) if list.is_empty() => return None,
            Some(_) => format!("UPDATE {from} SET {}", list.join(", ")),
        };
        let returning = returning.map(|columns| returning::clause(table, columns)).unwrap_or_default();
        let slots = walker.into_slots();
        let probe = ScanPlan {
            map: format!("SELECT 1 FROM {from}{conditions}{}", statement::end(Some("1".to_owned()), &forms)),
            bytewise,
            params,
            width: 1,
            slots: slots.len(),
            keys,
            ..ScanPlan::of(tables)
        };
        let exprs = plan::expressions(&slots, &relation.split.segment, tables);
        Some((Work::Change { probe: Box::new(probe), sql: format!("{what}{conditions}{returning}"), sets }, exprs))
    }
}

/// The executor projects what comes from the scan, though nobody reads it but for the table that a row is of.
unsafe fn compute_nothing(tlist: *mut pg_sys::List) {
    // SAFETY: a target list; casts follow tags.
    unsafe {
        for entry in pg::list::<pg_sys::TargetEntry>(tlist) {
            let expr = (*entry).expr.cast::<pg_sys::Node>();
            let table_oid = pg::is_a(expr, pg_sys::NodeTag::T_Var)
                && i32::from((*expr.cast::<pg_sys::Var>()).varattno) == pg_sys::TableOidAttributeNumber;
            if !table_oid {
                let (type_oid, typmod) = (pg_sys::exprType(expr), pg_sys::exprTypmod(expr));
                (*entry).expr = pg_sys::makeNullConst(type_oid, typmod, pg_sys::exprCollation(expr)).cast();
            }
        }
    }
}

/// The columns of a table that expressions read, by their indexes.
unsafe fn columns_read(exprs: *mut pg_sys::Node, relid: pg_sys::Index, table: &ForeignTable) -> Vec<usize> {
    let mut used = std::ptr::null_mut();
    // SAFETY: the planner's expressions.
    unsafe {
        pg_sys::pull_varattnos(exprs, relid, &mut used);
        let member = |attribute: i32| attribute - pg_sys::FirstLowInvalidHeapAttributeNumber;
        let whole = pg_sys::bms_is_member(member(0), used);
        let read = |index: &usize| whole || pg_sys::bms_is_member(member(*index as i32 + 1), used);
        (0..table.table.columns.len()).filter(|i| table.table.column(*i).is_some()).filter(read).collect()
    }
}

/// What a scan reads besides its columns, if its rows are to be changed one by one: see [`Identity`].
///
/// # Safety
/// The planner's structures; `used` as in [`super::identity::is_wanted`].
pub(crate) unsafe fn identity(
    root: *mut pg_sys::PlannerInfo,
    relid: pg_sys::Index,
    used: *mut pg_sys::Bitmapset,
    table: &ForeignTable,
) -> Option<(Identity, Vec<String>)> {
    // SAFETY: as for the caller.
    if !unsafe { super::identity::is_wanted(root, relid, used) } {
        return None;
    }
    let identity = Identity::of(table);
    let columns = identity.columns(table);
    Some((identity, columns))
}
