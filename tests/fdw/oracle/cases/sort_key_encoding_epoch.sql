-- with pushdown other rows
-- seed 20/1/3, query 129
-- pushdown on:
-- 31969-02-18 08:00:00+00
-- (1 rows)
-- pushdown off:
-- 1999-12-31 23:00:00+00
-- (1 rows)
-- heap:
-- 1999-12-31 23:00:00+00
-- (1 rows)
--! sqlite
CREATE TABLE t1 ("id" INTEGER PRIMARY KEY, "a" BLOB, "b" NUMERIC, "c0" TEXT COLLATE RTRIM, "d0" CLOB, "e" NUMERIC);
CREATE INDEX t1_c0 ON t1 ("c0");
CREATE INDEX t1_id ON t1 ("id");
CREATE TABLE t2 ("id" INTEGER, "a" TEXT, "b1" CLOB, "c" BIGINT, "d1" NUMERIC, "e" DECIMAL(10,2), "f" , "g" );
--! segment @P@ x
INSERT INTO t1 VALUES
(60, NULL, NULL, 'a-b', '?', 946681200000);
--! foreign
CREATE FOREIGN TABLE t1 (
    "segment" text OPTIONS (segment 'true') COLLATE "C",
    "id" bigint,
    "a" text OPTIONS (encoding 'any') COLLATE "C",
    "b" numeric(12,2),
    "c0" text OPTIONS (invalid_text 'null') COLLATE "C",
    "d0" text COLLATE "C",
    "e" timestamptz OPTIONS (encoding 'epoch_ms')
) SERVER archive OPTIONS (schema '@P@s', segments '^@P@');
CREATE FOREIGN TABLE t2 (
    "segment" text OPTIONS (segment 'true') COLLATE "C",
    "id" integer,
    "a" numeric(12,2),
    "b1" varchar(400) OPTIONS (invalid_text 'null', storage 'text') COLLATE "und-x-icu",
    "c" timestamp OPTIONS (encoding 'epoch_ms'),
    "d1" integer,
    "e" numeric,
    "f" text OPTIONS (storage 'text') COLLATE "C",
    "g" text[]
) SERVER archive OPTIONS (schema '@P@s', segments '^@P@');
CREATE TABLE loc (k integer, s text, v text COLLATE "C", f double precision);
INSERT INTO loc VALUES (NULL, NULL, NULL, NULL), (0, '@P@0', 'a', 0.5), (1, '@P@1', 'A', 1), (2, '@P@2', '', -0.25), (3, '@P@3', 'apple', 'Infinity'), (4, '@P@4', 'é', 2.5), (5, '@P@0', 'b', 0), (6, '@P@1', NULL, 3), (7, '@P@2', 'zz', NULL), (8, '@P@3', '10', 10);
--! heap
CREATE TABLE t1 ("segment" text COLLATE "C", "id" bigint, "a" text COLLATE "C", "b" numeric(12,2), "c0" text COLLATE "C", "d0" text COLLATE "C", "e" timestamptz);
INSERT INTO t1 VALUES
('@P@ x', 60, NULL, NULL, 'a-b', '?', timestamptz '1999-12-31 23:00:00.000000+00');
CREATE TABLE t2 ("segment" text COLLATE "C", "id" integer, "a" numeric(12,2), "b1" varchar(400) COLLATE "und-x-icu", "c" timestamp, "d1" integer, "e" numeric, "f" text COLLATE "C", "g" text[]);
CREATE TABLE loc (k integer, s text, v text COLLATE "C", f double precision);
INSERT INTO loc VALUES (NULL, NULL, NULL, NULL), (0, '@P@0', 'a', 0.5), (1, '@P@1', 'A', 1), (2, '@P@2', '', -0.25), (3, '@P@3', 'apple', 'Infinity'), (4, '@P@4', 'é', 2.5), (5, '@P@0', 'b', 0), (6, '@P@1', NULL, 3), (7, '@P@2', 'zz', NULL), (8, '@P@3', '10', 10);
SELECT 1;
--! settings
SET timezone = 'UTC'; SET datestyle = 'ISO, MDY'; SET intervalstyle = 'iso_8601'; SET bytea_output = 'hex'
--! query ordered
SET plan_cache_mode = force_generic_plan;
PREPARE p(text) AS SELECT q1.e AS c2 FROM t1 q1 ORDER BY q1.id DESC, q1.e ASC, q1.segment COLLATE "C" NULLS LAST, q1.id LIMIT 1;
EXECUTE p('b');
DEALLOCATE p;
RESET plan_cache_mode;
