//! Identifiers. Each is checked once, when it is made; code that holds one may rely on it.

use std::{fmt, str::FromStr, sync::Arc};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Deserialize, Serialize};

/// The greatest length of an identifier, in bytes: what a file name may have, less nothing.
pub const MAX_ID_BYTES: usize = 255;

/// Everything that must not stand bare in a URL's query or path segment.
const URL_UNSAFE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'/')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'[')
    .add(b']')
    .add(b'@')
    .add(b';')
    .add(b',');

/// Why a text is no identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("{kind} id is empty")]
    Empty {
        /// Which kind of identifier was asked for.
        kind: &'static str,
    },
    /// The text is longer than [`MAX_ID_BYTES`].
    #[error("{kind} id of {bytes} bytes is too long (at most {MAX_ID_BYTES}): {start:?}…")]
    TooLong {
        /// Which kind of identifier was asked for.
        kind: &'static str,
        /// How long it is.
        bytes: usize,
        /// Its first characters.
        start: String,
    },
    /// The text holds something that an identifier must not hold.
    #[error("{kind} id {id:?} is not allowed: it {why}")]
    Forbidden {
        /// Which kind of identifier was asked for.
        kind: &'static str,
        /// The offending text.
        id: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

fn check(kind: &'static str, id: &str, max: usize) -> Result<(), IdError> {
    let forbid = |why| Err(IdError::Forbidden { kind, id: id.chars().take(80).collect(), why });
    if id.is_empty() {
        return Err(IdError::Empty { kind });
    }
    if id.len() > max {
        return Err(IdError::TooLong { kind, bytes: id.len(), start: id.chars().take(40).collect() });
    }
    if id.starts_with('.') {
        return forbid("begins with a dot");
    }
    if id.contains("..") {
        return forbid("contains '..'");
    }
    if id.contains(['/', '\\']) {
        return forbid("contains a path separator");
    }
    if id.chars().any(char::is_control) {
        return forbid("contains a control character");
    }
    Ok(())
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `id` and makes an identifier of it.
            ///
            /// # Errors
            /// [`IdError`] if it is empty, too long, begins with a dot, or holds `..`, a path separator or a
            /// control character.
            pub fn new(id: &str) -> Result<Self, IdError> {
                check($kind, id, MAX_ID_BYTES)?;
                Ok(Self(id.into()))
            }

            /// The identifier as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The identifier percent-encoded, fit for a URL's query value or a path segment.
            pub fn url_encoded(&self) -> String {
                utf8_percent_encode(&self.0, URL_UNSAFE).to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(s: String) -> Result<Self, IdError> {
                Self::new(&s)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id_type!(
    /// A segment's name: the shard key's value. It may hold a colon, so ids are never parsed back out of keys.
    SegmentId, "segment"
);
id_type!(
    /// A worker's or sync server's name (HOSTNAME).
    NodeId, "node"
);
id_type!(
    /// A registered schema's name.
    SchemaId, "schema"
);

impl SegmentId {
    /// The segment's file name in a worker's LOCAL_DATA: the id with `.sqlite` behind it.
    pub fn file_name(&self) -> String {
        format!("{}.sqlite", self.0)
    }

    /// The canonical copy's directory below HDFS_PATH: the id without its last three characters
    /// (empty for ids of up to three, which lie in HDFS_PATH itself).
    pub fn store_prefix(&self) -> &str {
        let cut = self.0.char_indices().rev().nth(2).map_or(0, |(at, _)| at);
        &self.0[..cut]
    }

    /// The canonical copy's path below HDFS_PATH: `PREFIX/ID.sqlite`, as the Python trough lays it out.
    pub fn store_path(&self) -> String {
        match self.store_prefix() {
            "" => self.file_name(),
            prefix => format!("{prefix}/{}", self.file_name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_could_leave_its_directory() {
        for bad in ["", "../x", "a/b", "a\\b", ".hidden", "a..b", "a\nb", "a\0b", &"x".repeat(300)] {
            assert!(SegmentId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["300123", "a:b", "N/A".replace('/', "").as_str(), "é中😀", "a b", &"x".repeat(255)] {
            assert!(SegmentId::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn store_path_drops_the_last_three_characters() {
        let path = |id: &str| SegmentId::new(id).expect("valid").store_path();
        assert_eq!(path("300123"), "300/300123.sqlite");
        assert_eq!(path("seg-1"), "se/seg-1.sqlite");
        assert_eq!(path("NA"), "NA.sqlite");
        assert_eq!(path("abc"), "abc.sqlite");
        assert_eq!(path("é中😀x"), "é/é中😀x.sqlite");
    }
}
