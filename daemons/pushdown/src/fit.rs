//! What a value that a worker sent is in its column's type: all of reading it but PostgreSQL's memory and input functions.

use trough_core::wire::Item;

use crate::{
    column::{Encoding, InvalidText, parse_uuid},
    oid::{self, Oid},
    time::{self, TimeError},
};

/// How the values of a column are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    kind: Kind,
    encoding: Encoding,
    invalid_text: InvalidText,
    trusted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Text,
    Bytea,
    Date,
    DateOfInstant,
    Timestamp { utc: bool },
    UuidText,
    UuidBlob,
    Numeric,
    Input,
}

/// A value as its type takes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Fitted<'a> {
    /// NULL, of any type.
    Null,
    /// Of `boolean`.
    Bool(bool),
    /// Of `smallint`.
    Int2(i16),
    /// Of `integer`.
    Int4(i32),
    /// Of `bigint`.
    Int8(i64),
    /// Of `real`.
    Float4(f32),
    /// Of `double precision`.
    Float8(f64),
    /// The bytes of a text that PostgreSQL can hold, or of `bytea`.
    Bytes(&'a [u8]),
    /// A text of which something was replaced, so that PostgreSQL can hold it.
    Text(String),
    /// Days since 2000-01-01.
    Date(i32),
    /// Microseconds since 2000-01-01.
    Timestamp(i64),
    /// Of `uuid`.
    Uuid([u8; 16]),
    /// What the type's input function is to read: UTF-8 without NUL.
    Written(&'a [u8]),
    /// The same, of a number that was written out or of a text of which something was replaced.
    Made(String),
}

/// Why a value does not fit its column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is of another kind.
    Is(&'static str),
    /// It is a number outside the type's range.
    OutOfRange,
    /// It is a text that PostgreSQL cannot hold.
    Text(&'static str),
    /// It is a time in another form than the column's option promises.
    Form,
    /// It is a date or time in another form.
    Time(TimeError),
}

impl From<TimeError> for Unfit {
    fn from(error: TimeError) -> Self {
        match error {
            TimeError::OutOfRange => Self::OutOfRange,
            other => Self::Time(other),
        }
    }
}

impl Reading {
    /// Of a column of a type; `trusted`: its times are promised to be in canonical form.
    pub fn new(type_oid: Oid, encoding: Encoding, invalid_text: InvalidText, trusted: bool) -> Self {
        let kind = match (type_oid, encoding) {
            (oid::BOOL, _) => Kind::Bool,
            (oid::INT2, _) => Kind::Int2,
            (oid::INT4, _) => Kind::Int4,
            (oid::INT8, _) => Kind::Int8,
            (oid::FLOAT4, _) => Kind::Float4,
            (oid::FLOAT8, _) => Kind::Float8,
            (oid::TEXT | oid::VARCHAR, Encoding::Text) => Kind::Text,
            (oid::BYTEA, _) => Kind::Bytea,
            (oid::DATE, Encoding::Iso8601) => Kind::Date,
            (oid::DATE, _) => Kind::DateOfInstant,
            (oid::TIMESTAMP, _) => Kind::Timestamp { utc: false },
            (oid::TIMESTAMPTZ, _) => Kind::Timestamp { utc: true },
            (oid::UUID, Encoding::UuidBlob) => Kind::UuidBlob,
            (oid::UUID, _) => Kind::UuidText,
            (oid::NUMERIC, _) => Kind::Numeric,
            _ => Kind::Input,
        };
        Self { kind, encoding, invalid_text, trusted }
    }

    /// Whether the type's input function reads some of its values; `numeric` has one that needs no look-up.
    pub fn needs_input(&self) -> bool {
        self.kind == Kind::Input
    }

    /// The value of the column.
    ///
    /// # Errors
    /// Why it does not fit.
    #[inline]
    pub fn fit<'a>(&self, item: Item<'a>) -> Result<Fitted<'a>, Unfit> {
        Ok(match (self.kind, item) {
            (_, Item::Null) => Fitted::Null,
            (Kind::Int8, Item::Integer(n)) => Fitted::Int8(n),
            (Kind::Text, Item::Text(bytes)) => match valid(bytes) {
                true => Fitted::Bytes(bytes),
                false => return self.invalid_text(bytes),
            },
            (Kind::Float8, Item::Real(r)) => Fitted::Float8(r),
            (Kind::Float8, Item::Integer(n)) => Fitted::Float8(n as f64),
            (Kind::Int4, Item::Integer(n)) => Fitted::Int4(i32::try_from(n).map_err(|_| Unfit::OutOfRange)?),
            (Kind::Int2, Item::Integer(n)) => Fitted::Int2(i16::try_from(n).map_err(|_| Unfit::OutOfRange)?),
            (Kind::Bool, Item::Integer(n @ (0 | 1))) => Fitted::Bool(n == 1),
            (Kind::Bool, Item::Integer(_)) => return Err(Unfit::Is("an integer other than 0 and 1")),
            (Kind::Float4, Item::Real(r)) => {
                let single = r as f32;
                if single.is_infinite() && r.is_finite() {
                    return Err(Unfit::OutOfRange);
                }
                Fitted::Float4(single)
            }
            (Kind::Float4, Item::Integer(n)) => Fitted::Float4(n as f32),
            (Kind::Bytea, Item::Blob(bytes)) => Fitted::Bytes(bytes),
            (Kind::Date, Item::Text(bytes)) => Fitted::Date(time::parse_date(bytes)?),
            (Kind::DateOfInstant, Item::Integer(_) | Item::Real(_)) => Fitted::Date(match self.instant(item)? {
                time::INFINITY => time::DATE_INFINITY,
                i64::MIN => i32::MIN,
                us => us.div_euclid(time::DAY_US) as i32,
            }),
            (Kind::Timestamp { utc }, Item::Text(bytes)) if self.encoding == Encoding::Iso8601 => {
                if self.trusted && !time::is_canonical_timestamp(bytes, utc) {
                    return Err(Unfit::Form);
                }
                Fitted::Timestamp(time::parse_timestamp(bytes, utc)?)
            }
            (Kind::Timestamp { .. }, Item::Integer(_) | Item::Real(_)) if self.encoding != Encoding::Iso8601 => {
                Fitted::Timestamp(self.instant(item)?)
            }
            (Kind::UuidBlob, Item::Blob(bytes)) => {
                Fitted::Uuid(bytes.try_into().map_err(|_| Unfit::Is("a blob of another length than 16"))?)
            }
            (Kind::UuidText, Item::Text(bytes)) => {
                Fitted::Uuid(parse_uuid(bytes).ok_or(Unfit::Is("a text that is no uuid"))?)
            }
            (Kind::Numeric | Kind::Input, Item::Text(bytes)) if valid(bytes) => Fitted::Written(bytes),
            (Kind::Numeric | Kind::Input, Item::Integer(n)) => Fitted::Made(n.to_string()),
            (Kind::Numeric, Item::Real(r)) => Fitted::Made(format!("{r:e}")),
            (Kind::Input, Item::Real(r)) => Fitted::Made(format!("{r:?}")),
            (_, Item::Text(bytes)) if !valid(bytes) => return self.invalid_text(bytes),
            (_, Item::BadText(bytes)) if self.encoding.reads_text() => return self.invalid_text(bytes),
            _ => return Err(Unfit::Is(item.kind())),
        })
    }

    fn instant(&self, item: Item<'_>) -> Result<i64, Unfit> {
        Ok(match item {
            Item::Integer(n) => time::timestamp_from_integer(n, self.encoding)?,
            Item::Real(r) => time::timestamp_from_real(r, self.encoding)?,
            _ => return Err(Unfit::Is(item.kind())),
        })
    }

    /// What a text that PostgreSQL cannot hold becomes.
    #[cold]
    fn invalid_text(&self, bytes: &[u8]) -> Result<Fitted<'static>, Unfit> {
        match self.invalid_text {
            InvalidText::Error if bytes.contains(&0) => Err(Unfit::Text("holds the character NUL")),
            InvalidText::Error => Err(Unfit::Text("is not UTF-8")),
            InvalidText::Null => Ok(Fitted::Null),
            InvalidText::Replace => {
                let text = String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}");
                match self.kind {
                    Kind::Text => Ok(Fitted::Text(text)),
                    Kind::Numeric | Kind::Input => Ok(Fitted::Made(text)),
                    // Of no other type can a text be that holds a replacement.
                    _ => Err(self.fit(Item::Text(text.as_bytes())).err().unwrap_or(Unfit::Is("a text"))),
                }
            }
        }
    }
}

/// Whether PostgreSQL can hold the text.
#[inline]
fn valid(bytes: &[u8]) -> bool {
    !bytes.contains(&0) && (bytes.is_ascii() || std::str::from_utf8(bytes).is_ok())
}

/// What a varlena has before its bytes.
const VARLENA_HEADER: usize = 4;
/// Texts longer than this, of those that are made here, do not go into a row's memory.
const MOST_MADE: usize = 24;

/// The memory, in words of eight bytes, that the values of any row need of a batch of so many bytes, in so many columns.
pub fn row_words(bytes: usize, columns: usize) -> usize {
    bytes / 8 + 4 * (columns + 1)
}

/// The words of a varlena of so many bytes.
#[inline]
pub fn varlena_words(bytes: usize) -> usize {
    (bytes + VARLENA_HEADER).div_ceil(8)
}

/// The words of so many bytes and a NUL.
#[inline]
pub fn text_words(bytes: usize) -> usize {
    (bytes + 1).div_ceil(8)
}

/// The same of a text that was made here; none if its memory is to come from elsewhere.
#[inline]
pub fn made_words(bytes: usize) -> Option<usize> {
    (bytes <= MOST_MADE).then(|| text_words(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(type_oid: Oid, encoding: Encoding, invalid_text: InvalidText) -> Reading {
        Reading::new(type_oid, encoding, invalid_text, true)
    }

    #[test]
    fn values_fit_or_say_why() {
        let of = |type_oid| reading(type_oid, Encoding::default_for(type_oid), InvalidText::Error);
        assert_eq!(of(oid::INT2).fit(Item::Integer(40_000)), Err(Unfit::OutOfRange));
        assert_eq!(of(oid::BOOL).fit(Item::Integer(1)), Ok(Fitted::Bool(true)));
        assert_eq!(of(oid::FLOAT4).fit(Item::Real(1e300)), Err(Unfit::OutOfRange));
        assert_eq!(of(oid::INT8).fit(Item::Text(b"1")), Err(Unfit::Is("a text")));
        assert_eq!(of(oid::NUMERIC).fit(Item::Real(0.25)), Ok(Fitted::Made("2.5e-1".into())));
        assert_eq!(of(oid::UUID).fit(Item::Text(b"x")), Err(Unfit::Is("a text that is no uuid")));
        assert_eq!(of(oid::TIMESTAMPTZ).fit(Item::Text(b"2000-01-01")), Err(Unfit::Form));
        let epoch = reading(oid::DATE, Encoding::EpochS, InvalidText::Error);
        assert_eq!(epoch.fit(Item::Real(f64::NEG_INFINITY)), Ok(Fitted::Date(i32::MIN)));
        assert_eq!(epoch.fit(Item::Integer(946_684_799)), Ok(Fitted::Date(-1)));
    }

    #[test]
    fn texts_that_postgresql_cannot_hold() {
        let fit = |type_oid, encoding, invalid_text, bytes| {
            reading(type_oid, encoding, invalid_text).fit(Item::Text(bytes)).map(|fitted| match fitted {
                Fitted::Text(text) | Fitted::Made(text) => Some(text),
                Fitted::Null => None,
                other => panic!("{other:?}"),
            })
        };
        let replaced = Ok(Some("a\u{fffd}".to_owned()));
        for (type_oid, encoding) in [(oid::TEXT, Encoding::Text), (oid::TEXT, Encoding::Input), (1, Encoding::Input)] {
            assert_eq!(fit(type_oid, encoding, InvalidText::Replace, b"a\xff"), replaced);
            assert_eq!(fit(type_oid, encoding, InvalidText::Replace, b"a\0"), replaced);
            assert_eq!(fit(type_oid, encoding, InvalidText::Null, b"a\0"), Ok(None));
            assert_eq!(fit(type_oid, encoding, InvalidText::Error, b"\xff"), Err(Unfit::Text("is not UTF-8")));
        }
        let uuid = fit(oid::UUID, Encoding::UuidText, InvalidText::Replace, b"\xff");
        assert_eq!(uuid, Err(Unfit::Is("a text that is no uuid")));
    }
}
