-- A group key that reads no row: its parameter became a reference to the scan's own output, and the backend crashed.
--! sqlite
CREATE TABLE t1 ("id" INTEGER, "a" INTEGER);
--! segment @P@1
INSERT INTO t1 VALUES
(1, 1),
(2, NULL);
--! foreign
CREATE FOREIGN TABLE t1 (segment text OPTIONS (segment 'true'), id integer, a integer) SERVER archive OPTIONS (schema '@P@s', segments '^@P@');
--! heap
CREATE TABLE t1 (segment text, id integer, a integer);
INSERT INTO t1 VALUES
('@P@1', 1, 1),
('@P@1', 2, NULL);
--! query
PREPARE p(timestamptz) AS SELECT coalesce($1 - interval '1 mon', '2000-01-01') AS g0, $1 AS g1, segment, count(*) FROM t1 GROUP BY 1, 2, 3 HAVING $1 IS NOT NULL;
SET plan_cache_mode = force_generic_plan;
EXECUTE p('2001-01-01 00:00+00');
DEALLOCATE p;
RESET plan_cache_mode;
