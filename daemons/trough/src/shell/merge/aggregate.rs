//! Aggregate calls: which column each segment gives for one, how columns add up, and what the call becomes in the end.

use std::ops::Range;

use super::{
    MergeError, cannot,
    clauses::{is, normal},
    rewrite::quote,
};
use crate::shell::lex::{Kind, Token};

/// Aggregates that add up by themselves.
const KNOWN: [&str; 8] = ["count", "sum", "total", "avg", "min", "max", "group_concat", "string_agg"];
/// Other aggregates.
const OTHERS: [&str; 10] = [
    "json_group_array",
    "json_group_object",
    "jsonb_group_array",
    "jsonb_group_object",
    "median",
    "percentile",
    "percentile_cont",
    "percentile_disc",
    "stddev",
    "variance",
];

/// Aggregate calls of a statement, each once.
#[derive(Default)]
pub(super) struct Aggregates {
    all: Vec<Aggregate>,
    columns: usize,
}

struct Aggregate {
    normal: Vec<String>,
    /// The call in the map, and how the column adds up: for each column.
    columns: Vec<(String, String, String)>,
    /// What the call becomes over the table of partial results.
    finish: String,
}

/// Where an aggregate call stands among tokens.
pub(super) struct Call {
    pub(super) at: Range<usize>,
}

/// The place after the parenthesis that closes the one at `open`.
pub(super) fn closing(sql: &str, tokens: &[Token], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        if is(sql, token, "(") {
            depth += 1;
        } else if is(sql, token, ")") {
            depth -= 1;
            if depth == 0 {
                return Some(i + 1);
            }
        }
    }
    None
}

/// Whether a subquery begins at a parenthesis.
pub(super) fn is_subquery(sql: &str, tokens: &[Token], open: usize) -> bool {
    let inner = tokens.get(open + 1);
    is(sql, &tokens[open], "(")
        && inner.is_some_and(|t| ["select", "with", "values"].iter().any(|word| is(sql, t, word)))
}

/// The commas of a call's own arguments.
fn arguments(sql: &str, tokens: &[Token], open: usize, end: usize) -> Vec<Range<usize>> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0usize, open + 1);
    for (i, token) in tokens.iter().enumerate().take(end - 1).skip(open + 1) {
        if is(sql, token, "(") {
            depth += 1;
        } else if is(sql, token, ")") {
            depth -= 1;
        } else if depth == 0 && is(sql, token, ",") {
            parts.push(start..i);
            start = i + 1;
        }
    }
    parts.push(start..end - 1);
    parts
}

/// The aggregate calls among some tokens; subqueries have their own.
pub(super) fn calls(sql: &str, tokens: &[Token]) -> Result<Vec<Call>, MergeError> {
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if is_subquery(sql, tokens, i) {
            i = closing(sql, tokens, i).unwrap_or(tokens.len());
            continue;
        }
        let called = tokens[i].kind == Kind::Word && tokens.get(i + 1).is_some_and(|t| is(sql, t, "("));
        if called {
            let name = normal(sql, &tokens[i]);
            let end = closing(sql, tokens, i + 1)
                .ok_or_else(|| MergeError("read it: a parenthesis is not closed".to_owned()))?;
            let mut after = end;
            if tokens.get(after).is_some_and(|t| is(sql, t, "filter")) {
                after = closing(sql, tokens, after + 1).unwrap_or(tokens.len());
            }
            if tokens.get(after).is_some_and(|t| is(sql, t, "over")) {
                return Err(cannot("take apart window functions"));
            }
            if OTHERS.contains(&name.as_str()) || name.starts_with("trough_") {
                return Err(cannot(format!("add {name} up by itself")));
            }
            // With several arguments, min and max are no aggregates.
            let scalar = matches!(name.as_str(), "min" | "max") && arguments(sql, tokens, i + 1, end).len() > 1;
            if KNOWN.contains(&name.as_str()) && !scalar {
                found.push(Call { at: i..after });
                i = after;
                continue;
            }
        }
        i += 1;
    }
    Ok(found)
}

impl Aggregates {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Takes in the calls among some tokens.
    pub(super) fn collect(&mut self, sql: &str, tokens: &[Token]) -> Result<(), MergeError> {
        for call in calls(sql, tokens)? {
            let tokens = &tokens[call.at];
            let normal: Vec<String> = tokens.iter().map(|t| normal(sql, t)).collect();
            if self.all.iter().all(|known| known.normal != normal) {
                let aggregate = self.aggregate(sql, tokens, normal)?;
                self.all.push(aggregate);
            }
        }
        Ok(())
    }

    fn aggregate(&mut self, sql: &str, tokens: &[Token], normal: Vec<String>) -> Result<Aggregate, MergeError> {
        let name = normal[0].clone();
        let text = &sql[tokens[0].at.start..tokens[tokens.len() - 1].at.end];
        let end = closing(sql, tokens, 1).unwrap_or(tokens.len());
        let inner = &tokens[2..end - 1];
        let distinct = inner.first().is_some_and(|t| is(sql, t, "distinct"));
        if distinct && !matches!(name.as_str(), "min" | "max") {
            return Err(cannot(format!("add {text} up: what is distinct on two segments may be the same")));
        }
        let mut depth = 0usize;
        for token in inner {
            if is(sql, token, "(") {
                depth += 1;
            } else if is(sql, token, ")") {
                depth -= 1;
            } else if depth == 0 && is(sql, token, "order") {
                return Err(cannot(format!("keep the order in {text}")));
            }
        }
        let mut column = |call: String, add: &str, more: &str| {
            self.columns += 1;
            let quoted = quote(&format!("a{}", self.columns));
            (call, format!("{add}({quoted}{more})"), quoted)
        };
        let (columns, finish) = match name.as_str() {
            "count" => {
                let count = column(text.to_owned(), "sum", "");
                let finish = format!("coalesce({}, 0)", count.1);
                (vec![count], finish)
            }
            "avg" => {
                let renamed = |name: &str| format!("{name}{}", &text[tokens[0].at.len()..]);
                let total = column(renamed("total"), "total", "");
                let count = column(renamed("count"), "sum", "");
                let finish = format!("({} / nullif({}, 0))", total.1, count.1);
                (vec![total, count], finish)
            }
            "group_concat" | "string_agg" => {
                let arguments = arguments(sql, tokens, 1, end);
                let between = match arguments.as_slice() {
                    [_] => String::new(),
                    [_, one] if one.len() == 1 && tokens[one.start].kind == Kind::Text => {
                        format!(", {}", &sql[tokens[one.start].at.clone()])
                    }
                    _ => return Err(cannot(format!("put {text} together: only a plain text may stand between"))),
                };
                let all = column(text.to_owned(), "group_concat", &between);
                let finish = all.1.clone();
                (vec![all], finish)
            }
            add => {
                let one = column(text.to_owned(), add, "");
                let finish = one.1.clone();
                (vec![one], finish)
            }
        };
        Ok(Aggregate { normal, columns, finish })
    }

    /// What a call becomes in the end.
    pub(super) fn finish(&self, normal: &[String]) -> Option<&str> {
        self.all.iter().find(|known| known.normal == normal).map(|known| known.finish.as_str())
    }

    fn columns(&self) -> impl Iterator<Item = &(String, String, String)> {
        self.all.iter().flat_map(|aggregate| &aggregate.columns)
    }

    pub(super) fn map_columns(&self) -> Vec<String> {
        self.columns().map(|(call, _, name)| format!("{call} AS {name}")).collect()
    }

    pub(super) fn combine_columns(&self) -> Vec<String> {
        self.columns().map(|(_, add, name)| format!("{add} AS {name}")).collect()
    }
}
