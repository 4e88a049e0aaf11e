//! Whole statements: the map that runs in each segment, and the reduce that runs over all maps' rows on a worker.

use crate::{aggregate::Aggregate, column::Table, stored::column_sql};

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

/// A plain scan of columns. With no column, a row is one NULL.
pub fn scan(table: &Table, columns: &[usize], conditions: &[String]) -> Statement {
    let list: Vec<_> = columns.iter().filter_map(|c| table.column(*c)).map(column_sql).collect();
    let list = if list.is_empty() { "NULL".to_owned() } else { list.join(", ") };
    Statement {
        map: format!("SELECT {list} FROM {}{}", quote_identifier(&table.name), where_clause(conditions)),
        reduce: None,
    }
}

/// An aggregation: group keys as printed by [`crate::aggregate::group_key`], then every aggregate's columns. Unless it is
/// `by_segment`, workers add up the groups of their segments; then the segment is a key too, and an empty segment makes
/// no group.
pub fn grouped(
    table: &Table,
    keys: &[String],
    aggregates: &[Aggregate],
    conditions: &[String],
    by_segment: bool,
) -> Statement {
    let mut map: Vec<String> = keys.iter().enumerate().map(|(i, key)| format!("{key} AS k{}", i + 1)).collect();
    let mut over: Vec<String> = (1..=keys.len()).map(|i| format!("k{i}")).collect();
    let key_list = over.join(", ");
    let columns = aggregates.iter().flat_map(|a| &a.columns);
    for (i, column) in columns.enumerate() {
        map.push(format!("{} AS a{}", column.map, i + 1));
        over.push(column.reduce.sql(&format!("a{}", i + 1)));
    }
    if map.is_empty() {
        map.push("NULL AS a1".to_owned());
        over.push("a1".to_owned());
    }
    let group = |list: &str| match keys.is_empty() {
        false => format!(" GROUP BY {list}"),
        true if by_segment => " HAVING count(*) > 0".to_owned(),
        true => String::new(),
    };
    let ordinals = (1..=keys.len()).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    Statement {
        map: format!(
            "SELECT {} FROM {}{}{}",
            map.join(", "),
            quote_identifier(&table.name),
            where_clause(conditions),
            group(&ordinals)
        ),
        reduce: (!by_segment).then(|| format!("SELECT {} FROM partial{}", over.join(", "), group(&key_list))),
    }
}

fn where_clause(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}
