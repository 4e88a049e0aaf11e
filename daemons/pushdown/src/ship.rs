//! The walker that decides what is safe to ship, and prints it.
//!
//! A condition is shipped *exactly* (SQLite keeps the rows that PostgreSQL would keep, and PostgreSQL need not look
//! again) or as a *superset* (SQLite keeps these and perhaps more; PostgreSQL checks the condition again). Where the
//! storage of a column is not known, the printed expression raises an error on what a plain scan would reject, so that
//! such a row cannot disappear.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

use crate::{
    column::{Column, Encoding},
    expr::Expr,
    limits,
    oid::Oid,
    rules::Cmp,
    scope::Scope,
    stored::form_check,
};

/// What a collation does to text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collation {
    /// Texts are equal only if their bytes are.
    pub deterministic: bool,
    /// Texts sort by their bytes.
    pub bytewise: bool,
    /// Upper and lower case are those of ASCII's letters, and so are the classes of characters; others have none.
    pub only_ascii: bool,
    /// Texts of ASCII characters change case as in ASCII.
    pub ascii_case: bool,
}

/// How a value is bound to a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encode {
    /// As a column of this encoding stores it.
    As(Encoding),
    /// A LIKE pattern as GLOB.
    Glob,
    /// The first ISO day text at or below which no instant from the value on is written.
    IsoDayFrom,
    /// The first ISO day text above every writing of an instant up to the value.
    IsoDayAfter,
    /// A date or time as microseconds since 1970 (`local`: of an instant, in the session's time zone, for what has none).
    Instant {
        /// Whether the time zone counts.
        local: bool,
    },
    /// A timestamp as the ISO text of the last midnight that is not after it, or (`after`) of the first that is not before.
    Midnight {
        /// Which of the two.
        after: bool,
    },
    /// An end of the ranges of dates or times without a time zone for which a comparison with an instant is true, in the session's time
    /// zone: see [`Shipper`]'s comparisons of times. Microseconds since 1970.
    Bound {
        /// The comparison; never `<>`.
        cmp: Cmp,
        /// Whether dates are compared.
        dates: bool,
        /// Which end: the first range's start and end, the second's start and end.
        end: u8,
    },
    /// A numeric as it compares with whole numbers.
    Numeric,
    /// A regular expression as the workers search for it.
    Regex {
        /// Whether case is ignored.
        folded: bool,
    },
    /// An array as a JSON text of its elements: blobs as hexadecimal digits, reals as those of their bits.
    JsonArray(Encoding),
}

/// One bound parameter of a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Param {
    /// Which of the extension's collected expressions makes the value.
    pub slot: usize,
    /// Which element of it, if it is an array of which elements are bound one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub element: Option<usize>,
    /// How it is bound.
    pub encode: Encode,
}

/// Why something is not shipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub &'static str);

/// A printed condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// SQLite's text, with `?N` for parameters.
    pub sql: String,
    /// Whether PostgreSQL need not check it again.
    pub exact: bool,
}

/// Prints what may be shipped, and collects its parameters.
pub struct Shipper<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) collation: &'a dyn Fn(Oid) -> Collation,
    params: Vec<Param>,
    /// What happens where PostgreSQL would raise an error.
    pub(crate) faults: Faults,
    /// Tests that hold for every row on which what was printed is not what PostgreSQL computes.
    pub(crate) doubts: Vec<String>,
    /// Whether anything that was looked at relies on the bytes of texts; stays so if it is not kept.
    bytewise: Cell<bool>,
    /// Tests of the forms that anything that was looked at relies on; they stay if it is not kept.
    forms: Vec<String>,
}

/// What an expression does on a row on which PostgreSQL would raise an error (an overflow, a division by zero).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Faults {
    /// It raises nothing, and a test for such rows is put down as a doubt.
    Doubted,
    /// It raises the same error. Only where PostgreSQL is sure to compute the expression for the same rows.
    Raised {
        /// Whether anything printed so far can raise.
        any: bool,
    },
}

impl<'a> Shipper<'a> {
    /// For expressions over a scope; `collation` tells what a collation's OID means.
    pub fn new(scope: &'a Scope, collation: &'a dyn Fn(Oid) -> Collation) -> Self {
        Self {
            scope,
            collation,
            params: Vec::new(),
            faults: Faults::Doubted,
            doubts: Vec::new(),
            bytewise: Cell::new(false),
            forms: Vec::new(),
        }
    }

    /// The parameters of everything printed so far; `?1` is the first.
    pub fn into_params(self) -> Vec<Param> {
        self.params
    }

    /// The parameters so far.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Whether what was printed may rely on how texts sort or how many bytes they have, which is as in PostgreSQL only where
    /// SQLite holds them in UTF-8: for the request's field `bytewise`.
    pub fn is_bytewise(&self) -> bool {
        self.bytewise.get()
    }

    /// Conditions that raise where a column that is promised to hold texts in canonical form begins with another one. They read one row
    /// each, and no row of the statement.
    pub fn form_checks(&self) -> Vec<String> {
        self.forms.clone()
    }

    /// Notes that what is printed relies on the form of a column's texts.
    pub(crate) fn rely_on_form(&mut self, column: &Column) {
        if let Some(check) = form_check(column)
            && !self.forms.contains(&check)
        {
            self.forms.push(check);
        }
    }

    /// Notes that what is printed relies on the bytes of texts.
    pub(crate) fn rely_on_bytes(&self) {
        self.set_bytewise(true);
    }

    pub(crate) fn set_bytewise(&self, bytewise: bool) {
        self.bytewise.set(bytewise);
    }

    /// Prints a condition of a WHERE clause.
    ///
    /// # Errors
    /// [`Refusal`] if it cannot be shown to mean the same in SQLite; nothing of it is kept.
    pub fn condition(&mut self, expr: &Expr) -> Result<Shipped, Refusal> {
        self.all_or_nothing(|s| {
            let before = s.params.len();
            let shipped = s.predicate(expr, true)?;
            limits::check(&shipped.sql)?;
            if s.params.len() - before > limits::MAX_VALUES {
                return Err(Refusal("more values than SQLite takes"));
            }
            Ok(shipped)
        })
    }

    /// Prints a condition that PostgreSQL will not check again, and that raises nothing that PostgreSQL might not.
    ///
    /// # Errors
    /// [`Refusal`] if that cannot be.
    pub fn exact_condition(&mut self, expr: &Expr) -> Result<String, Refusal> {
        self.all_or_nothing(|s| {
            let sql = s.exact(expr)?;
            if !s.doubts.is_empty() {
                return Err(Refusal("PostgreSQL might raise an error"));
            }
            limits::check(&sql)?;
            Ok(sql)
        })
    }

    /// Prints a condition that is computed for exactly the rows for which PostgreSQL computes it (as a FILTER, or within
    /// what is grouped by and aggregated), and raises where PostgreSQL raises.
    ///
    /// # Errors
    /// [`Refusal`] if that cannot be.
    pub fn computed_condition(&mut self, expr: &Expr) -> Result<String, Refusal> {
        self.computed(|s| {
            let sql = s.exact(expr)?;
            limits::check(&sql)?;
            Ok(sql)
        })
        .map(|(sql, _)| sql)
    }

    /// Runs `f` with errors raised as PostgreSQL raises them; tells whether what was printed can.
    pub(crate) fn computed<T>(
        &mut self,
        f: impl FnOnce(&mut Self) -> Result<T, Refusal>,
    ) -> Result<(T, bool), Refusal> {
        let before = std::mem::replace(&mut self.faults, Faults::Raised { any: false });
        let result = self.all_or_nothing(f);
        let faults = std::mem::replace(&mut self.faults, before);
        Ok((result?, faults == Faults::Raised { any: true }))
    }

    /// Runs `f`; nothing is kept of what it printed if it fails.
    pub(crate) fn all_or_nothing<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let (params, doubts) = (self.params.len(), self.doubts.len());
        f(self).inspect_err(|_| {
            self.params.truncate(params);
            self.doubts.truncate(doubts);
        })
    }

    /// Whether errors are raised here.
    pub(crate) fn raises(&self) -> bool {
        matches!(self.faults, Faults::Raised { .. })
    }

    /// Notes that what is printed can raise.
    pub(crate) fn raised(&mut self) {
        self.faults = Faults::Raised { any: true };
    }

    pub(crate) fn bind(&mut self, slot: usize, element: Option<usize>, encode: Encode) -> String {
        let param = Param { slot, element, encode };
        let at = self.params.iter().take(limits::SHARED).position(|p| *p == param).unwrap_or_else(|| {
            self.params.push(param);
            self.params.len() - 1
        });
        format!("?{}", at + 1)
    }
}
