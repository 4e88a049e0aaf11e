//! The options of servers, user mappings, tables and columns: which there are, what they take, and the validator that
//! `CREATE` and `ALTER` call. docs/SQL.md has the same table for people.

use pgrx::{PgSqlErrorCode, pg_sys};
use trough_client::discovery::SegmentPattern;
use trough_core::SchemaId;
use trough_pushdown::{Encoding, InvalidText, Storage};

use crate::{
    errors::{Failure, OrRaise},
    pg,
    table::OnFault,
};

/// Where an option may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Wrapper,
    Server,
    UserMapping,
    Table,
    Column,
}

impl Place {
    fn of(catalog: pg_sys::Oid) -> Self {
        match catalog {
            pg_sys::ForeignServerRelationId => Self::Server,
            pg_sys::UserMappingRelationId => Self::UserMapping,
            pg_sys::ForeignTableRelationId => Self::Table,
            pg_sys::AttributeRelationId => Self::Column,
            _ => Self::Wrapper,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Wrapper => "the foreign-data wrapper",
            Self::Server => "a server",
            Self::UserMapping => "a user mapping",
            Self::Table => "a foreign table",
            Self::Column => "a column",
        }
    }
}

/// What an option's value must be.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Text,
    /// A name in SQLite, which may be empty.
    Name,
    Positive,
    OneOf(&'static [&'static str]),
    RethinkUrl,
    Pattern,
    Schema,
}

struct Known {
    name: &'static str,
    kind: Kind,
    places: &'static [Place],
}

/// The names of encodings; which of them a column takes depends on its type.
const ENCODINGS: &[&str] =
    &["iso8601", "epoch_s", "epoch_ms", "epoch_us", "julian", "text", "any", "blob", "integer", "real"];

static KNOWN: &[Known] = {
    use Place::{Column, Server, Table, UserMapping};
    &[
        Known { name: "rethinkdb", kind: Kind::RethinkUrl, places: &[Server] },
        Known { name: "ca_file", kind: Kind::Text, places: &[Server] },
        Known { name: "request_timeout", kind: Kind::Positive, places: &[Server] },
        Known { name: "max_rows", kind: Kind::Positive, places: &[Server, Table] },
        Known { name: "max_bytes", kind: Kind::Positive, places: &[Server, Table] },
        Known { name: "read_only", kind: Kind::Bool, places: &[Server, Table] },
        Known { name: "truncatable", kind: Kind::Bool, places: &[Server, Table] },
        Known { name: "schema", kind: Kind::Schema, places: &[Server, Table] },
        Known { name: "segments", kind: Kind::Pattern, places: &[Server, Table] },
        Known { name: "invalid_text", kind: Kind::OneOf(InvalidText::NAMES), places: &[Server, Table, Column] },
        Known { name: "async_capable", kind: Kind::Bool, places: &[Server, Table] },
        Known { name: "use_remote_estimate", kind: Kind::Bool, places: &[Server, Table] },
        Known { name: "batch_size", kind: Kind::Positive, places: &[Server, Table] },
        Known { name: "on_missing_segment", kind: Kind::OneOf(OnFault::NAMES), places: &[Server, Table] },
        Known { name: "on_segment_error", kind: Kind::OneOf(OnFault::NAMES), places: &[Server, Table] },
        Known { name: "token", kind: Kind::Text, places: &[UserMapping] },
        Known { name: "token_required", kind: Kind::Bool, places: &[UserMapping] },
        Known { name: "rethinkdb_user", kind: Kind::Text, places: &[UserMapping] },
        Known { name: "rethinkdb_password", kind: Kind::Text, places: &[UserMapping] },
        Known { name: "table", kind: Kind::Name, places: &[Table] },
        Known { name: "trusted", kind: Kind::Bool, places: &[Table, Column] },
        Known { name: "estimated_rows", kind: Kind::Positive, places: &[Table] },
        Known { name: "segment", kind: Kind::Bool, places: &[Column] },
        Known { name: "key", kind: Kind::Bool, places: &[Column] },
        Known { name: "column_name", kind: Kind::Name, places: &[Column] },
        Known { name: "encoding", kind: Kind::OneOf(ENCODINGS), places: &[Column] },
        Known { name: "generated", kind: Kind::Bool, places: &[Column] },
        Known { name: "storage", kind: Kind::OneOf(Storage::NAMES), places: &[Column] },
    ]
};

/// One option as it is written in a catalog.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// Its name.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: String,
}

/// The options in a list of `DefElem`s.
///
/// # Safety
/// `options` is NIL or a valid list of `DefElem`s.
pub(crate) unsafe fn settings(options: *mut pg_sys::List) -> Vec<Setting> {
    unsafe {
        pg::list::<pg_sys::DefElem>(options)
            .map(|def| Setting { name: pg::text((*def).defname), value: pg::text(pg_sys::defGetString(def)) })
            .collect()
    }
}

/// The value of an option.
pub(crate) fn find<'a>(settings: &'a [Setting], name: &str) -> Option<&'a str> {
    settings.iter().find(|s| s.name == name).map(|s| s.value.as_str())
}

/// A boolean as PostgreSQL writes them.
pub(crate) fn parse_bool(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "t" | "y" | "1" => Some(true),
        "false" | "off" | "no" | "f" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// The name in `candidates` that `name` was most likely meant to be.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The error for an option that there is not.
fn unknown<'a>(name: &str, place: &str, valid: impl Iterator<Item = &'a str> + Clone) -> Failure {
    let failure =
        Failure::new(PgSqlErrorCode::ERRCODE_FDW_INVALID_OPTION_NAME, format!("invalid option \"{name}\" of {place}"));
    let list = valid.clone().collect::<Vec<_>>().join(", ");
    match (nearest(name, valid), list.is_empty()) {
        (Some(near), _) => failure.hint(format!("Perhaps you meant the option \"{near}\".")),
        (None, true) => failure.hint("There are no valid options in this place."),
        (None, false) => failure.hint(format!("Valid options in this place are: {list}.")),
    }
}

/// Checks an option that a statement with options of its own passes on to tables. The SQLite table's name is none.
///
/// # Errors
/// It is neither one of the statement's own nor one of a table's, or its value is bad.
pub(crate) fn check_table_option(setting: &Setting, own: &[&str], statement: &str) -> Result<(), Failure> {
    let of_table = KNOWN.iter().filter(|k| k.places.contains(&Place::Table) && k.name != "table").map(|k| k.name);
    if !of_table.clone().any(|name| name == setting.name) {
        return Err(unknown(&setting.name, statement, own.iter().copied().chain(of_table)));
    }
    check(Place::Table, setting)
}

/// Checks the value of an option that says how columns of a type are stored.
///
/// # Errors
/// The type has no such encoding.
pub(crate) fn column_encoding(option: &str, value: &str, type_oid: u32) -> Result<String, Failure> {
    match Encoding::parse(value, type_oid) {
        Ok(_) => Ok(value.to_owned()),
        Err(valid) => Err(Failure::new(
            PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE,
            format!("invalid value for the option \"{option}\": \"{value}\" is none of {}", valid.join(", ")),
        )),
    }
}

fn check(place: Place, setting: &Setting) -> Result<(), Failure> {
    let valid = KNOWN.iter().filter(|k| k.places.contains(&place)).map(|k| k.name);
    let Some(known) = KNOWN.iter().find(|k| k.name == setting.name && k.places.contains(&place)) else {
        let failure = unknown(&setting.name, place.name(), valid);
        return Err(match KNOWN.iter().find(|k| k.name == setting.name) {
            Some(elsewhere) => failure.hint(format!("It is an option of {}.", elsewhere.places[0].name())),
            None => failure,
        });
    };
    let value = setting.value.as_str();
    let bad = |why: String| {
        Err(Failure::new(
            PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE,
            format!("invalid value for the option \"{}\": {why}", known.name),
        ))
    };
    match known.kind {
        Kind::Bool if parse_bool(value).is_none() => bad(format!("\"{value}\" is neither true nor false")),
        Kind::Positive if value.parse::<u64>().is_ok_and(|n| n > 0) => Ok(()),
        Kind::Positive => bad(format!("\"{value}\" is no whole number above 0")),
        Kind::OneOf(names) if !names.contains(&value) => bad(format!("\"{value}\" is none of {}", names.join(", ")))
            .map_err(|failure| match nearest(value, names.iter().copied()) {
                Some(near) => failure.hint(format!("Perhaps you meant \"{near}\".")),
                None => failure,
            }),
        Kind::RethinkUrl => match trough_reql::Options::from_url(value) {
            Ok(_) => Ok(()),
            Err(e) => bad(e.to_string())
                .map_err(|f| f.hint("It looks like: rethinkdb://host1,host2:28015/trough_configuration")),
        },
        Kind::Pattern => match SegmentPattern::regex(value) {
            Ok(_) => Ok(()),
            Err(e) => bad(e.to_string()),
        },
        Kind::Schema => match SchemaId::new(value) {
            Ok(_) => Ok(()),
            Err(e) => bad(e.to_string()),
        },
        Kind::Text if value.is_empty() => bad("it is empty".into()),
        _ => Ok(()),
    }
}

/// What `CREATE` and `ALTER` of a server, mapping, table or column call with all of its options.
///
/// # Safety
/// `options` is NIL or a valid list of `DefElem`s.
pub(crate) unsafe fn validate(options: *mut pg_sys::List, catalog: pg_sys::Oid) {
    let place = Place::of(catalog);
    for setting in unsafe { settings(options) } {
        check(place, &setting).and_then(|()| may_set(&setting)).or_raise();
    }
}

/// Whether the current user may set an option that has been checked. Everybody sees the options of servers, and the backend
/// opens files as the server's own user.
fn may_set(setting: &Setting) -> Result<(), Failure> {
    // SAFETY: look-ups of the current user's roles.
    let (superuser, reads_files) = unsafe {
        let reader = pg_sys::Oid::from(pg_sys::ROLE_PG_READ_SERVER_FILES);
        (pg_sys::superuser(), pg_sys::has_privs_of_role(pg_sys::GetUserId(), reader))
    };
    let denied = |what: String| Failure::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, what);
    let url = || trough_reql::Options::from_url(&setting.value).ok();
    let file = match setting.name.as_str() {
        "token_required" if !superuser && parse_bool(&setting.value) == Some(false) => {
            return Err(denied("token_required=false is superuser-only".to_owned()).hint(
                "User mappings with the option token_required set to false may only be created or modified by the superuser.",
            ));
        }
        "rethinkdb" if url().is_some_and(|url| !url.password.is_empty()) => {
            let hint = "Put rethinkdb_user and rethinkdb_password into the user mapping, where only its user and superusers see them.";
            let what = "the option \"rethinkdb\" holds a password that everybody can read";
            // A superuser is only warned, so that a dump of such a server can be restored.
            if !superuser {
                return Err(denied(what.to_owned()).hint(hint));
            }
            Failure::new(PgSqlErrorCode::ERRCODE_WARNING, what).hint(hint).warn();
            false
        }
        "rethinkdb" => url().and_then(|url| url.tls).is_some_and(|tls| tls.ca_file.is_some()),
        "ca_file" => true,
        _ => false,
    };
    if file && !superuser && !reads_files {
        return Err(denied(format!("permission denied to name a file in the option \"{}\"", setting.name))
            .hint("Only superusers and members of pg_read_server_files may."));
    }
    Ok(())
}
