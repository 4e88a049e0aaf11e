//! How the answers of many segments become one: a SELECT is taken apart into what each segment does (FROM, WHERE), what workers
//! add up, and what is done once in the end.
//!
//! Nothing in here talks to anybody: a statement goes in, statements come out ([`Merge`]), or the reason why it cannot be taken apart.

mod aggregate;
mod clauses;
mod rewrite;

use aggregate::Aggregates;
use clauses::{Clauses, Item, OrderTerm};
use rewrite::{Keys, quote};

/// The statements of a merged query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// The rows of all segments, one after the other.
    Rows {
        /// Runs on each segment.
        map: String,
        /// How many rows at most, and how many of them are passed over.
        limit: Option<(u64, u64)>,
    },
    /// The rows come together in the table `partial`.
    Combined {
        /// Runs on each segment.
        map: String,
        /// Runs over what segments gave, on each worker; gives columns of the same names.
        combine: Option<String>,
        /// Runs over what workers gave.
        finish: String,
        /// So many columns at the end of `finish` are only there to be sorted by.
        hidden: usize,
    },
}

/// What cannot be taken apart, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MERGE cannot {0}")]
pub(super) struct MergeError(String);

/// How to say what cannot be guessed.
const SAY_HOW: &str = "say how: MERGE SELECT … REDUCE SELECT … FROM partial (HELP MERGE)";

fn cannot(what: impl std::fmt::Display) -> MergeError {
    MergeError(format!("{what}; {SAY_HOW}"))
}

/// Takes a SELECT apart.
pub(super) fn plan(sql: &str) -> Result<Merge, MergeError> {
    if let Some((map, reduce)) = clauses::split_reduce(sql) {
        let (map, reduce) = (map.to_owned(), reduce.to_owned());
        return Ok(Merge::Combined { map, combine: Some(reduce.clone()), finish: reduce, hidden: 0 });
    }
    let clauses = Clauses::of(sql)?;
    let mut aggregates = Aggregates::default();
    for part in clauses.parts() {
        aggregates.collect(sql, part)?;
    }
    if clauses.group_by.is_empty() && aggregates.is_empty() {
        if clauses.having.is_some() {
            return Err(cannot("make sense of HAVING without an aggregate"));
        }
        return plain(&clauses);
    }
    aggregated(&clauses, &aggregates)
}

/// No aggregate: rows of all segments, perhaps distinct, sorted, cut off.
fn plain(clauses: &Clauses<'_>) -> Result<Merge, MergeError> {
    let limit = clauses.limit_numbers()?;
    let body = clauses.body();
    if !clauses.distinct && clauses.order_by.is_empty() {
        let cut = limit.map_or_else(String::new, |(rows, skip)| format!(" LIMIT {}", rows.saturating_add(skip)));
        return Ok(Merge::Rows { map: format!("SELECT {}{body}{cut}", clauses.items_text()), limit });
    }
    let mut hidden = Vec::new();
    let mut order = Vec::new();
    for term in &clauses.order_by {
        order.push(format!("{}{}", output_of(clauses, term, &mut hidden), term.suffix));
    }
    if clauses.distinct && !hidden.is_empty() {
        return Err(cannot("sort DISTINCT rows by what is not among their columns"));
    }
    let distinct = if clauses.distinct { "DISTINCT " } else { "" };
    let order = if order.is_empty() { String::new() } else { format!(" ORDER BY {}", order.join(", ")) };
    // A segment's first rows are enough where only the first of all are wanted.
    let first = limit.map_or_else(String::new, |(rows, skip)| {
        format!("{} LIMIT {}", clauses.order_text(), rows.saturating_add(skip))
    });
    let extra: String = hidden.iter().map(|h| format!(", {h}")).collect();
    let combined =
        limit.map_or_else(String::new, |(rows, skip)| format!("{order} LIMIT {}", rows.saturating_add(skip)));
    let cut = limit.map_or_else(String::new, |(rows, skip)| format!(" LIMIT {rows} OFFSET {skip}"));
    Ok(Merge::Combined {
        map: format!("SELECT {distinct}{}{extra}{body}{first}", clauses.items_text()),
        combine: (clauses.distinct || limit.is_some()).then(|| format!("SELECT {distinct}* FROM partial{combined}")),
        finish: format!("SELECT {distinct}* FROM partial{order}{cut}"),
        hidden: hidden.len(),
    })
}

/// How the rows in `partial` are sorted by a term of the statement: by a column that is there, or by one that is added.
fn output_of(clauses: &Clauses<'_>, term: &OrderTerm<'_>, hidden: &mut Vec<String>) -> String {
    if term.is_ordinal() {
        return term.text.to_owned();
    }
    let named = |item: &&Item<'_>| item.alias.as_ref().is_some_and(|alias| term.is_name(alias));
    if let Some(alias) = clauses.items.iter().find(named).and_then(|item| item.alias.as_ref()) {
        return quote(alias);
    }
    let starred = clauses.items.iter().any(Item::is_star);
    if !starred && let Some(at) = clauses.items.iter().position(|item| item.normal == term.normal) {
        return (at + 1).to_string();
    }
    let name = quote(&format!("trough order {}", hidden.len() + 1));
    hidden.push(format!("{} AS {name}", term.text));
    name
}

/// Groups and aggregates: each segment groups its own, workers and the end add up.
fn aggregated(clauses: &Clauses<'_>, aggregates: &Aggregates) -> Result<Merge, MergeError> {
    if clauses.items.iter().any(Item::is_star) {
        return Err(MergeError("show * beside aggregates: name the columns".to_owned()));
    }
    let keys = Keys::of(clauses)?;
    let rewrite = |text: &str, tokens| rewrite::rewrite(clauses.sql, text, tokens, &keys, aggregates);
    let mut items = Vec::new();
    for item in &clauses.items {
        items.push(format!("{} AS {}", rewrite(item.text, &item.tokens)?, quote(&item.name())));
    }
    let mut order = Vec::new();
    for term in &clauses.order_by {
        let is_alias = clauses.items.iter().any(|item| item.alias.as_ref().is_some_and(|alias| term.is_name(alias)));
        let by = if term.is_ordinal() || is_alias { term.text.to_owned() } else { rewrite(term.text, &term.tokens)? };
        order.push(format!("{by}{}", term.suffix));
    }
    let having = match &clauses.having {
        Some(having) => format!(" HAVING {}", rewrite(having.text, &having.tokens)?),
        None => String::new(),
    };
    let ordinals: Vec<String> = (1..=keys.len()).map(|n| n.to_string()).collect();
    let group = if keys.is_empty() { String::new() } else { format!(" GROUP BY {}", ordinals.join(", ")) };
    let columns = |own: Vec<String>| keys.columns().into_iter().chain(own).collect::<Vec<_>>().join(", ");
    let distinct = if clauses.distinct { "DISTINCT " } else { "" };
    let order = if order.is_empty() { String::new() } else { format!(" ORDER BY {}", order.join(", ")) };
    let by_names = if keys.is_empty() { String::new() } else { format!(" GROUP BY {}", keys.columns().join(", ")) };
    let map: Vec<String> = keys.map_columns().into_iter().chain(aggregates.map_columns()).collect();
    Ok(Merge::Combined {
        map: format!("SELECT {}{}{group}", map.join(", "), clauses.body()),
        combine: Some(format!("SELECT {} FROM partial{group}", columns(aggregates.combine_columns()))),
        finish: format!(
            "SELECT {distinct}{} FROM partial{by_names}{having}{order}{}",
            items.join(", "),
            clauses.limit_text()
        ),
        hidden: 0,
    })
}

#[cfg(test)]
mod tests;
