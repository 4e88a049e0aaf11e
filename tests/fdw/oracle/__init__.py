"""The oracle: random schemas, rows and queries; every query is run with pushdown, without it, and over a local heap table of
the same rows. Whatever differs is a bug of the foreign-data wrapper. See `__main__.py` for how to run it.

    node       a query as a tree that the minimiser can cut
    values     column kinds: what SQLite stores and what PostgreSQL must read of it
    schema     one round's tables, segments and rows, in both worlds
    exprs      random expressions
    queries    random queries
    writes     random INSERT, UPDATE and DELETE
    sessions   connections; a round put in place
    compare    when answers agree
    minimise   smaller queries and rows that still differ
    cases      differences as files, run again before anything random
"""
