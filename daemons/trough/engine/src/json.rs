//! JSON text as the old trough wrote it: no blanks, everything beyond ASCII escaped, reals as Python's `repr`.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A quoted text.
pub(crate) fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let byte = bytes[at];
        if (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain..at]);
        plain = at + c.len_utf8();
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(b"\\u");
                    for shift in [12, 8, 4, 0] {
                        out.push(HEX[usize::from(*unit >> shift & 0xf)]);
                    }
                }
            }
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

/// An integer.
pub(crate) fn integer(n: i64, out: &mut Vec<u8>) {
    // Digits from the end of a buffer that holds any 64-bit number with its sign.
    let mut buffer = [0u8; 20];
    let mut at = buffer.len();
    let mut rest = n.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if n < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&buffer[at..]);
}

/// A real as Python's `repr` writes it; infinity as a number that every JSON parser reads as infinity.
pub(crate) fn real(r: f64, out: &mut Vec<u8>) {
    if r.is_nan() {
        return out.extend_from_slice(b"null");
    }
    if r.is_infinite() {
        return out.extend_from_slice(if r > 0.0 { b"1e999" } else { b"-1e999" });
    }
    // Shortest digits that read back the same: `d.ddde±x` or `de±x`.
    let text = format!("{r:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{r}");
        out.extend_from_slice(plain.as_bytes());
        if !plain.contains('.') {
            out.extend_from_slice(b".0");
        }
    } else {
        out.extend_from_slice(mantissa.as_bytes());
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("e{sign}{:02}", exponent.unsigned_abs()).as_bytes());
    }
}

/// A blob as base64 text.
pub(crate) fn blob(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(BASE64.encode(bytes).as_bytes());
    out.push(b'"');
}

/// Which columns of a row an object keeps, and their names: of columns with one name the last, in the place of the
/// first, as in Python's `dict`.
#[derive(Debug)]
pub(crate) struct Fields {
    /// The column to take, and `"name":` before it.
    pub(crate) columns: Vec<(usize, Vec<u8>)>,
}

impl Fields {
    pub(crate) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut columns: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut seen: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
        for (i, name) in names.into_iter().enumerate() {
            match seen.get(name) {
                Some(place) => columns[*place].0 = i,
                None => {
                    seen.insert(name, columns.len());
                    let mut quoted = Vec::with_capacity(name.len() + 3);
                    string(name, &mut quoted);
                    quoted.push(b':');
                    columns.push((i, quoted));
                }
            }
        }
        Self { columns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn reals_as_python_writes_them() {
        for (r, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (1.5, "1.5"),
            (1e300, "1e+300"),
            (1.25e-7, "1.25e-07"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (f64::INFINITY, "1e999"),
            (f64::NEG_INFINITY, "-1e999"),
        ] {
            assert_eq!(text(|out| real(r, out)), expected);
        }
    }

    #[test]
    fn texts_are_ascii() {
        assert_eq!(text(|out| string("a\t\"/\\é😀\u{7f}\0", out)), r#""a\t\"/\\\u00e9\ud83d\ude00\u007f\u0000""#);
    }

    #[test]
    fn of_equal_names_the_last_counts() {
        let fields = Fields::of(["a", "b", "a"]);
        assert_eq!(fields.columns, [(2, b"\"a\":".to_vec()), (1, b"\"b\":".to_vec())]);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(t in any::<String>(), n in any::<i64>(), r in any::<f64>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&text(|out| string(&t, out))).expect("JSON"), t);
            prop_assert_eq!(text(|out| integer(n, out)), n.to_string());
            if r.is_finite() {
                prop_assert_eq!(text(|out| real(r, out)).parse::<f64>().expect("a number").to_bits(), r.to_bits());
            }
        }
    }
}
