//! MessagePack values straight into datums. Nothing is allocated per value but where a type's input function does: texts
//! and byte strings lie in an arena that is used again for each row, as a scan's tuple is valid until the next one.

use pgrx::{PgSqlErrorCode, pg_sys};
pub(crate) use trough_core::wire::{Item, ItemReader as Reader};
use trough_pushdown::{Encoding, InvalidText, oid, time};

use crate::{errors::Failure, pg, plandata::Stored};

/// Memory for one row's texts. It does not move while a row is decoded.
#[derive(Default)]
pub(crate) struct Arena {
    words: Vec<u64>,
    used: usize,
}

impl Arena {
    /// Makes room for any row of a batch of so many bytes and columns: a varlena is its bytes, a header and padding.
    pub(crate) fn reserve(&mut self, bytes: usize, columns: usize) {
        let words = bytes / 8 + 4 * (columns + 1);
        if self.words.len() < words {
            self.words = vec![0; words.next_power_of_two()];
        }
        self.used = 0;
    }

    /// Forgets the last row.
    #[inline]
    pub(crate) fn reset(&mut self) {
        self.used = 0;
    }

    /// A varlena of the bytes.
    #[inline]
    fn varlena(&mut self, bytes: &[u8]) -> pg_sys::Datum {
        let size = bytes.len() + pg_sys::VARHDRSZ;
        let words = size.div_ceil(8);
        let place = &mut self.words[self.used..self.used + words];
        self.used += words;
        let start = place.as_mut_ptr().cast::<u8>();
        // SAFETY: `place` holds `size` bytes, aligned for a varlena.
        unsafe {
            pgrx::set_varsize_4b(start.cast(), size as i32);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.add(pg_sys::VARHDRSZ), bytes.len());
        }
        pg_sys::Datum::from(start)
    }

    /// A C string of the bytes.
    fn cstring(&mut self, bytes: &[u8]) -> *mut std::ffi::c_char {
        let words = (bytes.len() + 1).div_ceil(8);
        let place = &mut self.words[self.used..self.used + words];
        self.used += words;
        let start = place.as_mut_ptr().cast::<u8>();
        // SAFETY: `place` holds the bytes and a NUL.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
            *start.add(bytes.len()) = 0;
        }
        start.cast()
    }
}

/// How one column is decoded.
pub(crate) struct Decoder {
    stored: Stored,
    kind: Kind,
}

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
    Input(Box<Input>),
}

struct Input {
    function: pg_sys::FmgrInfo,
    io_param: pg_sys::Oid,
}

impl Decoder {
    /// For a column; may look its type up.
    pub(crate) fn new(stored: Stored) -> Self {
        let kind = match (stored.type_oid, stored.encoding) {
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
            (type_oid, _) => {
                let (mut function, mut io_param) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
                let mut info = Box::new(Input { function: pg_sys::FmgrInfo::default(), io_param });
                // SAFETY: the type exists; the function's information lives in a Box that stays with the scan.
                unsafe {
                    pg_sys::getTypeInputInfo(type_oid.into(), &mut function, &mut io_param);
                    pg_sys::fmgr_info(function, &mut info.function);
                }
                info.io_param = io_param;
                Kind::Input(info)
            }
        };
        Self { stored, kind }
    }

    /// The column.
    pub(crate) fn stored(&self) -> &Stored {
        &self.stored
    }

    /// The datum of a value; none for NULL.
    ///
    /// # Errors
    /// Why the value does not fit the column.
    #[inline]
    pub(crate) fn decode(&mut self, item: Item<'_>, arena: &mut Arena) -> Result<Option<pg_sys::Datum>, Unfit> {
        let datum = match (&mut self.kind, item) {
            (_, Item::Null) => return Ok(None),
            (Kind::Int8, Item::Integer(n)) => pg_sys::Datum::from(n),
            (Kind::Text, Item::Text(bytes)) => match valid(bytes) {
                true => arena.varlena(bytes),
                false => return self.invalid_text(bytes, arena),
            },
            (Kind::Float8, Item::Real(r)) => pg_sys::Datum::from(r.to_bits()),
            (Kind::Float8, Item::Integer(n)) => pg_sys::Datum::from((n as f64).to_bits()),
            (Kind::Int4, Item::Integer(n)) => pg_sys::Datum::from(i32::try_from(n).map_err(|_| Unfit::OutOfRange)?),
            (Kind::Int2, Item::Integer(n)) => pg_sys::Datum::from(i16::try_from(n).map_err(|_| Unfit::OutOfRange)?),
            (Kind::Bool, Item::Integer(n @ (0 | 1))) => pg_sys::Datum::from(n == 1),
            (Kind::Bool, Item::Integer(_)) => return Err(Unfit::Is("an integer other than 0 and 1")),
            (Kind::Float4, Item::Real(r)) => {
                let single = r as f32;
                if single.is_infinite() && r.is_finite() {
                    return Err(Unfit::OutOfRange);
                }
                pg_sys::Datum::from(single.to_bits())
            }
            (Kind::Float4, Item::Integer(n)) => pg_sys::Datum::from((n as f32).to_bits()),
            (Kind::Bytea, Item::Blob(bytes)) => arena.varlena(bytes),
            (Kind::Date, Item::Text(bytes)) => pg_sys::Datum::from(time::parse_date(bytes)?),
            (Kind::DateOfInstant, Item::Integer(_) | Item::Real(_)) => {
                pg_sys::Datum::from(match instant(item, self.stored.encoding)? {
                    time::INFINITY => time::DATE_INFINITY,
                    i64::MIN => i32::MIN,
                    us => us.div_euclid(time::DAY_US) as i32,
                })
            }
            (Kind::Timestamp { utc }, Item::Text(bytes)) if self.stored.encoding == Encoding::Iso8601 => {
                if self.stored.trusted && !time::is_canonical_timestamp(bytes, *utc) {
                    return Err(Unfit::Form);
                }
                pg_sys::Datum::from(time::parse_timestamp(bytes, *utc)?)
            }
            (Kind::Timestamp { .. }, Item::Integer(_) | Item::Real(_)) if self.stored.encoding != Encoding::Iso8601 => {
                pg_sys::Datum::from(instant(item, self.stored.encoding)?)
            }
            (Kind::UuidBlob, Item::Blob(bytes)) if bytes.len() == 16 => place(bytes, arena),
            (Kind::UuidBlob, Item::Blob(_)) => return Err(Unfit::Is("a blob of another length than 16")),
            (Kind::UuidText, Item::Text(bytes)) => {
                place(&trough_pushdown::column::parse_uuid(bytes).ok_or(Unfit::Is("a text that is no uuid"))?, arena)
            }
            (Kind::Numeric, Item::Integer(n)) => numeric(&n.to_string(), self.stored.typmod, arena),
            (Kind::Numeric, Item::Real(r)) => numeric(&format!("{r:e}"), self.stored.typmod, arena),
            (Kind::Numeric, Item::Text(bytes)) if valid(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| Unfit::Is("a text that is not UTF-8"))?;
                numeric(text, self.stored.typmod, arena)
            }
            (Kind::Input(_), Item::Text(bytes)) if valid(bytes) => self.input(bytes, arena),
            (Kind::Input(_), Item::Integer(n)) => self.input(n.to_string().as_bytes(), arena),
            (Kind::Input(_), Item::Real(r)) => self.input(format!("{r:?}").as_bytes(), arena),
            (_, Item::Text(bytes)) if !valid(bytes) => return self.invalid_text(bytes, arena),
            (_, Item::BadText(bytes)) if self.stored.encoding.reads_text() => return self.invalid_text(bytes, arena),
            _ => return Err(Unfit::Is(item.kind())),
        };
        Ok(Some(datum))
    }

    fn input(&mut self, bytes: &[u8], arena: &mut Arena) -> pg_sys::Datum {
        let Kind::Input(input) = &mut self.kind else { unreachable!("only called for this kind") };
        let text = arena.cstring(bytes);
        // SAFETY: the function was looked up for the type; the text is NUL-terminated.
        unsafe { pg_sys::InputFunctionCall(&mut input.function, text, input.io_param, self.stored.typmod) }
    }

    /// What a text that PostgreSQL cannot hold becomes.
    #[cold]
    fn invalid_text(&mut self, bytes: &[u8], arena: &mut Arena) -> Result<Option<pg_sys::Datum>, Unfit> {
        match self.stored.invalid_text {
            InvalidText::Error if bytes.contains(&0) => Err(Unfit::Text("holds the character NUL")),
            InvalidText::Error => Err(Unfit::Text("is not UTF-8")),
            InvalidText::Null => Ok(None),
            InvalidText::Replace => {
                let text = String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}");
                // Replacements may be longer than what the arena has room for, so this one is palloc'ed.
                if matches!(self.kind, Kind::Text) {
                    return Ok(Some(pg::make_varlena(text.as_bytes())));
                }
                let mut room = Arena::default();
                room.reserve(text.len(), 1);
                let datum = self.decode(Item::Text(text.as_bytes()), &mut room);
                std::mem::swap(arena, &mut room);
                datum
            }
        }
    }
}

fn instant(item: Item<'_>, encoding: Encoding) -> Result<i64, Unfit> {
    Ok(match item {
        Item::Integer(n) => time::timestamp_from_integer(n, encoding)?,
        Item::Real(r) => time::timestamp_from_real(r, encoding)?,
        _ => return Err(Unfit::Is(item.kind())),
    })
}

/// Whether PostgreSQL can hold the text.
#[inline]
fn valid(bytes: &[u8]) -> bool {
    !bytes.contains(&0) && (bytes.is_ascii() || std::str::from_utf8(bytes).is_ok())
}

/// Bytes in the arena, for a fixed-length type passed by reference.
fn place(bytes: &[u8], arena: &mut Arena) -> pg_sys::Datum {
    pg_sys::Datum::from(arena.cstring(bytes))
}

/// A numeric by its input function, in the current memory context.
fn numeric(text: &str, typmod: i32, arena: &mut Arena) -> pg_sys::Datum {
    crate::state::numeric_in(arena_text(text, arena), typmod)
}

/// Numbers written out may be longer than in the answer, so the arena is only used where there is room.
fn arena_text(text: &str, arena: &mut Arena) -> *mut std::ffi::c_char {
    if arena.words.len() - arena.used > text.len() / 8 + 1 && text.len() > 24 {
        arena.cstring(text.as_bytes())
    } else {
        pg::pstrdup(text)
    }
}

/// Why a value does not fit its column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Unfit {
    /// It is of another kind.
    Is(&'static str),
    /// It is a number outside the type's range.
    OutOfRange,
    /// It is a text that PostgreSQL cannot hold.
    Text(&'static str),
    /// It is a time in another form than the column's option promises.
    Form,
    /// It is a date or time in another form.
    Time(time::TimeError),
}

impl From<time::TimeError> for Unfit {
    fn from(error: time::TimeError) -> Self {
        match error {
            time::TimeError::OutOfRange => Self::OutOfRange,
            other => Self::Time(other),
        }
    }
}

/// The error that names segment, table and column.
#[cold]
pub(crate) fn unfit(unfit: &Unfit, stored: &Stored, table: &str, segment: Option<&str>) -> Failure {
    let place = match segment {
        Some(segment) => format!("segment \"{segment}\", table \"{table}\", column \"{}\"", stored.name),
        None => format!("table \"{table}\", column \"{}\" (over several segments)", stored.name),
    };
    let type_name = pg::type_name(stored.type_oid.into());
    match unfit {
        Unfit::Is(kind) => Failure::new(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("{place}: {kind} cannot be read as {type_name}"),
        ),
        Unfit::OutOfRange => Failure::new(
            PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            format!("{place}: a value is out of range for type {type_name}"),
        ),
        Unfit::Text(why) => {
            Failure::new(PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, format!("{place}: a text {why}"))
                .hint("The option invalid_text 'null' or 'replace', of the column, table or server, reads such texts.")
        }
        Unfit::Form => Failure::new(
            PgSqlErrorCode::ERRCODE_INVALID_DATETIME_FORMAT,
            format!("{place}: a text is not in the form that trusted promises"),
        )
        .hint("Without the option trusted, times in any ISO 8601 form are read and compared."),
        Unfit::Time(error) => {
            Failure::new(PgSqlErrorCode::ERRCODE_INVALID_DATETIME_FORMAT, format!("{place}: {error}"))
                .hint("The column's option encoding says how its dates and times are stored.")
        }
    }
}

/// The error for an answer that is not what was asked for.
#[cold]
pub(crate) fn garbage(table: &str, segment: Option<&str>, why: &str) -> Failure {
    let place = segment.map(|s| format!("segment \"{s}\", ")).unwrap_or_default();
    Failure::new(
        PgSqlErrorCode::ERRCODE_FDW_ERROR,
        format!("{place}table \"{table}\": the answer cannot be read: {why}"),
    )
}
