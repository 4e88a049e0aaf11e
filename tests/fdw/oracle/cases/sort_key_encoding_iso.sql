-- with pushdown an error where the heap has an answer
-- seed 20/0/9, query 130
-- pushdown on:
-- ERROR 42804: ERROR:  table "t1", column "c" (over several segments): an integer cannot be read as timestamp with time zone
-- pushdown off:
-- 2000-01-10 02:00:00+13
-- (1 rows)
-- heap:
-- 2000-01-10 02:00:00+13
-- (1 rows)
--! sqlite
CREATE TABLE t1 ("id" INTEGER PRIMARY KEY, "a" TEXT, "b0" INTEGER, "c" TEXT, "d0" BLOB) STRICT;
--! segment @P@11
INSERT INTO t1 VALUES
(60, '2000-01-08T08:00:00.0+05', NULL, '2000-01-09T14:00:00.0+01', x'ff');
--! foreign
CREATE FOREIGN TABLE t1 (
    "segment" text OPTIONS (segment 'true') COLLATE public.nd,
    "id" bigint OPTIONS (storage 'integer'),
    "a" timestamp OPTIONS (encoding 'iso8601'),
    "b0" boolean,
    "c" timestamptz OPTIONS (encoding 'iso8601'),
    "d0" bytea OPTIONS (storage 'blob')
) SERVER archive OPTIONS (schema '@P@s', segments '^@P@');
CREATE TABLE loc (k integer, s text, v text COLLATE "C", f double precision);
INSERT INTO loc VALUES (NULL, NULL, NULL, NULL), (0, '@P@0', 'a', 0.5), (1, '@P@1', 'A', 1), (2, '@P@2', '', -0.25), (3, '@P@3', 'apple', 'Infinity'), (4, '@P@4', 'é', 2.5), (5, '@P@0', 'b', 0), (6, '@P@1', NULL, 3), (7, '@P@2', 'zz', NULL), (8, '@P@3', '10', 10);
--! heap
CREATE TABLE t1 ("segment" text COLLATE public.nd, "id" bigint, "a" timestamp, "b0" boolean, "c" timestamptz, "d0" bytea);
INSERT INTO t1 VALUES
('@P@11', 60, timestamp '2000-01-08 08:00:00.000000', NULL, timestamptz '2000-01-09 13:00:00.000000+00', '\xff'::bytea);
CREATE TABLE loc (k integer, s text, v text COLLATE "C", f double precision);
INSERT INTO loc VALUES (NULL, NULL, NULL, NULL), (0, '@P@0', 'a', 0.5), (1, '@P@1', 'A', 1), (2, '@P@2', '', -0.25), (3, '@P@3', 'apple', 'Infinity'), (4, '@P@4', 'é', 2.5), (5, '@P@0', 'b', 0), (6, '@P@1', NULL, 3), (7, '@P@2', 'zz', NULL), (8, '@P@3', '10', 10);
SELECT 1;
--! settings
SET timezone = 'Pacific/Auckland'; SET datestyle = 'ISO, MDY'; SET intervalstyle = 'sql_standard'; SET bytea_output = 'escape'
--! query ordered
SELECT q1.c AS c0 FROM t1 q1 ORDER BY q1.c, q1.segment COLLATE "C", q1.id LIMIT 2;
