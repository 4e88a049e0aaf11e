-- IMPORT FOREIGN SCHEMA: names, types, keys, generated columns, virtual tables, views, options, live segments.
SELECT trough.register_schema('archive', 'odd', $$
CREATE TABLE "Mixed Case" ( -- names that need quotes
    "select" INTEGER PRIMARY KEY, -- a reserved word
    "a ""b"" c" TEXT,             -- quotes in it
    [brackets] VARCHAR(20) NOT NULL,
    `back` NCHAR(5) COLLATE NOCASE,
    ctid TEXT,
    segment TEXT,
    "" TEXT,
    "a_name_that_is_longer_than_sixty_three_bytes_which_is_what_postgresql_holds" REAL,
    "a_name_that_is_longer_than_sixty_three_bytes_which_is_what_postgresql_keeps" REAL
);
CREATE TABLE typed (
    c01 INT, c02 SMALLINT, c03 UNSIGNED BIG INT, c04 INTEGER, c05 CHARACTER(20), c06 VARYING CHARACTER(255),
    c07 CLOB, c08 BLOB, c09 REAL, c10 DOUBLE PRECISION, c11 FLOAT, c12 NUMERIC, c13 DECIMAL(10,5), c14 BOOLEAN,
    c15 DATE, c16 DATETIME, c17 TIMESTAMP WITHOUT TIME ZONE, c18 TIME, c19 INTERVAL, c20 JSON, c21 JSONB, c22 UUID,
    c23 INET, c24 VARBINARY(16), c25 STRING, c26 ENUM, c27 POINT, c28, c29 timestamptz, c30 NUMBER(8)
);
CREATE TABLE computed (
    id INTEGER PRIMARY KEY, a INTEGER NOT NULL, b INTEGER AS (a * 2) STORED, c INTEGER AS (a + 100), d TEXT DEFAULT 'dflt'
) STRICT;
CREATE TABLE descending (id INTEGER PRIMARY KEY DESC, v TEXT);
CREATE TABLE pair (a TEXT, b INTEGER, v BLOB, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(word, place);
CREATE VIEW "sums of pairs" AS SELECT a, sum(b), count(*) AS n FROM pair GROUP BY a;
CREATE TABLE gone (x);
CREATE VIEW broken AS SELECT x FROM gone;
DROP TABLE gone;
$$);
SELECT trough.register_schema('archive', 'nocase', 'CREATE TABLE t (a TEXT COLLATE NOCASE, b TEXT COLLATE RTRIM) STRICT');
CREATE SCHEMA imp;
IMPORT FOREIGN SCHEMA odd FROM SERVER archive INTO imp;
\d+ imp.*
-- What SQLite computes is not sent, and cannot be given; what is not named keeps SQLite's default.
INSERT INTO imp.computed (segment, a) VALUES ('imp1', 1), ('imp1', 2);
INSERT INTO imp.computed (segment, a, d) VALUES ('imp1', 3, NULL) RETURNING segment, a, d;
INSERT INTO imp.computed (segment, a, b) VALUES ('imp1', 4, 8);
COPY imp.computed (segment, id, a, b, c, d) FROM STDIN;
imp1	10	5	\N	\N	x
\.
SELECT id, a, b, d FROM imp.computed WHERE segment = 'imp1' ORDER BY id;
SELECT sum(b), sum(c) FROM imp.computed WHERE segment = 'imp1' AND c > 101;
-- Odd names are read and written.
INSERT INTO imp."Mixed Case" (trough_segment, "select", "a ""b"" c", brackets, ctid_, segment, column7,
    a_name_that_is_longer_than_sixty_three_bytes_which_is_what_post)
    VALUES ('imp1', 1, 'quotes', 'br', 'tid', 'own', 'empty', 1.5);
SELECT trough_segment, "select", "a ""b"" c", brackets, ctid_, segment, column7,
    a_name_that_is_longer_than_sixty_three_bytes_which_is_what_post AS long
    FROM imp."Mixed Case" WHERE trough_segment = 'imp1' AND ctid_ = 'tid' AND column7 = 'empty';
EXPLAIN (VERBOSE, COSTS OFF) SELECT ctid_ FROM imp."Mixed Case" WHERE "select" = 1 AND column7 = 'empty' AND "a ""b"" c" = 'x';
-- A rowid and a STRICT column are known to hold their type; a key in descending order is neither rowid nor checked.
EXPLAIN (VERBOSE, COSTS OFF) SELECT v FROM imp.descending WHERE id = 1;
-- Texts are compared as PostgreSQL does, whatever collation SQLite's column has.
IMPORT FOREIGN SCHEMA nocase FROM SERVER archive INTO imp OPTIONS (import_collate 'true');
INSERT INTO imp.t VALUES ('imp2', 'x', 'y'), ('imp2', 'X', 'y '), ('imp3', 'x', 'Y');
EXPLAIN (VERBOSE, COSTS OFF) SELECT a FROM imp.t WHERE segment = 'imp2' AND a = 'x';
SELECT a FROM imp.t WHERE segment = 'imp2' AND a = 'x';
SELECT a FROM imp.t WHERE segment = 'imp2' AND a > 'X';
SELECT a FROM imp.t WHERE segment = 'imp2' AND a IN ('x', 'z');
SELECT a FROM imp.t WHERE segment = 'imp2' AND b = 'y';
SELECT a FROM imp.t WHERE segment IN ('imp2', 'imp3') AND a <> b ORDER BY a, b;
SELECT a, count(*) FROM imp.t WHERE segment IN ('imp2', 'imp3') GROUP BY a ORDER BY a;
SELECT b, count(*) FROM imp.t WHERE segment IN ('imp2', 'imp3') GROUP BY b ORDER BY b;
SELECT segment, a, count(*) FROM imp.t WHERE segment IN ('imp2', 'imp3') GROUP BY segment, a ORDER BY segment, a;
SELECT min(a), max(a) FROM imp.t WHERE segment IN ('imp2', 'imp3');
-- Virtual tables and views are read-only.
INSERT INTO imp.words (segment, word) VALUES ('imp1', 'x');
INSERT INTO imp."sums of pairs" (segment, a) VALUES ('imp1', 'x');
INSERT INTO imp.pair (segment, a, b) VALUES ('imp1', 'x', 1), ('imp1', 'x', 2), ('imp1', 'y', 3);
SELECT * FROM imp."sums of pairs" WHERE segment = 'imp1' ORDER BY a;
-- A cold segment: its file is only where the canonical store lies.
SELECT trough.promote('archive', 'imp1') AS path \gset
\setenv COPIED :path
\! store=$(dirname "$(dirname "$COPIED")") && mkdir -p "$store/col" && cp "$COPIED" "$store/col/.new" && mv "$store/col/.new" "$store/col/cold-1.sqlite"
DO $$
BEGIN
    FOR i IN 1..600 LOOP
        EXIT WHEN EXISTS (SELECT FROM trough.segments('archive', '^cold-1$') HAVING bool_and(tier = 'cold'));
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;
SELECT segment, tier FROM trough.segments('archive', '^cold-1$');
DROP SCHEMA imp CASCADE;
CREATE SCHEMA imp;
IMPORT FOREIGN SCHEMA "segment:cold-1" FROM SERVER archive INTO imp OPTIONS (segments '^cold-1$');
\det imp.*
SELECT * FROM imp.pair;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT count(*) FROM imp.pair;
DROP SCHEMA imp CASCADE;
-- Options.
CREATE SCHEMA imp;
IMPORT FOREIGN SCHEMA odd LIMIT TO ("Mixed Case", computed, pair) FROM SERVER archive INTO imp OPTIONS (
    prefix 'sq_', fold_names 'true', segment_column 'shard', import_not_null 'false', import_storage 'false',
    import_collate 'true', import_comments 'false', segments '^imp', read_only 'true', estimated_rows '50', schema 'strict');
\d+ imp.*
DROP SCHEMA imp CASCADE;
CREATE SCHEMA imp;
IMPORT FOREIGN SCHEMA odd LIMIT TO (typed) FROM SERVER archive INTO imp OPTIONS (date_encoding 'julian', datetime_encoding 'epoch_ms', uuid_encoding 'blob');
SELECT attname, format_type(atttypid, atttypmod), ARRAY(SELECT unnest(attfdwoptions) ORDER BY 1) AS options FROM pg_attribute
    WHERE attrelid = 'imp.typed'::regclass AND attfdwoptions IS NOT NULL ORDER BY attnum;
-- Names that there are not.
IMPORT FOREIGN SCHEMA odd LIMIT TO (mixed, pairs, "mixed case") FROM SERVER archive INTO imp;
IMPORT FOREIGN SCHEMA odd EXCEPT (typo, typed, "Mixed Case", computed, descending, pair, words, "sums of pairs", broken) FROM SERVER archive INTO imp;
\det imp.*
IMPORT FOREIGN SCHEMA odd FROM SERVER archive INTO imp OPTIONS (import_notnull 'true');
IMPORT FOREIGN SCHEMA odd FROM SERVER archive INTO imp OPTIONS (import_collate 'x');
IMPORT FOREIGN SCHEMA odd FROM SERVER archive INTO imp OPTIONS (datetime_encoding 'blob');
IMPORT FOREIGN SCHEMA odd FROM SERVER archive INTO imp OPTIONS (segments '(');
IMPORT FOREIGN SCHEMA odd LIMIT TO ("Mixed Case") FROM SERVER archive INTO imp OPTIONS (segment_column 'CTID_');
IMPORT FOREIGN SCHEMA "no such" FROM SERVER archive INTO imp;
IMPORT FOREIGN SCHEMA "segment:nosuch" FROM SERVER archive INTO imp;
IMPORT FOREIGN SCHEMA "segment:../x" FROM SERVER archive INTO imp;
-- From a live segment: what it holds, but not what would have to hold for all others.
IMPORT FOREIGN SCHEMA "segment:imp1" LIMIT TO (computed, pair, words, "sums of pairs", broken) FROM SERVER archive INTO imp OPTIONS (segments '^imp1$');
\d+ imp.computed
\d+ imp.pair
\d+ imp."sums of pairs"
\d+ imp.words
SELECT * FROM imp."sums of pairs" ORDER BY a;
DROP SCHEMA imp CASCADE;
CREATE SCHEMA imp;
IMPORT FOREIGN SCHEMA "segment:imp1" LIMIT TO (computed) FROM SERVER archive INTO imp OPTIONS (import_storage 'true', import_not_null 'true');
\d+ imp.computed
DROP SCHEMA imp CASCADE;
