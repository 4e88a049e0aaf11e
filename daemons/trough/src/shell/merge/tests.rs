use super::*;

fn combined(sql: &str) -> (String, String, String, usize) {
    match plan(sql).unwrap_or_else(|e| panic!("{sql}: {e}")) {
        Merge::Combined { map, combine, finish, hidden } => (map, combine.unwrap_or_default(), finish, hidden),
        rows => panic!("{sql}: {rows:?}"),
    }
}

#[test]
fn groups_are_added_up() {
    let (map, combine, finish, _) = combined(
        "select count(*), Status from t where x > 1 group by status having count(*) > 5 order by count(*) desc limit 3",
    );
    assert_eq!(map, r#"SELECT status AS "k1", count(*) AS "a1" from t where x > 1 GROUP BY 1"#);
    assert_eq!(combine, r#"SELECT "k1", sum("a1") AS "a1" FROM partial GROUP BY 1"#);
    assert_eq!(
        finish,
        r#"SELECT coalesce(sum("a1"), 0) AS "count(*)", "k1" AS "Status" FROM partial GROUP BY "k1" HAVING coalesce(sum("a1"), 0) > 5 ORDER BY coalesce(sum("a1"), 0) desc LIMIT 3"#
    );
}

#[test]
fn averages_become_sums_and_counts() {
    let (map, combine, finish, _) = combined("select round(avg(d), 2) as mean, max(d) - min(d) from t");
    assert_eq!(map, r#"SELECT total(d) AS "a1", count(d) AS "a2", max(d) AS "a3", min(d) AS "a4" from t"#);
    assert_eq!(
        combine,
        r#"SELECT total("a1") AS "a1", sum("a2") AS "a2", max("a3") AS "a3", min("a4") AS "a4" FROM partial"#
    );
    assert_eq!(
        finish,
        r#"SELECT round((total("a1") / nullif(sum("a2"), 0)), 2) AS "mean", max("a3") - min("a4") AS "max(d) - min(d)" FROM partial"#
    );
}

#[test]
fn keys_are_known_by_text_alias_and_number() {
    for sql in [
        "select substr(ts, 1, 10) as day, sum(n) filter (where n > 0) from t group by day order by day",
        "select substr(ts, 1, 10) as day, sum(n) filter (where n > 0) from t group by 1 order by day",
        "select substr(ts, 1, 10) day, sum(n) filter (where n > 0) from t group by SUBSTR(ts,1,10) order by day",
    ] {
        let (map, _, finish, _) = combined(sql);
        assert!(map.contains("(n) filter (where n > 0) AS \"a1\" from t GROUP BY 1"), "{map}");
        assert!(finish.starts_with(r#"SELECT "k1" AS "day", sum("a1")"#), "{finish}");
        assert!(finish.ends_with(r#"GROUP BY "k1" ORDER BY day"#), "{finish}");
    }
    let (_, _, finish, _) = combined("select upper(a) as a, count(*) from t group by a");
    assert!(finish.starts_with(r#"SELECT upper("k1") AS "a""#), "{finish}");
    let (map, _, finish, _) = combined("select :segment, max(a, b) + 1, count(*) from t group by :segment, max(a, b)");
    assert!(map.starts_with(r#"SELECT :segment AS "k1", max(a, b) AS "k2", count(*) AS "a1""#), "{map}");
    assert!(finish.starts_with(r#"SELECT "k1" AS ":segment", "k2" + 1 AS "max(a, b) + 1""#), "{finish}");
    let (_, _, finish, _) = combined("select t.a, cast(count(*) as real) / 2 from t group by t.a");
    assert!(finish.starts_with(r#"SELECT "k1" AS "a", cast(coalesce(sum("a1"), 0) as real) / 2"#), "{finish}");
    let (_, combine, ..) = combined("select group_concat(a, '; ') from t");
    assert!(combine.contains(r#"group_concat("a1", '; ')"#), "{combine}");
}

#[test]
fn rows_are_sorted_and_cut_in_the_end() {
    let (map, combine, finish, hidden) =
        combined("select a as x, b from t order by x desc nulls last, b, c limit 10 offset 5");
    assert_eq!(map, r#"SELECT a AS "x", b, c AS "trough order 1" from t order by x desc nulls last, b, c LIMIT 15"#);
    assert_eq!(combine, r#"SELECT * FROM partial ORDER BY "x" desc nulls last, 2, "trough order 1" LIMIT 15"#);
    assert_eq!(finish, r#"SELECT * FROM partial ORDER BY "x" desc nulls last, 2, "trough order 1" LIMIT 10 OFFSET 5"#);
    assert_eq!(hidden, 1);
    let (map, combine, finish, _) = combined("select distinct a from t order by 1");
    assert_eq!((map.as_str(), combine.as_str()), ("SELECT DISTINCT a from t", "SELECT DISTINCT * FROM partial"));
    assert_eq!(finish, "SELECT DISTINCT * FROM partial ORDER BY 1");
    let (map, combine, ..) = combined("select * from t order by a");
    assert_eq!((map.as_str(), combine.as_str()), (r#"SELECT *, a AS "trough order 1" from t"#, ""));
}

#[test]
fn plain_rows_need_no_table() {
    let rows = |map: &str, limit| Ok(Merge::Rows { map: map.to_owned(), limit });
    assert_eq!(
        plan("select a, b from t where a is distinct from b"),
        rows("SELECT a, b from t where a is distinct from b", None)
    );
    assert_eq!(plan("select all a is distinct from b from t"), rows("SELECT a is distinct from b from t", None));
    assert_eq!(plan("select * from t limit 5, 10"), rows("SELECT * from t LIMIT 15", Some((10, 5))));
    assert_eq!(plan("select (select count(*) from u) from t"), rows("SELECT (select count(*) from u) from t", None));
    assert_eq!(plan("select 1"), rows("SELECT 1", None));
}

#[test]
fn the_reduce_can_be_said() {
    let (map, combine, finish, _) = combined("select count(*) as n from t reduce select sum(n) as n from partial");
    assert_eq!(map, "select count(*) as n from t");
    assert_eq!(
        (combine.as_str(), finish.as_str()),
        ("select sum(n) as n from partial", "select sum(n) as n from partial")
    );
}

#[test]
fn what_cannot_be_taken_apart_says_why() {
    for (sql, why) in [
        ("select count(distinct a) from t", "distinct on two segments"),
        ("select a, count(*) from t", "neither grouped by nor aggregated"),
        ("select b, count(*) from t group by a", "b beside aggregates"),
        ("select *, count(*) from t group by a", "name the columns"),
        ("select a + b * 2, count(*) from t group by a + b", "neither grouped"),
        ("select :segment, count(*) from t", ":segment"),
        ("select a from t union select b from u", "UNION"),
        ("with x as (select 1) select * from x", "does not begin with SELECT"),
        ("select sum(a) over () from t", "window"),
        ("select json_group_array(a) from t", "json_group_array"),
        ("select group_concat(a order by b) from t", "order"),
        ("select a from t order by a limit :n", "plain numbers"),
        ("select distinct a from t order by b", "DISTINCT"),
        ("select a from t group by count(*)", "aggregate"),
        ("select a, count(*) from t group by a collate nocase", "within a segment"),
        ("select count(*) from t group by 7", "there is none"),
        ("select (select 1), count(*) from t", "subquery"),
        ("select count(* from t", "parenthesis"),
    ] {
        let error = plan(sql).expect_err(sql).to_string();
        assert!(error.contains(why), "{sql}: {error}");
    }
}
