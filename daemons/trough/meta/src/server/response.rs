//! Responses as bytes, and the batches of a sequence.

use std::time::{Duration, Instant};

use bytes::Bytes;
use trough_reql::proto::response_type;

use crate::datum::json::{write, write_string};
use crate::error::{Frame, QueryError, Result};
use crate::eval::Exec;
use crate::eval::stream::{Step, Stream};
use crate::term::Term;

/// One value.
pub(crate) fn atom(value: &crate::datum::Datum) -> Result<Bytes> {
    let mut out = format!("{{\"t\":{},\"r\":[", response_type::SUCCESS_ATOM).into_bytes();
    write(value, &mut out)?;
    out.extend_from_slice(b"]}");
    Ok(out.into())
}

/// A batch of a sequence whose elements are JSON already.
fn sequence(kind: u64, items: &[u8], notes: &[u64]) -> Bytes {
    let notes: Vec<String> = notes.iter().map(u64::to_string).collect();
    let mut out = Vec::with_capacity(items.len() + 64);
    out.extend_from_slice(format!("{{\"t\":{kind},\"n\":[{}],\"r\":[", notes.join(",")).as_bytes());
    out.extend_from_slice(items);
    out.extend_from_slice(b"]}");
    out.into()
}

/// The end of a sequence, with nothing in it.
pub(crate) fn empty() -> Bytes {
    sequence(response_type::SUCCESS_SEQUENCE, &[], &[])
}

/// A response of a kind with nothing to say.
pub(crate) fn bare(kind: u64) -> Bytes {
    format!("{{\"t\":{kind},\"r\":[]}}").into_bytes().into()
}

/// An error.
pub(crate) fn error(error: &QueryError) -> Bytes {
    let (kind, class) = error.wire();
    let mut out = format!("{{\"t\":{kind},").into_bytes();
    if let Some(class) = class {
        out.extend_from_slice(format!("\"e\":{class},").as_bytes());
    }
    out.extend_from_slice(b"\"r\":[");
    write_string(&error.message, &mut out);
    out.extend_from_slice(b"],\"b\":[");
    for (at, frame) in error.frames.iter().rev().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match frame {
            Frame::Arg(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Frame::Opt(name) => write_string(name, &mut out),
        }
    }
    out.extend_from_slice(b"]}");
    out.into()
}

/// How large a batch gets.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    bytes: usize,
    rows: usize,
    time: Duration,
    /// The first batch is this many times smaller.
    first: usize,
}

impl Limits {
    /// RethinkDB's, unless the query says otherwise.
    pub(crate) fn new(ex: &Exec) -> Result<Limits> {
        let number = |name: &str| match ex.query.opt_term(name) {
            Some(Term::Value(value)) => value.as_num().map(Some),
            _ => Ok(None),
        };
        let size = |value: Option<f64>, default: usize| value.map_or(default, |value| (value as usize).max(1));
        Ok(Limits {
            bytes: size(number("max_batch_bytes")?, 1 << 20).min(64 << 20),
            rows: size(number("max_batch_rows")?, usize::MAX),
            time: Duration::from_secs_f64(number("max_batch_seconds")?.unwrap_or(0.5).clamp(0.0, 86400.0)),
            first: size(number("first_batch_scaledown_factor")?, 4),
        })
    }
}

/// A sequence that is being sent.
pub(crate) struct Cursor {
    pub(crate) stream: Stream,
    limits: Limits,
    first: bool,
}

/// What became of a batch.
pub(crate) enum Batch {
    /// There is more after this response.
    More(Bytes),
    /// This response is the last.
    Last(Bytes),
    /// A changefeed has nothing to tell.
    Nothing,
}

impl Cursor {
    pub(crate) fn new(stream: Stream, limits: Limits) -> Cursor {
        Cursor { stream, limits, first: true }
    }

    /// Gathers the next batch.
    pub(crate) fn batch(&mut self, ex: &Exec) -> Result<Batch> {
        let first = std::mem::take(&mut self.first);
        let bytes = if first { self.limits.bytes / self.limits.first } else { self.limits.bytes };
        let started = Instant::now();
        let (mut out, mut rows) = (Vec::new(), 0_usize);
        let (ended, waits) = loop {
            match self.stream.step(ex)? {
                Step::Item(item) => {
                    if rows > 0 {
                        out.push(b',');
                    }
                    write(&item, &mut out)?;
                    rows += 1;
                    let late = rows.is_multiple_of(16) && started.elapsed() > self.limits.time;
                    if out.len() >= bytes || rows >= self.limits.rows || late {
                        break (false, false);
                    }
                }
                Step::End => break (true, false),
                Step::Wait => break (false, true),
            }
        };
        // A feed answers its first batch at once, whatever there is.
        if waits && rows == 0 && !first {
            return Ok(Batch::Nothing);
        }
        let mut notes = Vec::new();
        if let Some(feed) = &self.stream.feed {
            notes.push(feed.note);
            if feed.states {
                notes.push(trough_reql::proto::response_note::INCLUDES_STATES);
            }
        }
        Ok(if ended {
            Batch::Last(sequence(response_type::SUCCESS_SEQUENCE, &out, &notes))
        } else {
            Batch::More(sequence(response_type::SUCCESS_PARTIAL, &out, &notes))
        })
    }
}
