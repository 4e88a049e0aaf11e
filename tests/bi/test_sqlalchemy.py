"""SQLAlchemy: what Superset, Redash, dbt, Airflow and pandas find tables with."""

from datetime import datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

TYPES = {"customer": sa.TEXT, "id": sa.BIGINT, "placed": postgresql.TIMESTAMP, "due": sa.DATE, "product": sa.TEXT, "units": sa.BIGINT,
         "price": postgresql.DOUBLE_PRECISION, "paid": sa.BOOLEAN, "note": sa.TEXT, "photo": postgresql.BYTEA}


@pytest.fixture(scope="module", params=["postgresql+psycopg", "postgresql+psycopg2"])
def engine(stack, request):
    engine = sa.create_engine(stack.url(request.param))
    yield engine
    engine.dispose()


def test_foreign_tables_and_views_are_found(engine):
    inspector = sa.inspect(engine)
    assert {"shop", "plain", "public"} <= set(inspector.get_schema_names())
    assert inspector.get_foreign_table_names("shop") == ["orders"]
    assert inspector.get_view_names("shop") == ["unpaid"]
    assert inspector.get_table_names("shop") == []  # SQLAlchemy lists foreign tables apart
    assert inspector.has_table("orders", "shop") and not inspector.has_table("nosuch", "shop")


def test_columns_are_found_with_types_comments_and_nullability(engine):
    inspector = sa.inspect(engine)
    columns = {c["name"]: c for c in inspector.get_columns("orders", "shop")}
    assert list(columns) == list(TYPES)
    for name, kind in TYPES.items():
        assert isinstance(columns[name]["type"], kind), (name, columns[name]["type"])
    assert not columns["placed"]["type"].timezone
    assert {name for name, c in columns.items() if not c["nullable"]} == {"customer", "placed", "product", "units", "paid"}
    assert columns["customer"]["comment"] == "who ordered" and columns["units"]["comment"] == "how many"
    assert inspector.get_table_comment("orders", "shop")["text"] == "what customers ordered"
    assert inspector.get_pk_constraint("orders", "shop")["constrained_columns"] == []
    assert inspector.get_foreign_keys("orders", "shop") == [] and inspector.get_indexes("orders", "shop") == []


def test_a_reflected_table_answers_as_a_plain_one(engine):
    answers = []
    for schema in ["shop", "plain"]:
        t = sa.Table("orders", sa.MetaData(), schema=schema, autoload_with=engine)
        query = (sa.select(t.c.product, sa.func.count().label("n"), sa.func.avg(t.c.price).label("price"))
                 .where(t.c.placed.between(datetime(2026, 2, 1), datetime(2026, 6, 30)), t.c.customer.in_(["c01", "c02", "c05"]), ~t.c.paid)
                 .group_by(t.c.product).order_by(sa.desc("n"), t.c.product).limit(4))
        with engine.connect() as connection:
            answers.append(connection.execute(query).fetchall())
    assert answers[0] == answers[1] and len(answers[0]) == 4


def test_streamed_results_come_in_pieces(engine):
    with engine.connect() as connection:
        rows = connection.execution_options(stream_results=True, max_row_buffer=250).execute(sa.text("SELECT id FROM shop.orders ORDER BY id"))
        sizes = [len(part) for part in rows.partitions(500)]
    assert sizes == [500, 500, 500, 500, 400]


def test_writing_gives_back_what_sqlite_made(stack):
    engine = sa.create_engine(stack.url("postgresql+psycopg", "postgres"))
    t = sa.Table("orders", sa.MetaData(), schema="shop", autoload_with=engine)
    row = {"customer": "new", "placed": "2026-05-01", "product": "plums", "units": 1, "paid": True}
    with engine.begin() as connection:
        assert connection.execute(sa.insert(t).returning(t.c.id), [row]).scalar_one() == 1
        assert connection.execute(sa.update(t).where(t.c.customer == "new").values(units=2)).rowcount == 1
        assert connection.execute(sa.select(t.c.units).where(t.c.customer == "new")).scalar_one() == 2
        assert connection.execute(sa.delete(t).where(t.c.customer == "new")).rowcount == 1
    engine.dispose()
