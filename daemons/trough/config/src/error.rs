//! What can be wrong with a configuration; each text names the key and says what to write instead.

use std::path::PathBuf;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file that was named cannot be read.
    #[error("read settings {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no YAML mapping.
    #[error("settings {place}: {message}")]
    Syntax {
        /// The file.
        place: String,
        /// What the parser says.
        message: String,
    },
    /// No such setting.
    #[error("{place}: there is no setting {key}{}", nearest.map(|n| format!(": did you mean {n}?")).unwrap_or_default())]
    UnknownKey {
        /// Where it stands.
        place: String,
        /// What was written.
        key: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// A value that the setting cannot have.
    #[error("{place}: {key}: {message}")]
    Value {
        /// Where it stands.
        place: String,
        /// Which setting.
        key: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// A Python lambda.
    #[error(
        "{place}: {key} is a Python lambda, and settings are not evaluated as Python; \
         write it in CEL (https://cel.dev) as\n  {key}: {suggestion:?}"
    )]
    Lambda {
        /// Where it stands.
        place: String,
        /// Which setting.
        key: String,
        /// The same in CEL, as far as it can be translated.
        suggestion: String,
    },
}
