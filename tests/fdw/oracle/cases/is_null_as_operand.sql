-- with pushdown other rows
-- seed 7/1/10, query 226
-- pushdown on:
-- t|NULL
-- f|7
-- (2 rows)
-- pushdown off:
-- t|NULL
-- (1 rows)
-- heap:
-- t|NULL
-- (1 rows)
--! sqlite
CREATE TABLE t1 ("id" INTEGER, "a" INTEGER, "b0" TEXT, "c" INTEGER, "d0" BLOB, "e" INTEGER) STRICT;
CREATE INDEX t1_a ON t1 ("a");
--! segment @P@é
INSERT INTO t1 VALUES
(8, 1, 'ı', -1, x'bd1a6631eb5274bc557da51044e4c5e9', NULL),
(9, 0, '~', NULL, x'ef7e84eba22b88570687dac751fbda76', '7');
--! foreign
CREATE FOREIGN TABLE t1 (
    "segment" text OPTIONS (segment 'true') COLLATE "C",
    "id" integer OPTIONS (storage 'integer'),
    "a" boolean,
    "b0" text OPTIONS (storage 'text'),
    "c" timestamptz OPTIONS (encoding 'epoch_us', storage 'integer'),
    "d0" uuid OPTIONS (encoding 'blob'),
    "e" bigint OPTIONS (storage 'integer')
) SERVER archive OPTIONS (schema '@P@s', segments '^@P@');
CREATE TABLE loc (k integer, s text, v text COLLATE "C", f double precision);
INSERT INTO loc VALUES (NULL, NULL, NULL, NULL), (0, '@P@0', 'a', 0.5), (1, '@P@1', 'A', 1), (2, '@P@2', '', -0.25), (3, '@P@3', 'apple', 'Infinity'), (4, '@P@4', 'é', 2.5), (5, '@P@0', 'b', 0), (6, '@P@1', NULL, 3), (7, '@P@2', 'zz', NULL), (8, '@P@3', '10', 10);
--! heap
CREATE TABLE t1 ("segment" text COLLATE "C", "id" integer, "a" boolean, "b0" text, "c" timestamptz, "d0" uuid, "e" bigint);
INSERT INTO t1 VALUES
('@P@é', 8, true, 'ı', timestamptz '1969-12-31 23:59:59.999999+00', uuid 'bd1a6631-eb52-74bc-557d-a51044e4c5e9', NULL),
('@P@é', 9, false, '~', NULL, uuid 'ef7e84eb-a22b-8857-0687-dac751fbda76', 7);
CREATE TABLE loc (k integer, s text, v text COLLATE "C", f double precision);
INSERT INTO loc VALUES (NULL, NULL, NULL, NULL), (0, '@P@0', 'a', 0.5), (1, '@P@1', 'A', 1), (2, '@P@2', '', -0.25), (3, '@P@3', 'apple', 'Infinity'), (4, '@P@4', 'é', 2.5), (5, '@P@0', 'b', 0), (6, '@P@1', NULL, 3), (7, '@P@2', 'zz', NULL), (8, '@P@3', '10', 10);
SELECT 1;
--! query
SET plan_cache_mode = force_generic_plan;
PREPARE p(uuid, integer, text, double precision) AS SELECT q1.a AS g0, q1.e AS g1 FROM t1 q1 WHERE (CASE WHEN (q1.a = (q1.segment IS NULL)) THEN $1 ELSE q1.d0 END = q1.d0) GROUP BY 1, 2;
EXECUTE p(uuid '{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}', 26, NULL::text, 1e300::float8);
DEALLOCATE p;
RESET plan_cache_mode;
