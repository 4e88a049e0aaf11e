//! The daemons' settings: raw as typed (YAML file, environment over it) → resolved and checked.
//!
//! The file is the one that `TROUGH_SETTINGS` names, else `/etc/trough/settings.yml` if there is one. Every key can be
//! overridden by an environment variable with the prefix `TROUGH_`. [`keys::KEYS`] lists all of them.

pub mod error;
pub mod expr;
mod http;
pub mod keys;
mod raw;
mod resolve;
mod system;
pub mod tokens;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use trough_core::NodeId;

pub use error::ConfigError;
pub use expr::{ExprError, SegmentExpr};
pub use http::HttpLimits;
use raw::Raw;
pub use tokens::Token;

/// Where the settings are looked for when nothing names a file.
pub const DEFAULT_PATH: &str = "/etc/trough/settings.yml";

/// What a request may do. Each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Query segments, list schemas, see the status.
    Read,
    /// Write, provision and promote segments.
    Write,
    /// Shred segments, change schemas.
    Admin,
}

/// What a promotion compares before the upload becomes the canonical copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromotionVerify {
    /// Its length, and the SHA-256 of what is read back from the store.
    Hash,
    /// Its length.
    Length,
}

/// How a worker's liveness is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// One lease row a worker.
    Node,
    /// Every service row, as the Python trough does.
    Segment,
}

/// How a cold worker reads segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ColdMode {
    /// As files under COLD_STORAGE_PATH.
    Mount,
    /// As ranges of the canonical store's files.
    Direct,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// All settings, resolved and checked. [`keys::KEYS`] documents each.
#[derive(Clone)]
#[allow(missing_docs, reason = "keys::KEYS documents every setting, in one place")]
pub struct Settings {
    pub local_data: PathBuf,
    pub election_cycle: Duration,
    pub read_port: u16,
    pub write_port: u16,
    pub sync_server_port: u16,
    pub sync_local_port: u16,
    pub external_ip: Option<String>,
    pub host_check_wait_period: Duration,
    pub storage_in_bytes: u64,
    pub hostname: NodeId,
    pub sync_loop_timing: Duration,
    pub rethinkdb_hosts: Vec<String>,
    pub minimum_assignments: SegmentExpr<u32>,
    pub maximum_assignments: u32,
    pub run_as_cold_storage_node: bool,
    pub cold_storage_path: String,
    pub cold_mode: ColdMode,
    pub cold_cache_bytes: u64,
    pub cold_check: Duration,
    pub cold_read_timeout: Duration,
    pub cold_store_segment: SegmentExpr<bool>,
    pub copy_thread_pool_size: usize,
    pub log_level: String,
    pub log_json: bool,
    pub access_log: bool,
    /// None: no query is slow.
    pub slow_query: Option<Duration>,
    pub slow_query_sql: bool,
    /// None: OTEL_EXPORTER_OTLP_ENDPOINT decides.
    pub otlp_endpoint: Option<String>,
    pub read_threads: usize,
    /// URL of the canonical store.
    pub store: String,
    pub store_timeout: Duration,
    /// By the backend's own names.
    pub store_options: BTreeMap<String, String>,
    pub rethinkdb_database: String,
    pub rethinkdb_user: String,
    pub rethinkdb_password: String,
    /// Of `trough meta`'s second user.
    pub meta_reader_password: Option<String>,
    /// A CA file, or `system`.
    pub rethinkdb_tls: Option<String>,
    pub listen: IpAddr,
    pub tokens: Vec<Token>,
    /// More tokens; followed while it changes.
    pub tokens_file: Option<PathBuf>,
    /// The role of a request without a token.
    pub anonymous: Option<Role>,
    /// Shown to other nodes.
    pub token: Option<String>,
    pub tls: Option<TlsFiles>,
    pub tls_ca: Option<PathBuf>,
    pub http: HttpLimits,
    pub zone: Option<String>,
    pub drain: bool,
    pub lease: Duration,
    pub heartbeat: Heartbeat,
    pub handle_budget: usize,
    /// None: no limit.
    pub max_rows: Option<u64>,
    /// None: no limit.
    pub max_bytes: Option<u64>,
    pub max_sql_bytes: usize,
    pub max_body_bytes: usize,
    pub max_segments: usize,
    pub max_expr_depth: u32,
    pub max_variables: u32,
    pub max_memory_bytes: u64,
    pub max_sqlite_memory: u64,
    /// None: no limit.
    pub query_timeout: Option<Duration>,
    pub promotion_pool_size: usize,
    /// Bytes a second; none: no limit.
    pub promotion_bandwidth: Option<u64>,
    pub promotion_verify: PromotionVerify,
    pub events_kept: usize,
    pub upload_grace: Duration,
    pub crash_at: Option<String>,
    /// Bytes a second; none: no limit.
    pub copy_bandwidth: Option<u64>,
    pub move_grace: Duration,
    pub move_segments: u64,
    /// None: no limit.
    pub move_bytes: Option<u64>,
    pub placement_epsilon: f64,
    pub keep_found: bool,
    pub shutdown_grace: Duration,
}

impl std::fmt::Debug for Settings {
    /// Only what is certainly no secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("hostname", &self.hostname)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads `path`, or the file that `TROUGH_SETTINGS` names, or [`DEFAULT_PATH`] if there is one; then the
    /// environment.
    ///
    /// # Errors
    /// [`ConfigError`], which names the key, where it stands and what would be right.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let named = path
            .map(Path::to_owned)
            .or_else(|| std::env::var_os("TROUGH_SETTINGS").filter(|name| !name.is_empty()).map(PathBuf::from));
        let mut raw = Raw::default();
        let file = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PATH));
        match std::fs::read_to_string(&file) {
            Ok(text) => raw.add_yaml(&file.display().to_string(), &text)?,
            Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(ConfigError::Read { path: file, source }),
        }
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        raw.add_environment(environment)?;
        resolve::resolve(&raw)
    }

    /// Settings from YAML text alone: no file, no environment.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        Self::from_parts(text, [])
    }

    /// Settings from YAML text and an environment given as pairs (names with the prefix `TROUGH_`).
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn from_parts(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut raw = Raw::default();
        raw.add_yaml("settings", text)?;
        raw.add_environment(environment)?;
        resolve::resolve(&raw)
    }

    /// The metadata's URL, as `trough_reql::Options::from_url` reads it; holds the password.
    pub fn rethinkdb_url(&self) -> String {
        let encode = |s: &str| percent_encoding::utf8_percent_encode(s, percent_encoding::NON_ALPHANUMERIC).to_string();
        let user = match (self.rethinkdb_user.as_str(), self.rethinkdb_password.as_str()) {
            ("admin", "") => String::new(),
            (user, "") => format!("{}@", encode(user)),
            (user, password) => format!("{}:{}@", encode(user), encode(password)),
        };
        let tls = self.rethinkdb_tls.as_ref().map(|ca| format!("?tls={}", encode(ca))).unwrap_or_default();
        format!("rethinkdb://{user}{}/{}{tls}", self.rethinkdb_hosts.join(","), self.rethinkdb_database)
    }

    /// The host in the URLs that this node advertises: EXTERNAL_IP, else the loopback address if it listens there,
    /// else HOSTNAME.
    pub fn advertised_host(&self) -> String {
        match &self.external_ip {
            Some(host) => host.clone(),
            None if self.listen.is_loopback() => match self.listen {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            },
            None => self.hostname.to_string(),
        }
    }

    /// `http` or `https`, by whether listeners have TLS.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The base URL (with a slash at the end) that this node advertises for one of its ports.
    pub fn base_url(&self, port: u16) -> String {
        format!("{}://{}:{port}/", self.scheme(), self.advertised_host())
    }
}

#[cfg(test)]
mod tests;
