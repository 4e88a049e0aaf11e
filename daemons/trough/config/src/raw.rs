//! Settings as they were typed: the YAML file's values with the environment's over them, each with its place.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use serde_yaml_ng::Value;

use crate::{
    error::ConfigError,
    expr::{ExprValue, SegmentExpr, arithmetic, translate_lambda},
    keys,
};

/// The prefix of a setting's name in the environment.
pub(crate) const ENV_PREFIX: &str = "TROUGH_";

/// The longest time that a setting may name: a century.
const MOST_SECONDS: f64 = 3_155_760_000.0;
/// Settings that are texts, whatever they look like.
const SECRETS: [&str; 2] = ["TOKEN", "RETHINKDB_PASSWORD"];

#[derive(Clone, Debug, Default)]
pub(crate) struct Raw {
    values: BTreeMap<&'static str, (String, Value)>,
}

impl Raw {
    /// Reads the YAML text of `place`.
    pub(crate) fn add_yaml(&mut self, place: &str, text: &str) -> Result<(), ConfigError> {
        let syntax = |message: String| ConfigError::Syntax { place: place.to_owned(), message };
        let document: Value = serde_yaml_ng::from_str(text).map_err(|e| syntax(e.to_string()))?;
        let mapping = match document {
            Value::Null => return Ok(()),
            Value::Mapping(mapping) => mapping,
            _ => return Err(syntax("the file must hold settings, one `KEY: value` a line".into())),
        };
        for (key, value) in mapping {
            let Value::String(key) = key else { return Err(syntax(format!("{key:?} is no setting's name"))) };
            self.add(place, &key, value)?;
        }
        Ok(())
    }

    /// Adds what the environment says; names that no setting has are only warned of. `TROUGH_KEY_FILE` names a file that
    /// holds what `TROUGH_KEY` would: a secret of a container or a credential of a systemd unit.
    pub(crate) fn add_environment(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        let mut given = HashSet::new();
        for (name, text) in environment {
            let Some(key) = name.strip_prefix(ENV_PREFIX) else { continue };
            let (key, text) =
                match key.strip_suffix("_FILE").filter(|base| keys::is_known(base) && !keys::is_known(key)) {
                    Some(base) => (base, read_file(base, &name, &text)?),
                    None => (key, text),
                };
            if keys::is_known(key) {
                if !given.insert(key.to_owned()) {
                    let message = format!("is given twice, by {ENV_PREFIX}{key} and {ENV_PREFIX}{key}_FILE; unset one");
                    return Err(ConfigError::Value { place: "environment".into(), key: key.to_owned(), message });
                }
                let value = match serde_yaml_ng::from_str(&text) {
                    // An expression with a colon in it, as `a ? 1 : 2`.
                    Ok(Value::Mapping(_)) if !text.trim_start().starts_with('{') => Value::String(text),
                    // A secret may look like a number or a flag.
                    Ok(value) if SECRETS.contains(&key) && !value.is_string() => Value::String(text),
                    Ok(value) => value,
                    Err(_) => Value::String(text),
                };
                self.add("environment", key, value)?;
            } else if key != "SETTINGS"
                && !keys::IGNORED.contains(&key)
                && let Some(nearest) = keys::nearest(key)
            {
                tracing::warn!(variable = name, nearest, "environment variable names no setting");
            }
        }
        Ok(())
    }

    fn add(&mut self, place: &str, key: &str, value: Value) -> Result<(), ConfigError> {
        if let Some(known) = keys::KEYS.iter().find(|k| k.name == key) {
            self.values.insert(known.name, (place.to_owned(), value));
            return Ok(());
        }
        if keys::IGNORED.contains(&key) {
            tracing::info!(key, "setting of the Python trough without a meaning here");
            return Ok(());
        }
        Err(ConfigError::UnknownKey { place: place.to_owned(), key: key.to_owned(), nearest: keys::nearest(key) })
    }

    /// The value, unless it is missing or null.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        debug_assert!(keys::is_known(key), "{key} is not in the table of settings");
        self.values.get(key).map(|(_, value)| value).filter(|v| !v.is_null())
    }

    /// An error about the value of `key`.
    pub(crate) fn bad(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let place = self.values.get(key).map_or("defaults", |(place, _)| place).to_owned();
        ConfigError::Value { place, key: key.to_owned(), message: message.into() }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(s)) if s.is_empty() => Ok(None),
            Some(Value::String(s)) => Ok(Some(s.clone())),
            Some(Value::Number(n)) => Ok(Some(n.to_string())),
            Some(Value::Bool(b)) => Ok(Some(b.to_string())),
            Some(_) => Err(self.bad(key, "must be a text")),
        }
    }

    pub(crate) fn text_or(&self, key: &str, default: &str) -> Result<String, ConfigError> {
        Ok(self.text(key)?.unwrap_or_else(|| default.to_owned()))
    }

    /// A number: written as one, as a text (`"2"`), with a unit of bytes (`16 GiB`) or as arithmetic (`16*1024**3`).
    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        let number = match self.get(key) {
            None => return Ok(None),
            Some(Value::Number(n)) => n.as_f64().ok_or_else(|| self.bad(key, "must be a number"))?,
            Some(Value::String(s)) if s.is_empty() => return Ok(None),
            Some(Value::String(s)) => parse_number(s).map_err(|message| self.bad(key, message))?,
            Some(_) => return Err(self.bad(key, "must be a number")),
        };
        if number.is_finite() && number >= 0.0 {
            Ok(Some(number))
        } else {
            Err(self.bad(key, format!("must be 0 or more, not {number}")))
        }
    }

    pub(crate) fn whole(&self, key: &str, max: u64) -> Result<Option<u64>, ConfigError> {
        match self.number(key)? {
            Some(n) if n.trunc() > max as f64 => Err(self.bad(key, format!("must be at most {max}, not {n}"))),
            other => Ok(other.map(|n| n as u64)),
        }
    }

    pub(crate) fn whole_or(&self, key: &str, default: u64) -> Result<u64, ConfigError> {
        Ok(self.whole(key, u64::MAX)?.unwrap_or(default))
    }

    pub(crate) fn port(&self, key: &str, default: u16) -> Result<u16, ConfigError> {
        Ok(self.whole(key, u16::MAX.into())?.map_or(default, |p| p as u16))
    }

    /// Seconds, at most [`MOST_SECONDS`]: whatever is computed of them stays far from where a `Duration` overflows.
    pub(crate) fn seconds(&self, key: &str, default: f64) -> Result<Duration, ConfigError> {
        let seconds = self.number(key)?.unwrap_or(default);
        if seconds > MOST_SECONDS {
            return Err(self.bad(key, format!("must be at most {MOST_SECONDS} seconds, a century, not {seconds}")));
        }
        Duration::try_from_secs_f64(seconds).map_err(|e| self.bad(key, format!("must be seconds: {e}")))
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(b)) => Ok(*b),
            Some(Value::Number(n)) => Ok(n.as_f64() != Some(0.0)),
            Some(Value::String(s)) => match s.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Ok(true),
                "false" | "no" | "off" | "0" | "" | "none" => Ok(false),
                other => Err(self.bad(key, format!("must be true or false, not {other:?}"))),
            },
            Some(_) => Err(self.bad(key, "must be true or false")),
        }
    }

    /// A list of texts; a text alone is split at commas.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let list = match self.get(key) {
            None => return Ok(None),
            Some(Value::String(s)) => s.split(',').map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect(),
            Some(Value::Sequence(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| self.bad(key, "must be a list of texts")))
                .collect::<Result<Vec<_>, _>>()?,
            Some(_) => return Err(self.bad(key, "must be a list of texts")),
        };
        if list.is_empty() { Err(self.bad(key, "the list is empty")) } else { Ok(Some(list)) }
    }

    /// A map of texts; a text alone is `key=value, key=value`.
    pub(crate) fn map(&self, key: &str) -> Result<BTreeMap<String, String>, ConfigError> {
        let shape = || self.bad(key, "must be a map of texts, or key=value, key=value");
        match self.get(key) {
            None => Ok(BTreeMap::new()),
            Some(Value::String(s)) => s
                .split(',')
                .filter(|part| !part.trim().is_empty())
                .map(|part| part.split_once('=').map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned())))
                .collect::<Option<_>>()
                .ok_or_else(shape),
            Some(Value::Mapping(map)) => map
                .iter()
                .map(|(k, v)| {
                    let value = match v {
                        Value::String(s) => s.clone(),
                        Value::Number(n) => n.to_string(),
                        Value::Bool(b) => b.to_string(),
                        _ => return None,
                    };
                    Some((k.as_str()?.to_owned(), value))
                })
                .collect::<Option<_>>()
                .ok_or_else(shape),
            Some(_) => Err(shape()),
        }
    }

    /// A constant, or a CEL expression of the segment's id. A Python lambda is refused, with its equivalent.
    pub(crate) fn expression<T: ExprValue>(&self, key: &str, default: T) -> Result<SegmentExpr<T>, ConfigError> {
        let source = match self.get(key) {
            None => return Ok(SegmentExpr::Constant(default)),
            Some(Value::Bool(b)) => b.to_string(),
            Some(Value::Number(n)) => n.to_string(),
            Some(Value::String(s)) => match s.as_str() {
                "True" => "true".to_owned(),
                "False" => "false".to_owned(),
                other => other.to_owned(),
            },
            Some(_) => return Err(self.bad(key, format!("must be {} or a CEL expression", T::WANTED))),
        };
        if source.trim_start().starts_with("lambda") {
            let place = self.values.get(key).map_or("defaults", |(place, _)| place).to_owned();
            return Err(ConfigError::Lambda { place, key: key.to_owned(), suggestion: translate_lambda(&source) });
        }
        SegmentExpr::compile(&source).map_err(|message| self.bad(key, message))
    }
}

/// The text of a file that the environment names, without the newline at its end.
fn read_file(key: &str, variable: &str, path: &str) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Value {
        place: "environment".into(),
        key: key.to_owned(),
        message: format!("{variable} names {path}, which cannot be read: {e}"),
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn parse_number(text: &str) -> Result<f64, String> {
    let text = text.trim();
    if let Ok(number) = text.replace('_', "").parse::<f64>() {
        return Ok(number);
    }
    let units = [
        ("KiB", 1u64 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("PiB", 1 << 50),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("PB", 1_000_000_000_000_000),
    ];
    for (unit, factor) in units {
        if let Some(number) = text.strip_suffix(unit) {
            let number: f64 = number.trim().parse().map_err(|_| format!("{text:?} is no number"))?;
            return Ok(number * factor as f64);
        }
    }
    arithmetic(text)
}
