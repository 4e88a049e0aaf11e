-- with pushdown an error where the heap has an answer
-- seed 12/0/25, query 25
-- pushdown on:
-- ERROR 22003: ERROR:  segment "o21486j0n33.3", table "t2", column "?column?": a value is out of range for type date
-- pushdown off:
-- o21486j0n33.3|-infinity
-- (1 rows)
-- heap:
-- o21486j0n33.3|-infinity
-- (1 rows)
--! sqlite
CREATE TABLE t1 ("id" INTEGER PRIMARY KEY, "a" REAL, "b" INTEGER, "c" TEXT) STRICT;
CREATE TABLE t2 ("id" INTEGER, "a" TEXT, "b1" BLOB, "c" INTEGER, "d" TEXT) STRICT;
--! segment @P@3
INSERT INTO t2 VALUES
(8, '1999-12-31T23:11:20', x'2383caa9d33daa251277e6fe6d3e57f1', 946685455, NULL);
--! foreign
CREATE FOREIGN TABLE t1 (
    "segment" text OPTIONS (segment 'true') COLLATE "C",
    "id" bigint OPTIONS (storage 'integer'),
    "a" double precision,
    "b" date OPTIONS (encoding 'epoch_us'),
    "c" varchar(400) OPTIONS (invalid_text 'null', storage 'text') COLLATE "und-x-icu"
) SERVER archive OPTIONS (schema '@P@s', segments '^@P@');
CREATE FOREIGN TABLE t2 (
    "segment" text OPTIONS (segment 'true') COLLATE "C",
    "id" integer,
    "a" timestamp OPTIONS (encoding 'iso8601'),
    "b1" uuid OPTIONS (encoding 'blob'),
    "c" timestamp OPTIONS (encoding 'epoch_s', storage 'integer'),
    "d" jsonb
) SERVER archive OPTIONS (schema '@P@s', segments '^@P@');
CREATE TABLE loc (k integer, s text, v text COLLATE "C", f double precision);
INSERT INTO loc VALUES (NULL, NULL, NULL, NULL), (0, '@P@0', 'a', 0.5), (1, '@P@1', 'A', 1), (2, '@P@2', '', -0.25), (3, '@P@3', 'apple', 'Infinity'), (4, '@P@4', 'é', 2.5), (5, '@P@0', 'b', 0), (6, '@P@1', NULL, 3), (7, '@P@2', 'zz', NULL), (8, '@P@3', '10', 10);
--! heap
CREATE TABLE t1 ("segment" text COLLATE "C", "id" bigint, "a" double precision, "b" date, "c" varchar(400) COLLATE "und-x-icu");
CREATE TABLE t2 ("segment" text COLLATE "C", "id" integer, "a" timestamp, "b1" uuid, "c" timestamp, "d" jsonb);
INSERT INTO t2 VALUES
('@P@3', 8, timestamp '1999-12-31 23:11:20.000000', uuid '2383caa9-d33d-aa25-1277-e6fe6d3e57f1', timestamp '2000-01-01 00:10:55.000000', NULL);
CREATE TABLE loc (k integer, s text, v text COLLATE "C", f double precision);
INSERT INTO loc VALUES (NULL, NULL, NULL, NULL), (0, '@P@0', 'a', 0.5), (1, '@P@1', 'A', 1), (2, '@P@2', '', -0.25), (3, '@P@3', 'apple', 'Infinity'), (4, '@P@4', 'é', 2.5), (5, '@P@0', 'b', 0), (6, '@P@1', NULL, 3), (7, '@P@2', 'zz', NULL), (8, '@P@3', '10', 10);
SELECT 1;
--! query
SELECT q1.segment AS g0, '-infinity'::date AS g1 FROM t2 q1 GROUP BY 1, 2;
