//! Names in PostgreSQL for SQLite's: those that PostgreSQL cannot have are changed, and no two are the same.

use std::collections::HashSet;

/// The names that are taken in one place, a schema or a table.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: HashSet<String>,
    fold: bool,
}

/// The longest name, in bytes.
const LONGEST: usize = pgrx::pg_sys::NAMEDATALEN as usize - 1;

/// Names that a column cannot have.
const SYSTEM: &[&str] = &["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

impl Names {
    /// No name is taken yet; `fold` makes names lower-case.
    pub(super) fn new(fold: bool) -> Self {
        Self { taken: HashSet::new(), fold }
    }

    /// Whether a name is taken, in any case of its letters.
    pub(super) fn has(&self, name: &str) -> bool {
        self.taken.iter().any(|taken| taken.eq_ignore_ascii_case(name))
    }

    /// Takes a name as it is.
    pub(super) fn take(&mut self, name: &str) {
        self.taken.insert(name.to_owned());
    }

    /// The name for a table.
    pub(super) fn table(&mut self, prefix: &str, remote: &str) -> String {
        match format!("{prefix}{}", self.folded(remote)) {
            empty if empty.is_empty() => self.unique("table".to_owned()),
            name => self.unique(name),
        }
    }

    /// The name for a column, by its place counted from 1.
    pub(super) fn column(&mut self, remote: &str, place: usize) -> String {
        let name = match self.folded(remote) {
            empty if empty.is_empty() => format!("column{place}"),
            system if SYSTEM.contains(&system.as_str()) => format!("{system}_"),
            name => name,
        };
        self.unique(name)
    }

    fn folded(&self, name: &str) -> String {
        if self.fold { name.to_lowercase() } else { name.to_owned() }
    }

    /// The name, cut to what PostgreSQL can hold, with a number behind it if it is taken.
    fn unique(&mut self, name: String) -> String {
        let mut tried = clip(&name, LONGEST).to_owned();
        for number in 2.. {
            if !self.taken.contains(&tried) {
                break;
            }
            let suffix = format!("_{number}");
            tried = format!("{}{suffix}", clip(&name, LONGEST - suffix.len()));
        }
        self.taken.insert(tried.clone());
        tried
    }
}

/// The beginning of a text that takes no more bytes than that.
fn clip(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
