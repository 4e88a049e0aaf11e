//! The one table of all settings: name, default as text, and what it does. Everything that lists, checks or
//! documents settings reads it.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name in the YAML file; in the environment with the prefix `TROUGH_`.
    pub name: &'static str,
    /// Its default, as a person would write it; empty for none.
    pub default: &'static str,
    /// What it does, with its unit.
    pub doc: &'static str,
}

const fn key(name: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { name, default, doc }
}

/// Every setting there is. The first block is the Python trough's, the second is ours.
pub const KEYS: &[Key] = &[
    key("LOCAL_DATA", "/var/tmp/trough", "directory of this worker's segment files"),
    key("ELECTION_CYCLE", "10", "seconds between two elections of a sync master"),
    key("HDFS_PATH", "/tmp/trough", "directory of the canonical copies in HDFS"),
    key("HDFS_HOST", "localhost", "HDFS name node, or the name of an HA name service"),
    key("HDFS_PORT", "8020", "its port; 0 for the name of an HA name service"),
    key("READ_PORT", "6444", "port for queries"),
    key("WRITE_PORT", "6222", "port for writes"),
    key("SYNC_SERVER_PORT", "6111", "port of the sync server's segment manager"),
    key("SYNC_LOCAL_PORT", "6112", "port of the worker's segment manager"),
    key(
        "EXTERNAL_IP",
        "",
        "host name or address in the URLs that this node advertises; default: HOSTNAME, or the loopback address when LISTEN is one",
    ),
    key("HOST_CHECK_WAIT_PERIOD", "5", "seconds between two looks for workers while there is none"),
    key("STORAGE_IN_BYTES", "", "bytes that this worker may hold; default: 80 % of LOCAL_DATA's file system"),
    key("HOSTNAME", "", "this node's name; default: the machine's"),
    key("SYNC_LOOP_TIMING", "120", "seconds between two reconciliations"),
    key("RETHINKDB_HOSTS", "[localhost]", "RethinkDB servers, host or host:port; or `trough meta`'s address"),
    key("MINIMUM_ASSIGNMENTS", "2", "copies of a segment: a number, or a CEL expression of segment_id"),
    key("MAXIMUM_ASSIGNMENTS", "2", "greatest number of copies: the number of hash rings"),
    key("RUN_AS_COLD_STORAGE_NODE", "false", "whether this worker is a cold one"),
    key(
        "COLD_STORAGE_PATH",
        "/mount/hdfs/trough-data/{prefix}/{segment_id}.sqlite",
        "where a cold worker in mount mode finds a segment",
    ),
    key("COLD_STORE_SEGMENT", "false", "whether a segment is cold: true, false, or a CEL expression of segment_id"),
    key("COPY_THREAD_POOL_SIZE", "16", "copies that a worker makes at the same time"),
    key("LOG_LEVEL", "INFO", "error, warn, info, debug or trace, or a tracing filter"),
    key("READ_THREADS", "", "threads of a worker's SQLite pool; default: twice the processors"),
    // ours
    key("STORE", "", "URL of the canonical store: file:///DIR, hdfs://HOST:PORT/DIR, s3://…; default: from HDFS_*"),
    key("STORE_TIMEOUT", "60", "seconds that one request to the canonical store may take"),
    key(
        "STORE_OPTIONS",
        "{}",
        "what the canonical store's backend is told: a map, or key=value, …; for HDFS any of Hadoop's properties",
    ),
    key(
        "HDFS_CLIENT",
        "native",
        "what speaks to HDFS: native, which needs no JVM, or hdrs (libhdfs in a JVM), in builds with that feature",
    ),
    key("HDFS_REPLICATION", "", "copies of each block of a canonical file in HDFS; default: the name node's"),
    key("HDFS_BLOCK_SIZE", "", "bytes of a block of a canonical file in HDFS; default: the name node's"),
    key("RETHINKDB_DATABASE", "trough_configuration", "database name"),
    key("RETHINKDB_USER", "admin", "user"),
    key("RETHINKDB_PASSWORD", "", "its password"),
    key(
        "META_READER_PASSWORD",
        "",
        "for `trough meta`: the password of its user `reader`, who may only read; default: there is no such user",
    ),
    key("RETHINKDB_TLS", "", "TLS to RethinkDB: a CA file, or `system` for the built-in roots; default: none"),
    key("LISTEN", "", "address to bind; default: 127.0.0.1, or 0.0.0.0 when there are TOKENS"),
    key(
        "TOKENS",
        "[]",
        "who may do what: a list of {name, token_sha256 or token, role: read, write or admin, and if wanted segments: REGEX, \
         expires: DAY, rate: N}",
    ),
    key(
        "TOKENS_FILE",
        "",
        "YAML file with more of such tokens, as hashes; read again when it changes (`trough token` makes its lines)",
    ),
    key(
        "ANONYMOUS",
        "",
        "role of a request without a token: none, read, write or admin; default: admin without TOKENS and TOKENS_FILE, none with them",
    ),
    key("TOKEN", "", "the token that this node shows to other nodes; default: the first admin token of TOKENS"),
    key("TLS_CERT", "", "PEM file with the certificate chain of every listener; reloaded when it changes"),
    key("TLS_KEY", "", "PEM file with its private key"),
    key("TLS_CA", "", "PEM file with the authorities that other nodes' certificates are checked against"),
    key("HEADER_TIMEOUT", "30", "seconds that a client may take for a request's headers, and for a TLS handshake"),
    key(
        "BODY_TIMEOUT",
        "60",
        "seconds that a request's body may pause; after as long again it must have come at 1 kB/s or faster",
    ),
    key("SEND_TIMEOUT", "3600", "seconds that an answer may wait for a client that takes nothing of it; 0: no limit"),
    key("IDLE_TIMEOUT", "600", "seconds that a connection without a request is kept"),
    key("MAX_HEADER_BYTES", "64 KiB", "most bytes of a request's line and headers"),
    key("MAX_HEADERS", "100", "most headers of a request"),
    key(
        "MAX_CONNECTIONS",
        "",
        "most connections of a listener; further ones are closed; default: a quarter of the descriptors, 256 to 16384",
    ),
    key(
        "MAX_CONNECTIONS_PER_PEER",
        "",
        "most connections of a listener from one address; default: half of MAX_CONNECTIONS",
    ),
    key(
        "MAX_REQUESTS",
        "4096",
        "requests that a listener works at; further ones wait for REQUEST_WAIT, then get status 503",
    ),
    key("REQUEST_WAIT", "10", "seconds that a request may wait while MAX_REQUESTS are worked at"),
    key("MAX_STREAMS", "256", "most requests at the same time on one HTTP/2 connection"),
    key(
        "RATE_LIMIT",
        "0",
        "requests a second of one token, or of one address without a token; further ones get status 429; tokens with the role \
         admin have no limit unless they have a rate of their own; 0: no limit",
    ),
    key("ZONE", "", "failure domain of this worker (rack, room): copies are spread over zones"),
    key("DRAIN", "false", "whether this worker gives its segments away"),
    key(
        "LEASE",
        "",
        "seconds that a node lives without renewing; default: 45, or 4 × SYNC_LOOP_TIMING if that is less",
    ),
    key("HEARTBEAT", "node", "node: one lease per worker; segment: renew every service row, as the Python trough does"),
    key("HANDLE_BUDGET", "", "SQLite handles kept open; default: a quarter of the descriptor limit"),
    key("MAX_ROWS", "0", "most rows of one answer; 0: no limit"),
    key("MAX_BYTES", "0", "most bytes of one answer; 0: no limit"),
    key("MAX_SQL_BYTES", "1000000", "most bytes of one statement or script of a query"),
    key("MAX_BODY_BYTES", "256 MiB", "most bytes of one request"),
    key("MAX_SEGMENTS", "200000", "most segments of one request to a worker or sync server"),
    key("MAX_EXPR_DEPTH", "1000", "deepest expression in a statement"),
    key("MAX_VARIABLES", "250000", "most parameters of a statement"),
    key("MAX_MEMORY_BYTES", "256 MiB", "memory of SQLite for one query's temporary tables and sorts"),
    key(
        "MAX_SQLITE_MEMORY",
        "",
        "memory of all of SQLite in a worker, page caches included: at the limit caches shrink, then statements fail; 0: no \
         limit; default: half of the machine's or the control group's",
    ),
    key("QUERY_TIMEOUT", "300", "seconds that one query may take; 0: no limit"),
    key("PROMOTION_POOL_SIZE", "32", "promotions that a worker makes at the same time"),
    key("PROMOTION_BANDWIDTH", "0", "bytes a second of all promotions of a worker together; 0: no limit"),
    key(
        "PROMOTION_VERIFY",
        "hash",
        "what is compared before an upload becomes the canonical copy: hash (it is read back, its SHA-256 and its length) or length",
    ),
    key("EVENTS_KEPT", "20000", "events of segments that a daemon keeps, a worker in LOCAL_DATA too; 0: none"),
    key("UPLOAD_GRACE", "86400", "seconds after which an upload that was left unfinished is removed from the store"),
    key("COPY_BANDWIDTH", "0", "bytes a second of all copies of a worker together; 0: no limit"),
    key("MOVE_GRACE", "300", "seconds that a worker may be gone before its segments are placed elsewhere"),
    key("MOVE_SEGMENTS", "100000", "most segments moved per cycle between living workers"),
    key("MOVE_BYTES", "0", "most bytes moved per cycle between living workers; 0: no limit"),
    key(
        "KEEP_FOUND",
        "true",
        "whether workers may keep the uneven shares that a Python sync master left them; false evens them out, throttled",
    ),
    key("PLACEMENT_EPSILON", "0.05", "how far above its fair share a worker may go"),
    key(
        "COLD_MODE",
        "",
        "how a cold worker reads: mount (files under COLD_STORAGE_PATH) or direct (ranges of the canonical store's files); \
         default: mount if COLD_STORAGE_PATH is set or its directory is there, else direct",
    ),
    key("COLD_CACHE_BYTES", "256 MiB", "blocks of cold segments that a worker in direct mode keeps in memory"),
    key(
        "COLD_CHECK",
        "10",
        "seconds after which a worker in direct mode asks again whether a file in use was replaced",
    ),
    key("COLD_READ_TIMEOUT", "30", "seconds that one read of a worker in direct mode may take"),
    key("SHUTDOWN_GRACE", "10", "seconds that requests in flight may take at shutdown"),
    key("LOG_FORMAT", "text", "text or json"),
    key("ACCESS_LOG", "false", "whether every request is logged, at the target trough::access"),
    key("SLOW_QUERY", "1", "seconds after which a query is logged as slow, with its plan; 0: never"),
    key(
        "SLOW_QUERY_SQL",
        "true",
        "whether the log of slow and failed queries holds their SQL, whose literals may be private",
    ),
    key(
        "OTLP_ENDPOINT",
        "",
        "URL of an OpenTelemetry collector (OTLP over HTTP) that gets spans; default: OTEL_EXPORTER_OTLP_ENDPOINT, else none",
    ),
    key(
        "CRASH_AT",
        "",
        "for tests only: the step of a promotion at which the worker's process ends at once, as if it were killed",
    ),
];

/// Keys of the Python trough that have no meaning here: read, and named in the log.
pub const IGNORED: &[&str] = &[
    "WRITE_THREADS",
    "READ_NODE_DNS_TTL",
    "READ_DATABASE_DNS_TTL",
    "SENTRY_DSN",
    "SEGMENT_INITIALIZATION_SQL",
    "ROLE",
    "TEST",
];

/// The valid key most like `name`, if one is alike enough to be what was meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    let upper = name.to_uppercase();
    KEYS.iter()
        .map(|k| (strsim::jaro_winkler(&upper, k.name), k.name))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Whether `name` is a setting.
pub fn is_known(name: &str) -> bool {
    KEYS.iter().any(|k| k.name == name)
}
