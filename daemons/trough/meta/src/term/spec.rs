//! What each term takes: how many arguments, which optional ones, and what it may stand in.

use trough_reql::proto::term_type as t;

/// The shape of a term.
pub(crate) struct Spec {
    /// Fewest arguments.
    pub(crate) min: usize,
    /// Most arguments; none: any number.
    pub(crate) max: Option<usize>,
    /// Optional arguments it knows.
    pub(crate) opts: &'static [&'static str],
}

impl Spec {
    /// The complaint about a number of arguments, or `None` if it fits.
    pub(crate) fn complaint(&self, count: usize) -> Option<String> {
        if count >= self.min && self.max.is_none_or(|max| count <= max) {
            return None;
        }
        let wanted = match self.max {
            Some(max) if max == self.min => format!("{max} argument{}", if max == 1 { "" } else { "s" }),
            Some(max) => format!("between {} and {max} arguments", self.min),
            None => format!("{} or more arguments", self.min),
        };
        Some(format!("Expected {wanted} but found {count}."))
    }
}

const fn exact(count: usize) -> Spec {
    Spec { min: count, max: Some(count), opts: &[] }
}

const fn between(min: usize, max: usize) -> Spec {
    Spec { min, max: Some(max), opts: &[] }
}

const fn from(min: usize) -> Spec {
    Spec { min, max: None, opts: &[] }
}

impl Spec {
    const fn with(self, opts: &'static [&'static str]) -> Spec {
        Spec { min: self.min, max: self.max, opts }
    }
}

const BOUNDS: &[&str] = &["left_bound", "right_bound"];
const INDEX: &[&str] = &["index"];
const WRITE: &[&str] = &["non_atomic", "durability", "return_vals", "return_changes", "ignore_write_hook"];
const NO_RECURSE: &[&str] = &["_NO_RECURSE_"];

/// The shape of a term that this server has; `None` for those it leaves to a real RethinkDB.
pub(crate) fn spec(op: u64) -> Option<Spec> {
    Some(match op {
        t::ERROR | t::LITERAL | t::UUID | t::TABLE_LIST => between(0, 1),
        t::DB | t::DB_CREATE | t::DB_DROP | t::CONFIG | t::STATUS | t::SYNC | t::INDEX_LIST | t::INFO => exact(1),
        t::DB_LIST | t::NOW | t::MINVAL | t::MAXVAL => exact(0),
        t::TABLE => between(1, 2).with(&["read_mode", "use_outdated", "identifier_format"]),
        t::TABLE_CREATE => between(1, 2).with(&[
            "primary_key",
            "shards",
            "replicas",
            "nonvoting_replica_tags",
            "primary_replica_tag",
            "durability",
        ]),
        t::TABLE_DROP | t::COUNT => between(1, 2),
        t::WAIT => between(0, 1).with(&["timeout", "wait_for"]),
        t::RECONFIGURE => between(0, 1).with(&[
            "dry_run",
            "emergency_repair",
            "nonvoting_replica_tags",
            "primary_replica_tag",
            "replicas",
            "shards",
        ]),
        t::REBALANCE => between(0, 1),
        t::INDEX_CREATE => between(2, 3).with(&["multi", "geo"]),
        t::INDEX_DROP => exact(2),
        t::INDEX_RENAME => exact(3).with(&["overwrite"]),
        t::INDEX_STATUS | t::INDEX_WAIT => from(1),
        t::GET | t::APPEND | t::PREPEND | t::DIFFERENCE | t::LIMIT | t::SKIP | t::NTH | t::OFFSETS_OF => exact(2),
        t::SET_INSERT | t::SET_INTERSECTION | t::SET_UNION | t::SET_DIFFERENCE => exact(2),
        t::DEFAULT | t::COERCE_TO | t::MOD | t::MATCH | t::FOR_EACH | t::CONCAT_MAP | t::SAMPLE => exact(2),
        t::BIT_SAL | t::BIT_SAR | t::IN_TIMEZONE => exact(2),
        t::GET_ALL | t::ORDER_BY => from(1).with(INDEX),
        t::BETWEEN | t::BETWEEN_DEPRECATED => exact(3).with(&["left_bound", "right_bound", "index"]),
        t::DURING => exact(3).with(BOUNDS),
        t::SLICE => between(2, 3).with(BOUNDS),
        t::EQ | t::NE | t::LT | t::LE | t::GT | t::GE => from(2),
        t::NOT | t::TYPE_OF | t::UNGROUP | t::IS_EMPTY | t::ZIP | t::KEYS | t::VALUES | t::ARGS => exact(1),
        t::BIT_NOT | t::FLOOR | t::CEIL | t::ROUND | t::UPCASE | t::DOWNCASE | t::JSON | t::TO_JSON_STRING => exact(1),
        t::BINARY | t::ASC | t::DESC | t::EPOCH_TIME | t::TO_EPOCH_TIME | t::TO_ISO8601 => exact(1),
        t::DATE | t::TIME_OF_DAY | t::TIMEZONE | t::YEAR | t::MONTH | t::DAY | t::DAY_OF_WEEK => exact(1),
        t::DAY_OF_YEAR | t::HOURS | t::MINUTES | t::SECONDS => exact(1),
        t::MONDAY..=t::DECEMBER => exact(0),
        t::TIME => between(4, 7),
        t::ISO8601 => exact(1).with(&["default_timezone"]),
        t::ADD | t::SUB | t::MUL | t::DIV | t::BIT_AND | t::BIT_OR | t::BIT_XOR | t::CONTAINS => from(1),
        t::AND | t::OR | t::MAKE_ARRAY | t::OBJECT => from(0),
        t::BRANCH => from(3),
        t::FUNCALL => from(1).with(&["_SHORTCUT_", "_EVAL_FLAGS_"]),
        t::GET_FIELD | t::BRACKET => exact(2).with(NO_RECURSE),
        t::HAS_FIELDS | t::PLUCK | t::WITHOUT | t::MERGE | t::WITH_FIELDS => from(1).with(NO_RECURSE),
        t::MAP => from(2),
        t::FILTER => exact(2).with(&["default"]),
        t::REDUCE => exact(2).with(&["base"]),
        t::FOLD => exact(3).with(&["emit", "final_emit"]),
        t::INNER_JOIN | t::OUTER_JOIN => exact(3),
        t::EQ_JOIN => exact(3).with(&["index", "ordered"]),
        t::DISTINCT => exact(1).with(INDEX),
        t::SUM | t::AVG | t::MIN | t::MAX => between(1, 2).with(INDEX),
        t::GROUP => from(1).with(&["index", "multi"]),
        t::UNION => from(0).with(&["interleave"]),
        t::RANGE => between(0, 2),
        t::RANDOM => between(0, 2).with(&["float"]),
        t::SPLIT => between(1, 3),
        t::INSERT_AT | t::CHANGE_AT | t::SPLICE_AT => exact(3),
        t::DELETE_AT => between(2, 3),
        t::INSERT => exact(2).with(&["conflict", "durability", "return_vals", "return_changes", "ignore_write_hook"]),
        t::UPDATE | t::REPLACE => exact(2).with(WRITE),
        t::DELETE => exact(1).with(WRITE),
        t::CHANGES => exact(1).with(&[
            "squash",
            "changefeed_queue_size",
            "include_initial",
            "include_offsets",
            "include_states",
            "include_types",
        ]),
        _ => return None,
    })
}

/// Whether a term writes or changes the catalog.
pub(crate) fn writes(op: u64) -> bool {
    matches!(
        op,
        t::UPDATE
            | t::DELETE
            | t::INSERT
            | t::REPLACE
            | t::DB_CREATE
            | t::DB_DROP
            | t::TABLE_CREATE
            | t::TABLE_DROP
            | t::WAIT
            | t::RECONFIGURE
            | t::REBALANCE
            | t::SYNC
            | t::INDEX_CREATE
            | t::INDEX_DROP
            | t::INDEX_WAIT
            | t::INDEX_RENAME
    )
}

/// Whether writes are forbidden in a term's arguments after the first.
pub(crate) fn forbids_writes(op: u64) -> bool {
    matches!(
        op,
        t::REDUCE
            | t::MAP
            | t::FOLD
            | t::FILTER
            | t::CONCAT_MAP
            | t::GROUP
            | t::INNER_JOIN
            | t::OUTER_JOIN
            | t::EQ_JOIN
            | t::UPDATE
            | t::DELETE
            | t::REPLACE
            | t::INSERT
            | t::COUNT
            | t::SUM
            | t::AVG
            | t::MIN
            | t::MAX
    )
}

/// Optional arguments that a whole query may carry, for all its terms.
#[rustfmt::skip]
pub(crate) const GLOBAL_OPTS: &[&str] = &[
    "_EVAL_FLAGS_", "_NO_RECURSE_", "_SHORTCUT_", "array_limit", "attempts", "auth", "base", "binary_format",
    "changefeed_queue_size", "conflict", "data", "db", "default", "default_timezone", "dry_run", "durability",
    "emergency_repair", "emit", "fill", "final_emit", "first_batch_scaledown_factor", "float", "geo",
    "geo_system", "group_format", "header", "identifier_format", "ignore_write_hook", "include_initial",
    "include_offsets", "include_states", "include_types", "index", "interleave", "ordered", "left_bound",
    "max_batch_bytes", "max_batch_rows", "max_batch_seconds", "max_dist", "max_results", "method",
    "min_batch_rows", "multi", "non_atomic", "nonvoting_replica_tags", "noreply", "num_vertices", "overwrite",
    "page", "page_limit", "params", "primary_key", "primary_replica_tag", "profile", "read_mode", "redirects",
    "replicas", "result_format", "return_changes", "return_vals", "right_bound", "shards", "squash",
    "time_format", "timeout", "unit", "use_outdated", "verify", "wait_for",
];
