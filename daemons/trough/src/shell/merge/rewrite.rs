//! Expressions over groups, said anew over the table of partial results: aggregate calls and group keys become its columns, and
//! nothing else may name a column.

use super::{
    MergeError,
    aggregate::{self, Aggregates},
    cannot,
    clauses::{Clauses, OPERATORS, Part, is, normal},
};
use crate::shell::lex::{Kind, Token};

/// A name in quotes.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What rows are grouped by.
pub(super) struct Keys<'a> {
    all: Vec<Part<'a>>,
}

impl<'a> Keys<'a> {
    /// The keys; a column's number or alias stands for its expression.
    pub(super) fn of(clauses: &Clauses<'a>) -> Result<Self, MergeError> {
        let mut all = Vec::new();
        for term in &clauses.group_by {
            let item = match term.tokens.as_slice() {
                [one] if one.kind == Kind::Number => {
                    let at: usize = term.text.parse().unwrap_or(0);
                    let item = at.checked_sub(1).and_then(|at| clauses.items.get(at));
                    Some(item.ok_or_else(|| MergeError(format!("group by column {}: there is none", term.text)))?)
                }
                [_] => clauses.items.iter().find(|item| {
                    let named = item.alias.as_ref().is_some_and(|alias| alias.to_lowercase() == term.normal[0]);
                    // `lower(a) AS a` grouped by `a` is grouped by the column.
                    named && !item.normal.contains(&term.normal[0])
                }),
                _ => None,
            };
            all.push(match item {
                Some(item) => Part { text: item.text, tokens: item.tokens.clone(), normal: item.normal.clone() },
                None => term.clone(),
            });
        }
        for key in &all {
            if !aggregate::calls(clauses.sql, &key.tokens)?.is_empty() {
                return Err(MergeError(format!("group by {}, an aggregate", key.text)));
            }
            // Over the table of partial results it would be forgotten.
            if key.normal.iter().any(|token| token == "collate") {
                return Err(cannot(format!("group by {}: a collation holds within a segment only", key.text)));
            }
        }
        Ok(Self { all })
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn column(n: usize) -> String {
        quote(&format!("k{}", n + 1))
    }

    pub(super) fn columns(&self) -> Vec<String> {
        (0..self.len()).map(Self::column).collect()
    }

    pub(super) fn map_columns(&self) -> Vec<String> {
        self.all.iter().enumerate().map(|(n, key)| format!("{} AS {}", key.text, Self::column(n))).collect()
    }

    /// The key that stands at `at`, and how many tokens it has.
    fn at(&self, sql: &str, tokens: &[Token], at: usize) -> Option<(String, usize)> {
        let sign = |i: Option<usize>, signs: &[&str]| {
            i.and_then(|i| tokens.get(i)).is_none_or(|t| signs.iter().any(|s| is(sql, t, s)))
        };
        let mut best: Option<(String, usize)> = None;
        for (n, key) in self.all.iter().enumerate() {
            let length = key.tokens.len();
            let same = tokens[at..].len() >= length
                && tokens[at..at + length].iter().zip(&key.normal).all(|(t, k)| normal(sql, t) == *k);
            if !same || best.as_ref().is_some_and(|(_, longest)| *longest >= length) {
                continue;
            }
            let before = at.checked_sub(1);
            let is_at = |i: Option<usize>, what: &str| i.and_then(|i| tokens.get(i)).is_some_and(|t| is(sql, t, what));
            let after = Some(at + length);
            let fits = if is_operand(sql, key) {
                // Not a part of a longer name, nor a function of the same name.
                !(is_at(before, ".") || is_at(after, ".") || length == 1 && is_at(after, "("))
            } else {
                // `a + b` is no part of `a + b * c`.
                sign(before, &["(", ","]) && sign(after, &[")", ","])
            };
            if fits {
                best = Some((Self::column(n), length));
            }
        }
        best
    }
}

/// Whether an expression can stand anywhere without parentheses: a name, a parameter, a call.
fn is_operand(sql: &str, key: &Part<'_>) -> bool {
    match key.tokens.as_slice() {
        [_] => true,
        [_, dot, _] if is(sql, dot, ".") => true,
        [name, open, ..] if name.kind == Kind::Word && is(sql, open, "(") => {
            aggregate::closing(sql, &key.tokens, 1) == Some(key.tokens.len())
        }
        _ => false,
    }
}

/// Words of expressions that name no column.
const PLAIN: [&str; 14] = [
    "case",
    "end",
    "null",
    "isnull",
    "notnull",
    "true",
    "false",
    "cast",
    "as",
    "exists",
    "current_date",
    "current_time",
    "current_timestamp",
    "asc",
];

/// An expression over groups as one over partial results.
pub(super) fn rewrite(
    sql: &str,
    whole: &str,
    tokens: &[Token],
    keys: &Keys<'_>,
    aggregates: &Aggregates,
) -> Result<String, MergeError> {
    let calls = aggregate::calls(sql, tokens)?;
    let mut out = String::new();
    let mut copied = tokens.first().map_or(0, |t| t.at.start);
    let mut i = 0;
    while i < tokens.len() {
        let call = calls.iter().find(|call| call.at.start == i);
        let replaced = match call {
            Some(call) => {
                let normal: Vec<String> = tokens[call.at.clone()].iter().map(|t| normal(sql, t)).collect();
                aggregates.finish(&normal).map(|finish| (finish.to_owned(), call.at.len()))
            }
            None => keys.at(sql, tokens, i),
        };
        if let Some((text, length)) = replaced {
            out.push_str(&sql[copied..tokens[i].at.start]);
            out.push_str(&text);
            copied = tokens[i + length - 1].at.end;
            i += length;
            continue;
        }
        check(sql, whole, tokens, i)?;
        i += 1;
    }
    out.push_str(&sql[copied..tokens.last().map_or(copied, |t| t.at.end)]);
    Ok(out)
}

/// Whether a token may stay as it is.
fn check(sql: &str, whole: &str, tokens: &[Token], i: usize) -> Result<(), MergeError> {
    let token = &tokens[i];
    let text = &sql[token.at.clone()];
    if aggregate::is_subquery(sql, tokens, i) {
        return Err(MergeError(format!("show {whole} beside aggregates: a subquery is each segment's own")));
    }
    let called = tokens.get(i + 1).is_some_and(|t| is(sql, t, "("));
    // The name of a type or of a collation.
    let named = i > 0 && (is(sql, &tokens[i - 1], "as") || is(sql, &tokens[i - 1], "collate"));
    let column = match token.kind {
        Kind::Word => {
            let word = text.to_lowercase();
            !called && !named && !OPERATORS.contains(&word.as_str()) && !PLAIN.contains(&word.as_str())
        }
        Kind::Quoted => !called && !named,
        Kind::Parameter => true,
        _ => false,
    };
    if column {
        return Err(MergeError(format!("show {text} beside aggregates: it is neither grouped by nor aggregated")));
    }
    Ok(())
}
