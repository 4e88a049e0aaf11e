//! Terms serialise to what RethinkDB's Python driver 2.4 sends for the same query; but for the numbers of variables, which every
//! driver chooses by itself.

use std::collections::HashMap;

use serde_json::{Value, json};
use trough_reql::{Expr, proto::term_type as t, r};

/// Renumbers variables by their first appearance.
fn renumbered(term: &Value, known: &mut HashMap<u64, u64>) -> Value {
    let mut number = |id: &Value| {
        let next = known.len() as u64 + 1;
        Value::from(*known.entry(id.as_u64().expect("a variable's number")).or_insert(next))
    };
    match term {
        Value::Array(parts) => match (parts.first().and_then(Value::as_u64), parts.get(1)) {
            (Some(t::VAR), Some(args)) => json!([t::VAR, [number(&args[0])]]),
            (Some(t::FUNC), Some(args)) => {
                let ids: Vec<Value> = args[0][1].as_array().expect("variables").iter().map(number).collect();
                json!([t::FUNC, [[t::MAKE_ARRAY, ids], renumbered(&args[1], known)]])
            }
            _ => parts.iter().map(|part| renumbered(part, known)).collect(),
        },
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), renumbered(value, known))).collect())
        }
        plain => plain.clone(),
    }
}

fn same(ours: &Expr, pythons: &str) {
    let ours = serde_json::to_value(ours).expect("terms are JSON");
    let pythons: Value = serde_json::from_str(pythons).expect("recorded JSON");
    assert_eq!(
        renumbered(&ours, &mut HashMap::new()).to_string(),
        renumbered(&pythons, &mut HashMap::new()).to_string()
    );
}

fn table() -> Expr {
    r::table("t")
}

#[test]
fn reads() {
    same(&r::db("x").table("y"), r#"[15,[[14,["x"]],"y"]]"#);
    same(&table().get("k"), r#"[16,[[15,["t"]],"k"]]"#);
    same(&table().get_all(["a", "b"]).index("segment"), r#"[78,[[15,["t"]],"a","b"],{"index":"segment"}]"#);
    same(&table().get_all(Vec::<Expr>::new()), r#"[78,[[15,["t"]]]]"#);
    same(&table().get_all([r::args(json!(["a", 1]))]), r#"[78,[[15,["t"]],[154,[[2,["a",1]]]]]]"#);
    same(
        &table().between(1, r::maxval()).index("n").left_bound("open"),
        r#"[182,[[15,["t"]],1,[181,[]]],{"index":"n","left_bound":"open"}]"#,
    );
    same(
        &table().order_by([Expr::from("a"), r::desc("b")]).index("c").limit(5).skip(1).nth(0),
        r#"[45,[[70,[[71,[[41,[[15,["t"]],"a",[74,["b"]]],{"index":"c"}],5]],1]],0]]"#,
    );
    same(
        &table().pluck(["a", "b"]).without(["c"]).has_fields(["a"]).count(),
        r#"[43,[[32,[[34,[[33,[[15,["t"]],"a","b"]],"c"]],"a"]]]]"#,
    );
    same(&table().g("a").contains("x"), r#"[93,[[170,[[15,["t"]],"a"]],"x"]]"#);
    same(
        &table().changes().include_initial(true).include_states(true).squash(0.5),
        r#"[152,[[15,["t"]]],{"include_initial":true,"include_states":true,"squash":0.5}]"#,
    );
    same(&r::iso8601("2020-01-01T00:00:00Z").to_epoch_time(), r#"[102,[[99,["2020-01-01T00:00:00Z"]]]]"#);
}

#[test]
fn functions() {
    same(
        &table().filter(|row| row.g("segment").match_("^a.*")),
        r#"[39,[[15,["t"]],[69,[[2,[1]],[97,[[170,[[10,[1]],"segment"]],"^a.*"]]]]]]"#,
    );
    same(
        &table().filter_obj(json!({"a": 1, "b": [1, null, true]})),
        r#"[39,[[15,["t"]],{"a":1,"b":[2,[1,null,true]]}]]"#,
    );
    same(
        &table().map(|row| {
            r::array([row.clone().g("a").add(1).mul(2).sub(3).div(4), row.g("b").coerce_to("string").type_of()])
        }),
        r#"[38,[[15,["t"]],[69,[[2,[6]],[2,[[27,[[25,[[26,[[24,[[170,[[10,[6]],"a"]],1]],2]],3]],4]],[52,[[51,[[170,[[10,[6]],"b"]],"string"]]]]]]]]]]"#,
    );
    same(&r::expr(5).eq(5).and(r::expr(3).ne(4)).not(), r#"[23,[[67,[[17,[5,5]],[18,[3,4]]]]]]"#);
    same(
        &table().opt("read_mode", "majority").get_all(["x"]).map(|a| table().filter(|b| b.g("k").eq(a.g("k"))).count()),
        r#"[38,[[78,[[15,["t"],{"read_mode":"majority"}],"x"]],[69,[[2,[8]],[43,[[39,[[15,["t"]],[69,[[2,[9]],[17,[[170,[[10,[9]],"k"]],[170,[[10,[8]],"k"]]]]]]]]]]]]]]"#,
    );
}

#[test]
fn writes() {
    same(
        &table()
            .insert(json!([{"id": 1, "v": [1, 2.5, {"z": []}]}]))
            .conflict("replace")
            .return_changes("always")
            .durability("soft"),
        r#"[56,[[15,["t"]],[2,[{"id":1,"v":[2,[1,2.5,{"z":[2,[]]}]]}]]],{"conflict":"replace","return_changes":"always","durability":"soft"}]"#,
    );
    same(
        &table()
            .insert(json!({"id": 1}))
            .conflict_fn(|_, old, new| r::branch(old.g("e").default(0).gt(new.clone().g("e")), r::error("no"), new)),
        r#"[56,[[15,["t"]],{"id":1}],{"conflict":[69,[[2,[2,3,4]],[65,[[21,[[92,[[170,[[10,[3]],"e"]],0]],[170,[[10,[4]],"e"]]]],[12,["no"]],[10,[4]]]]]]}]"#,
    );
    let elect = table()
        .get("m")
        .replace(|old| {
            let age = r::now().sub(old.clone().g("at"));
            let free = old.clone().eq(Value::Null).or(age.gt(old.clone().g("ttl")));
            let new = r::object([("id", Expr::from("m")), ("at", r::now())]);
            r::branch(free, new, old.merge(r::object([("at", r::now())])))
        })
        .return_changes("always");
    same(
        &elect,
        r#"[55,[[16,[[15,["t"]],"m"]],[69,[[2,[5]],[65,[[66,[[17,[[10,[5]],null]],[21,[[25,[[103,[]],[170,[[10,[5]],"at"]]]],[170,[[10,[5]],"ttl"]]]]]],{"id":"m","at":[103,[]]},[35,[[10,[5]],{"at":[103,[]]}]]]]]]],{"return_changes":"always"}]"#,
    );
    assert!(!elect.is_read());
    same(
        &table().get_all(["a"]).update(r::object([("x", r::literal(json!({"y": 1})))])),
        r#"[53,[[78,[[15,["t"]],"a"]],{"x":[137,[{"y":1}]]}]]"#,
    );
    same(&table().get_all(["a"]).delete().durability("hard"), r#"[54,[[78,[[15,["t"]],"a"]]],{"durability":"hard"}]"#);
}

#[test]
fn administration() {
    same(&r::table_create("t").opt("replicas", 3).opt("shards", 1), r#"[60,["t"],{"replicas":3,"shards":1}]"#);
    same(&r::db("d").table_list().contains("t"), r#"[93,[[62,[[14,["d"]]]],"t"]]"#);
    same(&table().index_create("n"), r#"[75,[[15,["t"]],"n"]]"#);
    same(
        &table().index_create_fn("by", |row| r::array([row.clone().g("a"), row.g("b")])),
        r#"[75,[[15,["t"]],"by",[69,[[2,[7]],[2,[[170,[[10,[7]],"a"]],[170,[[10,[7]],"b"]]]]]]]]"#,
    );
    same(&table().index_wait(), r#"[140,[[15,["t"]]]]"#);
    same(&table().index_status(), r#"[139,[[15,["t"]]]]"#);
    same(&table().index_list(), r#"[77,[[15,["t"]]]]"#);
    same(&table().wait(), r#"[177,[[15,["t"]]]]"#);
}

#[test]
fn only_reads_may_be_run_twice() {
    for read in [
        table().get("k"),
        table().filter(|row| row.g("a").gt(1)),
        r::now(),
        table().changes(),
        Expr::wire(json!([15, ["t"]])),
    ] {
        assert!(read.is_read(), "{read:?}");
    }
    for write in [
        table().delete(),
        table().get("k").update(json!({"a": 1})),
        table().map(|row| table().insert(row)),
        r::branch(true, r::db_create("x"), 1),
        r::object([("a", table().delete())]),
        table().insert(json!({})).g("errors"),
        Expr::wire(json!([33, [[54, [[15, ["t"]]]], "errors"]])),
        Expr::wire(json!([2, [1, {"a": [54, [[15, ["t"]]]]}]])),
    ] {
        assert!(!write.is_read(), "{write:?}");
    }
}

#[test]
fn an_option_is_set_once_and_a_datum_carries_none() {
    same(&table().delete().durability("soft").durability("hard"), r#"[54,[[15,["t"]]],{"durability":"hard"}]"#);
    same(&Expr::from(1).opt("index", "a"), r#"[1,[1],{"index":"a"}]"#);
}
