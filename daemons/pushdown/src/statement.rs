//! Whole statements: the map that runs in each segment, and the reduce that runs over all maps' rows on a worker.

use crate::{
    aggregate::{Aggregate, PartColumn},
    scope::Scope,
    stored::column_sql,
};

/// One request's SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Runs in each segment.
    pub map: String,
    /// Runs over the table `partial`.
    pub reduce: Option<String>,
}

/// A name in SQLite that can be nothing but a name (a double-quoted one may silently become a text).
pub fn quote_identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text in SQLite. Only for names inside messages; values are bound.
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''").replace('\0', ""))
}

/// A plain scan of columns of what stands behind FROM. With no column, a row is one NULL.
pub fn scan(from: &str, scope: &Scope, columns: &[usize], conditions: &[String]) -> Statement {
    let list: Vec<_> = columns.iter().filter_map(|c| scope.column(*c)).map(column_sql).collect();
    let list = if list.is_empty() { "NULL".to_owned() } else { list.join(", ") };
    Statement { map: format!("SELECT {list} FROM {from}{}", where_clause(conditions)), reduce: None }
}

/// An aggregation's statement, and where its answer's columns are: first the keys, then what the aggregates need, each
/// once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouped {
    /// The SQL.
    pub statement: Statement,
    /// Columns in a row of the answer.
    pub width: usize,
    /// Per aggregate, the indexes of its columns.
    pub columns: Vec<Vec<usize>>,
}

/// An aggregation: group keys as printed by [`crate::aggregate::group_key`], then the aggregates' columns. Unless it is
/// `by_segment`, workers add up the groups of their segments; then the segment is a key too, and an empty segment makes
/// no group.
pub fn grouped(
    from: &str,
    keys: &[String],
    aggregates: &[Aggregate],
    conditions: &[String],
    by_segment: bool,
) -> Grouped {
    let mut parts: Vec<&PartColumn> = Vec::new();
    let mut place = |part| {
        let known = parts.iter().position(|p| *p == part);
        keys.len()
            + known.unwrap_or_else(|| {
                parts.push(part);
                parts.len() - 1
            })
    };
    let columns = aggregates.iter().map(|a| a.columns.iter().map(&mut place).collect()).collect();
    let mut map: Vec<String> = keys.iter().enumerate().map(|(i, key)| format!("{key} AS k{}", i + 1)).collect();
    let mut over: Vec<String> = (1..=keys.len()).map(|i| format!("k{i}")).collect();
    let key_list = over.join(", ");
    for (i, part) in parts.iter().enumerate() {
        map.push(format!("{} AS a{}", part.map, i + 1));
        over.push(part.reduce.sql(&format!("a{}", i + 1)));
    }
    if map.is_empty() {
        map.push("NULL AS a1".to_owned());
        over.push("NULL AS a1".to_owned());
    }
    let group = |list: &str| match keys.is_empty() {
        false => format!(" GROUP BY {list}"),
        // HAVING needs an aggregate; without one, one row says that the segment has any.
        true if by_segment && parts.is_empty() => " LIMIT 1".to_owned(),
        true if by_segment => " HAVING count(*) > 0".to_owned(),
        true => String::new(),
    };
    let ordinals = (1..=keys.len()).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let statement = Statement {
        map: format!("SELECT {} FROM {from}{}{}", map.join(", "), where_clause(conditions), group(&ordinals)),
        reduce: (!by_segment).then(|| format!("SELECT {} FROM partial{}", over.join(", "), group(&key_list))),
    };
    Grouped { statement, width: map.len(), columns }
}

fn where_clause(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}
