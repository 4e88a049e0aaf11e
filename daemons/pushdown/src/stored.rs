//! How columns are stored, and how a stored value becomes one that compares as PostgreSQL's.

use crate::{
    column::{Column, Encoding, InvalidText, Storage},
    oid::{self, Oid},
    rules::Family,
    ship::Refusal,
    statement::{quote_identifier, quote_literal},
};

/// How a scalar is represented in SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repr {
    pub(crate) family: Family,
    pub(crate) encoding: Encoding,
}

/// A column as an expression whose value compares in SQLite as PostgreSQL's does, and which raises on a stored value
/// that a plain scan would reject.
pub(crate) fn checked(column: &Column) -> Result<String, Refusal> {
    let c = column_sql(column);
    let repr = repr(column).ok_or(Refusal("a column that does not compare alike"))?;
    if column.segment {
        return Ok(c);
    }
    let reject = |expected: &str| {
        format!(
            "trough_reject({}, {}, {}, typeof({c}))",
            quote_literal(&column.table),
            quote_literal(&column.name),
            quote_literal(expected)
        )
    };
    let guard = |test: &str, expected: &str| format!("CASE WHEN {test} THEN {c} ELSE {} END", reject(expected));
    let bytewise = |c: &str| format!("{c} COLLATE BINARY");
    // The stored double is not what PostgreSQL compares.
    if column.type_oid == oid::FLOAT4 {
        let (table, name) = (quote_literal(&column.table), quote_literal(&column.name));
        return Ok(format!("trough_single({c}, {table}, {name})"));
    }
    if column.trusted {
        return Ok(match repr.encoding {
            Encoding::Text | Encoding::Iso8601 | Encoding::UuidText => bytewise(&c),
            Encoding::Julian => return Err(Refusal("julian days are not exact")),
            Encoding::EpochS | Encoding::EpochMs | Encoding::EpochUs if repr.family == Family::Date => {
                return Err(Refusal("a date stored as an instant"));
            }
            _ => c,
        });
    }
    let integer = |test: Option<String>, expected: &str| {
        let stored = (column.storage != Storage::Integer).then(|| format!("typeof({c}) = 'integer'"));
        match (stored, test) {
            (None, None) => c.clone(),
            (Some(one), None) | (None, Some(one)) => guard(&format!("{c} IS NULL OR {one}"), expected),
            (Some(stored), Some(test)) => guard(&format!("{c} IS NULL OR {stored} AND {test}"), expected),
        }
    };
    Ok(match (repr.family, repr.encoding) {
        (Family::Bool, _) => integer(Some(format!("{c} IN (0, 1)")), "boolean (0 or 1)"),
        (Family::Int, _) => match column.type_oid {
            oid::INT2 => integer(Some(format!("{c} BETWEEN -32768 AND 32767")), "smallint (16 bits)"),
            oid::INT4 => integer(Some(format!("{c} BETWEEN -2147483648 AND 2147483647")), "integer (32 bits)"),
            _ => integer(None, "bigint"),
        },
        (Family::Float, _) => match column.storage {
            Storage::Real => c,
            Storage::Integer => format!("CAST({c} AS REAL)"),
            _ => format!(
                "CASE typeof({c}) WHEN 'real' THEN {c} WHEN 'integer' THEN CAST({c} AS REAL) WHEN 'null' THEN NULL \
                 ELSE {} END",
                reject("double precision")
            ),
        },
        (Family::Text, _) => match column.storage {
            Storage::Text => bytewise(&c),
            _ => guard(&format!("typeof({c}) IN ('text', 'null')"), "text"),
        },
        (Family::Bytea, _) => match column.storage {
            Storage::Blob => c,
            _ => guard(&format!("typeof({c}) IN ('blob', 'null')"), "bytea"),
        },
        (Family::Uuid, Encoding::UuidBlob) => {
            guard(&format!("{c} IS NULL OR typeof({c}) = 'blob' AND length({c}) = 16"), "uuid")
        }
        // SQLite has years before 1, which have another writing in PostgreSQL.
        (Family::Date, Encoding::Iso8601) => guard(
            &format!("{c} IS NULL OR typeof({c}) = 'text' AND date({c}) = {c} COLLATE BINARY AND {c} >= '0001-01-01'"),
            "date",
        ),
        (Family::Timestamp | Family::Timestamptz, Encoding::EpochS | Encoding::EpochMs | Encoding::EpochUs)
            if column.storage == Storage::Integer =>
        {
            c
        }
        _ => return Err(Refusal("the stored form is not canonical")),
    })
}

/// For a column whose texts are compared as they are, as they are promised to be in canonical form: a condition that raises if the
/// first of them is not. Whoever breaks the promise has mostly broken it everywhere.
pub(crate) fn form_check(column: &Column) -> Option<String> {
    // Columns of an answer are of no table.
    if !column.trusted
        || column.segment
        || column.table.is_empty()
        || !matches!(column.encoding, Encoding::Iso8601 | Encoding::UuidText)
    {
        return None;
    }
    let kind = match repr(column)?.family {
        Family::Date => "date",
        Family::Timestamp => "timestamp",
        Family::Timestamptz => "timestamptz",
        _ => "uuid",
    };
    let (table, name) = (quote_literal(&column.table), quote_literal(&column.name));
    let (from, c) = (quote_identifier(&column.table), quote_identifier(&column.name));
    Some(format!("coalesce((SELECT trough_form({c}, '{kind}', {table}, {name}) FROM {from} LIMIT 1), 1)"))
}

/// Whether `checked` prints the bare column.
pub(crate) fn known(column: &Column) -> bool {
    column.segment
        || column.trusted
        || matches!(
            (column.encoding, column.storage),
            (Encoding::Text, Storage::Text) | (Encoding::Blob, Storage::Blob)
        )
}

pub(crate) fn column_sql(column: &Column) -> String {
    match column.alias {
        _ if column.segment => ":segment".to_owned(),
        None => quote_identifier(&column.name),
        Some(alias) => format!("r{alias}.{}", quote_identifier(&column.name)),
    }
}

/// How a column is represented, if its values compare in SQLite in a way that PostgreSQL's rules can be mapped to.
pub(crate) fn repr(column: &Column) -> Option<Repr> {
    if column.encoding.reads_text() && column.invalid_text != InvalidText::Error && !column.segment {
        return None;
    }
    let family = match column.type_oid {
        oid::BOOL => Family::Bool,
        oid::INT2 | oid::INT4 | oid::INT8 => Family::Int,
        oid::FLOAT4 | oid::FLOAT8 => Family::Float,
        oid::TEXT | oid::VARCHAR if column.encoding == Encoding::Text => Family::Text,
        oid::BYTEA => Family::Bytea,
        oid::DATE => Family::Date,
        oid::TIMESTAMP => Family::Timestamp,
        oid::TIMESTAMPTZ => Family::Timestamptz,
        oid::UUID => Family::Uuid,
        _ => return None,
    };
    Some(Repr { family, encoding: column.encoding })
}

/// The family of a type's values.
pub(crate) fn family_of(type_oid: Oid) -> Option<Family> {
    Some(match type_oid {
        oid::BOOL => Family::Bool,
        oid::INT2 | oid::INT4 | oid::INT8 => Family::Int,
        oid::FLOAT4 | oid::FLOAT8 => Family::Float,
        oid::TEXT | oid::VARCHAR => Family::Text,
        oid::BYTEA => Family::Bytea,
        oid::DATE => Family::Date,
        oid::TIMESTAMP => Family::Timestamp,
        oid::TIMESTAMPTZ => Family::Timestamptz,
        oid::UUID => Family::Uuid,
        _ => return None,
    })
}

pub(crate) fn in_family(type_oid: Oid, family: Family) -> bool {
    family_of(type_oid) == Some(family)
}

/// Whether an array type's elements are of a family.
pub(crate) fn array_in_family(array: Oid, family: Family) -> bool {
    match family {
        Family::Bool => array == 1000,
        Family::Int => matches!(array, 1005 | 1007 | 1016),
        Family::Float => matches!(array, 1021 | 1022),
        Family::Text => matches!(array, 1009 | 1015),
        Family::Bytea => array == 1001,
        Family::Date => array == 1182,
        Family::Timestamp => array == 1115,
        Family::Timestamptz => array == 1185,
        Family::Uuid => array == 2951,
    }
}
