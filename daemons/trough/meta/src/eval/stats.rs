//! The counters that writes answer with.

use crate::datum::{Datum, Object};
use crate::error::{QueryError, Result};

/// What RETURN_CHANGES asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Return {
    No,
    Yes,
    Always,
}

/// The counters that a write answers with.
pub(super) struct Stats {
    pub(super) inserted: usize,
    pub(super) deleted: usize,
    pub(super) skipped: usize,
    pub(super) replaced: usize,
    pub(super) unchanged: usize,
    pub(super) errors: usize,
    pub(super) first_error: Option<String>,
    pub(super) changes: Vec<Datum>,
    /// Whether a batch was carried out.
    ran: bool,
}

impl Stats {
    pub(super) fn new() -> Stats {
        Stats {
            inserted: 0,
            deleted: 0,
            skipped: 0,
            replaced: 0,
            unchanged: 0,
            errors: 0,
            first_error: None,
            changes: Vec::new(),
            ran: false,
        }
    }

    pub(super) fn error(&mut self, returns: Return, old: &Datum, message: String) {
        self.errors += 1;
        if returns == Return::Always {
            let change = [("error", Datum::from(message.as_str())), ("new_val", old.clone()), ("old_val", old.clone())];
            self.changes.push(crate::datum::object(change));
        }
        self.first_error.get_or_insert(message);
    }

    /// The counters as a value that crosses from the writer's thread.
    pub(super) fn part(self) -> Datum {
        let mut object = self.counters();
        object.set("changes", Datum::array(self.changes));
        object.into()
    }

    pub(super) fn counters(&self) -> Object {
        let mut object = Object::with_capacity(8);
        for (name, count) in [
            ("deleted", self.deleted),
            ("errors", self.errors),
            ("inserted", self.inserted),
            ("replaced", self.replaced),
            ("skipped", self.skipped),
            ("unchanged", self.unchanged),
        ] {
            object.set(name, Datum::count(count));
        }
        if let Some(message) = &self.first_error {
            object.set("first_error", Datum::from(message.as_str()));
        }
        object
    }

    /// Adds a batch's counters. One change more than `limit` is kept, to tell that there were too many.
    pub(super) fn merge(&mut self, part: &Datum, limit: usize) -> Result<()> {
        self.ran = true;
        let object = part.as_object()?;
        let count = |name: &str| match object.get(name) {
            Some(Datum::Num(number)) => *number as usize,
            _ => 0,
        };
        self.inserted += count("inserted");
        self.deleted += count("deleted");
        self.skipped += count("skipped");
        self.replaced += count("replaced");
        self.unchanged += count("unchanged");
        self.errors += count("errors");
        if let (None, Some(Datum::Str(message))) = (&self.first_error, object.get("first_error")) {
            self.first_error = Some(message.to_string());
        }
        if let Some(Datum::Array(changes)) = object.get("changes") {
            let room = limit.saturating_add(1).saturating_sub(self.changes.len());
            self.changes.extend(changes.iter().take(room).cloned());
        }
        Ok(())
    }

    /// The whole answer. A write that found nothing to work on has no list of changes.
    pub(super) fn answer(mut self, returns: Return, limit: usize) -> Datum {
        let mut object = self.counters();
        if returns != Return::No && self.ran {
            if self.changes.len() > limit {
                self.changes.truncate(limit);
                let warning = format!("Too many changes, array truncated to {limit}.");
                object.set("warnings", Datum::array(vec![warning.into()]));
            }
            object.set("changes", Datum::array(self.changes));
        }
        object.into()
    }
}

/// Adds one write's answer to a sum of them.
pub(super) fn add_stats(total: &mut Object, part: &Datum, limit: usize) -> Result<()> {
    let Datum::Object(part) = part else {
        return Err(QueryError::logic("FOR_EACH expects one or more basic write queries."));
    };
    for (name, value) in part.iter() {
        let sum = match (total.get(name), value) {
            (None, value) => value.clone(),
            (Some(Datum::Num(a)), Datum::Num(b)) => Datum::Num(a + b),
            (Some(Datum::Array(a)), Datum::Array(b)) => {
                Datum::array(a.iter().chain(b.iter()).take(limit).cloned().collect())
            }
            (Some(first), _) => first.clone(),
        };
        total.set(name.clone(), sum);
    }
    Ok(())
}
