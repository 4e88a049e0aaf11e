"""ibis with its postgres backend: its expressions become SQL, and that SQL is pushed down."""

import ibis
import pytest
from ibis import _
from pandas.testing import assert_frame_equal

# Its own.
pytestmark = pytest.mark.filterwarnings("ignore:The 'future.infer_string' option")

@pytest.fixture(scope="module")
def con(stack):
    con = ibis.postgres.connect(host=stack.host, port=stack.port, user=stack.user, database=stack.database)
    yield con
    con.disconnect()


def both(con, expression):
    """The answer over foreign tables, held against that over plain ones."""
    foreign, plain = (con.execute(expression(con.table("orders", database=schema))) for schema in ["shop", "plain"])
    assert_frame_equal(foreign, plain)
    assert len(foreign)
    return foreign


def sql(con, expression):
    return con.compile(expression(con.table("orders", database="shop")))


def test_foreign_tables_are_found(con):
    assert {"orders", "unpaid"} <= set(con.list_tables(database="shop"))
    schema = con.table("orders", database="shop").schema()
    assert dict(schema.items()) == {
        "customer": ibis.dtype("!string"), "id": ibis.dtype("int64"), "placed": ibis.dtype("!timestamp(6)"), "due": ibis.dtype("date"),
        "product": ibis.dtype("!string"), "units": ibis.dtype("!int64"), "price": ibis.dtype("float64"), "paid": ibis.dtype("!boolean"),
        "note": ibis.dtype("string"), "photo": ibis.dtype("binary")}


def test_group_by_and_filter_are_pushed_down(con, stack):
    def expression(t):
        return (t.filter(t.placed >= ibis.timestamp("2026-03-01"), t.units > 5).group_by("product")
                .agg(n=_.count(), units=_.units.sum(), price=_.price.mean()).order_by("product"))
    both(con, expression)
    stack.assert_pushed_down(sql(con, expression), "`units` ", "`placed`", "GROUP BY")


def test_truncated_times_are_pushed_down(con, stack):
    def expression(t):
        return t.group_by(month=t.placed.truncate("M")).agg(n=t.count()).order_by("month")
    assert len(both(con, expression)) == 11
    stack.assert_pushed_down(sql(con, expression), "trough_trunc('month'")


def test_a_segment_is_asked_alone(con, stack):
    def expression(t):
        return t.filter(t.customer == "c04").group_by("paid").agg(n=_.count()).order_by("paid")
    both(con, expression)
    assert "customer = 'c04'" in stack.plan(sql(con, expression))


def test_a_join_with_a_local_table_groups_on_the_workers_first_if_asked_to(con, stack):
    products = con.table("products", database="public")

    def expression(t):
        per_product = t.group_by("product").agg(units=t.units.sum())
        joined = per_product.join(products, "product")
        return joined.group_by("kind").agg(units=joined.units.sum()).order_by("kind")
    both(con, expression)
    stack.assert_pushed_down(sql(con, expression), "GROUP BY")


def test_two_foreign_tables_are_joined_inside_their_segments(con, stack):
    def expression(t):
        u = con.table("orders", database="shop" if "shop" in str(con.compile(t)) else "plain").view()
        j = t.join(u, [t.customer == u.customer, t.id == u.id])
        return j.group_by("product").agg(n=j.count()).order_by("product")
    both(con, expression)
    plan = stack.plan(sql(con, expression))
    assert "JOIN `orders`" in plan, plan
