//! JSON in and out. Documents are stored as they travel: pseudo-types as objects with `$reql_type$`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Datum, Object};
use crate::error::{QueryError, Result};

/// JSON may not nest deeper than this.
const MAX_JSON_DEPTH: usize = 1000;

/// Whether objects with `$reql_type$` become what they stand for or stay objects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pseudo {
    Convert,
    Keep,
}

/// Parses one JSON text. The error is a sentence fragment.
pub(crate) fn parse(text: &[u8], pseudo: Pseudo) -> std::result::Result<Datum, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("invalid UTF-8 at byte {}", error.valid_up_to()))?;
    let mut parser = Parser { text, bytes: text.as_bytes(), at: 0, depth: 0, pseudo };
    let value = parser.value()?;
    parser.skip_space();
    if parser.at != text.len() {
        return Err(parser.error("the document continues after its root value"));
    }
    Ok(value)
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    pseudo: Pseudo,
}

type Parsed<T> = std::result::Result<T, String>;

impl Parser<'_> {
    fn error(&self, what: &str) -> String {
        format!("{what} at byte {}", self.at)
    }

    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str, value: Datum) -> Parsed<Datum> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.error("invalid value"))
        }
    }

    fn value(&mut self) -> Parsed<Datum> {
        self.skip_space();
        match self.bytes.get(self.at) {
            None => Err(self.error("the document ends early")),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(Datum::Str),
            Some(b't') => self.word("true", Datum::Bool(true)),
            Some(b'f') => self.word("false", Datum::Bool(false)),
            Some(b'n') => self.word("null", Datum::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.error("invalid value")),
        }
    }

    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<Datum>) -> Parsed<Datum> {
        self.depth += 1;
        if self.depth > MAX_JSON_DEPTH {
            return Err(format!("nested deeper than {MAX_JSON_DEPTH} levels"));
        }
        self.at += 1;
        let value = inner(self);
        self.depth -= 1;
        value
    }

    fn array(&mut self) -> Parsed<Datum> {
        let mut items = Vec::new();
        self.skip_space();
        if self.bytes.get(self.at) == Some(&b']') {
            self.at += 1;
            return Ok(Datum::array(items));
        }
        loop {
            items.push(self.value()?);
            self.skip_space();
            match self.bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Datum::array(items));
                }
                _ => return Err(self.error("expected `,` or `]`")),
            }
        }
    }

    fn object(&mut self) -> Parsed<Datum> {
        let mut fields: Vec<(Arc<str>, Datum)> = Vec::new();
        self.skip_space();
        if self.bytes.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Ok(Object::default().into());
        }
        loop {
            self.skip_space();
            if self.bytes.get(self.at) != Some(&b'"') {
                return Err(self.error("expected a field name"));
            }
            let name = self.string()?;
            self.skip_space();
            if self.bytes.get(self.at) != Some(&b':') {
                return Err(self.error("expected `:`"));
            }
            self.at += 1;
            fields.push((name, self.value()?));
            self.skip_space();
            match self.bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    break;
                }
                _ => return Err(self.error("expected `,` or `}`")),
            }
        }
        let object = Object::from_fields(fields).map_err(|name| format!("Duplicate key \"{name}\" in JSON"))?;
        if self.pseudo == Pseudo::Convert && object.get("$reql_type$").is_some() {
            return from_pseudo(object).map_err(|error| error.message);
        }
        Ok(object.into())
    }

    fn number(&mut self) -> Parsed<Datum> {
        let start = self.at;
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        let whole = self.digits();
        if whole == 0 || (whole > 1 && self.bytes[self.at - whole] == b'0') {
            return Err(self.error("invalid number"));
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.error("invalid number"));
            }
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.error("invalid number"));
            }
        }
        match self.text[start..self.at].parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Datum::Num(number)),
            _ => Err(self.error("number out of range")),
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn string(&mut self) -> Parsed<Arc<str>> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.bytes.get(self.at) {
                None => return Err(self.error("a string ends early")),
                Some(b'"') => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(text.into());
                }
                Some(b'\\') => break,
                Some(0..=0x1f) => return Err(self.error("a control character in a string")),
                Some(_) => self.at += 1,
            }
        }
        let mut out = self.text[start..self.at].to_owned();
        loop {
            match self.bytes.get(self.at) {
                None => return Err(self.error("a string ends early")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out.into());
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(0..=0x1f) => return Err(self.error("a control character in a string")),
                Some(_) => {
                    let run = self.at;
                    while !matches!(self.bytes.get(self.at), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                        self.at += 1;
                    }
                    out.push_str(&self.text[run..self.at]);
                }
            }
        }
    }

    fn escape(&mut self) -> Parsed<char> {
        self.at += 1;
        let kind = self.bytes.get(self.at).copied();
        self.at += 1;
        Ok(match kind {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex()?;
                if (0xd800..0xdc00).contains(&first) {
                    if !self.text[self.at..].starts_with("\\u") {
                        return Err(self.error("a lone surrogate"));
                    }
                    self.at += 2;
                    let second = self.hex()?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return Err(self.error("a lone surrogate"));
                    }
                    let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                    char::from_u32(code).ok_or_else(|| self.error("an invalid escape"))?
                } else {
                    char::from_u32(first).ok_or_else(|| self.error("a lone surrogate"))?
                }
            }
            _ => return Err(self.error("an invalid escape")),
        })
    }

    fn hex(&mut self) -> Parsed<u32> {
        let digits = self.bytes.get(self.at..self.at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.ok_or_else(|| self.error("an invalid escape"))?;
        let code = digits.iter().fold(0, |code, digit| code * 16 + (*digit as char).to_digit(16).unwrap_or(0));
        self.at += 4;
        Ok(code)
    }
}

/// What an object with `$reql_type$` stands for.
pub(crate) fn from_pseudo(object: Object) -> Result<Datum> {
    let kind = match object.get("$reql_type$") {
        Some(Datum::Str(kind)) => kind.clone(),
        Some(other) => {
            let shown = super::print::truncated(&object.clone().into());
            return Err(QueryError::logic(format!(
                "Error: Field `$reql_type$` must be a string (got `{}` of type {}):\n{shown}",
                super::print::truncated(other),
                other.type_name(),
            )));
        }
        None => return Ok(object.into()),
    };
    match kind.as_ref() {
        "TIME" => time_from(&object),
        "BINARY" => match object.get("data") {
            Some(Datum::Str(data)) if object.len() == 2 => {
                let bytes = BASE64
                    .decode(data.as_bytes())
                    .map_err(|error| QueryError::logic(format!("Invalid base64 in binary pseudotype: {error}.")))?;
                Ok(Datum::Binary(bytes.into()))
            }
            _ => Err(QueryError::logic("Invalid binary pseudotype: lacking `data` key.")),
        },
        "LITERAL" => Ok(Datum::Literal(Arc::new(object.get("value").cloned()))),
        "GEOMETRY" => Err(QueryError::logic(
            "Geometry is not supported by the embedded metadata server. A real RethinkDB has it.",
        )),
        other => Err(QueryError::logic(format!("Unknown $reql_type$ `PTYPE<{other}>`."))),
    }
}

fn time_from(object: &Object) -> Result<Datum> {
    let invalid = |why: String| {
        let shown = super::print::truncated(&object.clone().into());
        QueryError::logic(format!("Invalid time object constructed ({why}):\n{shown}"))
    };
    let (mut epoch, mut zone) = (None, None);
    for (name, value) in object.iter() {
        match (name.as_ref(), value) {
            ("$reql_type$", _) => {}
            ("epoch_time", Datum::Num(number)) => epoch = Some(*number),
            ("timezone", Datum::Str(text)) => {
                zone = Some(super::time::zone(text).map_err(|_| invalid(format!("invalid timezone string `{text}`")))?);
            }
            ("epoch_time" | "timezone", other) => {
                let wanted = if name.as_ref() == "timezone" { "string" } else { "number" };
                return Err(invalid(format!(
                    "field `{name}` must be a {wanted} (got `{}` of type {})",
                    super::print::truncated(other),
                    other.type_name()
                )));
            }
            _ => return Err(invalid(format!("unrecognized field `{name}`"))),
        }
    }
    match (epoch, zone) {
        (Some(epoch), Some(zone)) => Ok(super::time::make(epoch, zone)),
        (None, _) => Err(invalid("no field `epoch_time`".into())),
        (_, None) => Err(invalid("no field `timezone`".into())),
    }
}

/// Appends a value as JSON. Only bounds cannot be written.
pub(crate) fn write(value: &Datum, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Datum::Null => out.extend_from_slice(b"null"),
        Datum::Bool(true) => out.extend_from_slice(b"true"),
        Datum::Bool(false) => out.extend_from_slice(b"false"),
        Datum::Num(number) => write_number(*number, out),
        Datum::Str(text) => write_string(text, out),
        Datum::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Datum::Object(object) => {
            out.push(b'{');
            for (at, (name, value)) in object.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write(value, out)?;
            }
            out.push(b'}');
        }
        Datum::Time(time) => {
            out.extend_from_slice(b"{\"$reql_type$\":\"TIME\",\"epoch_time\":");
            write_number(time.epoch, out);
            out.extend_from_slice(b",\"timezone\":");
            write_string(&time.zone, out);
            out.push(b'}');
        }
        Datum::Binary(bytes) => {
            out.extend_from_slice(b"{\"$reql_type$\":\"BINARY\",\"data\":\"");
            out.extend_from_slice(BASE64.encode(bytes).as_bytes());
            out.extend_from_slice(b"\"}");
        }
        Datum::MinVal => return Err(QueryError::logic("Cannot convert `r.minval` to JSON.")),
        Datum::MaxVal => return Err(QueryError::logic("Cannot convert `r.maxval` to JSON.")),
        Datum::Literal(_) => return Err(stray_literal()),
    }
    Ok(())
}

/// The error for LITERAL where nothing merges.
pub(crate) fn stray_literal() -> QueryError {
    QueryError::logic(
        "Stray literal keyword found: literal is only legal inside of the object passed to merge or update and cannot \
         nest inside other literals.",
    )
}

/// A value's JSON as text.
pub(crate) fn to_string(value: &Datum) -> Result<String> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    String::from_utf8(out).map_err(|_| QueryError::internal("JSON that is not UTF-8"))
}

pub(crate) fn write_number(number: f64, out: &mut Vec<u8>) {
    use std::io::Write as _;

    let integral = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
    let written = if integral && !(number == 0.0 && number.is_sign_negative()) {
        write!(out, "{}", number as i64)
    } else {
        write!(out, "{number:?}")
    };
    written.expect("writing to memory cannot fail");
}

pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain = 0;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let escaped: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x8 => b"\\b",
            0xc => b"\\f",
            0..=0x1f => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(&bytes[plain..at]);
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                plain = at + 1;
                continue;
            }
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain..at]);
        out.extend_from_slice(escaped);
        plain = at + 1;
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}
