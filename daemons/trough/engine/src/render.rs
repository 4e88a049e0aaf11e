//! The forms of a query's answer. The threads make MessagePack frames; for people and scripts these are turned into
//! JSON, a line per row or one document.
//!
//! A line is one of `{"segment":ID,"row":{…}}` (no segment for what the reduce statement made),
//! `{"segment":ID,"error":{"code","message"}}`, `{"progress":{"done":N}}`, `{"error":{…}}` and, at the end of a complete answer,
//! `{"end":{"ok","failed","rows","bytes","micros"}}`. The document is
//! `{"rows":[{"segment","row"},…],"errors":[{"segment","error"},…],"end":{…}}`, with `"error"` in the place of `"end"` if the
//! request failed. Values are as in requests: a blob is `{"blob":base64}`, an infinity `{"real":"inf"}`, a text that is
//! not UTF-8 `{"invalid_text":base64}`.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rusqlite::types::ValueRef;
use trough_core::{
    SegmentError, SegmentId,
    wire::{Frame, FrameDecoder, MSGPACK, NDJSON},
};

use crate::{
    encode::{Decoded, decode},
    json::{self, Fields},
};

/// The form of a query's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Frames in MessagePack (`application/msgpack`).
    MessagePack,
    /// One JSON object a line (`application/x-ndjson`).
    Ndjson,
    /// One JSON document (`application/json`).
    Json,
}

impl Format {
    /// The form that an Accept header asks for; MessagePack if it names none of ours.
    pub fn of_accept(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default();
        if accept.contains("msgpack") {
            Self::MessagePack
        } else if accept.contains("ndjson") {
            Self::Ndjson
        } else if accept.contains("application/json") {
            Self::Json
        } else {
            Self::MessagePack
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::MessagePack => MSGPACK,
            Self::Ndjson => NDJSON,
            Self::Json => "application/json",
        }
    }
}

/// What a silent answer says once a second; nothing where the form has no place for it.
pub(crate) fn progress(format: Format, done: u64) -> Vec<u8> {
    let mut out = Vec::new();
    match format {
        Format::MessagePack => Frame::Progress { done }.encode(&mut out),
        Format::Ndjson => out.extend_from_slice(format!("{{\"progress\":{{\"done\":{done}}}}}\n").as_bytes()),
        // A blank is the one thing that may stand anywhere between a document's elements.
        Format::Json => out.push(b'\n'),
    }
    out
}

/// Turns frames into JSON text, in the order of the answer.
pub(crate) struct Renderer {
    lines: bool,
    ids: Arc<[SegmentId]>,
    fields: Fields,
    columns: usize,
    begun: bool,
    rows: bool,
    /// Errors of segments, kept for the document's end.
    errors: Vec<u8>,
}

impl Renderer {
    pub(crate) fn new(format: Format, ids: Arc<[SegmentId]>) -> Self {
        let fields = Fields { columns: Vec::new() };
        Self { lines: format == Format::Ndjson, ids, fields, columns: 0, begun: false, rows: false, errors: Vec::new() }
    }

    /// The text of some whole frames.
    pub(crate) fn render(&mut self, frames: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(frames.len() * 2);
        if !self.lines && !self.begun {
            out.extend_from_slice(b"{\"rows\":[");
            self.begun = true;
        }
        let mut decoder = FrameDecoder::default();
        decoder.push(frames);
        while let Ok(Some(frame)) = decoder.next_frame() {
            self.frame(frame, &mut out);
        }
        out
    }

    fn frame(&mut self, frame: Frame, out: &mut Vec<u8>) {
        match frame {
            Frame::Columns { names, .. } => {
                self.columns = names.len();
                self.fields = Fields::of(names.iter().map(String::as_str));
            }
            Frame::Rows { segment, count, data } => {
                let mut rest = data.as_ref();
                let mut values = Vec::with_capacity(self.columns);
                for _ in 0..count {
                    values.clear();
                    values.extend((0..self.columns).map_while(|_| decode(&mut rest)));
                    self.row(segment, &values, out);
                }
            }
            Frame::SegmentError { segment, error } => {
                let mut text = Vec::new();
                self.open(Some(segment), &mut text);
                text.extend_from_slice(b"\"error\":");
                error_object(&error, &mut text);
                text.push(b'}');
                if self.lines {
                    out.extend_from_slice(&text);
                    out.push(b'\n');
                } else {
                    if !self.errors.is_empty() {
                        self.errors.extend_from_slice(b",\n");
                    }
                    self.errors.extend_from_slice(&text);
                }
            }
            Frame::Progress { done } => out.extend_from_slice(&progress(self.form(), done)),
            Frame::Error(error) => {
                self.close("error", out);
                error_object(&error, out);
                out.extend_from_slice(b"}\n");
            }
            Frame::End(stats) => {
                self.close("end", out);
                // Plain numbers: this cannot fail.
                out.extend_from_slice(&serde_json::to_vec(&stats).unwrap_or_default());
                out.extend_from_slice(b"}\n");
            }
        }
    }

    fn form(&self) -> Format {
        if self.lines { Format::Ndjson } else { Format::Json }
    }

    /// `{"segment":ID,` or `{`.
    fn open(&self, segment: Option<u32>, out: &mut Vec<u8>) {
        out.push(b'{');
        if let Some(id) = segment.and_then(|i| self.ids.get(i as usize)) {
            out.extend_from_slice(b"\"segment\":");
            json::string(id.as_str(), out);
            out.push(b',');
        }
    }

    fn row(&mut self, segment: Option<u32>, values: &[Decoded<'_>], out: &mut Vec<u8>) {
        if !self.lines && self.rows {
            out.extend_from_slice(b",\n");
        }
        self.rows = true;
        self.open(segment, out);
        out.extend_from_slice(b"\"row\":{");
        for (n, (column, name)) in self.fields.columns.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name);
            match values.get(*column) {
                Some(value) => typed(*value, out),
                None => out.extend_from_slice(b"null"),
            }
        }
        out.extend_from_slice(b"}}");
        if self.lines {
            out.push(b'\n');
        }
    }

    /// Ends what came before and names the last element.
    fn close(&mut self, name: &str, out: &mut Vec<u8>) {
        if self.lines {
            out.push(b'{');
        } else {
            out.extend_from_slice(b"],\n\"errors\":[");
            out.append(&mut self.errors);
            out.extend_from_slice(b"],\n");
        }
        out.extend_from_slice(format!("\"{name}\":").as_bytes());
    }
}

fn error_object(error: &SegmentError, out: &mut Vec<u8>) {
    // Texts alone: this cannot fail.
    out.extend_from_slice(&serde_json::to_vec(error).unwrap_or_default());
}

/// A value in a form that keeps its type.
fn typed(value: Decoded<'_>, out: &mut Vec<u8>) {
    let wrapped = |kind: &str, bytes: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(format!("{{\"{kind}\":\"{}\"}}", BASE64.encode(bytes)).as_bytes());
    };
    match value {
        Decoded::Value(ValueRef::Null) => out.extend_from_slice(b"null"),
        Decoded::Value(ValueRef::Integer(n)) => json::integer(n, out),
        Decoded::Value(ValueRef::Real(r)) if r.is_infinite() => {
            let sign = if r > 0.0 { "" } else { "-" };
            out.extend_from_slice(format!("{{\"real\":\"{sign}inf\"}}").as_bytes());
        }
        Decoded::Value(ValueRef::Real(r)) => json::real(r, out),
        Decoded::Value(ValueRef::Text(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => json::string(text, out),
            Err(_) => wrapped("invalid_text", bytes, out),
        },
        Decoded::Value(ValueRef::Blob(bytes)) => wrapped("blob", bytes, out),
        Decoded::InvalidText(bytes) => wrapped("invalid_text", bytes, out),
    }
}
