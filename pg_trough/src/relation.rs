//! What is scanned within each segment: one foreign table, or several that are joined there.

use std::collections::BTreeSet;

use pgrx::pg_sys;
use trough_pushdown::{Column, Refusal, Scope, Shipper, Table, scope};

use crate::{
    plan::{Ships, Split},
    plandata::Stored,
    table::ForeignTable,
    walk::Walker,
};

/// One of the foreign tables, by its place in the query's range table.
#[derive(Clone)]
pub(crate) struct Member {
    /// The index in the range table.
    pub(crate) relid: pg_sys::Index,
    /// The table.
    pub(crate) table: ForeignTable,
    /// Its columns that a join compares and that SQLite would not find in an index as they are.
    pub(crate) derived: BTreeSet<usize>,
    /// Whether its row may be missing, because it is on the nullable side of an outer join.
    pub(crate) nullable: bool,
    /// Whether the segment's name is read where the row may be missing.
    pub(crate) marked: bool,
}

impl Member {
    /// A table by itself.
    pub(crate) fn new(relid: pg_sys::Index, table: ForeignTable) -> Self {
        Self { relid, table, derived: BTreeSet::new(), nullable: false, marked: false }
    }

    /// What stands for it behind FROM, and the columns that expressions read.
    pub(crate) fn item(&self) -> (String, Table) {
        trough_pushdown::join::derive(
            &self.table.table,
            |index| self.derived.contains(&index),
            self.nullable,
            self.marked,
        )
    }
}

/// The foreign tables whose columns an expression may read, all of one server, in the order of the scope's columns.
#[derive(Clone)]
pub(crate) struct Tables {
    members: Vec<Member>,
    scope: Scope,
}

impl Tables {
    /// These tables; at least one.
    pub(crate) fn new(members: Vec<Member>) -> Self {
        let seen: Vec<_> = members.iter().map(|m| m.item().1).collect();
        let scope = Scope::of(&seen);
        Self { members, scope }
    }

    /// Only one table.
    pub(crate) fn one(relid: pg_sys::Index, table: ForeignTable) -> Self {
        Self::new(vec![Member::new(relid, table)])
    }

    /// The tables.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The first of them, which stands for all in what they have in common.
    pub(crate) fn first(&self) -> &ForeignTable {
        &self.members[0].table
    }

    /// Their columns.
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether a place in the range table is one of theirs.
    pub(crate) fn owns(&self, relid: pg_sys::Index) -> bool {
        self.members.iter().any(|m| m.relid == relid)
    }

    /// The scope's index of the first column of a place in the range table.
    pub(crate) fn offset(&self, relid: pg_sys::Index) -> Option<usize> {
        let mut offset = 0;
        for member in &self.members {
            if member.relid == relid {
                return Some(offset);
            }
            offset += member.table.table.columns.len();
        }
        None
    }

    /// The scope's index of a variable's column; none for system columns, whole rows and what is not theirs.
    pub(crate) fn index(&self, var: &pg_sys::Var) -> Option<usize> {
        if var.varlevelsup != 0 {
            return None;
        }
        let attribute = usize::try_from(var.varattno).ok()?.checked_sub(1)?;
        let index = self.offset(var.varno as pg_sys::Index)? + attribute;
        self.scope.column(index).map(|_| index)
    }

    /// Whether a variable is a segment column of theirs.
    pub(crate) fn is_segment(&self, var: &pg_sys::Var) -> bool {
        self.index(var).and_then(|index| self.scope.column(index)).is_some_and(|c| c.segment)
    }

    /// How a column is stored and read.
    pub(crate) fn stored(&self, index: usize) -> Option<Stored> {
        let column = self.scope.column(index)?;
        let mut at = index;
        for member in &self.members {
            match member.table.typmods.get(at) {
                Some(typmod) => return Some(stored(column, *typmod)),
                None => at -= member.table.typmods.len(),
            }
        }
        None
    }

    /// Which segments belong to all of them: regular expressions.
    pub(crate) fn patterns(&self) -> Vec<String> {
        let mut patterns: Vec<String> = self.members.iter().filter_map(|m| m.table.pattern.clone()).collect();
        patterns.sort();
        patterns.dedup();
        patterns
    }

    /// Their names in SQLite, for messages.
    pub(crate) fn sqlite_names(&self) -> String {
        self.members.iter().map(|m| m.table.table.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// How a column with a type modifier is stored and read.
pub(crate) fn stored(column: &Column, typmod: i32) -> Stored {
    Stored {
        name: column.name.clone(),
        type_oid: column.type_oid,
        typmod,
        encoding: column.encoding,
        invalid_text: column.invalid_text,
        trusted: column.trusted,
    }
}

/// What is kept of a relation while it is planned.
#[derive(Clone)]
pub(crate) struct Relation {
    /// The tables.
    pub(crate) tables: Tables,
    /// How they are put together.
    pub(crate) source: Source,
    /// The conditions by where they run.
    pub(crate) split: Split,
    /// Rows read in SQLite.
    pub(crate) scanned: f64,
    /// Whether conditions, aggregates and orders may run in SQLite.
    pub(crate) ships: Ships,
    /// Why they may not, if a worker of the Python trough is the reason.
    pub(crate) python: Option<String>,
    /// The join, for EXPLAIN; none for one table.
    pub(crate) name: Option<String>,
}

/// What stands behind FROM.
#[derive(Clone)]
pub(crate) enum Source {
    /// The table with this place among the [`Tables`].
    Table(usize),
    /// An inner join or a left join.
    Join {
        /// The side that is never missing.
        left: Box<Source>,
        /// The other.
        right: Box<Source>,
        /// Whether rows of the left side without one of the right side stay.
        outer: bool,
        /// The conditions of a left join, and of an inner join on the right side of one. Those of other inner joins stand
        /// behind WHERE.
        on: Conditions,
    },
}

/// Conditions in SQLite, all of which are shipped exactly.
#[derive(Clone, Default)]
pub(crate) struct Conditions {
    /// Expressions.
    pub(crate) exprs: Vec<*mut pg_sys::Expr>,
    /// Semi joins and anti joins.
    pub(crate) semis: Vec<Semi>,
}

/// A condition on rows that exist, or that do not, in other tables of the segment.
#[derive(Clone)]
pub(crate) struct Semi {
    /// Whether no row may exist.
    pub(crate) negated: bool,
    /// Where.
    pub(crate) source: Source,
    /// Which; those that read both sides are equalities.
    pub(crate) on: Conditions,
}

impl Source {
    /// The same for tables whose places are further back.
    pub(crate) fn shifted(&self, by: usize) -> Self {
        match self {
            Self::Table(place) => Self::Table(place + by),
            Self::Join { left, right, outer, on } => Self::Join {
                left: Box::new(left.shifted(by)),
                right: Box::new(right.shifted(by)),
                outer: *outer,
                on: on.shifted(by),
            },
        }
    }

    /// The places of its tables.
    pub(crate) fn places(&self) -> Vec<usize> {
        match self {
            Self::Table(place) => vec![*place],
            Self::Join { left, right, .. } => left.places().into_iter().chain(right.places()).collect(),
        }
    }
}

impl Conditions {
    /// The same for tables whose places are further back.
    pub(crate) fn shifted(&self, by: usize) -> Self {
        let semis = self.semis.iter();
        Self { exprs: self.exprs.clone(), semis: semis.map(|semi| semi.shifted(by)).collect() }
    }
}

impl Semi {
    /// The same for tables whose places are further back.
    pub(crate) fn shifted(&self, by: usize) -> Self {
        Self { negated: self.negated, source: self.source.shifted(by), on: self.on.shifted(by) }
    }
}

impl Relation {
    /// What stands behind FROM.
    pub(crate) fn from(&self, walker: &mut Walker<'_>, shipper: &mut Shipper<'_>) -> String {
        self.try_from(walker, shipper).expect("joins were printed when their paths were made")
    }

    /// What stands behind FROM.
    ///
    /// # Errors
    /// If a condition of a left join cannot be shipped.
    pub(crate) fn try_from(&self, walker: &mut Walker<'_>, shipper: &mut Shipper<'_>) -> Result<String, Refusal> {
        self.tables.print_source(&self.source, walker, shipper)
    }

    /// Whether PostgreSQL has nothing to check per row, so that what is on top of the scan may be shipped too.
    pub(crate) fn is_exact(&self) -> bool {
        self.ships == Ships::All && self.split.local.is_empty() && self.split.both.is_empty()
    }
}

impl Tables {
    fn print_source(
        &self,
        source: &Source,
        walker: &mut Walker<'_>,
        shipper: &mut Shipper<'_>,
    ) -> Result<String, Refusal> {
        Ok(match source {
            Source::Table(place) => {
                let item = self.members[*place].item().0;
                if self.members.len() > 1 { format!("{item} AS {}", scope::alias(*place)) } else { item }
            }
            Source::Join { left, right, outer, on } => {
                let left = self.print_source(left, walker, shipper)?;
                let nested = *outer && matches!(**right, Source::Join { .. });
                // Left joins on the right side read that side only: a JOIN (b LEFT JOIN c) is (a JOIN b) LEFT JOIN c.
                let right = self.print_source(right, walker, shipper)?;
                let right = if nested { format!("({right})") } else { right };
                let mut conditions = self.print_exprs(&on.exprs, walker, shipper)?;
                for semi in &on.semis {
                    conditions.push(self.print_semi(semi, walker, shipper)?);
                }
                let join = if *outer { "LEFT JOIN" } else { "JOIN" };
                match (conditions.is_empty(), outer) {
                    (true, false) => format!("{left} {join} {right}"),
                    (true, true) => format!("{left} {join} {right} ON true"),
                    (false, _) => format!("{left} {join} {right} ON {}", conditions.join(" AND ")),
                }
            }
        })
    }

    fn print_exprs(
        &self,
        exprs: &[*mut pg_sys::Expr],
        walker: &mut Walker<'_>,
        shipper: &mut Shipper<'_>,
    ) -> Result<Vec<String>, Refusal> {
        // SAFETY: the planner's expressions over these tables.
        exprs.iter().map(|expr| shipper.exact_condition(&unsafe { walker.expr((*expr).cast()) })).collect()
    }

    /// Prints a semi join or anti join as a condition. Equalities of both sides become an IN, whose list SQLite computes
    /// once; it would look for the rows of an EXISTS again for each row of the outer side.
    ///
    /// # Errors
    /// If a condition cannot be shipped, or reads both sides and is no equality.
    pub(crate) fn print_semi(
        &self,
        semi: &Semi,
        walker: &mut Walker<'_>,
        shipper: &mut Shipper<'_>,
    ) -> Result<String, Refusal> {
        let from = self.print_source(&semi.source, walker, shipper)?;
        let inside: BTreeSet<usize> = semi.source.places().into_iter().flat_map(|place| self.indexes(place)).collect();
        let mut outer = Vec::new();
        let mut inner = Vec::new();
        let (mut left, mut right) = (Vec::new(), Vec::new());
        // Which sides an expression reads: the outer one, the inner one.
        let sides = |expr: &trough_pushdown::Expr| {
            let mut reads = (false, false);
            expr.columns(&mut |index| match inside.contains(&index) {
                true => reads.1 = true,
                false => reads.0 = true,
            });
            reads
        };
        for clause in &semi.on.exprs {
            // SAFETY: the planner's expression over these tables.
            let expr = unsafe { walker.expr((*clause).cast()) };
            match sides(&expr) {
                (true, true) => {
                    let trough_pushdown::Expr::Op { args, .. } = &expr else {
                        return Err(Refusal("a semi join by something other than equality"));
                    };
                    let (a, b) = shipper.equality(&expr)?;
                    let (a, b) = match (sides(&args[0]), sides(&args[1])) {
                        ((true, false), (false, true)) => (a, b),
                        ((false, true), (true, false)) => (b, a),
                        _ => return Err(Refusal("an equality of expressions over both sides")),
                    };
                    left.push(a);
                    right.push(b);
                }
                (false, true) => inner.push(shipper.exact_condition(&expr)?),
                _ => outer.push(shipper.exact_condition(&expr)?),
            }
        }
        for nested in &semi.on.semis {
            inner.push(self.print_semi(nested, walker, shipper)?);
        }
        let filter = if inner.is_empty() { String::new() } else { format!(" WHERE {}", inner.join(" AND ")) };
        outer.push(if left.is_empty() {
            format!("EXISTS (SELECT 1 FROM {from}{filter})")
        } else {
            let row = if left.len() == 1 { left.remove(0) } else { format!("({})", left.join(", ")) };
            format!("{row} IN (SELECT {} FROM {from}{filter})", right.join(", "))
        });
        let all = outer.join(" AND ");
        Ok(if semi.negated { format!("(({all}) IS NOT TRUE)") } else { format!("({all})") })
    }

    /// The scope's indexes of a table's columns.
    fn indexes(&self, place: usize) -> std::ops::Range<usize> {
        let before = self.members[..place].iter().map(|m| m.table.table.columns.len()).sum();
        before..before + self.members[place].table.table.columns.len()
    }
}
