"""pandas.read_sql, at once and in chunks."""

import pandas as pd
import pytest
import sqlalchemy as sa
from pandas.testing import assert_frame_equal

ALL = "SELECT customer, id, placed, due, product, units, price, paid, note FROM {}.orders ORDER BY id"


@pytest.fixture(scope="module")
def engine(stack):
    engine = sa.create_engine(stack.url("postgresql+psycopg"))
    yield engine
    engine.dispose()


def test_a_frame_is_that_of_a_plain_table(engine):
    foreign = pd.read_sql(ALL.format("shop"), engine)
    assert_frame_equal(foreign, pd.read_sql(ALL.format("plain"), engine))
    assert len(foreign) == 2400 and foreign["placed"].dtype.kind == "M" and foreign["units"].dtype == "int64"


def test_chunks_stream(engine):
    with engine.connect().execution_options(stream_results=True) as connection:
        chunks = list(pd.read_sql(sa.text(ALL.format("shop")), connection, chunksize=700))
    assert [len(c) for c in chunks] == [700, 700, 700, 300]
    assert_frame_equal(pd.concat(chunks, ignore_index=True)[["id", "units"]], pd.read_sql("SELECT id, units FROM plain.orders ORDER BY id", engine))


def test_read_sql_table_reads_views(engine):
    frame = pd.read_sql_table("unpaid", engine, schema="shop")
    assert_frame_equal(frame.sort_values("id", ignore_index=True),
                       pd.read_sql("SELECT customer, id, units, price FROM plain.orders WHERE NOT paid ORDER BY id", engine))


def test_read_sql_table_does_not_look_for_foreign_tables(engine):
    # SQLAlchemy's MetaData.reflect, which it uses, knows tables and views only: docs/BI.md says so. Once this fails, say so no more.
    with pytest.raises(sa.exc.InvalidRequestError, match="Could not reflect"):
        pd.read_sql_table("orders", engine, schema="shop")


def test_parameters(engine):
    sql = sa.text("SELECT product, sum(units) AS units FROM shop.orders WHERE customer = :who AND placed < :until GROUP BY 1 ORDER BY 1")
    parameters = {"who": "c07", "until": pd.Timestamp("2026-05-01")}
    foreign = pd.read_sql(sql, engine, params=parameters)
    plain = pd.read_sql(sa.text(str(sql).replace("shop.", "plain.")), engine, params=parameters)
    assert_frame_equal(foreign, plain)
    assert len(foreign) == 5
