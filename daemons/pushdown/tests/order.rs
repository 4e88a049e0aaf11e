//! Which sort keys ship, and the statements that pick first rows.

use trough_pushdown::{
    Collation, Column, Encoding, Expr, InvalidText, Keys, Order, Scope, Shipper, Storage, Table,
    oid::{self, Oid},
    order::{Key, Sort, key},
    statement,
};

const INTEGER_OPS: Oid = 1976;
const FLOAT_OPS: Oid = 1970;
const TEXT_OPS: Oid = 1994;
const TEXT_PATTERN_OPS: Oid = 2095;
const DATETIME_OPS: Oid = 434;
const UUID_OPS: Oid = 2968;

fn collation(oid: Oid) -> Collation {
    let c = oid == oid::C_COLLATION;
    Collation { deterministic: oid != 0, bytewise: c, only_ascii: c, ascii_case: true }
}

fn column(name: &str, type_oid: Oid) -> Column {
    Column {
        name: name.into(),
        table: "t".into(),
        alias: None,
        type_oid,
        encoding: Encoding::default_for(type_oid),
        storage: Storage::Unknown,
        trusted: true,
        invalid_text: InvalidText::Error,
        segment: name == "seg",
    }
}

fn table() -> Table {
    let float4 = Column { trusted: false, ..column("f", oid::FLOAT4) };
    let seconds = Column { trusted: false, encoding: Encoding::EpochS, ..column("s", oid::TIMESTAMPTZ) };
    let iso = Column { trusted: false, ..column("iso", oid::TIMESTAMPTZ) };
    let columns = [
        column("seg", oid::TEXT),
        column("i", oid::INT8),
        column("t", oid::TEXT),
        column("u", oid::UUID),
        float4,
        seconds,
        iso,
        column("n", oid::NUMERIC),
    ];
    Table { name: "t".into(), columns: columns.map(Some).to_vec() }
}

const SEG: usize = 0;
const I: usize = 1;
const T: usize = 2;
const U: usize = 3;
const F: usize = 4;
const S: usize = 5;
const ISO: usize = 6;
const N: usize = 7;

fn sort(opfamily: Oid) -> Sort {
    Sort { opfamily, collation: 100, descending: false, nulls_first: false }
}

fn shipped(index: usize, sort: Sort, last: bool) -> Option<Key> {
    let scope = Scope::of([&table()]);
    key(&Expr::Column(index), sort, last, &mut Shipper::new(&scope, &collation)).ok()
}

#[test]
fn numbers_sort_alike_under_their_own_operators_only() {
    assert_eq!(shipped(I, sort(INTEGER_OPS), false).map(|k| k.sql), Some("`i`".into()));
    assert_eq!(shipped(I, sort(FLOAT_OPS), false), None);
    assert_eq!(shipped(N, sort(1988), true), None);
}

#[test]
fn texts_sort_alike_by_bytes() {
    assert_eq!(shipped(T, sort(TEXT_OPS), true), None);
    let c = Sort { collation: oid::C_COLLATION, ..sort(TEXT_OPS) };
    assert_eq!(shipped(T, c, true).map(|k| k.sql), Some("`t` COLLATE BINARY".into()));
    assert_eq!(shipped(T, sort(TEXT_PATTERN_OPS), true).map(|k| k.sql), Some("`t` COLLATE BINARY".into()));
    assert_eq!(shipped(U, sort(UUID_OPS), true).map(|k| k.sql), Some("`u` COLLATE BINARY".into()));
}

#[test]
fn the_segment_is_constant_within_a_segment() {
    let key = shipped(SEG, sort(TEXT_OPS), false).expect("whatever the collation");
    assert!(key.segment && !key.across);
    let key = shipped(SEG, Sort { collation: oid::C_COLLATION, ..sort(TEXT_OPS) }, false).expect("C");
    assert!(key.segment && key.across);
}

#[test]
fn what_relies_on_the_order_of_texts_says_so() {
    let scope = Scope::of([&table()]);
    let c = Sort { collation: oid::C_COLLATION, ..sort(TEXT_OPS) };
    for (index, sort, relies) in [
        (T, c, true),
        (T, sort(TEXT_PATTERN_OPS), true),
        (SEG, c, false),
        (I, sort(INTEGER_OPS), false),
        (U, sort(UUID_OPS), false),
    ] {
        let mut shipper = Shipper::new(&scope, &collation);
        key(&Expr::Column(index), sort, true, &mut shipper).expect("ships");
        assert_eq!(shipper.is_bytewise(), relies, "{index}");
    }
}

#[test]
fn what_is_stored_in_several_forms_sorts_as_it_reads() {
    for (index, opfamily, reads) in
        [(F, FLOAT_OPS, "single"), (S, DATETIME_OPS, "instant"), (ISO, DATETIME_OPS, "instant")]
    {
        let sql = shipped(index, sort(opfamily), false).map(|key| key.sql).unwrap_or_default();
        assert!(sql.starts_with(&format!("trough_{reads}(")), "{sql}");
    }
}

fn scan(columns: &[usize], order: &Order) -> (String, Option<String>, usize) {
    let scope = Scope::of([&table()]);
    let scanned = statement::scan("`t`", &scope, columns, &["(`i` > ?1)".into()], &[], order);
    (scanned.statement.map, scanned.statement.reduce, scanned.width)
}

#[test]
fn workers_pick_what_is_sorted_over_segments() {
    let keys = vec![
        shipped(SEG, Sort { collation: oid::C_COLLATION, descending: true, ..sort(TEXT_OPS) }, false).expect("segment"),
        Key { sql: "`i` + 1".into(), column: None, ..shipped(I, sort(INTEGER_OPS), false).expect("i") },
        shipped(U, Sort { nulls_first: true, ..sort(UUID_OPS) }, true).expect("u"),
    ];
    let order = Order { keys, limit: Some(2), single: false, many: false };
    assert_eq!(
        scan(&[U, T], &order),
        (
            "SELECT `u` COLLATE BINARY AS c1, `t` AS c2, :segment AS k1, `i` + 1 AS k2 FROM `t` WHERE (`i` > ?1) \
             ORDER BY k2 ASC NULLS LAST, c1 ASC NULLS FIRST LIMIT +?2"
                .into(),
            Some(
                "SELECT * FROM partial ORDER BY k1 DESC NULLS LAST, k2 ASC NULLS LAST, c1 ASC NULLS FIRST LIMIT ?1"
                    .into()
            ),
            4
        )
    );
    let single = Order { single: true, ..order.clone() };
    assert_eq!(
        scan(&[U, T], &single),
        (
            "SELECT `u`, `t` FROM `t` WHERE (`i` > ?1) ORDER BY `i` + 1 ASC NULLS LAST, `u` COLLATE BINARY ASC NULLS \
             FIRST LIMIT +?2"
                .into(),
            None,
            2
        )
    );
    let many = Order { many: true, ..order.clone() };
    assert_eq!(scan(&[U, T], &many).1, None);
    let any = Order { keys: Vec::new(), ..order };
    assert_eq!(scan(&[], &any), ("SELECT NULL FROM `t` WHERE (`i` > ?1) LIMIT +?2".into(), None, 1));
}

#[test]
fn one_segment_is_known_before_the_values_are() {
    assert!(Keys::One(0).is_single());
    assert!(Keys::Intersect(vec![Keys::Each(1), Keys::One(0)]).is_single());
    assert!(!Keys::Union(vec![Keys::One(0), Keys::One(1)]).is_single());
    assert!(!Keys::Each(0).is_single() && !Keys::All.is_single());
}
