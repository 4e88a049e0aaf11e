//! The statement of an aggregation.

use crate::{
    aggregate::{Aggregate, PartColumn},
    column::{Column, Encoding, InvalidText, Storage},
    oid::Oid,
    statement::{Statement, end, where_clause},
};

/// The columns of an aggregation's answer: first the keys (`k1`, `k2`, …), then what the aggregates need (`a1`, `a2`, …),
/// each once.
#[derive(Clone, Debug)]
pub struct Grouping {
    keys: Vec<String>,
    parts: Vec<PartColumn>,
    columns: Vec<Vec<usize>>,
}

impl Grouping {
    /// Of keys as printed by [`crate::aggregate::group_key`], and aggregates.
    pub fn new<'a>(keys: Vec<String>, aggregates: impl IntoIterator<Item = &'a Aggregate>) -> Self {
        let mut parts: Vec<PartColumn> = Vec::new();
        let mut place = |part: &PartColumn| {
            let known = parts.iter().position(|p| p == part);
            keys.len()
                + known.unwrap_or_else(|| {
                    parts.push(part.clone());
                    parts.len() - 1
                })
        };
        let columns = aggregates.into_iter().map(|a| a.columns.iter().map(&mut place).collect()).collect();
        Self { keys, parts, columns }
    }

    /// Columns in a row of the answer.
    pub fn width(&self) -> usize {
        (self.keys.len() + self.parts.len()).max(1)
    }

    /// Per aggregate, the indexes of its columns.
    pub fn columns(&self) -> &[Vec<usize>] {
        &self.columns
    }

    /// The name of a column.
    pub fn name(&self, index: usize) -> String {
        match index.checked_sub(self.keys.len()) {
            None => format!("k{}", index + 1),
            Some(part) => format!("a{}", part + 1),
        }
    }

    /// The SQL. Unless it is `by_segment`, workers add up the groups of their segments; then the segment is a key too, and
    /// an empty segment makes no group. `having` are conditions on the columns, of an aggregation by segment.
    pub fn statement(
        &self,
        from: &str,
        conditions: &[String],
        forms: &[String],
        having: &[String],
        by_segment: bool,
    ) -> Statement {
        debug_assert!(by_segment || having.is_empty());
        let keys = self.keys.iter().enumerate().map(|(i, key)| format!("{key} AS k{}", i + 1));
        let parts = self.parts.iter().enumerate().map(|(i, part)| format!("{} AS a{}", part.map, i + 1));
        let mut map: Vec<String> = keys.chain(parts).collect();
        if map.is_empty() {
            map.push("NULL AS a1".to_owned());
        }
        // Without an aggregate, which HAVING would need, one row says that there are any.
        let limit = (self.keys.is_empty() && self.parts.is_empty()).then(|| "1".to_owned());
        let end = end(limit, forms);
        let (select, group) = match (self.keys.len(), self.parts.is_empty()) {
            (0, true) => ("SELECT", String::new()),
            (0, false) if by_segment => ("SELECT", " HAVING count(*) > 0".to_owned()),
            (0, false) => ("SELECT", String::new()),
            (_, true) => ("SELECT DISTINCT", String::new()),
            (n, false) => {
                let ordinals = (1..=n).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
                ("SELECT", format!(" GROUP BY {ordinals}"))
            }
        };
        let map = format!("{select} {} FROM {from}{}{group}{end}", map.join(", "), where_clause(conditions));
        let map = if having.is_empty() { map } else { format!("SELECT * FROM ({map}){}", where_clause(having)) };
        Statement { map, reduce: (!by_segment).then(|| self.reduce()) }
    }

    fn reduce(&self) -> String {
        let keys: Vec<String> = (1..=self.keys.len()).map(|i| format!("k{i}")).collect();
        let parts = self.parts.iter().enumerate().map(|(i, part)| part.reduce.sql(&format!("a{}", i + 1)));
        let mut over: Vec<String> = keys.iter().cloned().chain(parts).collect();
        if over.is_empty() {
            over.push("NULL AS a1".to_owned());
        }
        let (select, group) = match (keys.is_empty(), self.parts.is_empty()) {
            (true, true) => ("SELECT", " LIMIT 1".to_owned()),
            (true, false) => ("SELECT", String::new()),
            (false, true) => ("SELECT DISTINCT", String::new()),
            (false, false) => ("SELECT", format!(" GROUP BY {}", keys.join(", "))),
        };
        format!("{select} {} FROM partial{group}", over.join(", "))
    }
}

/// A column of an answer as conditions on it see it: what a scalar made is canonical.
pub fn derived(name: String, type_oid: Oid, encoding: Encoding) -> Column {
    Column {
        name,
        table: String::new(),
        alias: None,
        type_oid,
        encoding,
        storage: Storage::Unknown,
        trusted: true,
        invalid_text: InvalidText::Error,
        segment: false,
    }
}
