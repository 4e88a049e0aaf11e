//! Terms that write, and the options of terms.

use super::Expr;
use crate::proto::term_type as t;

/// Writes.
impl Expr {
    /// Inserts a document, an array of documents or the rows of a query.
    pub fn insert(self, documents: impl Into<Expr>) -> Expr {
        Expr::term(t::INSERT, [self, documents.into()])
    }

    /// Puts these fields over those of each row.
    pub fn update(self, fields: impl Into<Expr>) -> Expr {
        Expr::term(t::UPDATE, [self, fields.into()])
    }

    /// Puts the fields that the function gives for each row over its own.
    pub fn update_fn(self, function: impl FnOnce(Expr) -> Expr) -> Expr {
        Expr::term(t::UPDATE, [self, Expr::function1(function)])
    }

    /// Replaces each document by what the function gives for it: null deletes it, and the same document leaves it.
    pub fn replace(self, function: impl FnOnce(Expr) -> Expr) -> Expr {
        Expr::term(t::REPLACE, [self, Expr::function1(function)])
    }

    /// Replaces the document.
    pub fn replace_with(self, document: impl Into<Expr>) -> Expr {
        Expr::term(t::REPLACE, [self, document.into()])
    }

    /// Deletes the rows.
    pub fn delete(self) -> Expr {
        Expr::term(t::DELETE, [self])
    }

    /// Runs the write that the function gives for each row.
    pub fn for_each(self, function: impl FnOnce(Expr) -> Expr) -> Expr {
        Expr::term(t::FOR_EACH, [self, Expr::function1(function)])
    }
}

/// Options of terms.
impl Expr {
    /// Which secondary index (GET_ALL, BETWEEN, ORDER_BY).
    pub fn index(self, value: impl Into<Expr>) -> Expr {
        self.opt("index", value)
    }

    /// `closed` or `open` (BETWEEN).
    pub fn left_bound(self, value: impl Into<Expr>) -> Expr {
        self.opt("left_bound", value)
    }

    /// `closed` or `open` (BETWEEN).
    pub fn right_bound(self, value: impl Into<Expr>) -> Expr {
        self.opt("right_bound", value)
    }

    /// `error`, `replace` or `update` (INSERT).
    pub fn conflict(self, value: impl Into<Expr>) -> Expr {
        self.opt("conflict", value)
    }

    /// What becomes of a conflict, from id, old and new document (INSERT).
    pub fn conflict_fn(self, function: impl FnOnce(Expr, Expr, Expr) -> Expr) -> Expr {
        self.opt("conflict", Expr::function3(function))
    }

    /// `true`, `false` or `"always"` (writes).
    pub fn return_changes(self, value: impl Into<Expr>) -> Expr {
        self.opt("return_changes", value)
    }

    /// `hard` or `soft` (writes, TABLE_CREATE).
    pub fn durability(self, value: impl Into<Expr>) -> Expr {
        self.opt("durability", value)
    }

    /// `single`, `majority` or `outdated` (TABLE).
    pub fn read_mode(self, value: impl Into<Expr>) -> Expr {
        self.opt("read_mode", value)
    }

    /// Whether a feed begins with what is there (CHANGES).
    pub fn include_initial(self, value: impl Into<Expr>) -> Expr {
        self.opt("include_initial", value)
    }

    /// Whether a feed tells when the initial documents are over (CHANGES).
    pub fn include_states(self, value: impl Into<Expr>) -> Expr {
        self.opt("include_states", value)
    }

    /// Whether each change tells what it is (CHANGES).
    pub fn include_types(self, value: impl Into<Expr>) -> Expr {
        self.opt("include_types", value)
    }

    /// Whether changes of one document are put together, or for how many seconds (CHANGES).
    pub fn squash(self, value: impl Into<Expr>) -> Expr {
        self.opt("squash", value)
    }

    /// Whether an array in the field is several keys (INDEX_CREATE).
    pub fn multi(self, value: impl Into<Expr>) -> Expr {
        self.opt("multi", value)
    }
}
