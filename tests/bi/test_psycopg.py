"""psycopg 3: what notebooks, dbt, Airflow and Django reach PostgreSQL with."""

import psycopg
import pytest

ALL = "SELECT customer, id, placed, due, product, units, price, paid, note, photo FROM {}.orders ORDER BY id"


def test_results_are_those_of_a_plain_table_in_text_and_in_binary(connection):
    plain = connection.execute(ALL.format("plain")).fetchall()
    assert len(plain) == 2400
    for binary in [False, True]:
        with connection.cursor(binary=binary) as cursor:
            assert cursor.execute(ALL.format("shop")).fetchall() == plain


def test_columns_are_described_by_their_types(connection):
    cursor = connection.execute(ALL.format("shop") + " LIMIT 0")
    names = {oid: name for oid, name in connection.execute("SELECT oid::int, typname FROM pg_type")}
    assert [(c.name, names[c.type_code]) for c in cursor.description] == [
        ("customer", "text"), ("id", "int8"), ("placed", "timestamp"), ("due", "date"), ("product", "text"), ("units", "int8"),
        ("price", "float8"), ("paid", "bool"), ("note", "text"), ("photo", "bytea")]


@pytest.mark.parametrize("plans", ["force_generic_plan", "force_custom_plan", "auto"])
def test_prepared_statements(connection, plans):
    connection.execute("SELECT set_config('plan_cache_mode', %s, false)", [plans])
    sql = "SELECT count(*), sum(units), max(placed) FROM {}.orders WHERE customer = ANY(%s) AND placed >= %s AND product = %s"
    # After five executions PostgreSQL may take a generic plan.
    for i in range(12):
        parameters = [[f"c{i:02}", "c00"], f"2026-0{1 + i % 6}-01", ["plums", "Äpfel"][i % 2]]
        got = connection.execute(sql.format("shop"), parameters, prepare=True).fetchall()
        assert got == connection.execute(sql.format("plain"), parameters).fetchall()
        assert got[0][0] > 0
    prepared = connection.execute("SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE '%shop.orders%'").fetchall()
    assert len(prepared) == 1 and sum(prepared[0]) == 12, prepared
    if plans != "auto":
        assert prepared == [(12, 0) if "generic" in plans else (0, 12)]


def test_named_cursors_come_in_pieces(connection):
    plain = connection.execute(ALL.format("plain")).fetchall()
    with connection.cursor("pieces") as cursor:
        cursor.itersize = 100
        cursor.execute(ALL.format("shop"))
        assert list(cursor) == plain
    with connection.cursor("part") as cursor:
        cursor.execute("SELECT id FROM shop.orders WHERE customer = 'c03' ORDER BY id")
        assert cursor.fetchmany(2) == [(3,), (15,)]
        assert cursor.fetchone() == (27,)


def test_a_scrollable_cursor_goes_back(connection):
    with connection.cursor("scrollable", scrollable=True) as cursor:
        cursor.execute("SELECT id FROM shop.orders ORDER BY id")
        assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
        cursor.scroll(0, mode="absolute")
        assert cursor.fetchone() == (1,)


def test_a_cursor_with_hold_outlives_its_transaction(connection):
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("SELECT id FROM shop.orders ORDER BY id")
        connection.commit()
        assert len(cursor.fetchall()) == 2400


def copied(connection, table, options):
    with connection.cursor() as cursor, cursor.copy(f"COPY (SELECT * FROM {table} ORDER BY id) TO STDOUT ({options})") as copy:
        return b"".join(copy)


@pytest.mark.parametrize("options", ["FORMAT text", "FORMAT csv, HEADER", "FORMAT binary"])
def test_copy_out(connection, options):
    got = copied(connection, "shop.orders", options)
    assert len(got) > 100_000 and got == copied(connection, "plain.orders", options)


def test_copy_of_the_table_itself_is_refused_by_postgresql_with_what_to_do(connection):
    with pytest.raises(psycopg.errors.WrongObjectType) as e, connection.cursor() as cursor, cursor.copy("COPY shop.orders TO STDOUT") as copy:
        b"".join(copy)
    assert "COPY (SELECT ...) TO" in e.value.diag.message_hint


def test_pipelines(connection):
    with connection.pipeline():
        cursors = [connection.execute("SELECT count(*) FROM shop.orders WHERE customer = %s", [f"c{i:02}"]) for i in range(12)]
    assert [c.fetchone() for c in cursors] == [(200,)] * 12


@pytest.mark.parametrize("level", psycopg.IsolationLevel)
def test_every_isolation_level_in_a_read_only_transaction(stack, level):
    with psycopg.connect(stack.dsn) as connection:
        connection.isolation_level, connection.read_only = level, True
        assert connection.execute("SELECT count(*) FROM shop.orders").fetchone() == (2400,)


def test_a_reader_does_not_write(connection):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM shop.orders")


def test_explain_as_json_and_as_yaml(connection):
    (plan,), = connection.execute("EXPLAIN (FORMAT json, VERBOSE, ANALYZE) SELECT product, sum(units) FROM shop.orders GROUP BY product").fetchall()
    scan = plan[0]["Plan"]
    while "Plans" in scan:
        scan = scan["Plans"][0]
    assert scan["Node Type"] == "Foreign Scan" and scan["Segments"] == 12 and "GROUP BY" in scan["SQLite SQL"], scan
    assert "SQLite SQL" in connection.execute("EXPLAIN (FORMAT yaml, VERBOSE) SELECT count(*) FROM shop.orders").fetchone()[0]
