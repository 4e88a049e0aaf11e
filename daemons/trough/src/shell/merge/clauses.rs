//! The clauses of a SELECT, found by its keywords outside of parentheses.

use std::ops::Range;

use super::{MergeError, cannot};
use crate::shell::lex::{self, Kind, Token};

/// A SELECT in pieces.
pub(super) struct Clauses<'a> {
    pub(super) sql: &'a str,
    pub(super) distinct: bool,
    pub(super) items: Vec<Item<'a>>,
    /// From FROM to the end of WHERE.
    body: Option<&'a str>,
    pub(super) group_by: Vec<Part<'a>>,
    pub(super) having: Option<Part<'a>>,
    pub(super) order_by: Vec<OrderTerm<'a>>,
    order: Option<&'a str>,
    limit: Option<Part<'a>>,
}

/// An expression.
#[derive(Clone)]
pub(super) struct Part<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: Vec<Token>,
    /// Its tokens with names in lower case, so that what means the same is equal.
    pub(super) normal: Vec<String>,
}

/// A result column.
pub(super) struct Item<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: Vec<Token>,
    pub(super) normal: Vec<String>,
    pub(super) alias: Option<String>,
}

/// A term of ORDER BY.
pub(super) struct OrderTerm<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: Vec<Token>,
    pub(super) normal: Vec<String>,
    /// COLLATE, ASC, DESC, NULLS FIRST and NULLS LAST, with a space before them.
    pub(super) suffix: String,
}

impl Item<'_> {
    pub(super) fn is_star(&self) -> bool {
        self.normal.last().is_some_and(|last| last == "*") && !self.normal.iter().any(|t| t == "(")
    }

    /// What SQLite calls the column.
    pub(super) fn name(&self) -> String {
        match (&self.alias, self.normal.as_slice()) {
            (Some(alias), _) => alias.clone(),
            (None, [_]) => unquoted(self.text),
            (None, [_, dot, _]) if dot == "." => unquoted(&self.text[self.text.rfind('.').map_or(0, |at| at + 1)..]),
            (None, _) => self.text.to_owned(),
        }
    }
}

impl OrderTerm<'_> {
    /// Whether it is the number of a column.
    pub(super) fn is_ordinal(&self) -> bool {
        matches!(self.tokens.as_slice(), [one] if one.kind == Kind::Number)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.normal.as_slice(), [one] if *one == name.to_lowercase())
            && self.tokens.iter().all(|t| matches!(t.kind, Kind::Word | Kind::Quoted))
    }
}

/// A name without its quotes.
pub(super) fn unquoted(text: &str) -> String {
    let text = text.trim();
    match text.chars().next() {
        Some(quote @ ('"' | '`')) if text.len() > 1 => {
            text[1..text.len() - 1].replace(&format!("{quote}{quote}"), &quote.to_string())
        }
        Some('[') if text.len() > 1 => text[1..text.len() - 1].to_owned(),
        _ => text.to_owned(),
    }
}

/// A token as it compares.
pub(super) fn normal(sql: &str, token: &Token) -> String {
    let text = &sql[token.at.clone()];
    match token.kind {
        Kind::Word => text.to_lowercase(),
        Kind::Quoted => unquoted(text).to_lowercase(),
        _ => text.to_owned(),
    }
}

/// Whether a token is this keyword or sign.
pub(super) fn is(sql: &str, token: &Token, what: &str) -> bool {
    matches!(token.kind, Kind::Word | Kind::Sign) && sql[token.at.clone()].eq_ignore_ascii_case(what)
}

fn significant(sql: &str) -> Vec<Token> {
    lex::tokens(sql).into_iter().filter(|t| t.kind != Kind::Comment).collect()
}

/// How deep in parentheses each token stands; a parenthesis counts as what is around it.
pub(super) fn depths(sql: &str, tokens: &[Token]) -> Vec<usize> {
    let mut depth = 0usize;
    tokens
        .iter()
        .map(|token| {
            if is(sql, token, ")") {
                depth = depth.saturating_sub(1);
            }
            let own = depth;
            if is(sql, token, "(") {
                depth += 1;
            }
            own
        })
        .collect()
}

/// `SELECT … REDUCE SELECT …`, cut in two.
pub(super) fn split_reduce(sql: &str) -> Option<(&str, &str)> {
    let tokens = significant(sql);
    let depths = depths(sql, &tokens);
    let at = (1..tokens.len().saturating_sub(1)).find(|i| {
        let follows = ["select", "with", "values"].iter().any(|word| is(sql, &tokens[i + 1], word));
        depths[*i] == 0 && follows && is(sql, &tokens[*i], "reduce")
    })?;
    Some((sql[..tokens[at].at.start].trim(), sql[tokens[at].at.end..].trim()))
}

/// The keywords that begin clauses, in their order.
const CLAUSES: [&str; 7] = ["from", "where", "group", "having", "window", "order", "limit"];

impl<'a> Clauses<'a> {
    pub(super) fn of(sql: &'a str) -> Result<Self, MergeError> {
        let tokens = significant(sql);
        if !tokens.first().is_some_and(|first| is(sql, first, "select")) {
            return Err(cannot("take apart what does not begin with SELECT"));
        }
        let depths = depths(sql, &tokens);
        let top = |i: usize, word: &str| depths[i] == 0 && is(sql, &tokens[i], word);
        if (1..tokens.len()).any(|i| ["union", "except", "intersect"].iter().any(|word| top(i, word))) {
            return Err(cannot("take apart UNION, EXCEPT and INTERSECT"));
        }
        // FROM also stands in IS [NOT] DISTINCT FROM.
        let begins = |i: usize, word: &str| {
            top(i, word) && !(word == "from" && i > 1 && is(sql, &tokens[i - 1], "distinct") && i > 2)
        };
        let starts: Vec<Option<usize>> =
            CLAUSES.iter().map(|word| (1..tokens.len()).find(|i| begins(*i, word))).collect();
        if starts[4].is_some() {
            return Err(cannot("take apart window functions"));
        }
        let end_of = |clause: usize| starts[clause + 1..].iter().flatten().next().copied().unwrap_or(tokens.len());
        let clause = |n: usize, keywords: usize| starts[n].map(|start| start + keywords..end_of(n));
        let by =
            |n: usize| starts[n].map_or(0, |s| if tokens.get(s + 1).is_some_and(|t| is(sql, t, "by")) { 2 } else { 1 });

        let mut first = 1;
        let distinct = tokens.get(1).is_some_and(|t| is(sql, t, "distinct"));
        if distinct || tokens.get(1).is_some_and(|t| is(sql, t, "all")) {
            first = 2;
        }
        let items_end = starts.iter().flatten().next().copied().unwrap_or(tokens.len());
        let cut = |range: Range<usize>| commas(sql, &tokens, &depths, range);
        let part = |range: Range<usize>| part(sql, &tokens[range]);
        let items: Vec<Item<'a>> = cut(first..items_end).into_iter().map(|range| item(sql, &tokens[range])).collect();
        if items.iter().any(|item| item.tokens.is_empty()) {
            return Err(MergeError("find the columns of the SELECT".to_owned()));
        }
        let body_end = starts[2..].iter().flatten().next().copied().unwrap_or(tokens.len());
        let body_start = starts[0].or(starts[1]);
        Ok(Self {
            sql,
            distinct,
            items,
            body: body_start.map(|start| span(sql, &tokens[start..body_end])),
            group_by: clause(2, by(2)).map(cut).unwrap_or_default().into_iter().map(part).collect(),
            having: clause(3, 1).map(part),
            order_by: clause(5, by(5))
                .map(cut)
                .unwrap_or_default()
                .into_iter()
                .map(|range| order_term(sql, &tokens[range]))
                .collect(),
            order: clause(5, 0).map(|range| span(sql, &tokens[range])),
            limit: clause(6, 1).map(part),
        })
    }

    /// Everything that may hold aggregates.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[Token]> {
        let items = self.items.iter().map(|item| item.tokens.as_slice());
        let having = self.having.iter().map(|part| part.tokens.as_slice());
        items.chain(having).chain(self.order_by.iter().map(|term| term.tokens.as_slice()))
    }

    pub(super) fn items_text(&self) -> String {
        let text = |item: &Item<'_>| match &item.alias {
            Some(alias) => format!("{} AS {}", item.text, super::quote(alias)),
            None => item.text.to_owned(),
        };
        self.items.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    /// FROM and WHERE, with a space before them.
    pub(super) fn body(&self) -> String {
        self.body.map_or_else(String::new, |body| format!(" {body}"))
    }

    /// ORDER BY as typed, with a space before it.
    pub(super) fn order_text(&self) -> String {
        self.order.map_or_else(String::new, |order| format!(" {order}"))
    }

    /// LIMIT as typed, with a space before it.
    pub(super) fn limit_text(&self) -> String {
        self.limit.as_ref().map_or_else(String::new, |limit| format!(" LIMIT {}", limit.text))
    }

    /// How many rows at most, and how many are passed over.
    pub(super) fn limit_numbers(&self) -> Result<Option<(u64, u64)>, MergeError> {
        let Some(limit) = &self.limit else { return Ok(None) };
        let words: Vec<&str> = limit.normal.iter().map(String::as_str).collect();
        let (rows, skip) = match words.as_slice() {
            [rows] => (*rows, "0"),
            [rows, "offset", skip] | [skip, ",", rows] => (*rows, *skip),
            _ => ("", ""),
        };
        match (rows.parse(), skip.parse()) {
            (Ok(rows), Ok(skip)) => Ok(Some((rows, skip))),
            _ => Err(cannot(format!("cut off at {}: LIMIT wants plain numbers", limit.text))),
        }
    }
}

fn span<'a>(sql: &'a str, tokens: &[Token]) -> &'a str {
    match (tokens.first(), tokens.last()) {
        (Some(first), Some(last)) => &sql[first.at.start..last.at.end],
        _ => "",
    }
}

fn part<'a>(sql: &'a str, tokens: &[Token]) -> Part<'a> {
    let normal = tokens.iter().map(|t| normal(sql, t)).collect();
    Part { text: span(sql, tokens), tokens: tokens.to_vec(), normal }
}

fn commas(sql: &str, tokens: &[Token], depths: &[usize], range: Range<usize>) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = range.start;
    for i in range.clone() {
        if depths[i] == 0 && is(sql, &tokens[i], ",") {
            parts.push(start..i);
            start = i + 1;
        }
    }
    parts.push(start..range.end);
    parts
}

/// Words that end an expression and are no alias.
const NO_ALIAS: [&str; 6] = ["end", "null", "isnull", "notnull", "true", "false"];
/// Words after which an operand comes.
pub(super) const OPERATORS: [&str; 17] = [
    "not", "and", "or", "is", "in", "like", "glob", "regexp", "match", "between", "collate", "escape", "distinct",
    "from", "when", "then", "else",
];

fn item<'a>(sql: &'a str, tokens: &[Token]) -> Item<'a> {
    let mut tokens = tokens;
    let mut alias = None;
    if let [.., before, last] = tokens
        && matches!(last.kind, Kind::Word | Kind::Quoted | Kind::Text)
    {
        let word = |list: &[&str], t: &Token| t.kind == Kind::Word && list.contains(&normal(sql, t).as_str());
        let operand = match before.kind {
            Kind::Sign => {
                is(sql, before, ")")
                    || is(sql, before, "*") && tokens.len() > 2 && is(sql, &tokens[tokens.len() - 3], ".")
            }
            _ => !word(&OPERATORS, before) && !word(&["as", "case"], before),
        };
        if is(sql, before, "as") {
            alias = Some(alias_text(sql, last));
            tokens = &tokens[..tokens.len() - 2];
        } else if operand && !word(&NO_ALIAS, last) && last.kind != Kind::Text {
            alias = Some(alias_text(sql, last));
            tokens = &tokens[..tokens.len() - 1];
        }
    }
    let Part { text, tokens, normal } = part(sql, tokens);
    Item { text, tokens, normal, alias }
}

fn alias_text(sql: &str, token: &Token) -> String {
    let text = &sql[token.at.clone()];
    match token.kind {
        Kind::Text => text[1..text.len() - 1].replace("''", "'"),
        _ => unquoted(text),
    }
}

fn order_term<'a>(sql: &'a str, tokens: &[Token]) -> OrderTerm<'a> {
    let mut end = tokens.len();
    let is_at = |i: usize, word: &str| tokens.get(i).is_some_and(|t| is(sql, t, word));
    if end >= 2 && is_at(end - 2, "nulls") {
        end -= 2;
    }
    if end >= 1 && (is_at(end - 1, "asc") || is_at(end - 1, "desc")) {
        end -= 1;
    }
    if end >= 2 && is_at(end - 2, "collate") {
        end -= 2;
    }
    let suffix = span(sql, &tokens[end..]);
    let suffix = if suffix.is_empty() { String::new() } else { format!(" {suffix}") };
    let Part { text, tokens, normal } = part(sql, &tokens[..end]);
    OrderTerm { text, tokens, normal, suffix }
}
