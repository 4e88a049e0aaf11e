//! OIDs of PostgreSQL's built-in types, collations and aggregates. They are fixed for ever by `pg_type.dat` and its kin.

/// An object identifier of PostgreSQL.
pub type Oid = u32;

/// `boolean`
pub const BOOL: Oid = 16;
/// `bytea`
pub const BYTEA: Oid = 17;
/// `name`
pub const NAME: Oid = 19;
/// `bigint`
pub const INT8: Oid = 20;
/// `smallint`
pub const INT2: Oid = 21;
/// `integer`
pub const INT4: Oid = 23;
/// `text`
pub const TEXT: Oid = 25;
/// `json`
pub const JSON: Oid = 114;
/// `real`
pub const FLOAT4: Oid = 700;
/// `double precision`
pub const FLOAT8: Oid = 701;
/// `character(n)`
pub const BPCHAR: Oid = 1042;
/// `character varying`
pub const VARCHAR: Oid = 1043;
/// `date`
pub const DATE: Oid = 1082;
/// `time`
pub const TIME: Oid = 1083;
/// `timestamp without time zone`
pub const TIMESTAMP: Oid = 1114;
/// `timestamp with time zone`
pub const TIMESTAMPTZ: Oid = 1184;
/// `numeric`
pub const NUMERIC: Oid = 1700;
/// `uuid`
pub const UUID: Oid = 2950;
/// `jsonb`
pub const JSONB: Oid = 3802;

/// The collation `"C"`.
pub const C_COLLATION: Oid = 950;
/// The collation `"POSIX"`.
pub const POSIX_COLLATION: Oid = 951;
