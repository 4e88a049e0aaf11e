//! A worker of the Python trough, which has no `/v1/query`: asked segment by segment at its old endpoint. Map and reduce
//! travel as one SELECT with the parameters written into it, so that it, too, sends no more than what is wanted.

use std::{fmt, time::Duration};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use trough_core::{ErrorCode, SegmentError, SegmentId, Trace, Value, trace::TRACEPARENT};

use super::QueryTemplate;
use crate::http;

/// The most bytes of one answer, which comes as one JSON text.
const MAX_BYTES: u64 = 256 << 20;
/// How long an answer may take where the query has no deadline: what the Python client allows.
const PATIENCE: Duration = Duration::from_secs(600);

/// The rows of one segment.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rows {
    pub(super) columns: Vec<String>,
    pub(super) count: u32,
    /// `count × columns` MessagePack values.
    pub(super) data: Vec<u8>,
}

/// Asks `base` for one segment.
///
/// # Errors
/// What the worker says, by the codes of our own workers.
pub(super) async fn ask(
    client: &reqwest::Client,
    base: &str,
    segment: &SegmentId,
    template: &QueryTemplate,
    left: Option<Duration>,
    trace: Option<Trace>,
) -> Result<Rows, SegmentError> {
    let sql = statement(template, segment);
    let url = format!("{base}?segment={}", segment.url_encoded());
    let mut post = http::post(client, url, "application/sql;charset=utf-8", "application/json", sql.into_bytes());
    if let Some(trace) = trace {
        post = post.header(TRACEPARENT, trace.to_string());
    }
    let limit = template.max_bytes.unwrap_or(MAX_BYTES).min(MAX_BYTES);
    let answer = async {
        let mut response = post.send().await.map_err(|e| unavailable(http::chain(&e)))?;
        let ok = response.status().is_success();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| unavailable(http::chain(&e)))? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > limit {
                return Err(SegmentError::new(ErrorCode::ByteLimit, format!("more than {limit} bytes")));
            }
        }
        if ok { rows(&body) } else { Err(refusal(&String::from_utf8_lossy(&body))) }
    };
    let rows = tokio::time::timeout(left.unwrap_or(PATIENCE), answer)
        .await
        .map_err(|_| SegmentError::new(ErrorCode::Deadline, "the Python worker has not answered in time"))??;
    match template.max_rows {
        Some(most) if u64::from(rows.count) > most => {
            Err(SegmentError::new(ErrorCode::RowLimit, format!("more than {most} rows")))
        }
        _ => Ok(rows),
    }
}

fn unavailable(why: String) -> SegmentError {
    SegmentError::new(ErrorCode::Unavailable, why)
}

/// The codes that our own workers give, from the text that a Python worker gives.
fn refusal(text: &str) -> SegmentError {
    let text = text.trim();
    let said = text.strip_prefix("500 Server Error:").unwrap_or(text).trim();
    let code = match said {
        // It asserts that the file is there, without a word.
        "" => return SegmentError::new(ErrorCode::UnknownSegment, "the Python worker has no such file"),
        _ if said.starts_with("no such table") => ErrorCode::NoSuchTable,
        _ if said.starts_with("no such column") => ErrorCode::NoSuchColumn,
        _ if said.starts_with("near ") || said.starts_with("no such") || said.starts_with("Exactly one SELECT") => {
            ErrorCode::BadSql
        }
        _ => ErrorCode::Unavailable,
    };
    let short: String = said.chars().take(500).collect();
    SegmentError::new(code, format!("{short} ({FROM_PYTHON})"))
}

const FROM_PYTHON: &str = "from a Python worker";

/// Whether a segment failed because a Python worker lacks a function of ours.
pub fn lacks_functions(error: &SegmentError) -> bool {
    error.message.starts_with("no such function: trough_") && error.message.ends_with(&format!("({FROM_PYTHON})"))
}

/// One row, its columns in the order in which they came.
struct Row(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Columns;

        impl<'de> Visitor<'de> for Columns {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row as an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(Row(columns))
            }
        }

        deserializer.deserialize_map(Columns)
    }
}

pub(super) fn rows(body: &[u8]) -> Result<Rows, SegmentError> {
    // It breaks off in the middle at what it cannot put into JSON, under status 200.
    let broken = |why: String| {
        let message = format!(
            "a Python worker's answer cannot be read: {why}; it breaks off at a blob, at a text that is not UTF-8 and at a \
             statement that fails half-way"
        );
        SegmentError::new(ErrorCode::TypeMismatch, message)
    };
    let read: Vec<Row> = serde_json::from_slice(body).map_err(|e| broken(e.to_string()))?;
    let mut rows = Rows::default();
    for Row(row) in read {
        if rows.count == 0 {
            rows.columns = row.iter().map(|(name, _)| name.clone()).collect();
        }
        if !row.iter().map(|(name, _)| name).eq(&rows.columns) {
            return Err(broken("its rows have different columns".to_owned()));
        }
        for (_, value) in &row {
            rmp_serde::encode::write(&mut rows.data, value).map_err(|e| broken(e.to_string()))?;
        }
        rows.count = rows.count.checked_add(1).ok_or_else(|| broken("it has too many rows".to_owned()))?;
    }
    Ok(rows)
}

/// Map and reduce as one SELECT. As a subquery, columns of the same name get names of their own, which JSON needs.
fn statement(template: &QueryTemplate, segment: &SegmentId) -> String {
    let map = inline(&template.map, &template.params, segment);
    match &template.reduce {
        None => format!("SELECT * FROM (\n{map}\n)"),
        Some(reduce) => {
            let reduce = inline(reduce, &template.reduce_params, segment);
            format!("SELECT * FROM (WITH partial AS (\n{map}\n) SELECT * FROM (\n{reduce}\n))")
        }
    }
}

/// The statement with its parameters as literals, and without a semicolon at its end.
fn inline(sql: &str, params: &[Value], segment: &SegmentId) -> String {
    let sql = sql.trim_end_matches(|c: char| c.is_whitespace() || c == ';');
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    let mut next = 1;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '\'' | '"' | '`' => quoted(rest, first),
            '[' => rest.find(']').map_or(rest.len(), |at| at + 1),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest[2..].find("*/").map_or(rest.len(), |at| at + 4),
            '?' => {
                let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
                let number: usize = rest[1..=digits].parse().unwrap_or(next);
                next = number.saturating_add(1);
                literal(number.checked_sub(1).and_then(|n| params.get(n)).unwrap_or(&Value::Null), &mut out);
                rest = &rest[1 + digits..];
                continue;
            }
            ':' if name(&rest[1..]) == "segment" => {
                literal(&Value::Text(segment.to_string()), &mut out);
                rest = &rest[":segment".len()..];
                continue;
            }
            // A name is taken whole, so that nothing in its middle counts.
            _ => name(rest).len().max(first.len_utf8()),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

/// The length of a quoted text with its quotes, doubled ones included.
fn quoted(text: &str, quote: char) -> usize {
    // A doubled quote is two quoted texts, one after the other.
    text[1..].find(quote).map_or(text.len(), |at| at + 2)
}

/// The letters, digits and underscores that a text begins with.
fn name(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
}

fn literal(value: &Value, out: &mut String) {
    use fmt::Write as _;

    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    // Writing to a String cannot fail.
    let _ = match value {
        Value::Null => out.write_str("NULL"),
        Value::Integer(n) => write!(out, "({n})"),
        Value::Real(r) if r.is_nan() => out.write_str("NULL"),
        Value::Real(r) if r.is_infinite() => out.write_str(if *r > 0.0 { "(9e999)" } else { "(-9e999)" }),
        Value::Real(r) => write!(out, "({r:e})"),
        Value::Text(t) if t.contains('\0') => write!(out, "CAST(x'{}' AS TEXT)", hex(t.as_bytes())),
        Value::Text(t) => write!(out, "'{}'", t.replace('\'', "''")),
        Value::Blob(b) => write!(out, "x'{}'", hex(b)),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(map: &str, params: Vec<Value>) -> QueryTemplate {
        QueryTemplate { map: map.to_owned(), params, ..QueryTemplate::default() }
    }

    fn segment() -> SegmentId {
        SegmentId::new("it's").expect("valid")
    }

    #[test]
    fn parameters_become_literals_outside_of_quotes_and_comments() {
        let params = vec![Value::Text("a'b".into()), Value::Integer(-5), Value::Real(0.5), Value::Blob(vec![0, 255])];
        for (sql, expected) in [
            ("select ?1, ?2 from t where x = ?1 ;\n", "select 'a''b', (-5) from t where x = 'a''b'"),
            ("select ?, ?, ?, ?, ?", "select 'a''b', (-5), (5e-1), x'00ff', NULL"),
            (
                "select '?1 ''?2', \"?1\", [?1], `?2` -- ?1\n, ?2 /* ?1 */",
                "select '?1 ''?2', \"?1\", [?1], `?2` -- ?1\n, (-5) /* ?1 */",
            ),
            ("select :segment, :segments, a:segment", "select 'it''s', :segments, a'it''s'"),
            ("select 'open ?1", "select 'open ?1"),
            ("select é?2", "select é(-5)"),
            ("select ?18446744073709551615, ?", "select NULL, NULL"),
        ] {
            assert_eq!(inline(sql, &params, &segment()), expected, "{sql}");
        }
        let mut out = String::new();
        for value in
            [Value::Real(f64::INFINITY), Value::Real(f64::NAN), Value::Text("a\0".into()), Value::Integer(i64::MIN)]
        {
            literal(&value, &mut out);
        }
        assert_eq!(out, "(9e999)NULLCAST(x'6100' AS TEXT)(-9223372036854775808)");
    }

    #[test]
    fn map_and_reduce_are_one_select() {
        let mut one = template("select a, a from t -- all", vec![]);
        assert_eq!(statement(&one, &segment()), "SELECT * FROM (\nselect a, a from t -- all\n)");
        one.reduce = Some("select count(*) from partial where a > ?1".into());
        one.reduce_params = vec![Value::Integer(3)];
        let expected = "SELECT * FROM (WITH partial AS (\nselect a, a from t -- all\n) SELECT * FROM (\nselect count(*) from partial where a > (3)\n))";
        assert_eq!(statement(&one, &segment()), expected);
    }

    #[test]
    fn answers_are_read_in_the_order_of_their_columns() {
        let read = rows(b"[{\"b\": 1, \"a\": \"x\"},\n{\"b\": 2.5, \"a\": null}]\n").expect("rows");
        assert_eq!((read.columns.as_slice(), read.count), (&["b".to_owned(), "a".to_owned()][..], 2));
        let mut expected = Vec::new();
        rmp::encode::write_sint(&mut expected, 1).expect("to memory");
        rmp::encode::write_str(&mut expected, "x").expect("to memory");
        rmp::encode::write_f64(&mut expected, 2.5).expect("to memory");
        rmp::encode::write_nil(&mut expected).expect("to memory");
        assert_eq!(read.data, expected);
        assert_eq!(rows(b"[]\n").expect("none"), Rows::default());
        for broken in [&b"["[..], b"[{\"a\": 1},\n", b"[{\"a\": 1}, {\"b\": 1}]", b"OK\n"] {
            let error = rows(broken).expect_err("broken");
            assert!(error.message.contains("blob") && !error.code.is_retryable(), "{error}");
        }
    }

    #[test]
    fn refusals_have_our_codes() {
        for (text, code) in [
            ("500 Server Error: \n", ErrorCode::UnknownSegment),
            ("500 Server Error: no such table: t\n", ErrorCode::NoSuchTable),
            ("500 Server Error: no such column: x\n", ErrorCode::NoSuchColumn),
            ("500 Server Error: near \"selct\": syntax error\n", ErrorCode::BadSql),
            ("500 Server Error: Exactly one SELECT query per request, please.\n", ErrorCode::BadSql),
            ("500 Server Error: disk I/O error\n", ErrorCode::Unavailable),
            ("500 Server Error: no such function: trough_reject\n", ErrorCode::BadSql),
            ("<html>502 Bad Gateway</html>", ErrorCode::Unavailable),
        ] {
            let said = refusal(text);
            assert_eq!(said.code, code, "{text}");
            assert_eq!(lacks_functions(&said), text.contains("trough_"), "{text}");
        }
    }
}
