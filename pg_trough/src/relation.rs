//! What is scanned within each segment: one foreign table, or several that are joined there.

use pgrx::pg_sys;
use trough_pushdown::{Column, Scope, Shipper, quote_identifier, scope};

use crate::{plan::Split, plandata::Stored, table::ForeignTable, walk::Walker};

/// One of the foreign tables, by its place in the query's range table.
#[derive(Clone)]
pub(crate) struct Member {
    /// The index in the range table.
    pub(crate) relid: pg_sys::Index,
    /// The table.
    pub(crate) table: ForeignTable,
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
        let scope = Scope::of(members.iter().map(|m| &m.table.table));
        Self { members, scope }
    }

    /// Only one table.
    pub(crate) fn one(relid: pg_sys::Index, table: ForeignTable) -> Self {
        Self::new(vec![Member { relid, table }])
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
    pub(crate) pushdown: bool,
}

/// What stands behind FROM.
#[derive(Clone)]
pub(crate) enum Source {
    /// The table with this place among the [`Tables`].
    Table(usize),
}

impl Relation {
    /// What stands behind FROM.
    pub(crate) fn from(&self, _walker: &mut Walker<'_>, _shipper: &mut Shipper<'_>) -> String {
        let Source::Table(place) = self.source;
        let members = self.tables.members();
        let name = quote_identifier(&members[place].table.table.name);
        if members.len() > 1 { format!("{name} AS {}", scope::alias(place)) } else { name }
    }

    /// Whether PostgreSQL has nothing to check per row, so that what is on top of the scan may be shipped too.
    pub(crate) fn is_exact(&self) -> bool {
        self.pushdown && self.split.local.is_empty() && self.split.both.is_empty()
    }
}
