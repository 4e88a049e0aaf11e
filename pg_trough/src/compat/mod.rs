//! What differs between PostgreSQL 14 and 18, and what pgrx's bindings lack. Nothing else asks for the version.

use std::ffi::c_void;

use pgrx::{pg_guard, pg_sys};

mod paths;

pub(crate) use paths::{Cost, ScanPath, foreign_join_path, foreign_scan_path, foreign_upper_path};

/// An attribute of a tuple descriptor.
///
/// # Safety
/// `tuple_desc` is valid and has more than `index` attributes.
pub(crate) unsafe fn attribute(tuple_desc: pg_sys::TupleDesc, index: usize) -> pg_sys::Form_pg_attribute {
    #[cfg(not(feature = "pg18"))]
    // SAFETY: `attrs` holds `natts` attributes.
    unsafe {
        (*tuple_desc).attrs.as_mut_ptr().add(index)
    }
    #[cfg(feature = "pg18")]
    // SAFETY: TupleDescAttr's contract is ours.
    unsafe {
        pg_sys::TupleDescAttr(tuple_desc, index as i32)
    }
}

/// The GROUP BY clause after the planner removed what is redundant.
///
/// # Safety
/// `root` is the planner's.
pub(crate) unsafe fn group_clause(root: *mut pg_sys::PlannerInfo) -> *mut pg_sys::List {
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    // SAFETY: `parse` is set in every planner state.
    unsafe {
        (*(*root).parse).groupClause
    }
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    // SAFETY: set before upper relations are planned.
    unsafe {
        (*root).processed_groupClause
    }
}

impl Default for ScanPath {
    fn default() -> Self {
        let nil = std::ptr::null_mut();
        Self { target: std::ptr::null_mut(), pathkeys: nil, required_outer: std::ptr::null_mut(), private: nil }
    }
}

/// The DISTINCT clause after the planner removed what is redundant.
///
/// # Safety
/// `root` is the planner's.
pub(crate) unsafe fn distinct_clause(root: *mut pg_sys::PlannerInfo) -> *mut pg_sys::List {
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    // SAFETY: `parse` is set in every planner state.
    unsafe {
        (*(*root).parse).distinctClause
    }
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    // SAFETY: set before upper relations are planned.
    unsafe {
        (*root).processed_distinctClause
    }
}

/// Whether a key sorts the greatest first.
///
/// # Safety
/// `pathkey` is the planner's.
pub(crate) unsafe fn is_descending(pathkey: *mut pg_sys::PathKey) -> bool {
    // SAFETY: as for the caller.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        {
            (*pathkey).pk_strategy == pg_sys::BTGreaterStrategyNumber as i32
        }
        #[cfg(feature = "pg18")]
        {
            (*pathkey).pk_cmptype == pg_sys::CompareType::COMPARE_GT
        }
    }
}

/// Says that a custom scan computes its target list; before 15 all do.
#[cfg(feature = "pg14")]
pub(crate) const CUSTOM_PROJECTION: u32 = 0;
/// Says that a custom scan computes its target list.
#[cfg(not(feature = "pg14"))]
pub(crate) const CUSTOM_PROJECTION: u32 = pg_sys::CUSTOMPATH_SUPPORT_PROJECTION;

/// Who a relation will be scanned as.
///
/// # Safety
/// `rel` is the planner's.
pub(crate) unsafe fn planned_user(rel: *mut pg_sys::RelOptInfo) -> pg_sys::Oid {
    // SAFETY: as for the caller.
    unsafe { if (*rel).userid == pg_sys::InvalidOid { pg_sys::GetUserId() } else { (*rel).userid } }
}

/// Who a scan runs as.
///
/// # Safety
/// `node` is an initialised scan.
pub(crate) unsafe fn scan_user(node: *mut pg_sys::ForeignScanState) -> pg_sys::Oid {
    // SAFETY: the executor set the node's plan.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let user = {
            let scan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
            let estate = (*node).ss.ps.state;
            let relid = if (*scan).scan.scanrelid > 0 {
                (*scan).scan.scanrelid as i32
            } else {
                pg_sys::bms_next_member((*scan).fs_relids, -1)
            };
            let rte = (*(*(*estate).es_range_table).elements.add(relid as usize - 1))
                .ptr_value
                .cast::<pg_sys::RangeTblEntry>();
            (*rte).checkAsUser
        };
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let user = (*(*node).ss.ps.plan.cast::<pg_sys::ForeignScan>()).checkAsUser;
        if user == pg_sys::InvalidOid { pg_sys::GetUserId() } else { user }
    }
}

/// Who an INSERT runs as.
///
/// # Safety
/// `estate` and `rel` are the executor's.
pub(crate) unsafe fn modify_user(estate: *mut pg_sys::EState, rel: *mut pg_sys::ResultRelInfo) -> pg_sys::Oid {
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    // SAFETY: the index is checked against the list.
    unsafe {
        let index = (*rel).ri_RangeTableIndex;
        if index == 0 || index as usize > crate::pg::list_len((*estate).es_range_table) {
            return pg_sys::GetUserId();
        }
        let rte =
            (*(*(*estate).es_range_table).elements.add(index as usize - 1)).ptr_value.cast::<pg_sys::RangeTblEntry>();
        let user = (*rte).checkAsUser;
        if user == pg_sys::InvalidOid { pg_sys::GetUserId() } else { user }
    }
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    // SAFETY: as for the caller.
    unsafe {
        pg_sys::ExecGetResultRelCheckAsUser(rel, estate)
    }
}

/// Says that a scan is of one place in the range table.
///
/// # Safety
/// The scan is being planned.
pub(crate) unsafe fn scan_of_one(scan: *mut pg_sys::ForeignScan, relid: pg_sys::Index) {
    // SAFETY: as for the caller.
    unsafe {
        (*scan).fs_relids = pg_sys::bms_make_singleton(relid as i32);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        {
            (*scan).fs_base_relids = pg_sys::bms_make_singleton(relid as i32);
        }
    }
}

/// The next tuple of a plan; its errors unwind as Rust's.
///
/// # Safety
/// `node` is an initialised plan.
pub(crate) unsafe fn exec_proc_node(node: *mut pg_sys::PlanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: ExecProcNode of executor.h: rescan where parameters changed, then the node's own function.
    unsafe {
        if !(*node).chgParam.is_null() {
            pg_sys::ExecReScan(node);
        }
        let next = (*node).ExecProcNode.expect("ExecInitNode sets it");
        pg_sys::ffi::pg_guard_ffi_boundary(|| next(node))
    }
}

/// The value of an expression, none for NULL; its errors unwind as Rust's.
///
/// # Safety
/// The state is initialised, the context is its plan's.
pub(crate) unsafe fn evaluate(
    state: *mut pg_sys::ExprState,
    context: *mut pg_sys::ExprContext,
) -> Option<pg_sys::Datum> {
    let mut null = false;
    // SAFETY: as for the caller.
    let datum = unsafe {
        let function = (*state).evalfunc.expect("ExecInitExpr sets it");
        pg_sys::ffi::pg_guard_ffi_boundary(|| function(state, context, &mut null))
    };
    (!null).then_some(datum)
}

/// An empty set of events to wait for.
pub(crate) fn wait_event_set() -> *mut pg_sys::WaitEventSet {
    // SAFETY: the set lives as long as the process.
    unsafe {
        #[cfg(not(any(feature = "pg17", feature = "pg18")))]
        {
            pg_sys::CreateWaitEventSet(pg_sys::TopMemoryContext, 3)
        }
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        {
            pg_sys::CreateWaitEventSet(std::ptr::null_mut(), 3)
        }
    }
}

/// Calls `visit` for each direct child of a node, as `expression_tree_walker` does; stops when it returns true.
///
/// # Safety
/// `node` is a valid expression.
pub(crate) unsafe fn walk_children(node: *mut pg_sys::Node, visit: &mut dyn FnMut(*mut pg_sys::Node) -> bool) -> bool {
    #[pg_guard]
    unsafe extern "C-unwind" fn step(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
        // SAFETY: the context is the reference to the closure that was handed over below.
        let visit = unsafe { &mut *context.cast::<&mut dyn FnMut(*mut pg_sys::Node) -> bool>() };
        visit(node)
    }
    let mut visit = visit;
    // SAFETY: the walker calls `step` with nodes of the tree and our context only.
    unsafe { pg_sys::expression_tree_walker(node, Some(step), (&raw mut visit).cast()) }
}

unsafe extern "C-unwind" {
    #[link_name = "get_agg_clause_costs"]
    fn pg_get_agg_clause_costs(
        root: *mut pg_sys::PlannerInfo,
        split: pg_sys::AggSplit::Type,
        costs: *mut pg_sys::AggClauseCosts,
    );
}

/// The costs of a query's aggregates, or of a part of them.
///
/// # Safety
/// `root` is the planner's, after it collected the aggregates.
pub(crate) unsafe fn aggregate_costs(
    root: *mut pg_sys::PlannerInfo,
    split: pg_sys::AggSplit::Type,
) -> pg_sys::AggClauseCosts {
    let mut costs = pg_sys::AggClauseCosts::default();
    // SAFETY: optimizer/prep.h declares it so in 14 to 18; it only adds to `costs`.
    unsafe {
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            pg_get_agg_clause_costs(root, split, &mut costs);
        });
    }
    costs
}

/// What a partition's rows must fulfil, as a list of conditions over range table index 1; NIL for what is no partition.
///
/// # Safety
/// An open relation.
pub(crate) unsafe fn partition_constraint(relation: pg_sys::Relation) -> *mut pg_sys::List {
    unsafe extern "C-unwind" {
        #[link_name = "RelationGetPartitionQual"]
        fn partition_qual(relation: pg_sys::Relation) -> *mut pg_sys::List;
    }
    // SAFETY: utils/partcache.h declares it so in 14 to 18.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| partition_qual(relation)) }
}

/// Whether a collation sorts by bytes: `C`, `POSIX`, or the default of a database whose order that is.
pub(crate) fn collation_is_c(oid: pg_sys::Oid) -> bool {
    #[cfg(not(feature = "pg18"))]
    {
        unsafe extern "C-unwind" {
            fn lc_collate_is_c(collation: pg_sys::Oid) -> bool;
        }
        // SAFETY: utils/pg_locale.h declares it so in 14 to 17.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| lc_collate_is_c(oid)) }
    }
    #[cfg(feature = "pg18")]
    {
        matches!(oid.to_u32(), trough_pushdown::oid::C_COLLATION | trough_pushdown::oid::POSIX_COLLATION)
    }
}

/// An expression for the executor that is not compiled to machine code: it is evaluated once, and a condition may hold
/// thousands of them.
///
/// # Safety
/// As `ExecInitExpr`.
pub(crate) unsafe fn init_once(expr: *mut pg_sys::Expr, parent: *mut pg_sys::PlanState) -> *mut pg_sys::ExprState {
    // SAFETY: as for the caller; the flags are those that every expression of the query is made with.
    unsafe {
        let flags = &raw mut (*(*parent).state).es_jit_flags;
        let before = std::ptr::replace(flags, 0);
        let state = pg_sys::ExecInitExpr(expr, parent);
        *flags = before;
        state
    }
}

/// Whether a collation knows ASCII's letters only.
pub(crate) fn ctype_is_c(oid: pg_sys::Oid) -> bool {
    #[cfg(not(feature = "pg18"))]
    {
        unsafe extern "C-unwind" {
            fn lc_ctype_is_c(collation: pg_sys::Oid) -> bool;
        }
        // SAFETY: utils/pg_locale.h declares it so in 14 to 17.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| lc_ctype_is_c(oid)) }
    }
    #[cfg(feature = "pg18")]
    {
        matches!(oid.to_u32(), trough_pushdown::oid::C_COLLATION | trough_pushdown::oid::POSIX_COLLATION)
    }
}

/// Whether a user may use a server.
///
/// # Safety
/// The server exists.
pub(crate) unsafe fn server_usage(server: pg_sys::Oid, user: pg_sys::Oid) -> pg_sys::AclResult::Type {
    let usage = pg_sys::ACL_USAGE as pg_sys::AclMode;
    // SAFETY: an ACL check of an existing object.
    unsafe {
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        {
            pg_sys::pg_foreign_server_aclcheck(server, user, usage)
        }
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        {
            pg_sys::object_aclcheck(pg_sys::ForeignServerRelationId, server, user, usage)
        }
    }
}

unsafe extern "C-unwind" {
    #[link_name = "ExecAsyncRequestDone"]
    fn pg_exec_async_request_done(areq: *mut pg_sys::AsyncRequest, result: *mut pg_sys::TupleTableSlot);
    #[link_name = "ExecAsyncRequestPending"]
    fn pg_exec_async_request_pending(areq: *mut pg_sys::AsyncRequest);
    #[link_name = "ExecAsyncResponse"]
    fn pg_exec_async_response(areq: *mut pg_sys::AsyncRequest);
}

/// Answers an asynchronous request: a row, or null at the end.
///
/// # Safety
/// The executor's request, and a slot of its node.
pub(crate) unsafe fn async_done(areq: *mut pg_sys::AsyncRequest, result: *mut pg_sys::TupleTableSlot) {
    // SAFETY: executor/execAsync.h declares it so in 14 to 18.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| pg_exec_async_request_done(areq, result)) }
}

/// Says that an asynchronous request is answered later.
///
/// # Safety
/// The executor's request.
pub(crate) unsafe fn async_pending(areq: *mut pg_sys::AsyncRequest) {
    // SAFETY: executor/execAsync.h declares it so in 14 to 18.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| pg_exec_async_request_pending(areq)) }
}

/// Hands a request that was answered unasked to its requestor.
///
/// # Safety
/// The executor's request, which has been answered.
pub(crate) unsafe fn async_response(areq: *mut pg_sys::AsyncRequest) {
    // SAFETY: executor/execAsync.h declares it so in 14 to 18.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| pg_exec_async_response(areq)) }
}

/// The text of a String node.
///
/// # Safety
/// `node` is one.
pub(crate) unsafe fn string_value(node: *mut pg_sys::Node) -> String {
    #[cfg(feature = "pg14")]
    // SAFETY: 14 has one structure for all value nodes.
    unsafe {
        crate::pg::text((*node.cast::<pg_sys::Value>()).val.str_)
    }
    #[cfg(not(feature = "pg14"))]
    // SAFETY: as for the caller.
    unsafe {
        crate::pg::text((*node.cast::<pg_sys::String>()).sval)
    }
}

/// Writes to a temporary file.
///
/// # Safety
/// The file is open.
pub(crate) unsafe fn buf_file_write(file: *mut pg_sys::BufFile, bytes: &[u8]) {
    // SAFETY: BufFileWrite only reads the bytes, whatever 14 and 15 declare.
    unsafe { pg_sys::BufFileWrite(file, bytes.as_ptr().cast_mut().cast(), bytes.len()) }
}
