//! Whole statements: the map that runs in each segment, and the reduce that runs over all maps' rows on a worker.

use crate::{limits, order::Order, scope::Scope, stored::column_sql};

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

/// A scan's statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The SQL.
    pub statement: Statement,
    /// Columns in a row of the answer, of the map's and the reduce's alike.
    pub width: usize,
}

/// A scan of columns of what stands behind FROM. With no column, a row is one NULL. Where workers pick the first rows of
/// their segments, sort keys that are not among the columns follow them. `forms` are the shipper's
/// [`form_checks`](crate::ship::Shipper::form_checks).
pub fn scan(
    from: &str,
    scope: &Scope,
    columns: &[usize],
    conditions: &[String],
    forms: &[String],
    order: &Order,
) -> Scanned {
    let mut list: Vec<_> = columns.iter().filter_map(|c| scope.column(*c)).map(column_sql).collect();
    let condition = where_clause(conditions);
    if !order.reduces() {
        let keys = order.keys.iter().filter(|key| !key.segment).map(|key| key.sorting(&key.sql));
        let order_by = order_clause(keys);
        let limit = limit_clause(order, forms);
        if list.is_empty() {
            list.push("NULL".to_owned());
        }
        let map = format!("SELECT {} FROM {from}{condition}{order_by}{limit}", list.join(", "));
        return Scanned { statement: Statement { map, reduce: None }, width: list.len() };
    }
    let mut names: Vec<_> = (1..=list.len()).map(|i| format!("c{i}")).collect();
    let mut sorted = Vec::new();
    for (i, key) in order.keys.iter().enumerate() {
        let place = columns.iter().position(|column| Some(*column) == key.column);
        let place = place.unwrap_or_else(|| {
            names.push(format!("k{}", i + 1));
            list.push(String::new());
            list.len() - 1
        });
        // A key's values read back as the column's.
        list[place].clone_from(&key.sql);
        sorted.push((key.segment, key.sorting(&names[place])));
    }
    let selected: Vec<_> = list.iter().zip(&names).map(|(sql, name)| format!("{sql} AS {name}")).collect();
    let within = order_clause(sorted.iter().filter(|(segment, _)| !segment).map(|(_, sql)| sql.clone()));
    let over = order_clause(sorted.iter().map(|(_, sql)| sql.clone()));
    let limit = limit_clause(order, forms);
    let statement = Statement {
        map: format!("SELECT {} FROM {from}{condition}{within}{limit}", selected.join(", ")),
        reduce: Some(format!("SELECT * FROM partial{over} LIMIT ?1")),
    };
    Scanned { statement, width: list.len() }
}

fn order_clause(keys: impl Iterator<Item = String>) -> String {
    let keys: Vec<_> = keys.collect();
    if keys.is_empty() { String::new() } else { format!(" ORDER BY {}", keys.join(", ")) }
}

/// The sign keeps SQLite from planning by the parameter's value, for then it would compile the statement anew each time that the
/// parameter is bound.
fn limit_clause(order: &Order, forms: &[String]) -> String {
    end(order.limit.map(|n| format!("+?{n}")), forms)
}

/// How a map ends: how many rows it gives, and the tests of forms. They stand in OFFSET, which SQLite computes before it looks for any
/// row; a condition would be tested only once a row fulfils the others, so that an equality with a text in another form would just find nothing.
pub fn end(limit: Option<String>, forms: &[String]) -> String {
    match (limit, forms) {
        (None, []) => String::new(),
        (Some(limit), []) => format!(" LIMIT {limit}"),
        (limit, forms) => {
            format!(" LIMIT {} OFFSET 0 * ({})", limit.as_deref().unwrap_or("-1"), forms.join(" AND "))
        }
    }
}

pub(crate) fn where_clause(conditions: &[String]) -> String {
    if conditions.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", limits::joined(conditions.to_vec(), " AND "))
    }
}
