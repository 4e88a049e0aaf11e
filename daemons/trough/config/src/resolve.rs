//! From what was typed to what is used: defaults, checks, and what one setting says about another.

use std::net::{IpAddr, Ipv4Addr};

use trough_core::NodeId;

use crate::{
    ColdMode, ConfigError, Heartbeat, PromotionVerify, Role, Settings, TlsFiles, Token, http, raw::Raw, system, tokens,
};

/// The default of COLD_STORAGE_PATH.
const COLD_STORAGE_PATH: &str = "/mount/hdfs/trough-data/{prefix}/{segment_id}.sqlite";
/// The default of LEASE, in seconds, where SYNC_LOOP_TIMING does not ask for less.
const LEASE_SECONDS: f64 = 45.0;

pub(crate) fn resolve(raw: &Raw) -> Result<Settings, ConfigError> {
    let local_data = std::path::PathBuf::from(raw.text_or("LOCAL_DATA", "/var/tmp/trough")?);
    let sync_loop_timing = raw.seconds("SYNC_LOOP_TIMING", 120.0)?;
    if sync_loop_timing.is_zero() {
        return Err(raw.bad("SYNC_LOOP_TIMING", "must be more than 0 seconds"));
    }
    let maximum = raw.whole("MAXIMUM_ASSIGNMENTS", 64)?.unwrap_or(2) as u32;
    if maximum == 0 {
        return Err(raw.bad("MAXIMUM_ASSIGNMENTS", "must be 1 or more"));
    }
    let minimum_assignments = raw.expression("MINIMUM_ASSIGNMENTS", 2.min(maximum))?;
    if let Some(minimum) = minimum_assignments.constant()
        && minimum > maximum
    {
        return Err(raw.bad("MINIMUM_ASSIGNMENTS", format!("is {minimum}, more than MAXIMUM_ASSIGNMENTS, {maximum}")));
    }
    let hostname = raw.text("HOSTNAME")?.unwrap_or_else(system::hostname);
    let hostname = NodeId::new(&hostname).map_err(|e| raw.bad("HOSTNAME", e.to_string()))?;
    let (tokens, tokens_file) = tokens(raw)?;
    let guarded = !tokens.is_empty() || tokens_file.is_some();
    let anonymous = match raw.text("ANONYMOUS")?.as_deref() {
        None if !guarded => Some(Role::Admin),
        None | Some("none") => None,
        Some(role) => Some(parse_role(raw, "ANONYMOUS", role)?),
    };
    let token = match raw.text("TOKEN")? {
        Some(token) => Some(token),
        None => tokens.iter().find(|t| t.role == Role::Admin).and_then(|t| t.clear.clone()),
    };
    let lease = raw.seconds("LEASE", LEASE_SECONDS.min(4.0 * sync_loop_timing.as_secs_f64()))?;
    if lease.as_secs_f64() < 1.0 {
        return Err(raw.bad("LEASE", "must be 1 second or more"));
    }
    let election_cycle = raw.seconds("ELECTION_CYCLE", 10.0)?;
    for (key, cycle) in [("ELECTION_CYCLE", election_cycle), ("SYNC_LOOP_TIMING", sync_loop_timing)] {
        if cycle.is_zero() {
            return Err(raw.bad(key, "must be more than 0 seconds"));
        }
    }
    let none_if_zero = |n: u64| (n > 0).then_some(n);
    let epsilon = raw.number("PLACEMENT_EPSILON")?.unwrap_or(0.05);
    if !(0.001..=10.0).contains(&epsilon) {
        return Err(raw.bad("PLACEMENT_EPSILON", format!("must lie between 0.001 and 10, not {epsilon}")));
    }
    let query_timeout = raw.seconds("QUERY_TIMEOUT", 300.0)?;
    let slow_query = raw.seconds("SLOW_QUERY", 1.0)?;
    Ok(Settings {
        storage_in_bytes: match raw.whole("STORAGE_IN_BYTES", u64::MAX)? {
            Some(bytes) => bytes,
            None => system::default_storage(&local_data),
        },
        local_data,
        election_cycle,
        read_port: raw.port("READ_PORT", 6444)?,
        write_port: raw.port("WRITE_PORT", 6222)?,
        sync_server_port: raw.port("SYNC_SERVER_PORT", 6111)?,
        sync_local_port: raw.port("SYNC_LOCAL_PORT", 6112)?,
        external_ip: raw.text("EXTERNAL_IP")?,
        host_check_wait_period: raw.seconds("HOST_CHECK_WAIT_PERIOD", 5.0)?,
        hostname,
        sync_loop_timing,
        rethinkdb_hosts: rethinkdb_hosts(raw)?,
        minimum_assignments,
        maximum_assignments: maximum,
        run_as_cold_storage_node: raw.flag("RUN_AS_COLD_STORAGE_NODE", false)?,
        cold_storage_path: raw.text_or("COLD_STORAGE_PATH", COLD_STORAGE_PATH)?,
        cold_mode: cold_mode(raw)?,
        cold_cache_bytes: raw.whole_or("COLD_CACHE_BYTES", 256 << 20)?,
        cold_check: raw.seconds("COLD_CHECK", 10.0)?,
        cold_read_timeout: more_than_zero(raw, "COLD_READ_TIMEOUT", 30.0)?,
        cold_store_segment: raw.expression("COLD_STORE_SEGMENT", false)?,
        copy_thread_pool_size: raw.whole("COPY_THREAD_POOL_SIZE", 1024)?.unwrap_or(16).max(1) as usize,
        log_level: raw.text_or("LOG_LEVEL", "INFO")?,
        log_json: match raw.text_or("LOG_FORMAT", "text")?.as_str() {
            "text" => false,
            "json" => true,
            other => return Err(raw.bad("LOG_FORMAT", format!("must be text or json, not {other:?}"))),
        },
        access_log: raw.flag("ACCESS_LOG", false)?,
        slow_query: (!slow_query.is_zero()).then_some(slow_query),
        slow_query_sql: raw.flag("SLOW_QUERY_SQL", true)?,
        otlp_endpoint: otlp_endpoint(raw)?,
        read_threads: match raw.whole("READ_THREADS", 4096)? {
            Some(threads) => threads.max(1) as usize,
            None => std::thread::available_parallelism().map_or(4, |n| 2 * n.get()),
        },
        store: store_url(raw)?,
        store_timeout: store_timeout(raw)?,
        store_options: store_options(raw)?,
        rethinkdb_database: rethinkdb_database(raw)?,
        rethinkdb_user: raw.text_or("RETHINKDB_USER", "admin")?,
        rethinkdb_password: raw.text_or("RETHINKDB_PASSWORD", "")?,
        meta_reader_password: raw.text("META_READER_PASSWORD")?,
        rethinkdb_tls: raw.text("RETHINKDB_TLS")?,
        listen: listen(raw, guarded)?,
        tokens,
        tokens_file,
        anonymous,
        token,
        tls: tls(raw)?,
        tls_ca: raw.text("TLS_CA")?.map(Into::into),
        http: http::resolve(raw)?,
        zone: raw.text("ZONE")?,
        drain: raw.flag("DRAIN", false)?,
        lease,
        heartbeat: match raw.text_or("HEARTBEAT", "node")?.as_str() {
            "node" => Heartbeat::Node,
            "segment" => Heartbeat::Segment,
            other => return Err(raw.bad("HEARTBEAT", format!("must be node or segment, not {other:?}"))),
        },
        handle_budget: match raw.whole("HANDLE_BUDGET", 10_000_000)? {
            Some(handles) => handles.max(8) as usize,
            None => (system::descriptor_limit() / 4).clamp(64, 8192),
        },
        max_rows: none_if_zero(raw.whole_or("MAX_ROWS", 0)?),
        max_bytes: none_if_zero(raw.whole_or("MAX_BYTES", 0)?),
        max_sql_bytes: raw.whole("MAX_SQL_BYTES", 1 << 30)?.unwrap_or(1_000_000) as usize,
        max_body_bytes: raw.whole("MAX_BODY_BYTES", 1 << 40)?.unwrap_or(256 << 20) as usize,
        max_expr_depth: raw.whole("MAX_EXPR_DEPTH", 1000)?.unwrap_or(1000) as u32,
        max_segments: raw.whole("MAX_SEGMENTS", 100_000_000)?.unwrap_or(200_000) as usize,
        max_variables: raw.whole("MAX_VARIABLES", 250_000)?.unwrap_or(250_000) as u32,
        max_memory_bytes: raw.whole_or("MAX_MEMORY_BYTES", 256 << 20)?,
        max_sqlite_memory: match raw.whole("MAX_SQLITE_MEMORY", i64::MAX as u64)? {
            Some(bytes) => bytes,
            None => system::memory() / 2,
        },
        query_timeout: (!query_timeout.is_zero()).then_some(query_timeout),
        promotion_pool_size: raw.whole("PROMOTION_POOL_SIZE", 65_536)?.unwrap_or(32).max(1) as usize,
        promotion_bandwidth: none_if_zero(raw.whole_or("PROMOTION_BANDWIDTH", 0)?),
        promotion_verify: match raw.text_or("PROMOTION_VERIFY", "hash")?.as_str() {
            "hash" => PromotionVerify::Hash,
            "length" => PromotionVerify::Length,
            other => return Err(raw.bad("PROMOTION_VERIFY", format!("must be hash or length, not {other:?}"))),
        },
        events_kept: raw.whole("EVENTS_KEPT", 10_000_000)?.unwrap_or(20_000) as usize,
        upload_grace: raw.seconds("UPLOAD_GRACE", 86_400.0)?,
        crash_at: raw.text("CRASH_AT")?,
        copy_bandwidth: none_if_zero(raw.whole_or("COPY_BANDWIDTH", 0)?),
        move_grace: raw.seconds("MOVE_GRACE", 300.0)?,
        move_segments: raw.whole_or("MOVE_SEGMENTS", 100_000)?,
        move_bytes: none_if_zero(raw.whole_or("MOVE_BYTES", 0)?),
        placement_epsilon: epsilon,
        keep_found: raw.flag("KEEP_FOUND", true)?,
        shutdown_grace: raw.seconds("SHUTDOWN_GRACE", 10.0)?,
    })
}

/// COLD_MODE; without it, whoever has a mount gets it.
/// Hosts and database become parts of a URL, so they hold nothing that ends such a part.
fn rethinkdb_hosts(raw: &Raw) -> Result<Vec<String>, ConfigError> {
    const KEY: &str = "RETHINKDB_HOSTS";
    let hosts = raw.texts(KEY)?.unwrap_or_else(|| vec!["localhost".into()]);
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    match hosts.iter().find(|host| host.is_empty() || !host.chars().all(plain)) {
        Some(host) => Err(raw.bad(KEY, format!("{host:?} is no host; write its name or address, or host:port"))),
        None => Ok(hosts),
    }
}

fn rethinkdb_database(raw: &Raw) -> Result<String, ConfigError> {
    const KEY: &str = "RETHINKDB_DATABASE";
    let name = raw.text_or(KEY, "trough_configuration")?;
    match name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        true => Ok(name),
        false => Err(raw.bad(KEY, format!("{name:?} is no database's name; it may hold letters, digits, _ and -"))),
    }
}

fn cold_mode(raw: &Raw) -> Result<ColdMode, ConfigError> {
    match raw.text("COLD_MODE")?.as_deref() {
        Some("mount") => return Ok(ColdMode::Mount),
        Some("direct") => return Ok(ColdMode::Direct),
        Some(other) => return Err(raw.bad("COLD_MODE", format!("must be mount or direct, not {other:?}"))),
        None => {}
    }
    let mount = COLD_STORAGE_PATH.split("/{").next().unwrap_or_default();
    let mounted = raw.text("COLD_STORAGE_PATH")?.is_some() || std::path::Path::new(mount).is_dir();
    Ok(if mounted { ColdMode::Mount } else { ColdMode::Direct })
}

fn more_than_zero(raw: &Raw, key: &str, default: f64) -> Result<std::time::Duration, ConfigError> {
    let seconds = raw.seconds(key, default)?;
    if seconds.is_zero() { Err(raw.bad(key, "must be more than 0 seconds")) } else { Ok(seconds) }
}

fn otlp_endpoint(raw: &Raw) -> Result<Option<String>, ConfigError> {
    let Some(endpoint) = raw.text("OTLP_ENDPOINT")? else { return Ok(None) };
    match url::Url::parse(&endpoint) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Some(endpoint)),
        _ => Err(raw.bad("OTLP_ENDPOINT", format!("{endpoint:?} is no URL; write http://HOST:4318"))),
    }
}

/// STORE, else the URL that HDFS_HOST, HDFS_PORT and HDFS_PATH make.
fn store_url(raw: &Raw) -> Result<String, ConfigError> {
    if let Some(store) = raw.text("STORE")? {
        if store.starts_with('/') {
            return Ok(format!("file://{store}"));
        }
        return match url::Url::parse(&store) {
            Ok(_) => Ok(store),
            Err(e) => {
                Err(raw.bad("STORE", format!("{store:?} is no URL ({e}); write file:///DIR or hdfs://HOST:PORT/DIR")))
            }
        };
    }
    let path = raw.text_or("HDFS_PATH", "/tmp/trough")?;
    if !path.starts_with('/') {
        return Err(raw.bad("HDFS_PATH", format!("must begin with a slash: {path:?}")));
    }
    let host = raw.text_or("HDFS_HOST", "localhost")?;
    let port = raw.port("HDFS_PORT", 8020)?;
    let port = if port == 0 { String::new() } else { format!(":{port}") };
    Ok(format!("hdfs://{host}{port}{}", path.trim_end_matches('/')))
}

fn store_timeout(raw: &Raw) -> Result<std::time::Duration, ConfigError> {
    let timeout = raw.seconds("STORE_TIMEOUT", 60.0)?;
    if timeout.is_zero() { Err(raw.bad("STORE_TIMEOUT", "must be more than 0 seconds")) } else { Ok(timeout) }
}

/// STORE_OPTIONS, and what has settings of its own.
fn store_options(raw: &Raw) -> Result<std::collections::BTreeMap<String, String>, ConfigError> {
    let mut options = raw.map("STORE_OPTIONS")?;
    match raw.text("HDFS_CLIENT")?.as_deref() {
        None | Some("native") => {}
        Some("hdrs") => drop(options.insert("hdfs.client".to_owned(), "hdrs".to_owned())),
        Some(other) => return Err(raw.bad("HDFS_CLIENT", format!("must be native or hdrs, not {other:?}"))),
    }
    for (key, option) in [("HDFS_REPLICATION", "dfs.replication"), ("HDFS_BLOCK_SIZE", "dfs.blocksize")] {
        if let Some(number) = raw.whole(key, 1 << 40)? {
            options.insert(option.to_owned(), number.to_string());
        }
    }
    Ok(options)
}

fn listen(raw: &Raw, tokens: bool) -> Result<IpAddr, ConfigError> {
    let Some(text) = raw.text("LISTEN")? else {
        let public = tokens || raw.text("ANONYMOUS")?.is_some();
        return Ok(IpAddr::V4(if public { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST }));
    };
    let text = if text == "localhost" { "127.0.0.1" } else { &text };
    let address: IpAddr = text.parse().map_err(|_| raw.bad("LISTEN", format!("{text:?} is no IP address")))?;
    if !address.is_loopback() && !tokens && raw.text("ANONYMOUS")?.is_none() {
        return Err(raw.bad(
            "LISTEN",
            format!("{address} can be reached from other machines: set TOKENS or TOKENS_FILE, or say ANONYMOUS: admin if everyone may do everything"),
        ));
    }
    Ok(address)
}

fn tls(raw: &Raw) -> Result<Option<TlsFiles>, ConfigError> {
    match (raw.text("TLS_CERT")?, raw.text("TLS_KEY")?) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert: cert.into(), key: key.into() })),
        (Some(_), None) => Err(raw.bad("TLS_CERT", "needs TLS_KEY beside it")),
        (None, Some(_)) => Err(raw.bad("TLS_KEY", "needs TLS_CERT beside it")),
    }
}

fn parse_role(raw: &Raw, key: &str, role: &str) -> Result<Role, ConfigError> {
    match role {
        "read" => Ok(Role::Read),
        "write" => Ok(Role::Write),
        "admin" => Ok(Role::Admin),
        other => Err(raw.bad(key, format!("{other:?} is no role: read, write or admin"))),
    }
}

/// TOKENS; what TOKENS_FILE holds is only checked here, as it may change.
fn tokens(raw: &Raw) -> Result<(Vec<Token>, Option<std::path::PathBuf>), ConfigError> {
    let listed = match raw.get("TOKENS") {
        None => Vec::new(),
        Some(list) => tokens::parse_list(list).map_err(|e| raw.bad("TOKENS", e))?,
    };
    let file = raw.text("TOKENS_FILE")?.map(std::path::PathBuf::from);
    if let Some(file) = &file {
        tokens::read_file(file).map_err(|e| raw.bad("TOKENS_FILE", e))?;
    }
    Ok((listed, file))
}
