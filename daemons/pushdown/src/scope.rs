//! What expressions read: the columns of one table, or of several that are joined within each segment.

use crate::column::{Column, Table};

/// Columns by index. The columns of a table stand in the order of its attribute numbers, dropped ones being `None`;
/// those of further tables follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    columns: Vec<Option<Column>>,
}

impl Scope {
    /// The columns of tables. Those of several are printed with the table's alias: `r1`, `r2`, …
    pub fn of<'a>(tables: impl IntoIterator<Item = &'a Table>) -> Self {
        let tables: Vec<_> = tables.into_iter().collect();
        let several = tables.len() > 1;
        let qualified = |(i, table): (usize, &&Table)| {
            let alias = several.then_some(i as u16 + 1);
            table.columns.iter().cloned().map(move |c| c.map(|c| Column { alias, ..c })).collect::<Vec<_>>()
        };
        Self { columns: tables.iter().enumerate().flat_map(qualified).collect() }
    }

    /// These columns and others after them.
    pub fn extended(&self, more: impl IntoIterator<Item = Option<Column>>) -> Self {
        Self { columns: self.columns.iter().cloned().chain(more).collect() }
    }

    /// The column at an index, unless it was dropped.
    pub fn column(&self, index: usize) -> Option<&Column> {
        self.columns.get(index).and_then(Option::as_ref)
    }

    /// How many indexes there are.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there is no column at all.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
}

/// The alias of the table with an index among those of a join.
pub fn alias(table: usize) -> String {
    format!("r{}", table + 1)
}
