//! Joins within a segment: what their conditions need of columns and of the tables behind FROM.

use crate::{
    column::{Column, Table},
    expr::Expr,
    rules::{self, Cmp, Family, Rule},
    ship::{Refusal, Shipper},
    statement::quote_identifier,
    stored::{checked, column_sql, repr},
};

/// The column of a table that gives the segment's name where the table's row may be missing.
const SEGMENT: &str = ":segment";

/// Whether a column compares as it is stored, so that SQLite can look its values up in an index, also in one that it makes
/// for a join.
pub fn is_bare(column: &Column) -> bool {
    checked(column).is_ok_and(|sql| {
        let bare = column_sql(column);
        sql == bare || sql == format!("{bare} COLLATE BINARY")
    })
}

/// A column's value as it compares, of the affinity that its type has; none if no form of it does.
fn compared(column: &Column) -> Option<String> {
    let column = Column { alias: None, ..column.clone() };
    let affinity = match repr(&column)?.family {
        Family::Bool | Family::Int => "INTEGER",
        Family::Float => "REAL",
        Family::Bytea => "BLOB",
        _ => match column.encoding {
            crate::Encoding::UuidBlob => "BLOB",
            crate::Encoding::EpochS | crate::Encoding::EpochMs | crate::Encoding::EpochUs => "INTEGER",
            _ => "TEXT",
        },
    };
    Some(format!("CAST({} AS {affinity})", checked(&column).ok()?))
}

/// Whether [`derive`] can give a column in the form in which it compares.
pub fn can_derive(table: &Table, index: usize) -> bool {
    let Some(column) = table.column(index) else { return false };
    let same = |other: &&Column| !other.segment && other.name.eq_ignore_ascii_case(&column.name);
    !column.segment && compared(column).is_some() && table.columns.iter().flatten().filter(same).count() == 1
}

/// What the name of a table becomes behind FROM: a sub-select in which the columns `derived` are in the form in which they
/// compare (computed once per row, so that a join can index them; what a plain scan would refuse raises there), and in
/// which the segment's name is a column if it is `marked`. Also the table as it is then read.
pub fn derive(table: &Table, derived: impl Fn(usize) -> bool, nullable: bool, marked: bool) -> (String, Table) {
    let mut seen = table.clone();
    let mut list: Vec<String> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut limit = "";
    for (index, slot) in seen.columns.iter_mut().enumerate() {
        let Some(column) = slot else { continue };
        if column.segment {
            if !nullable {
                continue;
            }
            *slot = marked.then(|| Column {
                name: SEGMENT.to_owned(),
                storage: crate::Storage::Text,
                segment: false,
                ..column.clone()
            });
            continue;
        }
        let name = quote_identifier(&column.name);
        if derived(index)
            && let Some(sql) = compared(column)
        {
            list.push(format!("{sql} AS {name}"));
            column.trusted = true;
            limit = " LIMIT -1";
        } else if !names.contains(&name) {
            list.push(name.clone());
        }
        names.push(name);
    }
    let name = quote_identifier(&table.name);
    if limit.is_empty() && !marked {
        return (name, seen);
    }
    if marked {
        list.insert(0, format!(":segment AS {}", quote_identifier(SEGMENT)));
    }
    (format!("(SELECT {} FROM {name}{limit})", list.join(", ")), seen)
}

/// The columns on both sides of an equality, if there are such.
pub fn equal_columns(expr: &Expr) -> Option<(usize, usize)> {
    match expr {
        Expr::Op { operator, args, .. } if matches!(rules::operator(*operator), Some(Rule::Compare(Cmp::Eq, _))) => {
            match args.as_slice() {
                [Expr::Column(a), Expr::Column(b)] => Some((*a, *b)),
                _ => None,
            }
        }
        _ => None,
    }
}

impl Shipper<'_> {
    /// Prints the two sides of an equality that is shipped exactly.
    ///
    /// # Errors
    /// [`Refusal`] if it is none.
    pub fn equality(&mut self, expr: &Expr) -> Result<(String, String), Refusal> {
        match expr {
            Expr::Op { operator, collation, args } => match (rules::operator(*operator), args.as_slice()) {
                (Some(Rule::Compare(Cmp::Eq, family)), [a, b]) => {
                    self.collation_allows(Cmp::Eq, family, *collation)?;
                    self.all_or_nothing(|s| {
                        let before = s.doubts.len();
                        let pair = s.pair(family, a, b)?;
                        match s.doubts.len() == before {
                            true => Ok(pair),
                            false => Err(Refusal("PostgreSQL might raise an error")),
                        }
                    })
                }
                _ => Err(Refusal("not an equality")),
            },
            _ => Err(Refusal("not an equality")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Encoding, InvalidText, Storage, oid};

    fn column(name: &str, type_oid: u32, storage: Storage) -> Column {
        Column {
            name: name.into(),
            table: "t".into(),
            alias: None,
            type_oid,
            encoding: Encoding::default_for(type_oid),
            storage,
            trusted: false,
            invalid_text: InvalidText::Error,
            segment: false,
        }
    }

    #[test]
    fn tables_behind_from() {
        let segment = Column { segment: true, ..column("segment", oid::TEXT, Storage::Unknown) };
        let columns = [segment, column("id", oid::INT8, Storage::Integer), column("t", oid::TEXT, Storage::Unknown)];
        let table = Table { name: "t".into(), columns: columns.into_iter().map(Some).collect() };
        let bare = |table: &Table, index| table.column(index).is_some_and(is_bare);
        assert!(bare(&table, 1) && !bare(&table, 2));
        assert_eq!(derive(&table, |_| false, false, false), ("`t`".into(), table.clone()));
        let (sql, seen) = derive(&table, |_| false, true, false);
        assert_eq!((sql.as_str(), seen.column(0)), ("`t`", None));
        let (sql, seen) = derive(&table, |_| false, true, true);
        assert_eq!(sql, "(SELECT :segment AS `:segment`, `id`, `t` FROM `t`)");
        assert_eq!(seen.column(0).map(column_sql).as_deref(), Some("`:segment`"));
        let (sql, seen) = derive(&table, |index| index == 2, false, false);
        assert!(
            sql.starts_with("(SELECT `id`, CAST(CASE WHEN typeof(`t`) IN ('text', 'null') THEN `t` ELSE "),
            "{sql}"
        );
        assert!(sql.ends_with(" AS TEXT) AS `t` FROM `t` LIMIT -1)"), "{sql}");
        assert!(bare(&seen, 2));
    }
}
