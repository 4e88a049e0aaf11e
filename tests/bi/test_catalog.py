"""What BI tools ask of the catalogs before they show a table, each as its sources or its log say: foreign tables must be in the answers."""

import psycopg
import pytest

COLUMNS = ["customer", "id", "placed", "due", "product", "units", "price", "paid", "note", "photo"]
TYPES = ["text", "int8", "timestamp", "date", "text", "int8", "float8", "bool", "text", "bytea"]


def column(rows, name):
    return [row[name] for row in rows]


@pytest.fixture
def ask(stack):
    with psycopg.connect(stack.dsn, row_factory=psycopg.rows.dict_row) as connection:
        yield lambda sql, *parameters: connection.execute(sql, parameters or None).fetchall()


def test_information_schema_as_power_bi_and_looker_studio_read_it(ask):
    tables = ask("""
        SELECT table_schema, table_name, table_type FROM information_schema.tables
        WHERE table_schema NOT IN ('information_schema', 'pg_catalog') ORDER BY 1, 2""")
    assert [(t["table_name"], t["table_type"]) for t in tables if t["table_schema"] == "shop"] == [("orders", "FOREIGN"), ("unpaid", "VIEW")]
    columns = ask("""
        SELECT column_name, ordinal_position, is_nullable, data_type, is_updatable FROM information_schema.columns
        WHERE table_schema = 'shop' AND table_name = 'orders' ORDER BY ordinal_position""")
    assert column(columns, "column_name") == COLUMNS
    assert column(columns, "data_type") == ["text", "bigint", "timestamp without time zone", "date", "text", "bigint", "double precision",
                                            "boolean", "text", "bytea"]
    assert column(columns, "is_nullable") == ["NO", "YES", "NO", "YES", "NO", "NO", "YES", "NO", "YES", "YES"]
    # Power BI looks for relations, too; there are none, and asking is no error.
    assert ask("""
        SELECT kcu.column_name FROM information_schema.table_constraints tc
        JOIN information_schema.key_column_usage kcu USING (constraint_schema, constraint_name)
        WHERE tc.table_schema = 'shop' AND tc.table_name = 'orders'""") == []


def test_information_schema_knows_foreign_tables_and_servers(ask):
    assert ask("SELECT foreign_table_schema AS s, foreign_table_name AS t, foreign_server_name AS v FROM information_schema.foreign_tables") == [
        {"s": "shop", "t": "orders", "v": "archive"}]
    options = ask("SELECT option_name, option_value FROM information_schema.foreign_table_options WHERE foreign_table_name = 'orders'")
    assert {"option_name": "table", "option_value": "orders"} in options


def test_metabase_lists_tables_that_may_be_selected_from(ask):
    tables = ask("""
        SELECT n.nspname AS schema, c.relname AS name,
               CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'p' THEN 'PARTITIONED TABLE' WHEN 'v' THEN 'VIEW' WHEN 'f' THEN 'FOREIGN TABLE'
                    WHEN 'm' THEN 'MATERIALIZED VIEW' END AS type,
               d.description, s.n_live_tup,
               has_table_privilege(c.oid, 'SELECT') AS read, has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE') AS write
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass
        LEFT JOIN pg_stat_user_tables s ON s.schemaname = n.nspname AND s.relname = c.relname
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'f', 'm')
        ORDER BY type, schema, name""")
    assert [t for t in tables if t["name"] == "orders" and t["schema"] == "shop"] == [
        {"schema": "shop", "name": "orders", "type": "FOREIGN TABLE", "description": "what customers ordered", "n_live_tup": None,
         "read": True, "write": False}]


def test_metabase_describes_columns(ask):
    columns = ask("""
        SELECT c.column_name AS name, c.udt_name AS type,
               col_description(format('%I.%I', c.table_schema, c.table_name)::regclass, c.ordinal_position) AS comment,
               column_default IS NULL AND is_nullable = 'NO' AS required, is_identity
        FROM information_schema.columns c WHERE c.table_schema = 'shop' AND c.table_name = 'orders' ORDER BY c.ordinal_position""")
    assert column(columns, "name") == COLUMNS and column(columns, "type") == TYPES
    assert column(columns, "comment")[:3] == ["who ordered", None, "when, in UTC"]
    assert set(column(columns, "is_identity")) == {"NO"}


def test_metabase_takes_a_fingerprint_of_the_first_rows(ask):
    assert len(ask('SELECT "shop"."orders"."note" AS "note", "shop"."orders"."units" AS "units" FROM "shop"."orders" LIMIT 1000')) == 1000


def test_superset_lists_foreign_tables_beside_others(ask):
    found = ask("""
        SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = ANY (ARRAY['f']) AND n.nspname = %s""", "shop")
    assert column(found, "relname") == ["orders"]


def test_dbeaver_reads_a_schema(ask):
    tables = ask("""
        SELECT c.oid, c.*, d.description, pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS partition_expr,
               pg_catalog.pg_get_partkeydef(c.oid) AS partition_key
        FROM pg_catalog.pg_class c
        LEFT JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass
        WHERE c.relnamespace = 'shop'::regnamespace AND c.relkind NOT IN ('i', 'I', 'c')""")
    orders = next(t for t in tables if t["relname"] == "orders")
    assert orders["relkind"] == "f" and orders["description"] == "what customers ordered" and not orders["relhasindex"]
    columns = ask("""
        SELECT a.*, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) AS def_value,
               dsc.description
        FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef ad ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum
        LEFT JOIN pg_catalog.pg_description dsc ON a.attrelid = dsc.objoid AND a.attnum = dsc.objsubid
        WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum""", orders["oid"])
    assert column(columns, "attname") == COLUMNS and "segment=true" in columns[0]["attfdwoptions"]
    # It shows a foreign table's server and options, and its size, which is none here.
    assert ask("""
        SELECT fs.srvname, w.fdwname, ft.ftoptions FROM pg_catalog.pg_foreign_table ft JOIN pg_catalog.pg_foreign_server fs ON fs.oid = ft.ftserver
        JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = fs.srvfdw WHERE ft.ftrelid = %s""", orders["oid"])[0]["fdwname"] == "trough_fdw"
    assert ask("SELECT pg_catalog.pg_total_relation_size(%s) AS bytes", orders["oid"]) == [{"bytes": 0}]


def test_dbeaver_counts_and_pages_through_a_table(ask):
    assert ask('SELECT count(*) FROM shop.orders') == [{"count": 2400}]
    assert column(ask("SELECT x.* FROM shop.orders x ORDER BY x.id LIMIT 200 OFFSET 400"), "id") == list(range(401, 601))


def test_tableau_lists_tables_through_its_odbc_driver(ask):
    found = ask("SELECT relname, nspname, relkind FROM pg_catalog.pg_class c, pg_catalog.pg_namespace n"
                " WHERE relkind IN ('r', 'v', 'm', 'f', 'p') AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pg_temp_1')"
                " AND n.oid = relnamespace ORDER BY nspname, relname")
    assert {"relname": "orders", "nspname": "shop", "relkind": "f"} in found


def test_tableau_declares_a_cursor_and_fetches(stack):
    with psycopg.connect(stack.dsn) as connection:
        connection.execute('DECLARE "SQL_CUR1" CURSOR WITH HOLD FOR SELECT "orders"."product" AS "product", SUM("orders"."units") AS "units"'
                           ' FROM "shop"."orders" "orders" GROUP BY 1 ORDER BY 1')
        assert len(connection.execute('FETCH 2048 IN "SQL_CUR1"').fetchall()) == 5
        connection.execute('CLOSE "SQL_CUR1"')


def test_grafana_asks_for_the_columns_by_quoted_name(ask):
    found = ask("""
        SELECT quote_ident(column_name) AS "column", data_type AS "type" FROM information_schema.columns
        WHERE quote_ident(table_schema) = 'shop' AND quote_ident(table_name) = 'orders'""")
    assert column(found, "column") == COLUMNS


CHARTS = {
    "Superset": "SELECT DATE_TRUNC('week', placed) AS placed, SUM(units) AS units FROM shop.orders"
                 " WHERE placed >= '2026-02-01 00:00:00.000000' AND placed < '2026-08-01 00:00:00.000000' GROUP BY DATE_TRUNC('week', placed)",
    "Metabase": """SELECT DATE_TRUNC('month', "shop"."orders"."placed") AS "placed", COUNT(*) AS "count" FROM "shop"."orders"
                    WHERE ("shop"."orders"."placed" >= timestamp '2026-02-01 00:00:00.000') AND ("shop"."orders"."product" = 'plums')
                    GROUP BY DATE_TRUNC('month', "shop"."orders"."placed")""",
    "Metabase by day": """SELECT CAST("shop"."orders"."placed" AS date) AS "placed", AVG("shop"."orders"."price") AS "avg" FROM "shop"."orders"
                           GROUP BY CAST("shop"."orders"."placed" AS date)""",
    "Tableau": """SELECT DATE_TRUNC('MONTH', CAST("orders"."placed" AS TIMESTAMP)) AS "tmn", SUM("orders"."units") AS "sum", COUNT(1) AS "cnt"
                   FROM "shop"."orders" "orders" WHERE ("orders"."placed" >= TIMESTAMP '2026-02-01 00:00:00.000')
                   GROUP BY 1""",
    "Power BI": """SELECT "_"."product", "_"."t0" FROM (SELECT "rows"."product" AS "product", SUM("rows"."units") AS "t0"
                    FROM (SELECT "_"."product", "_"."units" FROM "shop"."orders" "_" WHERE "_"."placed" >= timestamp '2026-02-01 00:00:00') "rows"
                    GROUP BY "product") "_" WHERE NOT "_"."t0" IS NULL LIMIT 1000001""",
    "Looker": """SELECT (DATE(orders.placed)) AS "date", COUNT(CASE WHEN orders.paid THEN 1 ELSE NULL END) AS "paid" FROM shop.orders AS orders
                  WHERE ((( orders.placed ) >= ((DATE '2026-02-01')::timestamp))) GROUP BY 1""",
}


@pytest.mark.parametrize("tool", CHARTS)
def test_the_charts_of_a_tool_are_computed_in_the_segments(stack, tool):
    sql = CHARTS[tool]
    stack.assert_pushed_down(sql, "GROUP BY")
    assert sorted(stack.rows(sql)) == sorted(stack.rows(sql.replace("shop.", "plain.").replace('"shop"', '"plain"')))


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Auckland"])
def test_bounds_that_depend_on_the_time_zone_give_the_right_rows(stack, zone):
    # As Superset writes them for a column of type timestamp: filtered widely in the segments, compared and grouped here.
    sql = ("SELECT DATE_TRUNC('day', placed) AS placed, COUNT(*) FROM {}.orders"
           " WHERE placed >= TO_TIMESTAMP('2026-03-08 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US')"
           " AND placed < TO_TIMESTAMP('2026-04-06 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') GROUP BY 1 ORDER BY 1")
    with psycopg.connect(stack.dsn, options=f"-c timezone={zone}") as connection:
        foreign = connection.execute(sql.format("shop")).fetchall()
        assert foreign == connection.execute(sql.format("plain")).fetchall() and len(foreign) >= 29
        plan = "\n".join(line for (line,) in connection.execute("EXPLAIN (VERBOSE, COSTS OFF) " + sql.format("shop")))
    assert "SQLite SQL" in plan and "`placed`" in plan.split("WHERE", 1)[1], plan
