//! MessagePack values straight into datums. Nothing is allocated per value but where a type's input function does: texts
//! and byte strings lie in an arena that is used again for each row, as a scan's tuple is valid until the next one.

use pgrx::{PgSqlErrorCode, pg_sys};
pub(crate) use trough_core::wire::{Item, ItemReader as Reader};
use trough_pushdown::fit::{self, Fitted, Reading, Unfit};

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
        let words = fit::row_words(bytes, columns);
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
        let words = fit::varlena_words(bytes.len());
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
        let words = fit::text_words(bytes.len());
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
    reading: Reading,
    /// The type's input function, if values are read by it.
    input: Option<Box<Input>>,
}

struct Input {
    function: pg_sys::FmgrInfo,
    io_param: pg_sys::Oid,
}

impl Decoder {
    /// For a column; may look its type up.
    pub(crate) fn new(stored: Stored) -> Self {
        let reading = Reading::new(stored.type_oid, stored.encoding, stored.invalid_text, stored.trusted);
        let input = reading.needs_input().then(|| {
            let (mut function, mut io_param) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            let mut info = Box::new(Input { function: pg_sys::FmgrInfo::default(), io_param });
            // SAFETY: the type exists; the function's information lives in a Box that stays with the scan.
            unsafe {
                pg_sys::getTypeInputInfo(stored.type_oid.into(), &mut function, &mut io_param);
                pg_sys::fmgr_info(function, &mut info.function);
            }
            info.io_param = io_param;
            info
        });
        Self { stored, reading, input }
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
        Ok(Some(match self.reading.fit(item)? {
            Fitted::Null => return Ok(None),
            Fitted::Int8(n) | Fitted::Timestamp(n) => pg_sys::Datum::from(n),
            Fitted::Bytes(bytes) => arena.varlena(bytes),
            Fitted::Float8(r) => pg_sys::Datum::from(r.to_bits()),
            Fitted::Int4(n) | Fitted::Date(n) => pg_sys::Datum::from(n),
            Fitted::Int2(n) => pg_sys::Datum::from(n),
            Fitted::Bool(b) => pg_sys::Datum::from(b),
            Fitted::Float4(r) => pg_sys::Datum::from(r.to_bits()),
            // A fixed-length type passed by reference.
            Fitted::Uuid(bytes) => pg_sys::Datum::from(arena.cstring(&bytes)),
            Fitted::Written(bytes) => {
                let text = arena.cstring(bytes);
                self.read(text)
            }
            Fitted::Made(text) => {
                let text = match fit::made_words(text.len()) {
                    Some(_) => arena.cstring(text.as_bytes()),
                    None => pg::pstrdup(&text),
                };
                self.read(text)
            }
            Fitted::Text(text) => pg::make_varlena(text.as_bytes()),
        }))
    }

    /// What the type's input function makes of a text, in the current memory context.
    fn read(&mut self, text: *mut std::ffi::c_char) -> pg_sys::Datum {
        match &mut self.input {
            // SAFETY: the function was looked up for the type; the text is NUL-terminated.
            Some(input) => unsafe {
                pg_sys::InputFunctionCall(&mut input.function, text, input.io_param, self.stored.typmod)
            },
            None => crate::state::numeric_in(text, self.stored.typmod),
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
