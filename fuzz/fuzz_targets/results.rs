//! What the extension makes of an answer's rows: values by the types of its columns, states of aggregates, and what Python workers send.

#![no_main]

use libfuzzer_sys::fuzz_target;
use trough_core::{
    Value,
    moments::{IntMoments, PairMoments, RealMoments, State},
    wire::{Item, ItemReader},
};
use trough_pushdown::{
    Encoding as E, InvalidText,
    column::{format_uuid, parse_uuid},
    fit::{Fitted, Reading, made_words, row_words, text_words, varlena_words},
    oid, serial, time,
};

/// Of a type that only its input function reads.
const OTHER: u32 = 3802;

const COLUMNS: &[(u32, E)] = &[
    (oid::BOOL, E::Boolean),
    (oid::INT2, E::Integer),
    (oid::INT4, E::Integer),
    (oid::INT8, E::Integer),
    (oid::FLOAT4, E::Real),
    (oid::FLOAT8, E::Real),
    (oid::TEXT, E::Text),
    (oid::TEXT, E::Input),
    (oid::BYTEA, E::Blob),
    (oid::DATE, E::Iso8601),
    (oid::DATE, E::EpochS),
    (oid::DATE, E::EpochUs),
    (oid::DATE, E::Julian),
    (oid::TIMESTAMP, E::Iso8601),
    (oid::TIMESTAMPTZ, E::Iso8601),
    (oid::TIMESTAMPTZ, E::EpochS),
    (oid::TIMESTAMPTZ, E::EpochMs),
    (oid::TIMESTAMPTZ, E::EpochUs),
    (oid::TIMESTAMP, E::Julian),
    (oid::UUID, E::UuidText),
    (oid::UUID, E::UuidBlob),
    (oid::NUMERIC, E::Input),
    (OTHER, E::Input),
];

struct Column {
    type_oid: u32,
    encoding: E,
    trusted: bool,
    invalid_text: InvalidText,
    reading: Reading,
}

impl Column {
    fn of(code: u8, options: u8) -> Self {
        let (type_oid, encoding) = COLUMNS[usize::from(code) % COLUMNS.len()];
        let invalid_text = [InvalidText::Error, InvalidText::Null, InvalidText::Replace][usize::from(options % 3)];
        let trusted = options & 0x80 != 0;
        let reading = Reading::new(type_oid, encoding, invalid_text, trusted);
        Self { type_oid, encoding, trusted, invalid_text, reading }
    }
}

// The first byte says what follows: rows of so many columns, two bytes each; a state; or the JSON of a Python worker.
fuzz_target!(|bytes: &[u8]| {
    let Some(bytes) = trough_fuzz::input::<&[u8]>(bytes) else { return };
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind {
        0..=7 => {
            let columns = usize::from(*kind) + 1;
            let Some((codes, data)) = rest.split_at_checked(2 * columns) else { return };
            rows(&codes.chunks(2).map(|c| Column::of(c[0], c[1])).collect::<Vec<_>>(), data);
        }
        8 => states(rest),
        _ => python(rest),
    }
});

/// Reads rows as a scan does.
fn rows(columns: &[Column], data: &[u8]) {
    let room = row_words(data.len(), columns.len());
    let mut reader = ItemReader::new(data, 0);
    while reader.at() < data.len() {
        let mut words = 0;
        for column in columns {
            let Some(item) = reader.next() else { return };
            let Ok(fitted) = column.reading.fit(item) else { return };
            check(column, item, &fitted);
            words += match &fitted {
                Fitted::Bytes(bytes) => varlena_words(bytes.len()),
                Fitted::Written(bytes) => text_words(bytes.len()),
                Fitted::Made(text) => made_words(text.len()).unwrap_or(0),
                Fitted::Uuid(uuid) => text_words(uuid.len()),
                _ => 0,
            };
        }
        assert!(words <= room, "a row needs {words} words of {room}");
    }
}

fn check(column: &Column, item: Item<'_>, fitted: &Fitted<'_>) {
    let held = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok() && !bytes.contains(&0);
    match fitted {
        Fitted::Null => assert!(item == Item::Null || column.invalid_text == InvalidText::Null),
        Fitted::Bytes(bytes) => match item {
            Item::Text(text) => assert!(held(bytes) && text == *bytes),
            Item::Blob(blob) => assert!(column.type_oid == oid::BYTEA && blob == *bytes),
            other => panic!("{other:?}"),
        },
        Fitted::Written(bytes) => assert!(held(bytes)),
        Fitted::Text(text) => assert!(held(text.as_bytes()) && column.invalid_text == InvalidText::Replace),
        Fitted::Made(text) => match item {
            Item::Integer(n) => assert_eq!(text.parse::<i64>(), Ok(n)),
            Item::Real(r) => {
                assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(if r.is_nan() { f64::NAN } else { r }.to_bits()))
            }
            _ => assert!(held(text.as_bytes()) && column.invalid_text == InvalidText::Replace),
        },
        Fitted::Uuid(uuid) => assert_eq!(parse_uuid(format_uuid(*uuid).as_bytes()), Some(*uuid)),
        Fitted::Timestamp(us) => instant(column, item, *us),
        Fitted::Date(days) => date(column, item, *days),
        Fitted::Int8(n) => assert_eq!(item, Item::Integer(*n)),
        Fitted::Int4(n) => assert_eq!(item, Item::Integer((*n).into())),
        Fitted::Int2(n) => assert_eq!(item, Item::Integer((*n).into())),
        Fitted::Bool(b) => assert_eq!(item, Item::Integer((*b).into())),
        Fitted::Float8(_) => assert!(matches!(item, Item::Integer(_) | Item::Real(_))),
        Fitted::Float4(r) => assert!(!r.is_infinite() || matches!(item, Item::Real(r) if r.is_infinite())),
    }
}

/// A timestamp is one that PostgreSQL holds, and says what the worker sent.
fn instant(column: &Column, item: Item<'_>, us: i64) {
    let infinite = us == time::INFINITY || us == i64::MIN;
    assert!(infinite || (-211_813_488_000_000_000..9_223_371_331_200_000_000).contains(&us), "{us}");
    let utc = column.type_oid == oid::TIMESTAMPTZ;
    match item {
        Item::Integer(n) if column.encoding != E::Julian => {
            assert_eq!(time::store_timestamp(us, column.encoding, utc), Ok(Value::Integer(n)));
        }
        Item::Integer(n) => near(column.encoding, n as f64, us),
        Item::Real(r) if r.is_infinite() => assert_eq!(us, if r > 0.0 { i64::MAX } else { i64::MIN }),
        Item::Real(r) => near(column.encoding, r, us),
        Item::Text(text) => {
            if let Ok(canonical) = time::format_timestamp(us, utc) {
                assert_eq!(time::parse_timestamp(canonical.as_bytes(), utc), Ok(us));
                assert!(!column.trusted || canonical.as_bytes() == text, "{canonical} of {text:?}");
            }
        }
        other => panic!("{other:?}"),
    }
}

/// A stored real names that microsecond, as near as a double can.
fn near(encoding: E, r: f64, us: i64) {
    const EPOCH_US: f64 = 946_684_800e6;
    let (counted, start, rounded) = match encoding {
        E::EpochS => (r * 1e6, EPOCH_US, 1.0),
        E::EpochMs => (r * 1e3, EPOCH_US, 1.0),
        E::EpochUs => (r, EPOCH_US, 1.0),
        E::Julian => ((r - 2_451_544.5) * 86_400e6, 0.0, 501.0),
        other => panic!("{other:?}"),
    };
    let difference = (us as f64 - (counted - start)).abs();
    assert!(difference <= rounded + counted.abs() * 1e-15, "{r} in {encoding:?} is {us}, {difference} away");
}

fn date(column: &Column, item: Item<'_>, days: i32) {
    match item {
        Item::Text(text) => assert_eq!(time::format_date(days).map(String::into_bytes), Ok(text.to_vec())),
        Item::Real(r) if r.is_infinite() => assert_eq!(days, if r > 0.0 { i32::MAX } else { i32::MIN }),
        // The day that the instant lies in.
        Item::Integer(_) | Item::Real(_) => {
            let instant = Reading::new(oid::TIMESTAMPTZ, column.encoding, column.invalid_text, false).fit(item);
            let Ok(Fitted::Timestamp(us)) = instant else { panic!("{item:?} is {days} and {instant:?}") };
            assert_eq!(us.div_euclid(time::DAY_US), i64::from(days));
        }
        other => panic!("{other:?}"),
    }
}

/// States of aggregates: their bytes again, merged as workers do, and in PostgreSQL's form.
fn states(bytes: &[u8]) {
    let (one, two) = bytes.split_at(bytes.len() / 2);
    state::<RealMoments>(one, two);
    state::<PairMoments>(one, two);
    if let Some(moments) = state::<IntMoments>(one, two) {
        let (count, sum, rest) = sum_of(&serial::sum_state(moments.count, moments.sum));
        assert_eq!((count, sum, rest), (moments.count, moments.sum, 0));
        // A number without digits has 16 bytes; what is added for `numeric` has 36.
        let (_, _, squares) = sum_of(&serial::moments_state(&moments, false));
        assert!(squares >= 16);
        assert_eq!(sum_of(&serial::moments_state(&moments, true)).2, squares + 36);
    }
}

fn state<S: State>(one: &[u8], two: &[u8]) -> Option<S> {
    let (mut one_state, two_state) = (S::from_bytes(one)?, S::from_bytes(two)?);
    assert_eq!((one_state.to_bytes(), two_state.to_bytes()), (one.to_vec(), two.to_vec()));
    // An overflow is an error, never a panic.
    let _ = one_state.merge(&two_state);
    S::from_bytes(one)
}

/// Count, sum, and how many bytes follow, of PostgreSQL's form.
fn sum_of(state: &[u8]) -> (i64, i128, usize) {
    let word = |at: usize| i32::from_be_bytes(state[at..at + 4].try_into().expect("four bytes"));
    let count = i64::from_be_bytes(state[..8].try_into().expect("eight bytes"));
    let digits = word(8) as usize;
    let end = 24 + 2 * digits;
    let magnitude = state[24..end].chunks(2).fold(0u128, |n, d| {
        let digit = u16::from_be_bytes([d[0], d[1]]);
        assert!(digit < 10_000);
        n.wrapping_mul(10_000).wrapping_add(digit.into())
    });
    let sum = if word(16) == 0 { magnitude as i128 } else { (magnitude as i128).wrapping_neg() };
    (count, sum, state.len() - end)
}

/// What a Python worker sends becomes rows that a scan reads whole.
fn python(body: &[u8]) {
    let Ok((columns, count, data)) = trough_client::query::fuzzing::python_rows(body) else { return };
    let mut reader = ItemReader::new(&data, 0);
    for _ in 0..u64::from(count) * columns.len() as u64 {
        assert!(reader.next().is_some());
    }
    assert_eq!(reader.at(), data.len());
}
