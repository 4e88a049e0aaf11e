//! A suite of our own beyond the recorded cases. It runs over this server, and with RETHINKDB_URL set
//! (`rethinkdb://HOST[:PORT]`) over a real RethinkDB too: what holds for one must hold for the other.

mod wire;

use serde_json::{Value, json};
use trough_meta::MetaServer;
use trough_reql::proto::term_type as t;
use wire::{Wire, agrees, real_server};

/// A term.
fn c<const N: usize>(op: u64, args: [Value; N]) -> Value {
    json!([op, args.to_vec()])
}

/// A term with optional arguments.
fn o<const N: usize>(op: u64, args: [Value; N], opts: Value) -> Value {
    json!([op, args.to_vec(), opts])
}

/// An array.
fn a<const N: usize>(items: [Value; N]) -> Value {
    json!([t::MAKE_ARRAY, items.to_vec()])
}

/// A function of one parameter.
fn f(id: u64, body: Value) -> Value {
    c(t::FUNC, [json!([t::MAKE_ARRAY, [id]]), body])
}

/// A function of two.
fn f2(first: u64, second: u64, body: Value) -> Value {
    c(t::FUNC, [json!([t::MAKE_ARRAY, [first, second]]), body])
}

fn v(id: u64) -> Value {
    c(t::VAR, [json!(id)])
}

/// A field of a term.
fn g(of: Value, field: &str) -> Value {
    c(t::BRACKET, [of, json!(field)])
}

/// A table of the suite's database.
fn tbl(name: &str) -> Value {
    c(t::TABLE, [c(t::DB, [json!("conformance")]), json!(name)])
}

/// The ids of a sequence as a sorted array.
fn ids(of: Value) -> Value {
    g(c(t::ORDER_BY, [of, json!("id")]), "id")
}

struct Suite {
    wire: Wire,
    failures: Vec<String>,
}

impl Suite {
    async fn gives(&mut self, term: Value, wanted: Value) {
        let answers = self.wire.run(&json!([1, term, {}])).await;
        let got = match answers[0]["t"].as_u64() {
            Some(1) => answers[0]["r"][0].clone(),
            Some(2 | 3) => answers.iter().flat_map(|a| a["r"].as_array().cloned().unwrap_or_default()).collect(),
            _ => answers[0].clone(),
        };
        if !agrees(&wanted, &got) {
            self.failures.push(format!("{term}\n  wanted {wanted}\n  got    {got}"));
        }
    }

    async fn fails(&mut self, term: Value, kind: u64, class: Option<u64>, words: &str) {
        let answers = self.wire.run(&json!([1, term, {}])).await;
        let got = answers.last().cloned().unwrap_or_default();
        let said = got["r"][0].as_str().unwrap_or_default();
        if got["t"] != kind || got["e"].as_u64() != class || !said.contains(words) {
            self.failures.push(format!("{term}\n  wanted {kind} {class:?} {words}\n  got    {got}"));
        }
    }

    async fn done(&mut self, term: Value) {
        let answers = self.wire.run(&json!([1, term, {}])).await;
        if answers[0]["t"].as_u64().is_none_or(|t| t >= 16) {
            self.failures.push(format!("{term}\n  got    {}", answers[0]));
        }
    }
}

const LOGIC: Option<u64> = Some(3_000_000);
const NON_EXISTENCE: Option<u64> = Some(3_100_000);
const OP_FAILED: Option<u64> = Some(4_100_000);

async fn set_up(s: &mut Suite) {
    let db = json!("conformance");
    let leftover = c(t::CONTAINS, [c(t::DB_LIST, []), db.clone()]);
    s.done(c(t::BRANCH, [leftover, c(t::DB_DROP, [db.clone()]), json!(null)])).await;
    s.done(c(t::DB_CREATE, [db.clone()])).await;
    for table in ["t", "u", "mixed"] {
        s.done(c(t::TABLE_CREATE, [c(t::DB, [db.clone()]), json!(table)])).await;
    }
    // One index before the documents, the others after: both must hold the same.
    s.done(c(t::INDEX_CREATE, [tbl("t"), json!("n")])).await;
    let rows = (0..60).map(|i| json!({"id": i, "n": i % 7, "tags": [2, [format!("t{}", i % 3), format!("t{}", i % 5)]], "s": format!("s{i:02}")}));
    s.done(c(t::INSERT, [tbl("t"), json!([2, rows.collect::<Vec<_>>()])])).await;
    s.done(c(t::INDEX_CREATE, [tbl("t"), json!("after")])).await;
    s.done(o(t::INDEX_CREATE, [tbl("t"), json!("tags")], json!({"multi": true}))).await;
    let pair = f(1, a([g(v(1), "n"), g(v(1), "s")]));
    s.done(c(t::INDEX_CREATE, [tbl("t"), json!("pair"), pair])).await;
    let twice = f(1, c(t::MUL, [g(v(1), "n"), json!(2)]));
    s.done(c(t::INDEX_CREATE, [tbl("t"), json!("twice"), twice])).await;
    s.done(c(t::INDEX_WAIT, [tbl("t")])).await;
    let kinds = [
        json!({"id": "array", "x": [2, [1, 2]]}),
        json!({"id": "bool", "x": true}),
        json!({"id": "null", "x": null}),
        json!({"id": "number", "x": -0.5}),
        json!({"id": "object", "x": {"a": 1}}),
        json!({"id": "time", "x": [t::EPOCH_TIME, [7]]}),
        json!({"id": "string", "x": "a\u{0}b"}),
        json!({"id": "missing"}),
    ];
    s.done(c(t::INSERT, [tbl("mixed"), json!([2, kinds])])).await;
    s.done(c(t::INDEX_CREATE, [tbl("mixed"), json!("x")])).await;
    s.done(c(t::INDEX_WAIT, [tbl("mixed")])).await;
}

async fn indexes(s: &mut Suite) {
    let all = |index: &str, key: Value| o(t::GET_ALL, [tbl("t"), key], json!({"index": index}));
    s.gives(ids(all("n", json!(6))), json!([6, 13, 20, 27, 34, 41, 48, 55])).await;
    s.gives(ids(all("twice", json!(12))), json!([6, 13, 20, 27, 34, 41, 48, 55])).await;
    s.gives(c(t::COUNT, [all("tags", json!("t4"))]), json!(12)).await;
    // A document whose array holds a value twice stands twice under it.
    s.gives(c(t::COUNT, [all("tags", json!("t0"))]), json!(32)).await;
    s.gives(ids(all("pair", a([json!(3), json!("s10")]))), json!([10])).await;
    s.gives(c(t::COUNT, [all("after", json!(1))]), json!(0)).await;
    s.gives(c(t::COUNT, [o(t::GET_ALL, [tbl("t"), json!(1), json!(1), json!(2)], json!({"index": "n"}))]), json!(27))
        .await;
    let order = |index: Value| {
        g(
            c(
                t::COERCE_TO,
                [c(t::LIMIT, [o(t::ORDER_BY, [tbl("t")], json!({"index": index})), json!(3)]), json!("array")],
            ),
            "id",
        )
    };
    s.gives(order(json!("pair")), json!([0, 7, 14])).await;
    s.gives(order(c(t::DESC, [json!("pair")])), json!([55, 48, 41])).await;
    let run = o(t::ORDER_BY, [tbl("t"), c(t::DESC, [json!("id")])], json!({"index": "n"}));
    s.gives(g(c(t::COERCE_TO, [c(t::LIMIT, [run, json!(3)]), json!("array")]), "id"), json!([56, 49, 42])).await;
    let between = |low: Value, high: Value, opts: Value| o(t::BETWEEN, [tbl("t"), low, high], opts);
    let pair = a([json!(2), c(t::MINVAL, [])]);
    let pairs = between(pair, a([json!(2), c(t::MAXVAL, [])]), json!({"index": "pair"}));
    s.gives(ids(pairs), json!([2, 9, 16, 23, 30, 37, 44, 51, 58])).await;
    let open = json!({"index": "n", "left_bound": "open", "right_bound": "closed"});
    s.gives(c(t::COUNT, [between(json!(4), json!(5), open)]), json!(8)).await;
    s.gives(c(t::COUNT, [between(json!(5), json!(4), json!({"index": "n"}))]), json!(0)).await;
    s.gives(c(t::COUNT, [between(json!(5), json!(5), json!({"index": "n"}))]), json!(0)).await;
    s.fails(between(json!(1), json!(2), json!({"index": "no"})), 18, OP_FAILED, "Index `no` was not found").await;
    // Every kind of value has its place in the order; null, objects and what is missing have none in an index.
    let sorted = o(t::ORDER_BY, [tbl("mixed")], json!({"index": "x"}));
    s.gives(g(c(t::COERCE_TO, [sorted, json!("array")]), "id"), json!(["array", "bool", "number", "time", "string"]))
        .await;
    let eager = c(t::ORDER_BY, [tbl("mixed"), json!("x")]);
    s.gives(g(eager, "id"), json!(["missing", "array", "bool", "null", "number", "object", "time", "string"])).await;
    s.gives(ids(o(t::GET_ALL, [tbl("mixed"), json!("a\u{0}b")], json!({"index": "x"}))), json!(["string"])).await;
    s.gives(
        c(t::COERCE_TO, [o(t::DISTINCT, [tbl("t")], json!({"index": "n"})), json!("array")]),
        json!([0, 1, 2, 3, 4, 5, 6]),
    )
    .await;
    s.gives(g(o(t::MAX, [tbl("t")], json!({"index": "pair"})), "id"), json!(55)).await;
    s.gives(c(t::INDEX_RENAME, [tbl("t"), json!("after"), json!("later")]), json!({"renamed": 1})).await;
    s.fails(c(t::INDEX_RENAME, [tbl("t"), json!("n"), json!("later")]), 18, OP_FAILED, "already exists").await;
    s.gives(c(t::GET_ALL, [tbl("t"), c(t::MINVAL, [])]), json!([])).await;
    s.gives(c(t::GET, [tbl("t"), c(t::MAXVAL, [])]), json!(null)).await;
    s.gives(c(t::INDEX_DROP, [tbl("t"), json!("later")]), json!({"dropped": 1})).await;
    s.fails(c(t::INDEX_CREATE, [tbl("t"), json!("id")]), 18, LOGIC, "is the name of the primary key").await;
    let changing = f(1, c(t::NOW, []));
    s.fails(c(t::INDEX_CREATE, [tbl("t"), json!("x"), changing]), 18, LOGIC, "must be deterministic").await;
}

async fn writes(s: &mut Suite) {
    let get = |id: Value| c(t::GET, [tbl("t"), id]);
    // An index follows every change.
    s.done(c(t::UPDATE, [get(json!(6)), json!({"n": 100})])).await;
    let hundred = || o(t::GET_ALL, [tbl("t"), json!(100)], json!({"index": "n"}));
    s.gives(ids(hundred()), json!([6])).await;
    s.done(c(t::REPLACE, [get(json!(6)), json!({"id": 6, "tags": [2, []], "s": "x"})])).await;
    s.gives(ids(hundred()), json!([])).await;
    s.done(c(t::DELETE, [get(json!(13))])).await;
    s.gives(c(t::COUNT, [o(t::GET_ALL, [tbl("t"), json!(6)], json!({"index": "n"}))]), json!(6)).await;
    // The function sees what it replaces, and null where there is nothing.
    let counter = f(
        1,
        c(
            t::BRANCH,
            [
                c(t::EQ, [v(1), json!(null)]),
                json!({"id": "k", "c": 1}),
                c(t::MERGE, [v(1), json!({"c": c(t::ADD, [g(v(1), "c"), json!(1)])})]),
            ],
        ),
    );
    for _ in 0..3 {
        s.done(c(t::REPLACE, [c(t::GET, [tbl("u"), json!("k")]), counter.clone()])).await;
    }
    s.gives(g(c(t::GET, [tbl("u"), json!("k")]), "c"), json!(3)).await;
    let fence = c(
        t::FUNC,
        [
            json!([2, [1, 2, 3]]),
            c(t::BRANCH, [c(t::GT, [g(v(2), "epoch"), g(v(3), "epoch")]), c(t::ERROR, [json!("fenced")]), v(3)]),
        ],
    );
    let put = |epoch: u64| o(t::INSERT, [tbl("u"), json!({"id": "e", "epoch": epoch})], json!({"conflict": fence}));
    s.gives(g(put(5), "inserted"), json!(1)).await;
    s.gives(g(put(6), "replaced"), json!(1)).await;
    s.gives(
        c(t::PLUCK, [put(4), json!("errors"), json!("first_error")]),
        json!({"errors": 1, "first_error": "fenced"}),
    )
    .await;
    s.gives(g(put(6), "unchanged"), json!(1)).await;
    // Deleting by a conflict function.
    let gone = c(t::FUNC, [json!([2, [1, 2, 3]]), json!(null)]);
    let dropped = o(t::INSERT, [tbl("u"), json!({"id": "e"})], json!({"conflict": gone, "return_changes": true}));
    s.gives(
        c(t::PLUCK, [dropped, json!("deleted"), json!("changes")]),
        json!({"deleted": 1, "changes": [{"new_val": null, "old_val": {"id": "e", "epoch": 6}}]}),
    )
    .await;
    // What finds nothing has no list of changes.
    let nothing = c(t::FILTER, [tbl("u"), json!({"none": 1})]);
    let done = o(t::UPDATE, [nothing, json!({"x": 1})], json!({"return_changes": "always"}));
    s.gives(c(t::KEYS, [done]), json!(["deleted", "errors", "inserted", "replaced", "skipped", "unchanged"])).await;
    // Values may not be stored that have no place in a document.
    s.gives(g(c(t::INSERT, [tbl("u"), json!({"id": 1, "x": c(t::MAXVAL, [])})]), "errors"), json!(1)).await;
    s.fails(c(t::INSERT, [tbl("u"), json!({"id": 1, "x": c(t::LITERAL, [json!(1)])})]), 18, LOGIC, "Stray literal")
        .await;
    s.fails(c(t::UPDATE, [get(json!(1)), json!({"x": c(t::RANDOM, [])})]), 18, LOGIC, "non_atomic").await;
    s.done(o(t::UPDATE, [get(json!(1)), json!({"x": c(t::RANDOM, [])})], json!({"non_atomic": true}))).await;
    s.gives(g(c(t::DELETE, [c(t::LIMIT, [tbl("u"), json!(1)])]), "deleted"), json!(1)).await;
    let copy = c(t::INSERT, [tbl("u"), o(t::BETWEEN, [tbl("t"), json!(20), json!(30)], json!({}))]);
    s.gives(g(copy, "inserted"), json!(10)).await;
    let each = c(
        t::FOR_EACH,
        [
            o(t::BETWEEN, [tbl("u"), json!(20), json!(25)], json!({})),
            f(1, c(t::DELETE, [c(t::GET, [tbl("u"), g(v(1), "id")])])),
        ],
    );
    s.gives(g(each, "deleted"), json!(5)).await;
    s.gives(g(c(t::DELETE, [tbl("u")]), "deleted"), json!(5)).await;
}

async fn sequences(s: &mut Suite) {
    let rows = || {
        a([json!({"id": 1, "k": "a", "n": 1}), json!({"id": 2, "k": "b", "n": 2}), json!({"id": 3, "k": "a", "n": 3})])
    };
    let grouped = || c(t::GROUP, [rows(), json!("k")]);
    let shown = |pairs: Value| json!({"$reql_type$": "GROUPED_DATA", "data": pairs});
    s.gives(c(t::COUNT, [grouped()]), shown(json!([["a", 2], ["b", 1]]))).await;
    s.gives(c(t::SUM, [grouped(), json!("n")]), shown(json!([["a", 4], ["b", 2]]))).await;
    s.gives(g(c(t::MAX, [grouped(), json!("n")]), "id"), shown(json!([["a", 3], ["b", 2]]))).await;
    s.gives(
        c(t::UNGROUP, [c(t::COUNT, [grouped()])]),
        json!([{"group": "a", "reduction": 2}, {"group": "b", "reduction": 1}]),
    )
    .await;
    s.gives(c(t::NTH, [g(grouped(), "n"), json!(0)]), shown(json!([["a", 1], ["b", 2]]))).await;
    let join =
        c(t::EQ_JOIN, [a([json!({"at": 3, "y": 1}), json!({"at": 999}), json!({"z": 1})]), json!("at"), tbl("t")]);
    s.gives(g(c(t::COERCE_TO, [c(t::ZIP, [join]), json!("array")]), "id"), json!([3])).await;
    let same = f2(1, 2, c(t::EQ, [g(v(1), "k"), g(v(2), "k")]));
    s.gives(c(t::COUNT, [c(t::INNER_JOIN, [rows(), rows(), same.clone()])]), json!(5)).await;
    let outer = c(t::OUTER_JOIN, [a([json!({"k": "none"})]), rows(), same]);
    s.gives(outer, json!([{"left": {"k": "none"}}])).await;
    // A function sees the variables around it.
    let inner = f(2, c(t::ADD, [v(1), v(2)]));
    let nested = c(t::CONCAT_MAP, [a([json!(10), json!(20)]), f(1, c(t::MAP, [a([json!(1), json!(2)]), inner]))]);
    s.gives(nested, json!([11, 12, 21, 22])).await;
    s.gives(
        c(t::MAP, [a([json!(1), json!(2)]), a([json!(10), json!(20), json!(30)]), f2(1, 2, c(t::ADD, [v(1), v(2)]))]),
        json!([11, 22]),
    )
    .await;
    s.gives(c(t::FOLD, [a([json!(1), json!(2), json!(3)]), json!(10), f2(1, 2, c(t::ADD, [v(1), v(2)]))]), json!(16))
        .await;
    s.gives(
        c(t::REDUCE, [a([]), f2(1, 2, v(1))]),
        json!({"t": 18, "e": 3_100_000, "r": ["Cannot reduce over an empty stream."]}),
    )
    .await;
    s.gives(c(t::SLICE, [c(t::RANGE, [json!(100)]), json!(97), json!(1000)]), json!([97, 98, 99])).await;
    s.gives(c(t::OFFSETS_OF, [c(t::RANGE, [json!(5)]), f(1, c(t::GT, [v(1), json!(2)]))]), json!([3, 4])).await;
    s.gives(c(t::IS_EMPTY, [c(t::FILTER, [tbl("t"), json!({"n": "no"})])]), json!(true)).await;
    s.gives(c(t::CONTAINS, [a([json!(1), json!(2), json!(2)]), json!(2), json!(2)]), json!(true)).await;
    s.gives(c(t::CONTAINS, [a([json!(1), json!(2)]), json!(2), json!(2)]), json!(false)).await;
    s.gives(c(t::AVG, [c(t::FILTER, [tbl("t"), json!({"id": 4})]), json!("n")]), json!(4)).await;
    s.fails(c(t::AVG, [a([]), json!("n")]), 18, NON_EXISTENCE, "Cannot take the average of an empty stream").await;
    s.fails(c(t::COUNT, [c(t::RANGE, [])]), 18, LOGIC, "Cannot use an infinite stream").await;
    s.fails(c(t::COUNT, [c(t::CHANGES, [tbl("t")])]), 18, LOGIC, "infinite stream").await;
    s.gives(c(t::LIMIT, [c(t::RANGE, []), json!(3)]), json!([0, 1, 2])).await;
    let part = c(t::COERCE_TO, [c(t::LIMIT, [c(t::RANGE, []), json!(3)]), json!("array")]);
    s.fails(part, 18, LOGIC, "Cannot use an infinite stream").await;
    // What is null adds nothing to a sum, and what is missing is no error that DEFAULT catches when a kind is wrong.
    s.gives(c(t::SUM, [a([json!(1), json!(null)])]), json!(1)).await;
    s.fails(c(t::DEFAULT, [c(t::KEYS, [json!(null)]), json!(1)]), 18, LOGIC, "Cannot call `keys`").await;
    s.fails(c(t::DEFAULT, [c(t::YEAR, [json!(null)]), json!(1)]), 18, LOGIC, "Not a TIME pseudotype").await;
    s.fails(c(t::ERROR, []), 18, LOGIC, "Empty ERROR term").await;
    let long = o(t::ORDER_BY, [c(t::RANGE, [json!(100_001)]), f(1, v(1))], json!({}));
    s.fails(long, 18, Some(2_000_000), "Array over size limit `100000`").await;
    s.gives(c(t::UNION, [c(t::LIMIT, [c(t::RANGE, []), json!(2)]), a([json!("x")])]), json!([0, 1, "x"])).await;
    let merged = o(t::UNION, [a([json!(1), json!(4)]), a([json!(2), json!(3)])], json!({"interleave": f(1, v(1))}));
    s.gives(merged, json!([1, 2, 3, 4])).await;
}

async fn expressions(s: &mut Suite) {
    let nested = || json!({"a": {"b": [2, [{"c": 1, "d": 2}, {"c": 3}]]}, "x": null});
    s.gives(c(t::PLUCK, [nested(), json!({"a": {"b": "c"}})]), json!({"a": {"b": [{"c": 1}, {"c": 3}]}})).await;
    s.gives(
        c(t::WITHOUT, [nested(), json!({"a": {"b": {"c": true}}})]),
        json!({"a": {"b": [{"d": 2}, {}]}, "x": null}),
    )
    .await;
    s.gives(c(t::HAS_FIELDS, [nested(), json!("a"), json!("x")]), json!(false)).await;
    s.gives(
        c(
            t::MERGE,
            [
                json!({"a": {"b": 1}}),
                json!({"a": {"c": 2}}),
                f(1, json!({"n": c(t::COUNT, [c(t::KEYS, [g(v(1), "a")])])})),
            ],
        ),
        json!({"a": {"b": 1, "c": 2}, "n": 2}),
    )
    .await;
    s.gives(c(t::VALUES, [json!({"b": 2, "a": 1})]), json!([1, 2])).await;
    s.gives(c(t::SPLICE_AT, [a([json!(1), json!(2)]), json!(-1), a([json!(8), json!(9)])]), json!([1, 2, 8, 9])).await;
    s.gives(c(t::DELETE_AT, [a([json!(1), json!(2), json!(3)]), json!(0), json!(2)]), json!([3])).await;
    s.gives(c(t::CHANGE_AT, [a([json!(1), json!(2)]), json!(-1), json!(9)]), json!([1, 9])).await;
    s.fails(c(t::INSERT_AT, [a([json!(1)]), json!(5), json!(9)]), 18, NON_EXISTENCE, "out of bounds").await;
    s.gives(c(t::SET_INTERSECTION, [a([json!(1), json!(2), json!(2)]), a([json!(2), json!(3)])]), json!([2])).await;
    s.gives(c(t::SET_DIFFERENCE, [a([json!(1), json!(1), json!(2)]), a([json!(2)])]), json!([1])).await;
    s.gives(c(t::SPLIT, [json!("  a  b c ")]), json!(["a", "b", "c"])).await;
    s.gives(c(t::SPLIT, [json!("a,b,,c"), json!(","), json!(2)]), json!(["a", "b", ",c"])).await;
    s.gives(c(t::SPLIT, [json!("aé"), json!("")]), json!(["a", "é"])).await;
    s.gives(c(t::UPCASE, [json!("aé")]), json!("Aé")).await;
    s.gives(c(t::SLICE, [json!("héllo"), json!(1), json!(3)]), json!("él")).await;
    s.gives(c(t::BIT_AND, [json!(12), json!(10)]), json!(8)).await;
    s.gives(c(t::BIT_SAR, [json!(-8), json!(1)]), json!(-4)).await;
    s.gives(c(t::JSON, [json!("{\"a\":[1,2.5,null]}")]), json!({"a": [1, 2.5, null]})).await;
    s.fails(c(t::JSON, [json!("{")]), 18, LOGIC, "Failed to parse").await;
    s.gives(c(t::COERCE_TO, [a([a([json!("a"), json!(1)])]), json!("object")]), json!({"a": 1})).await;
    s.gives(c(t::COERCE_TO, [json!("-1.5e1"), json!("number")]), json!(-15)).await;
    let time = || c(t::ISO8601, [json!("2026-11-22T18:30:45.250+01:00")]);
    s.gives(
        a([
            c(t::YEAR, [time()]),
            c(t::MONTH, [time()]),
            c(t::DAY, [time()]),
            c(t::HOURS, [time()]),
            c(t::MINUTES, [time()]),
            c(t::SECONDS, [time()]),
            c(t::DAY_OF_WEEK, [time()]),
            c(t::DAY_OF_YEAR, [time()]),
        ]),
        json!([2026, 11, 22, 18, 30, 45.25, 7, 326]),
    )
    .await;
    s.gives(c(t::TO_ISO8601, [c(t::DATE, [time()])]), json!("2026-11-22T00:00:00+01:00")).await;
    s.gives(c(t::TO_EPOCH_TIME, [c(t::TIME, [json!(2026), json!(11), json!(22), json!("Z")])]), json!(1_795_305_600))
        .await;
    s.fails(c(t::TIME, [json!(2026), json!(2), json!(30), json!("Z")]), 18, LOGIC, "Error in time logic").await;
    s.gives(
        c(t::MATCH, [json!("seg-0042"), json!("^seg-(?P<n>[0-9]+)$")]),
        json!({"start": 0, "end": 8, "str": "seg-0042", "groups": [{"start": 4, "end": 8, "str": "0042"}]}),
    )
    .await;
    s.gives(c(t::MATCH, [json!("ABC"), json!("(?i)b")]), json!({"start": 1, "end": 2, "str": "B", "groups": []})).await;
    s.gives(c(t::MATCH, [json!("٣"), json!("^\\d$")]), json!(null)).await;
    s.gives(c(t::FUNCALL, [f2(1, 2, c(t::SUB, [v(1), v(2)])), json!(5), json!(3)]), json!(2)).await;
    s.fails(
        c(t::FUNCALL, [f(1, v(1)), json!(5), json!(3)]),
        18,
        LOGIC,
        "Expected function with 2 arguments but found function with 1 argument.",
    )
    .await;
    s.gives(
        c(t::DEFAULT, [g(g(json!({}), "a"), "b"), c(t::ERROR, [])]),
        json!({"t": 18, "e": 3_100_000, "r": ["No attribute `a` in object:\n{}"]}),
    )
    .await;
    s.fails(c(t::ADD, [c(t::ARGS, [json!(5)])]), 18, LOGIC, "Expected type ARRAY").await;
    s.gives(c(t::ADD, [c(t::ARGS, [a([json!(1), json!(2)])]), json!(3)]), json!(6)).await;
    s.fails(c(t::DESC, [json!("x")]), 17, None, "DESC may only be used").await;
    s.fails(
        c(t::FILTER, [tbl("t"), f(1, c(t::FILTER, [a([]), f(2, c(t::IMPLICIT_VAR, []))]))]),
        17,
        None,
        "Cannot use r.row in nested queries",
    )
    .await;
}

async fn run(address: &str) {
    let mut suite = Suite { wire: Wire::connect(address).await, failures: Vec::new() };
    set_up(&mut suite).await;
    indexes(&mut suite).await;
    writes(&mut suite).await;
    sequences(&mut suite).await;
    expressions(&mut suite).await;
    suite.done(c(t::DB_DROP, [json!("conformance")])).await;
    assert!(suite.failures.is_empty(), "{address}: {} fail:\n{}", suite.failures.len(), suite.failures.join("\n"));
}

#[tokio::test]
async fn this_server_conforms() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = MetaServer::start_ephemeral(dir.path()).await.expect("a server");
    run(&server.local_addr().to_string()).await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_real_rethinkdb_conforms() {
    if let Some(address) = real_server() {
        run(&address).await;
    }
}
