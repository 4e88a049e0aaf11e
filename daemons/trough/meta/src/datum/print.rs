//! Values as error messages show them: indented by tabs, and cut short where RethinkDB cuts.

use super::Datum;
use super::json::write_string;

/// Longest text that [`truncated`] leaves whole, in bytes.
const TRUNCATE_AT: usize = 300;

/// A value on several lines.
pub(crate) fn pretty(value: &Datum) -> String {
    let mut out = Vec::new();
    write(value, 0, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// The same, cut to 300 bytes.
pub(crate) fn truncated(value: &Datum) -> String {
    let mut text = pretty(value);
    if text.len() > TRUNCATE_AT {
        let end = (0..=TRUNCATE_AT - 3).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// A number as C's `%.20g` prints it.
pub(crate) fn general(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            "nan".into()
        } else if number > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    if number == 0.0 {
        return if number.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let scientific = format!("{number:.19e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    if (-4..20).contains(&exponent) {
        let places = usize::try_from(19 - exponent).unwrap_or(0);
        trim(&format!("{number:.places$}"))
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim(digits), exponent.abs())
    }
}

fn write(value: &Datum, depth: usize, out: &mut Vec<u8>) {
    match value {
        Datum::Null => out.extend_from_slice(b"null"),
        Datum::Bool(true) => out.extend_from_slice(b"true"),
        Datum::Bool(false) => out.extend_from_slice(b"false"),
        Datum::Num(number) => out.extend_from_slice(general(*number).as_bytes()),
        Datum::Str(text) => write_string(text, out),
        Datum::MinVal => out.extend_from_slice(b"r.minval"),
        Datum::MaxVal => out.extend_from_slice(b"r.maxval"),
        Datum::Array(items) => {
            block(b'[', b']', depth, out, items.iter(), |item, out| write(item, depth + 1, out));
        }
        Datum::Object(object) => {
            block(b'{', b'}', depth, out, object.iter(), |(name, value), out| {
                field(name, value, depth, out);
            });
        }
        Datum::Time(time) => {
            let fields = [
                ("$reql_type$", Datum::from("TIME")),
                ("epoch_time", Datum::Num(time.epoch)),
                ("timezone", Datum::Str(time.zone.clone())),
            ];
            block(b'{', b'}', depth, out, fields.iter(), |(name, value), out| field(name, value, depth, out));
        }
        Datum::Binary(_) => {
            let mut json = Vec::new();
            if super::json::write(value, &mut json).is_ok() {
                out.extend_from_slice(&json);
            }
        }
        Datum::Literal(inner) => {
            let fields = [("$reql_type$", Some(Datum::from("LITERAL"))), ("value", inner.as_ref().clone())];
            block(b'{', b'}', depth, out, fields.iter().filter(|f| f.1.is_some()), |(name, value), out| {
                field(name, value.as_ref().unwrap_or(&Datum::Null), depth, out);
            });
        }
    }
}

fn field(name: &str, value: &Datum, depth: usize, out: &mut Vec<u8>) {
    write_string(name, out);
    out.extend_from_slice(b":\t");
    write(value, depth + 1, out);
}

fn block<T>(
    open: u8,
    close: u8,
    depth: usize,
    out: &mut Vec<u8>,
    items: impl Iterator<Item = T>,
    mut each: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(open);
    let mut any = false;
    for item in items {
        if any {
            out.push(b',');
        }
        any = true;
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b'\t', depth + 1));
        each(item, out);
    }
    if any {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b'\t', depth));
    }
    out.push(close);
}

#[cfg(test)]
mod tests {
    use super::general;

    #[test]
    fn numbers_print_as_in_c() {
        for (number, text) in [
            (1e308, "1.000000000000000011e+308"),
            (1.5, "1.5"),
            (0.1, "0.10000000000000000555"),
            (-1.0, "-1"),
            (100_000.0, "100000"),
            (1e-7, "9.9999999999999995475e-08"),
        ] {
            assert_eq!(general(number), text);
        }
    }
}
