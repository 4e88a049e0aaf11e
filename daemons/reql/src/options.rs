//! Where and how to connect.

use std::{fmt, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use crate::{error::Error, proto::DEFAULT_PORT};

/// How to check a server's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// A PEM file of the authorities to trust; without one the web's.
    pub ca_file: Option<PathBuf>,
    /// The name that the certificate must carry; without one the host's.
    pub server_name: Option<String>,
}

/// Where and how to connect.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// Hosts and ports of one cluster; any of them will do.
    pub hosts: Vec<(String, u16)>,
    /// The database of [`r::table`](crate::r::table).
    pub db: String,
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// TLS, if wanted.
    pub tls: Option<TlsOptions>,
    /// How long one host may take to connect, TLS and handshake included; and to answer whether it is still there, when a
    /// query timed out and nothing else came.
    pub connect_timeout: Duration,
    /// How long a query may take from being asked to its last row; for a cursor, each batch.
    pub query_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            hosts: vec![("localhost".to_owned(), DEFAULT_PORT)],
            db: "test".to_owned(),
            user: "admin".to_owned(),
            password: String::new(),
            tls: None,
            connect_timeout: Duration::from_secs(5),
            query_timeout: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Options")
            .field("hosts", &self.hosts)
            .field("db", &self.db)
            .field("user", &self.user)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Reads `rethinkdb://[user[:password]@]host[:port][,host[:port]…][/database][?option=value…]`. User, password and
    /// database are percent-encoded; an IPv6 address stands in brackets. Options:
    ///
    /// - `tls`: `system` (also `true`) for the web's authorities, a PEM file of one's own, or `false`
    /// - `tls_name`: the name that the server's certificate must carry
    /// - `connect_timeout`, `query_timeout`: in seconds
    ///
    /// # Errors
    /// [`Error::Url`] says what is wrong; it never shows the password.
    pub fn from_url(url: &str) -> Result<Options, Error> {
        let bad = |what: String| Error::Url(format!("RethinkDB URL: {what}"));
        let rest = url
            .strip_prefix("rethinkdb://")
            .ok_or_else(|| bad("it must begin with rethinkdb://, as in rethinkdb://host:28015/database".to_owned()))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let decode = |text: &str, what: &str| {
            percent_decode_str(text)
                .decode_utf8()
                .map(|text| text.into_owned())
                .map_err(|_| bad(format!("the {what} is not UTF-8")))
        };

        let mut options = Options::default();
        let hosts = match authority.rsplit_once('@') {
            None => authority,
            Some((login, hosts)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                options.user = decode(user, "user")?;
                options.password = decode(password, "password")?;
                if options.user.is_empty() {
                    return Err(bad("the user's name before @ is empty".to_owned()));
                }
                hosts
            }
        };
        options.hosts = hosts.split(',').map(|host| parse_host(host).map_err(bad)).collect::<Result<_, _>>()?;

        let path = decode(path.strip_suffix('/').unwrap_or(path), "database")?;
        if !path.is_empty() {
            if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
                return Err(bad(format!("invalid database name {path:?} (letters, digits, _ and - only)")));
            }
            options.db = path;
        }
        let (mut tls, mut tls_name) = (None, None);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let seconds = || {
                let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                seconds
                    .filter(|time| !time.is_zero())
                    .ok_or_else(|| bad(format!("{key} must be a positive number of seconds, not {value:?}")))
            };
            match key.as_ref() {
                "tls" => tls = Some(value.into_owned()),
                "tls_name" => tls_name = Some(value.into_owned()),
                "connect_timeout" => options.connect_timeout = seconds()?,
                "query_timeout" => options.query_timeout = seconds()?,
                _ => {
                    let known = "tls, tls_name, connect_timeout, query_timeout";
                    return Err(bad(format!("unknown option {key:?}; there are {known}")));
                }
            }
        }
        options.tls = match tls.as_deref() {
            None if tls_name.is_none() => None,
            Some("false" | "0" | "no" | "off") => None,
            None | Some("" | "true" | "1" | "yes" | "on" | "system") => {
                Some(TlsOptions { ca_file: None, server_name: tls_name })
            }
            Some(file) => Some(TlsOptions { ca_file: Some(file.into()), server_name: tls_name }),
        };
        Ok(options)
    }
}

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
fn parse_host(text: &str) -> Result<(String, u16), String> {
    let invalid = || format!("invalid host {text:?}");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(invalid)?;
            match rest {
                "" => (host, None),
                rest => (host, Some(rest.strip_prefix(':').ok_or_else(invalid)?)),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '%') {
        return Err(invalid());
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port.parse().map_err(|_| format!("invalid port {port:?} of host {host:?}"))?,
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let plain = Options::from_url("rethinkdb://localhost").expect("a plain URL");
        assert_eq!(plain, Options { hosts: vec![("localhost".to_owned(), 28015)], ..Options::default() });
        let full = Options::from_url(
            "rethinkdb://trough:p%40ss%2F:word@h1:1,[::1]:2,10.0.0.3/trough_configuration?tls=%2Fca.pem&tls_name=db&query_timeout=2.5",
        )
        .expect("a full URL");
        assert_eq!(full.hosts, [("h1".to_owned(), 1), ("::1".to_owned(), 2), ("10.0.0.3".to_owned(), 28015)]);
        assert_eq!((full.user.as_str(), full.password.as_str()), ("trough", "p@ss/:word"));
        assert_eq!(full.db, "trough_configuration");
        assert_eq!(full.tls, Some(TlsOptions { ca_file: Some("/ca.pem".into()), server_name: Some("db".to_owned()) }));
        assert_eq!(full.query_timeout, Duration::from_millis(2500));
        assert!(!format!("{full:?}").contains("p@ss"));
        let system = Options::from_url("rethinkdb://h/d/?tls=system").expect("TLS");
        assert_eq!((system.tls, system.db.as_str()), (Some(TlsOptions::default()), "d"));
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        for (url, text) in [
            ("http://h", "begin with rethinkdb://"),
            ("rethinkdb://", "invalid host"),
            ("rethinkdb://a,,b", "invalid host"),
            ("rethinkdb://h:port", "invalid port"),
            ("rethinkdb://h:99999/d", "invalid port"),
            ("rethinkdb://[::1/d", "invalid host"),
            ("rethinkdb://h/a b", "invalid database"),
            ("rethinkdb://h/a/b", "invalid database"),
            ("rethinkdb://:pw@h/a", "user's name"),
            ("rethinkdb://h/d?tsl=1", "unknown option"),
            ("rethinkdb://h/d?query_timeout=-1", "positive number"),
        ] {
            let error = Options::from_url(url).expect_err(url).to_string();
            assert!(error.contains(text), "{url}: {error}");
        }
    }
}
