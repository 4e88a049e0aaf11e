//! The query and write protocols (`POST /v1/query`, `POST /v1/write`): requests, and the frames of an answer.
//!
//! An answer in MessagePack (`application/msgpack`) is a sequence of arrays, whose first element tells the kind:
//!
//! | frame | elements |
//! |---|---|
//! | columns | `[0, segment, [name, …]]`: before the first rows, and again where they change |
//! | rows | `[1, segment, count, bin]`: the bin holds `count × columns` MessagePack values, row after row |
//! | segment error | `[2, segment, code, message, hint]` |
//! | progress | `[3, segments done]`: at most once a second, so that a silent peer is a dead peer |
//! | error | `[8, code, message]`: the whole request failed; nothing follows |
//! | end | `[9, {ok, failed, rows, bytes, micros}]` |
//!
//! Values are nil, integers, float64, str and bin. A TEXT that is not valid UTF-8, which no str can hold, is an
//! extension of type 1 ([`INVALID_TEXT`]) with the text's bytes.
//!
//! `segment` is an index into the request's segments, or nil for what the reduce statement made. A stream that ends
//! without an end frame failed.

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{ErrorCode, SegmentError, SegmentId, Value};

mod items;
pub mod scrub;
mod write;

pub use items::{Item, ItemReader};
pub use write::{Packed, SegmentWrite, WriteRequest, WriteResponse, WriteResult, WriteStatement};

/// The MessagePack extension type of a TEXT that is not valid UTF-8; its data are the text's bytes.
pub const INVALID_TEXT: i8 = 1;

/// The media type of the framed answer.
pub const MSGPACK: &str = "application/msgpack";
/// The media type of one JSON object a line.
pub const NDJSON: &str = "application/x-ndjson";

/// `POST /v1/query`: `map` runs on each segment; its rows become the table `partial`, over which `reduce` runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct QueryRequest {
    /// The segments to ask, each once.
    pub segments: Vec<SegmentId>,
    /// One SQLite SELECT. `?1`, `?2`, … are `params`; `:segment` is the segment's id.
    pub map: String,
    /// One SQLite SELECT over the table `partial` (columns as `map` names them), run on the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduce: Option<String>,
    /// Bound to `map`.
    #[serde(default)]
    pub params: Vec<Value>,
    /// Bound to `reduce`.
    #[serde(default)]
    pub reduce_params: Vec<Value>,
    /// How long the whole request may take, in milliseconds from its arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// More rows than this are an error ([`ErrorCode::RowLimit`]), never a silent cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<u64>,
    /// More bytes of rows than this are an error ([`ErrorCode::ByteLimit`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Whether `map` relies on texts that sort by their bytes in UTF-8: a segment that holds them in UTF-16 is then an error
    /// ([`ErrorCode::TypeMismatch`]), as SQLite sorts by the bytes that it holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bytewise: bool,
    /// Set by a worker that passes the request on to the holder of a write lock, so that it goes one step only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxied: bool,
}

/// The counts in an end frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryStats {
    /// Segments that answered.
    pub ok: u64,
    /// Segments that failed; each had its error frame.
    pub failed: u64,
    /// Rows sent.
    pub rows: u64,
    /// Bytes of rows sent.
    pub bytes: u64,
    /// Time on the worker, in microseconds.
    pub micros: u64,
}

/// One frame of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Names of the columns of the rows that follow.
    Columns {
        /// Index of the segment, or none for the reduce statement's.
        segment: Option<u32>,
        /// The names, as SQLite gives them.
        names: Vec<String>,
    },
    /// Some rows.
    Rows {
        /// Index of the segment, or none for the reduce statement's.
        segment: Option<u32>,
        /// How many rows.
        count: u32,
        /// `count × columns` MessagePack values.
        data: Bytes,
    },
    /// One segment failed.
    SegmentError {
        /// Index of the segment.
        segment: u32,
        /// Why.
        error: SegmentError,
    },
    /// Still at work.
    Progress {
        /// Segments done so far.
        done: u64,
    },
    /// The whole request failed.
    Error(SegmentError),
    /// The answer is complete.
    End(QueryStats),
}

/// A frame that cannot be read: the peer speaks something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is no query protocol stream: {0}")]
pub struct FrameError(pub String);

/// Frames larger than this are taken for garbage.
pub const MAX_FRAME_BYTES: usize = 256 << 20;

/// An end frame with more counts than this is garbage: what is no whole frame yet is read anew whenever bytes come.
const MOST_COUNTS: u64 = 1_000;

impl Frame {
    /// Appends the frame in MessagePack.
    pub fn encode(&self, out: &mut Vec<u8>) {
        use rmp::encode as e;
        // Writing to a Vec cannot fail.
        fn segment(out: &mut Vec<u8>, segment: Option<u32>) {
            let _ = match segment {
                Some(i) => e::write_uint(out, i.into()).map(drop).map_err(drop),
                None => e::write_nil(out).map_err(drop),
            };
        }
        let head = |out: &mut Vec<u8>, len, kind| {
            let _ = e::write_array_len(out, len);
            let _ = e::write_uint(out, kind);
        };
        match self {
            Self::Columns { segment: s, names } => {
                head(out, 3, 0);
                segment(out, *s);
                let _ = e::write_array_len(out, names.len() as u32);
                for name in names {
                    let _ = e::write_str(out, name);
                }
            }
            Self::Rows { segment: s, count, data } => {
                head(out, 4, 1);
                segment(out, *s);
                let _ = e::write_uint(out, (*count).into());
                let _ = e::write_bin(out, data);
            }
            Self::SegmentError { segment: s, error } => {
                head(out, 5, 2);
                segment(out, Some(*s));
                let _ = e::write_str(out, error.code.as_str());
                let _ = e::write_str(out, &error.message);
                let _ = match &error.hint {
                    Some(hint) => e::write_str(out, hint).map_err(drop),
                    None => e::write_nil(out).map_err(drop),
                };
            }
            Self::Progress { done } => {
                head(out, 2, 3);
                let _ = e::write_uint(out, *done);
            }
            Self::Error(error) => {
                head(out, 3, 8);
                let _ = e::write_str(out, error.code.as_str());
                let _ = e::write_str(out, &error.message);
            }
            Self::End(stats) => {
                head(out, 2, 9);
                let fields = [
                    ("ok", stats.ok),
                    ("failed", stats.failed),
                    ("rows", stats.rows),
                    ("bytes", stats.bytes),
                    ("micros", stats.micros),
                ];
                let _ = e::write_map_len(out, fields.len() as u32);
                for (name, n) in fields {
                    let _ = e::write_str(out, name);
                    let _ = e::write_uint(out, n);
                }
            }
        }
    }
}

/// Cuts a byte stream into frames: `push` what arrives, `next` until there is no whole frame.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
}

impl FrameDecoder {
    /// Adds bytes as they arrive.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that do not make a whole frame yet.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole frame, if there is one. Rows share the buffer's memory; nothing is copied.
    ///
    /// # Errors
    /// [`FrameError`] if the bytes are no frame; the stream is then lost.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let mut cursor = Cursor { bytes: &self.buffer, at: 0 };
        let parsed = match parse(&mut cursor) {
            Ok(parsed) => parsed,
            Err(Stop::NeedMore) if self.buffer.len() > MAX_FRAME_BYTES => {
                return Err(FrameError(format!("a frame exceeds {MAX_FRAME_BYTES} bytes")));
            }
            Err(Stop::NeedMore) => return Ok(None),
            Err(Stop::Garbage(why)) => return Err(FrameError(why)),
        };
        let used = cursor.at;
        Ok(Some(match parsed {
            Parsed::Frame(frame) => {
                self.buffer.advance(used);
                frame
            }
            Parsed::Rows { segment, count, start } => {
                let mut whole = self.buffer.split_to(used);
                whole.advance(start);
                Frame::Rows { segment, count, data: whole.freeze() }
            }
        }))
    }
}

enum Stop {
    NeedMore,
    Garbage(String),
}

enum Parsed {
    Frame(Frame),
    Rows { segment: Option<u32>, count: u32, start: usize },
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Stop> {
        let end = self.at.checked_add(n).ok_or_else(|| Stop::Garbage("length overflow".into()))?;
        let slice = self.bytes.get(self.at..end).ok_or(Stop::NeedMore)?;
        self.at = end;
        Ok(slice)
    }
    fn byte(&mut self) -> Result<u8, Stop> {
        Ok(self.take(1)?[0])
    }
    fn be(&mut self, n: usize) -> Result<u64, Stop> {
        Ok(self.take(n)?.iter().fold(0, |acc, b| acc << 8 | u64::from(*b)))
    }
    fn uint(&mut self) -> Result<u64, Stop> {
        match self.byte()? {
            small @ 0..=0x7f => Ok(small.into()),
            0xcc => self.be(1),
            0xcd => self.be(2),
            0xce => self.be(4),
            0xcf => self.be(8),
            other => Err(Stop::Garbage(format!("byte {other:#04x} where a count was expected"))),
        }
    }
    fn segment(&mut self) -> Result<Option<u32>, Stop> {
        if self.bytes.get(self.at) == Some(&0xc0) {
            self.at += 1;
            return Ok(None);
        }
        let n = self.uint()?;
        u32::try_from(n).map(Some).map_err(|_| Stop::Garbage(format!("segment index {n}")))
    }
    fn string(&mut self) -> Result<String, Stop> {
        let len = match self.byte()? {
            short @ 0xa0..=0xbf => u64::from(short & 0x1f),
            0xd9 => self.be(1)?,
            0xda => self.be(2)?,
            0xdb => self.be(4)?,
            other => return Err(Stop::Garbage(format!("byte {other:#04x} where a text was expected"))),
        };
        let bytes = self.take(len as usize)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Stop::Garbage("a text that is not UTF-8".into()))
    }
    fn optional_string(&mut self) -> Result<Option<String>, Stop> {
        if self.bytes.get(self.at) == Some(&0xc0) {
            self.at += 1;
            return Ok(None);
        }
        self.string().map(Some)
    }
    fn array(&mut self) -> Result<u64, Stop> {
        match self.byte()? {
            short @ 0x90..=0x9f => Ok(u64::from(short & 0x0f)),
            0xdc => self.be(2),
            0xdd => self.be(4),
            other => Err(Stop::Garbage(format!("byte {other:#04x} where a frame was expected"))),
        }
    }
    fn map(&mut self) -> Result<u64, Stop> {
        match self.byte()? {
            short @ 0x80..=0x8f => Ok(u64::from(short & 0x0f)),
            0xde => self.be(2),
            0xdf => self.be(4),
            other => Err(Stop::Garbage(format!("byte {other:#04x} where a map was expected"))),
        }
    }
    fn bin(&mut self) -> Result<usize, Stop> {
        let len = match self.byte()? {
            0xc4 => self.be(1)?,
            0xc5 => self.be(2)?,
            0xc6 => self.be(4)?,
            other => return Err(Stop::Garbage(format!("byte {other:#04x} where rows were expected"))),
        };
        let start = self.at;
        self.take(len as usize)?;
        Ok(start)
    }
}

fn parse(c: &mut Cursor<'_>) -> Result<Parsed, Stop> {
    let len = c.array()?;
    let kind = c.uint()?;
    let frame = match (kind, len) {
        (0, 3) => {
            let segment = c.segment()?;
            let n = c.array()?;
            if n > 32_767 {
                return Err(Stop::Garbage(format!("{n} columns")));
            }
            let names = (0..n).map(|_| c.string()).collect::<Result<_, _>>()?;
            Frame::Columns { segment, names }
        }
        (1, 4) => {
            let segment = c.segment()?;
            let count = c.uint()?;
            let count = u32::try_from(count).map_err(|_| Stop::Garbage(format!("{count} rows")))?;
            let start = c.bin()?;
            return Ok(Parsed::Rows { segment, count, start });
        }
        (2, 5) => {
            let segment = c.segment()?.ok_or_else(|| Stop::Garbage("a segment error without a segment".into()))?;
            let code = ErrorCode::from_wire(&c.string()?);
            Frame::SegmentError {
                segment,
                error: SegmentError { code, message: c.string()?, hint: c.optional_string()? },
            }
        }
        (3, 2) => Frame::Progress { done: c.uint()? },
        (8, 3) => {
            let code = ErrorCode::from_wire(&c.string()?);
            Frame::Error(SegmentError::new(code, c.string()?))
        }
        (9, 2) => {
            let mut stats = QueryStats::default();
            let n = c.map()?;
            if n > MOST_COUNTS {
                return Err(Stop::Garbage(format!("{n} counts")));
            }
            for _ in 0..n {
                let (name, n) = (c.string()?, c.uint()?);
                match name.as_str() {
                    "ok" => stats.ok = n,
                    "failed" => stats.failed = n,
                    "rows" => stats.rows = n,
                    "bytes" => stats.bytes = n,
                    "micros" => stats.micros = n,
                    _ => {}
                }
            }
            Frame::End(stats)
        }
        (kind, len) => return Err(Stop::Garbage(format!("frame kind {kind} with {len} elements"))),
    };
    Ok(Parsed::Frame(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_fragmentation() {
        let frames = vec![
            Frame::Columns { segment: Some(3), names: vec!["a".into(), "é".repeat(40)] },
            Frame::Rows { segment: Some(300), count: 2, data: Bytes::from_static(&[1, 2, 0xc0, 4]) },
            Frame::SegmentError {
                segment: 7,
                error: SegmentError { code: ErrorCode::Moved, message: "m".into(), hint: Some("http://h".into()) },
            },
            Frame::Progress { done: 70_000 },
            Frame::Rows { segment: None, count: 70_000, data: Bytes::from(vec![7; 70_000]) },
            Frame::Error(SegmentError::new(ErrorCode::Internal, "x")),
            Frame::End(QueryStats { ok: 1, failed: 2, rows: 3, bytes: 1 << 40, micros: 5 }),
        ];
        let mut bytes = Vec::new();
        frames.iter().for_each(|f| f.encode(&mut bytes));
        for step in [1, 7, 4096, bytes.len()] {
            let (mut decoder, mut got) = (FrameDecoder::default(), Vec::new());
            for chunk in bytes.chunks(step) {
                decoder.push(chunk);
                while let Some(frame) = decoder.next_frame().expect("valid") {
                    got.push(frame);
                }
            }
            assert_eq!(got, frames);
            assert_eq!(decoder.pending(), 0);
        }
    }

    #[test]
    fn garbage_is_an_error() {
        let mut decoder = FrameDecoder::default();
        decoder.push(b"<html>502 Bad Gateway</html>");
        assert!(decoder.next_frame().is_err());
        let mut decoder = FrameDecoder::default();
        decoder.push(&[0x92, 9, 0xdf, 0xff, 0xff, 0xff, 0xff]);
        assert!(decoder.next_frame().is_err(), "an end frame of billions of counts");
    }
}
