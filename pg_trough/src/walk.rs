//! From PostgreSQL's node trees to the expressions of the shipping rules.

use std::{cell::RefCell, collections::HashMap};

use pgrx::pg_sys::NodeTag;
use pgrx::{FromDatum, pg_sys};
use trough_pushdown::{BoolTest, Collation, Expr, Literal, Val, aggregate::Call, oid};

use crate::{compat, pg, relation::Tables};

/// Collects the values that a statement needs while walking expressions over some tables.
pub(crate) struct Walker<'a> {
    tables: &'a Tables,
    slots: Vec<*mut pg_sys::Node>,
    /// Expressions that stand for columns of the scope.
    places: Vec<(*mut pg_sys::Node, usize)>,
    /// What the simple CASEs around the node compare, the innermost last.
    cases: Vec<Expr>,
    /// How many nodes are around the node.
    depth: usize,
}

impl<'a> Walker<'a> {
    /// For expressions over the tables.
    pub(crate) fn new(tables: &'a Tables) -> Self {
        Self { tables, slots: Vec::new(), places: Vec::new(), cases: Vec::new(), depth: 0 }
    }

    /// From now on, takes these expressions for columns of the scope.
    pub(crate) fn set_places(&mut self, places: Vec<(*mut pg_sys::Node, usize)>) {
        self.places = places;
    }

    /// The expressions that make the values, by slot.
    pub(crate) fn into_slots(self) -> Vec<*mut pg_sys::Node> {
        self.slots
    }

    /// Walks a condition or scalar.
    ///
    /// # Safety
    /// `node` is a valid expression of the planner.
    pub(crate) unsafe fn expr(&mut self, node: *mut pg_sys::Node) -> Expr {
        if node.is_null() || self.depth > DEEPEST {
            return Expr::Opaque;
        }
        self.depth += 1;
        // SAFETY: as for the caller.
        let expr = unsafe { self.node(node) };
        self.depth -= 1;
        expr
    }

    unsafe fn node(&mut self, node: *mut pg_sys::Node) -> Expr {
        // SAFETY: each cast follows the node's tag.
        unsafe {
            if let Some((_, index)) = self.places.iter().find(|(place, _)| pg_sys::equal(place.cast(), node.cast())) {
                return Expr::Column(*index);
            }
            if let Some(column) = self.own_column(node) {
                // What the expressions stand for is all that can be read.
                return if self.places.is_empty() { column } else { Expr::Opaque };
            }
            if !reads_tables(node, self.tables, false, 0) {
                return if is_stable(node) { Expr::Value(self.value(node)) } else { Expr::Opaque };
            }
            match pg::tag(node) {
                NodeTag::T_RelabelType => {
                    let relabel = node.cast::<pg_sys::RelabelType>();
                    let inner = (*relabel).arg.cast::<pg_sys::Node>();
                    let texts = [oid::TEXT, oid::VARCHAR];
                    let from = u32::from(crate::table::base_type(pg_sys::exprType(inner)));
                    let to = u32::from((*relabel).resulttype);
                    if from == to || texts.contains(&from) && texts.contains(&to) {
                        self.expr(inner)
                    } else {
                        Expr::Opaque
                    }
                }
                NodeTag::T_OpExpr => {
                    let op = node.cast::<pg_sys::OpExpr>();
                    Expr::Op {
                        operator: (*op).opno.into(),
                        collation: (*op).inputcollid.into(),
                        args: self.list((*op).args),
                    }
                }
                NodeTag::T_DistinctExpr => {
                    let op = node.cast::<pg_sys::DistinctExpr>();
                    Expr::Distinct {
                        operator: (*op).opno.into(),
                        collation: (*op).inputcollid.into(),
                        args: self.list((*op).args),
                    }
                }
                NodeTag::T_ScalarArrayOpExpr => {
                    let op = node.cast::<pg_sys::ScalarArrayOpExpr>();
                    let mut args = self.list((*op).args);
                    match (args.pop(), args.pop()) {
                        (Some(Expr::Value(array)), Some(left)) => Expr::AnyAll {
                            operator: (*op).opno.into(),
                            any: (*op).useOr,
                            collation: (*op).inputcollid.into(),
                            left: Box::new(left),
                            array,
                        },
                        (Some(_), Some(left)) => {
                            let element = |item| Expr::Op {
                                operator: (*op).opno.into(),
                                collation: (*op).inputcollid.into(),
                                args: vec![left.clone(), item],
                            };
                            match self.elements(op) {
                                Some(items) if (*op).useOr => Expr::Or(items.into_iter().map(element).collect()),
                                Some(items) => Expr::And(items.into_iter().map(element).collect()),
                                None => Expr::Opaque,
                            }
                        }
                        _ => Expr::Opaque,
                    }
                }
                NodeTag::T_FuncExpr => {
                    let call = node.cast::<pg_sys::FuncExpr>();
                    match (*call).funcretset || (*call).funcvariadic {
                        true => Expr::Opaque,
                        false => Expr::Call {
                            function: (*call).funcid.into(),
                            collation: (*call).inputcollid.into(),
                            args: self.list((*call).args),
                        },
                    }
                }
                NodeTag::T_CaseExpr => self.case(node.cast()),
                NodeTag::T_CaseTestExpr => self.cases.last().cloned().unwrap_or(Expr::Opaque),
                NodeTag::T_CoalesceExpr => {
                    let coalesce = node.cast::<pg_sys::CoalesceExpr>();
                    Expr::Coalesce {
                        args: self.list((*coalesce).args),
                        type_oid: crate::table::base_type((*coalesce).coalescetype).into(),
                    }
                }
                NodeTag::T_NullIfExpr => {
                    let op = node.cast::<pg_sys::NullIfExpr>();
                    Expr::NullIf {
                        operator: (*op).opno.into(),
                        collation: (*op).inputcollid.into(),
                        args: self.list((*op).args),
                    }
                }
                NodeTag::T_MinMaxExpr => {
                    let op = node.cast::<pg_sys::MinMaxExpr>();
                    Expr::MinMax {
                        greatest: (*op).op == pg_sys::MinMaxOp::IS_GREATEST,
                        collation: (*op).inputcollid.into(),
                        args: self.list((*op).args),
                        type_oid: crate::table::base_type((*op).minmaxtype).into(),
                    }
                }
                NodeTag::T_BoolExpr => {
                    let op = node.cast::<pg_sys::BoolExpr>();
                    let mut args = self.list((*op).args);
                    match (*op).boolop {
                        pg_sys::BoolExprType::AND_EXPR => Expr::And(args),
                        pg_sys::BoolExprType::OR_EXPR => Expr::Or(args),
                        _ => args.pop().map_or(Expr::Opaque, |arg| Expr::Not(Box::new(arg))),
                    }
                }
                NodeTag::T_NullTest => {
                    let test = node.cast::<pg_sys::NullTest>();
                    let arg = Box::new(self.expr((*test).arg.cast()));
                    match (*test).nulltesttype {
                        _ if (*test).argisrow => Expr::Opaque,
                        pg_sys::NullTestType::IS_NULL => Expr::IsNull(arg),
                        _ => Expr::IsNotNull(arg),
                    }
                }
                NodeTag::T_BooleanTest => {
                    let test = node.cast::<pg_sys::BooleanTest>();
                    let kind = match (*test).booltesttype {
                        pg_sys::BoolTestType::IS_TRUE => BoolTest::True,
                        pg_sys::BoolTestType::IS_NOT_TRUE => BoolTest::NotTrue,
                        pg_sys::BoolTestType::IS_FALSE => BoolTest::False,
                        pg_sys::BoolTestType::IS_NOT_FALSE => BoolTest::NotFalse,
                        pg_sys::BoolTestType::IS_UNKNOWN => BoolTest::Unknown,
                        _ => BoolTest::NotUnknown,
                    };
                    Expr::BoolTest(kind, Box::new(self.expr((*test).arg.cast())))
                }
                _ => Expr::Opaque,
            }
        }
    }

    /// `CASE`. What a simple CASE compares stands in each of its comparisons; it has no side effects.
    unsafe fn case(&mut self, case: *mut pg_sys::CaseExpr) -> Expr {
        // SAFETY: a CaseExpr's args are CaseWhens.
        unsafe {
            let compared = (!(*case).arg.is_null()).then(|| self.expr((*case).arg.cast()));
            let simple = compared.is_some();
            self.cases.extend(compared);
            let conditions: Vec<_> =
                pg::list::<pg_sys::CaseWhen>((*case).args).map(|when| (self.expr((*when).expr.cast()), when)).collect();
            if simple {
                self.cases.pop();
            }
            let whens =
                conditions.into_iter().map(|(when, node)| (when, self.expr((*node).result.cast()))).collect::<Vec<_>>();
            let type_oid: u32 = crate::table::base_type((*case).casetype).into();
            let otherwise = match (*case).defresult.is_null() {
                true => Expr::Value(self.value(pg_sys::makeNullConst((*case).casetype, -1, (*case).casecollid).cast())),
                false => self.expr((*case).defresult.cast()),
            };
            Expr::Case { whens, otherwise: Box::new(otherwise), type_oid }
        }
    }

    /// The elements of `ANY (ARRAY[…])`, if the array is written out and has one dimension.
    unsafe fn elements(&mut self, op: *mut pg_sys::ScalarArrayOpExpr) -> Option<Vec<Expr>> {
        // SAFETY: casts follow tags.
        unsafe {
            let array = pg::list::<pg_sys::Node>((*op).args).nth(1)?;
            if pg::tag(array) != NodeTag::T_ArrayExpr {
                return None;
            }
            let array = array.cast::<pg_sys::ArrayExpr>();
            let some = !(*array).multidims && pg::list_len((*array).elements) > 0;
            some.then(|| self.list((*array).elements))
        }
    }

    /// Walks an aggregate call.
    ///
    /// # Safety
    /// `aggref` is valid.
    pub(crate) unsafe fn aggregate(&mut self, aggref: *mut pg_sys::Aggref) -> Call {
        // SAFETY: an Aggref's args are TargetEntries.
        unsafe {
            Call {
                function: (*aggref).aggfnoid.into(),
                collation: (*aggref).inputcollid.into(),
                args: pg::list::<pg_sys::TargetEntry>((*aggref).args)
                    .map(|entry| self.expr((*entry).expr.cast()))
                    .collect(),
                filter: (!(*aggref).aggfilter.is_null()).then(|| self.expr((*aggref).aggfilter.cast())),
                distinct: !(*aggref).aggdistinct.is_null(),
                special: !(*aggref).aggorder.is_null()
                    || !(*aggref).aggdirectargs.is_null()
                    || (*aggref).aggkind != b'n' as i8
                    || (*aggref).agglevelsup != 0,
            }
        }
    }

    unsafe fn list(&mut self, list: *mut pg_sys::List) -> Vec<Expr> {
        unsafe { pg::list::<pg_sys::Node>(list).map(|node| self.expr(node)).collect() }
    }

    unsafe fn own_column(&self, node: *mut pg_sys::Node) -> Option<Expr> {
        unsafe {
            if pg::tag(node) != NodeTag::T_Var {
                return None;
            }
            let var = &*node.cast::<pg_sys::Var>();
            if !self.tables.owns(var.varno as pg_sys::Index) || var.varlevelsup != 0 {
                return None;
            }
            Some(self.tables.index(var).map_or(Expr::Opaque, Expr::Column))
        }
    }

    unsafe fn value(&mut self, node: *mut pg_sys::Node) -> Val {
        // SAFETY: `equal` compares any two nodes; a Const's datum is of its type.
        unsafe {
            /// The first so many values are evaluated and sent once, however often they occur.
            const SHARED: usize = 32;
            let known = self.slots.iter().take(SHARED).position(|s| pg_sys::equal(s.cast(), node.cast()));
            let slot = known.unwrap_or_else(|| {
                self.slots.push(node);
                self.slots.len() - 1
            });
            let type_oid = u32::from(crate::table::base_type(pg_sys::exprType(node)));
            let literal = (pg::tag(node) == NodeTag::T_Const).then(|| literal(node.cast(), type_oid));
            Val { slot, type_oid, literal }
        }
    }
}

unsafe fn literal(constant: *mut pg_sys::Const, type_oid: u32) -> Literal {
    // SAFETY: a Const that is not null holds a datum of its type.
    unsafe {
        if (*constant).constisnull {
            return Literal::Null;
        }
        match type_oid {
            oid::TEXT | oid::VARCHAR => {
                String::from_datum((*constant).constvalue, false).map_or(Literal::Other, Literal::Text)
            }
            oid::BOOL => Literal::Int(((*constant).constvalue.value() as u8 != 0).into()),
            oid::INT2 => Literal::Int(((*constant).constvalue.value() as i16).into()),
            oid::INT4 => Literal::Int(((*constant).constvalue.value() as i32).into()),
            oid::INT8 => Literal::Int((*constant).constvalue.value() as i64),
            oid::FLOAT4 => Literal::Float(f32::from_bits((*constant).constvalue.value() as u32).into()),
            oid::FLOAT8 => Literal::Float(f64::from_bits((*constant).constvalue.value() as u64)),
            oid::DATE if !matches!((*constant).constvalue.value() as i32, i32::MIN | i32::MAX) => Literal::Finite,
            oid::TIMESTAMP | oid::TIMESTAMPTZ
                if !matches!((*constant).constvalue.value() as i64, i64::MIN | i64::MAX) =>
            {
                Literal::Finite
            }
            _ if pg_sys::get_element_type((*constant).consttype) != pg_sys::InvalidOid => {
                let array = pg_sys::pg_detoast_datum((*constant).constvalue.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
                let dims = array.cast::<u8>().add(size_of::<pg_sys::ArrayType>()).cast::<i32>();
                let len = pg_sys::ArrayGetNItems((*array).ndim, dims);
                Literal::Array { len: len as usize, nulls: pg_sys::array_contains_nulls(array) }
            }
            _ => Literal::Other,
        }
    }
}

/// How deep an expression is looked into: as deep as SQLite would take it, and as the stack surely allows.
const DEEPEST: usize = 200;

/// Whether an expression reads a row of the tables, or a sub-plan's, or is too deep to tell. `bound`: what a CASE compares is part of it.
///
/// # Safety
/// `node` is a valid expression.
unsafe fn reads_tables(node: *mut pg_sys::Node, tables: &Tables, bound: bool, depth: usize) -> bool {
    if node.is_null() {
        return false;
    }
    if depth > DEEPEST {
        return true;
    }
    // SAFETY: casts follow tags; the walker visits children only.
    unsafe {
        match pg::tag(node) {
            NodeTag::T_Var => {
                let var = node.cast::<pg_sys::Var>();
                (*var).varlevelsup == 0 && tables.owns((*var).varno as pg_sys::Index)
            }
            NodeTag::T_SubPlan
            | NodeTag::T_AlternativeSubPlan
            | NodeTag::T_SubLink
            | NodeTag::T_Aggref
            | NodeTag::T_GroupingFunc
            | NodeTag::T_WindowFunc
            | NodeTag::T_PlaceHolderVar
            | NodeTag::T_CurrentOfExpr => true,
            // The arrays of a lookup join are values.
            NodeTag::T_CaseTestExpr => !bound && crate::join::batch::batch_array(node).is_none(),
            tag => {
                let binds = match tag {
                    NodeTag::T_CaseExpr => !(*node.cast::<pg_sys::CaseExpr>()).arg.is_null(),
                    NodeTag::T_ArrayCoerceExpr => true,
                    _ => false,
                };
                compat::walk_children(node, &mut |child| reads_tables(child, tables, bound || binds, depth + 1))
            }
        }
    }
}

/// Whether one evaluation stands for all rows.
unsafe fn is_stable(node: *mut pg_sys::Node) -> bool {
    unsafe { !pg_sys::contain_volatile_functions(node) }
}

/// Whether a condition reads nothing of the tables but their segment columns, so that PostgreSQL can evaluate it per
/// segment instead of per row.
///
/// # Safety
/// `node` is a valid expression.
pub(crate) unsafe fn only_segment(node: *mut pg_sys::Node, tables: &Tables) -> bool {
    unsafe fn ok(node: *mut pg_sys::Node, tables: &Tables, seen: &mut bool, depth: usize) -> bool {
        if node.is_null() {
            return true;
        }
        if depth > DEEPEST {
            return false;
        }
        // SAFETY: casts follow tags; the walker visits children only.
        unsafe {
            match pg::tag(node) {
                NodeTag::T_Var => {
                    let var = &*node.cast::<pg_sys::Var>();
                    // Another table's variable is a value to this one.
                    let other = var.varlevelsup == 0 && !tables.owns(var.varno as pg_sys::Index);
                    *seen |= !other;
                    other || tables.is_segment(var)
                }
                NodeTag::T_SubPlan
                | NodeTag::T_AlternativeSubPlan
                | NodeTag::T_SubLink
                | NodeTag::T_PlaceHolderVar
                | NodeTag::T_CurrentOfExpr
                | NodeTag::T_CoerceToDomain
                | NodeTag::T_Aggref => false,
                _ => !compat::walk_children(node, &mut |child| !ok(child, tables, seen, depth + 1)),
            }
        }
    }
    let mut seen = false;
    // SAFETY: as for the caller.
    unsafe { ok(node, tables, &mut seen, 0) && seen && is_stable(node) }
}

/// What a collation does to text.
pub(crate) fn collation(oid: u32) -> Collation {
    thread_local! {
        /// A collation's rules never change, but for the OID's being used again: a collation that is new gets tried anew
        /// in the next session.
        static KNOWN: RefCell<HashMap<u32, Collation>> = RefCell::default();
    }
    if oid == 0 {
        return Collation { deterministic: false, bytewise: false, only_ascii: false, ascii_case: false };
    }
    if let Some(known) = KNOWN.with_borrow(|known| known.get(&oid).copied()) {
        return known;
    }
    let collation_oid = pg_sys::Oid::from(oid);
    // SAFETY: catalog look-ups, which answer for any collation that exists.
    let collation = unsafe {
        let utf8 = pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8 as i32;
        let only_ascii = compat::ctype_is_c(collation_oid);
        Collation {
            deterministic: pg_sys::get_collation_isdeterministic(collation_oid),
            bytewise: utf8 && compat::collation_is_c(collation_oid),
            only_ascii,
            ascii_case: only_ascii || utf8 && ascii_case(collation_oid),
        }
    };
    KNOWN.with_borrow_mut(|known| known.insert(oid, collation));
    collation
}

/// Whether `lower` and `upper` treat ASCII's characters as ASCII does under a collation (Turkish does not).
unsafe fn ascii_case(collation: pg_sys::Oid) -> bool {
    let all: String = (1u8..128).map(char::from).collect();
    // SAFETY: both take a text and a collation and give a text.
    unsafe {
        let folded = |function: u32| {
            let datum = pg::make_varlena(all.as_bytes());
            let folded = pg_sys::OidFunctionCall1Coll(pg_sys::Oid::from(function), collation, datum);
            pg::varlena_bytes(folded).to_vec()
        };
        folded(870) == all.to_ascii_lowercase().as_bytes() && folded(871) == all.to_ascii_uppercase().as_bytes()
    }
}
