//! LIKE, ILIKE and regular expressions.

use crate::{
    expr::{Expr, Literal, Val},
    oid::Oid,
    pattern, regex,
    rules::Family,
    ship::{Encode, Refusal, Shipped, Shipper},
    stored::{column_sql, known},
};

impl Shipper<'_> {
    /// `text LIKE pattern`, `text ILIKE pattern`. A constant pattern is a GLOB, which an index can serve.
    pub(crate) fn like(
        &mut self,
        negated: bool,
        folded: bool,
        collation: Oid,
        text: &Expr,
        pattern: &Expr,
    ) -> Result<Shipped, Refusal> {
        if !(self.collation)(collation).deterministic {
            return Err(Refusal("LIKE under a collation that is not deterministic"));
        }
        let constant = match pattern {
            Expr::Value(Val { literal: Some(Literal::Text(constant)), .. }) => Some(constant),
            _ => None,
        };
        let term = self.term_of(text, Family::Text)?;
        let not = if negated { "NOT " } else { "" };
        if let (Some(constant), Expr::Value(Val { slot, .. }), false) = (constant, pattern, folded)
            && pattern::like_to_glob(constant).is_some()
        {
            let bare = match text {
                Expr::Column(index) => self.scope.column(*index).filter(|c| known(c)).map(column_sql),
                _ => None,
            };
            let glob = self.bind(*slot, None, Encode::Glob);
            let text = bare.unwrap_or(term.sql);
            return Ok(Shipped { sql: format!("({text} {not}GLOB {glob})"), exact: true });
        }
        let sought = self.term_of(pattern, Family::Text)?;
        let sure = constant.is_some_and(|constant| pattern::ends_well(constant));
        let (mut text, mut like) = (term.sql, sought.sql);
        if folded {
            self.folds(collation, &text)?;
            match constant {
                Some(constant) if constant.is_ascii() => {}
                Some(_) if !(self.collation)(collation).only_ascii => {
                    return Err(Refusal("case of other letters than ASCII's"));
                }
                Some(_) => {}
                None => self.folds(collation, &like)?,
            }
            (text, like) = (format!("trough_lower({text})"), format!("trough_lower({like})"));
        }
        let sql = self.like_sql(&text, &like, !sure);
        Ok(Shipped { sql: if negated { format!("(NOT {sql})") } else { sql }, exact: true })
    }

    /// A call of the workers' LIKE. A pattern that is not known may end in its escape, which PostgreSQL reports where it
    /// gets there.
    pub(crate) fn like_sql(&mut self, text: &str, pattern: &str, fails: bool) -> String {
        match (fails, self.raises()) {
            (false, _) => {}
            (true, true) => self.raised(),
            (true, false) => {
                self.doubts.push(format!("trough_ends_in_escape({pattern})"));
                return format!("trough_like_or_null({text}, {pattern})");
            }
        }
        format!("trough_like({text}, {pattern})")
    }

    /// `text ~ pattern`, of constant patterns that both sides understand alike.
    pub(crate) fn regex(
        &mut self,
        negated: bool,
        folded: bool,
        collation: Oid,
        text: &Expr,
        pattern: &Expr,
    ) -> Result<Shipped, Refusal> {
        if !(self.collation)(collation).deterministic {
            return Err(Refusal("a regular expression under a collation that is not deterministic"));
        }
        let Expr::Value(Val { slot, literal: Some(Literal::Text(constant)), .. }) = pattern else {
            return Err(Refusal("a regular expression that is not constant"));
        };
        let translated = regex::translate(constant, folded)
            .ok_or(Refusal("a regular expression that SQLite's side may understand otherwise"))?;
        let term = self.term_of(text, Family::Text)?;
        if folded && !constant.is_ascii() {
            return Err(Refusal("case of other letters than ASCII's"));
        }
        if translated.ascii_only {
            self.folds(collation, &term.sql)?;
        }
        let pattern = self.bind(*slot, None, Encode::Regex { folded });
        let sql = format!("trough_matches({}, {pattern})", term.sql);
        Ok(Shipped { sql: if negated { format!("(NOT {sql})") } else { sql }, exact: true })
    }
}
