//! The conditions of a lookup join's scan, which hold the keys of a batch of outer rows.

use pgrx::pg_sys;

use crate::{compat, pg};

/// In a path's `fdw_private`: the conditions that follow hold a batch's keys.
pub(super) const BATCH: &str = "batch";
/// The type modifier of the node that stands for the first of a batch's arrays; those of others are below. No type has such.
const FIRST_ARRAY: i32 = -1000;

/// An operator of two operands, one of which reads the inner side and the other nothing but the outer one: the operator
/// with the inner operand on its left, and the operands.
///
/// # Safety
/// The planner's structures.
pub(super) unsafe fn sides(
    info: *mut pg_sys::RestrictInfo,
    outer: *mut pg_sys::RelOptInfo,
    inner: *mut pg_sys::RelOptInfo,
) -> Option<(pg_sys::OpExpr, *mut pg_sys::Node, *mut pg_sys::Node)> {
    // SAFETY: the planner's structures; casts follow tags.
    unsafe {
        let clause = (*info).clause;
        if !pg::is_a(clause.cast(), pg_sys::NodeTag::T_OpExpr)
            || pg_sys::contain_volatile_functions(clause.cast())
            || pg_sys::contain_subplans(clause.cast())
        {
            return None;
        }
        let mut op = std::ptr::read(clause.cast::<pg_sys::OpExpr>());
        if pg::list_len(op.args) != 2 {
            return None;
        }
        let mut args = pg::list::<pg_sys::Node>(op.args);
        let (left, right) = (args.next()?, args.next()?);
        let within = |relids: pg_sys::Relids, rel: *mut pg_sys::RelOptInfo| {
            !relids.is_null() && pg_sys::bms_is_subset(relids, (*rel).relids)
        };
        if within((*info).left_relids, inner) && within((*info).right_relids, outer) {
            return Some((op, left, right));
        }
        if within((*info).right_relids, inner) && within((*info).left_relids, outer) {
            op.opno = pg_sys::get_commutator(op.opno);
            return (op.opno != pg_sys::InvalidOid).then_some((op, right, left));
        }
        None
    }
}

/// The variable that an expression is, if it is nothing else.
///
/// # Safety
/// `node` is a valid expression.
pub(super) unsafe fn variable(node: *mut pg_sys::Node) -> Option<*mut pg_sys::Var> {
    // SAFETY: casts follow tags.
    unsafe {
        let node = match pg::is_a(node, pg_sys::NodeTag::T_RelabelType) {
            true => (*node.cast::<pg_sys::RelabelType>()).arg.cast(),
            false => node,
        };
        pg::is_a(node, pg_sys::NodeTag::T_Var).then(|| node.cast())
    }
}

/// `left operator ANY (array)`, the array being one of a batch; `element` is what its elements are made of.
///
/// # Safety
/// Valid expressions.
pub(super) unsafe fn any_of(
    operator: pg_sys::Oid,
    collation: pg_sys::Oid,
    left: *mut pg_sys::Node,
    element: *mut pg_sys::Node,
    place: usize,
) -> Option<*mut pg_sys::Expr> {
    // SAFETY: nodes of their sizes and tags, zeroed before.
    unsafe {
        let array_type = pg_sys::get_array_type(crate::table::base_type(pg_sys::exprType(element)));
        if array_type == pg_sys::InvalidOid {
            return None;
        }
        let array = pg_sys::palloc0(size_of::<pg_sys::CaseTestExpr>()).cast::<pg_sys::CaseTestExpr>();
        (*array).xpr.type_ = pg_sys::NodeTag::T_CaseTestExpr;
        (*array).typeId = array_type;
        (*array).typeMod = FIRST_ARRAY - place as i32;
        (*array).collation = pg_sys::exprCollation(element);
        let any = pg_sys::palloc0(size_of::<pg_sys::ScalarArrayOpExpr>()).cast::<pg_sys::ScalarArrayOpExpr>();
        (*any).xpr.type_ = pg_sys::NodeTag::T_ScalarArrayOpExpr;
        (*any).opno = operator;
        (*any).opfuncid = pg_sys::get_opcode(operator);
        (*any).useOr = true;
        (*any).inputcollid = collation;
        (*any).args = pg::make_list([left, array.cast()]);
        (*any).location = -1;
        Some(any.cast())
    }
}

/// Which of a batch's arrays a value of a scan is, if it is one.
///
/// # Safety
/// `node` is a valid expression.
pub(crate) unsafe fn batch_array(node: *mut pg_sys::Node) -> Option<usize> {
    // SAFETY: the cast follows the tag.
    unsafe {
        if !pg::is_a(node, pg_sys::NodeTag::T_CaseTestExpr) {
            return None;
        }
        usize::try_from(FIRST_ARRAY - (*node.cast::<pg_sys::CaseTestExpr>()).typeMod).ok()
    }
}

/// The conditions of a path that hold a batch's keys.
///
/// # Safety
/// The path is one of ours.
pub(crate) unsafe fn batch_conditions(path: *mut pg_sys::ForeignPath) -> Vec<*mut pg_sys::Expr> {
    // SAFETY: the words of our paths are nodes; after BATCH there are only conditions.
    unsafe {
        let mut words = pg::list::<pg_sys::Node>((*path).fdw_private);
        let batch = words
            .next()
            .is_some_and(|word| pg::is_a(word, pg_sys::NodeTag::T_String) && compat::string_value(word) == BATCH);
        if batch { words.map(|node| node.cast()).collect() } else { Vec::new() }
    }
}
