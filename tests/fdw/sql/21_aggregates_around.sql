-- Aggregations within larger queries, prepared, over partitions and over nothing.
EXPLAIN (VERBOSE, COSTS OFF) SELECT * FROM (SELECT k, count(*) AS c FROM measure GROUP BY k) a WHERE c > 10;
SELECT same_measure('SELECT * FROM (SELECT k, count(*) AS c FROM measure GROUP BY k) a WHERE c > 10 ');
SELECT same_measure('SELECT k, (SELECT count(*) FROM measure x WHERE x.k = v.k) FROM (VALUES (''k1''), (''k2''), (''none'')) v(k)');
SELECT same_measure('SELECT (SELECT max(i8) FROM measure WHERE segment = s) FROM (VALUES (''m1''), (''m2''), (''none'')) v(s)');
SELECT same_measure('WITH w AS (SELECT segment, sum(i4) AS s FROM measure GROUP BY segment) SELECT max(s), min(s) FROM w');
SELECT same_measure('SELECT k, sum(count(*)) OVER (ORDER BY k) FROM measure GROUP BY k');
SELECT same_measure('SELECT k, count(*) FROM measure WHERE segment = ANY (ARRAY[''m1'', ''m2'']) GROUP BY k');
SELECT same_measure('SELECT k, count(*) FROM measure WHERE segment LIKE ''m%'' AND i4 > 1000 AND b GROUP BY k ORDER BY 2 DESC, 1 LIMIT 2');
SELECT same_measure('SELECT k, count(*) FROM measure GROUP BY k UNION ALL SELECT NULL, count(*) FROM measure');
SELECT same_measure('SELECT EXISTS (SELECT k FROM measure GROUP BY k HAVING count(*) > 1000)');
PREPARE by_k(int, text) AS SELECT k, count(*), sum(i2 + $1) FROM measure WHERE i4 > $1 AND segment <> $2 GROUP BY k HAVING count(*) > $1 ORDER BY k;
EXECUTE by_k(2, 'm1');
SET plan_cache_mode = force_generic_plan;
EXPLAIN (VERBOSE, COSTS OFF) EXECUTE by_k(2, 'm1');
EXECUTE by_k(2, 'm1');
PREPARE whole(int) AS SELECT segment, count(*) FROM measure GROUP BY segment HAVING count(*) > $1 AND sum(i8) IS NOT NULL ORDER BY 1;
EXPLAIN (VERBOSE, COSTS OFF) EXECUTE whole(28);
EXECUTE whole(28);
RESET plan_cache_mode;
-- Nothing: no rows, no segments, a segment that does not exist.
SELECT count(*), sum(i8), avg(f8), stddev(i4), bool_and(b), bit_xor(i4), corr(f8, f8), regr_count(f8, f8), count(DISTINCT k) FROM measure WHERE i4 = 5;
SELECT count(*), sum(i8), avg(f8), stddev(i4), bool_and(b), bit_xor(i4), count(DISTINCT k) FROM measure WHERE segment = 'none';
SELECT segment, count(*), sum(i8) FROM measure WHERE i4 = 5 GROUP BY segment;
SELECT segment, count(*), sum(i8) FROM measure WHERE segment = 'none' GROUP BY segment;
SELECT DISTINCT k FROM measure WHERE segment = 'none';
CREATE FOREIGN TABLE no_measure (segment text OPTIONS (segment 'true'), i4 int, f8 float8) SERVER archive OPTIONS (table 'measure', segments '^nosuch');
SELECT count(*), sum(i4), avg(f8), count(DISTINCT i4) FROM no_measure;
SELECT segment, count(*) FROM no_measure GROUP BY 1;
-- Beyond what doubles hold: as PostgreSQL's own steps.
INSERT INTO measure (segment, id, k, f8) VALUES ('mbig', 1, 'inf', 'Infinity'), ('mbig', 2, 'inf', 1), ('mbig2', 3, 'inf', 5),
    ('mbig', 4, 'both', 'Infinity'), ('mbig2', 5, 'both', '-Infinity'), ('mbig', 6, 'zero', '-0'),
    ('mbig', 7, 'wide', 1e160), ('mbig', 8, 'wide', -1e160), ('mbig', 9, 'over', 1.7e308), ('mbig2', 10, 'over', 1.7e308);
SELECT k, sum(f8), avg(f8), stddev(f8), max(f8), count(f8) FROM measure WHERE segment LIKE 'mbig%' AND k IN ('inf', 'both', 'zero') GROUP BY k ORDER BY k;
SELECT segment, k, sum(f8), avg(f8), stddev(f8) FROM measure WHERE segment LIKE 'mbig%' AND k IN ('inf', 'both', 'zero') GROUP BY segment, k ORDER BY 1, 2;
SELECT avg(f8) FROM measure WHERE segment LIKE 'mbig%' AND k = 'wide';
SELECT avg(f8) FROM (VALUES (1e160::float8), (-1e160)) v(f8);
SELECT sum(f8) FROM measure WHERE segment LIKE 'mbig%' AND k = 'wide';
SELECT sum(f8) FROM measure WHERE segment LIKE 'mbig%' AND k = 'over';
SELECT segment, sum(f8) FROM measure WHERE segment LIKE 'mbig%' AND k = 'over' GROUP BY segment ORDER BY 1;
-- What is one group: stored forms of one value, and what only SQLite holds for equal.
CREATE FOREIGN TABLE loose (segment text OPTIONS (segment 'true'), k varchar(20), n numeric(10,2), f float8, x text OPTIONS (encoding 'any'))
    SERVER archive OPTIONS (schema 'measure', segments '^vary');
CREATE FOREIGN TABLE loose_day (segment text OPTIONS (segment 'true'), x timestamptz) SERVER archive OPTIONS (table 'loose', segments '^vday');
CREATE FOREIGN TABLE loose_uuid (segment text OPTIONS (segment 'true'), x uuid) SERVER archive OPTIONS (table 'loose', segments '^vuuid', schema 'measure');
CREATE FOREIGN TABLE raw_day (segment text OPTIONS (segment 'true'), x text) SERVER archive OPTIONS (table 'loose', segments '^vday', schema 'measure');
CREATE FOREIGN TABLE raw_uuid (segment text OPTIONS (segment 'true'), x text) SERVER archive OPTIONS (table 'loose', segments '^vuuid', schema 'measure');
INSERT INTO loose (segment, k, n, f, x) VALUES ('vary1', 'a', 1, 1, '1'), ('vary1', 'A', 1.0, 0, '1.0'), ('vary2', 'a', 1.5, '-0', 'x'), ('vary2', 'A ', 1.50, 1, '1');
INSERT INTO raw_day VALUES ('vday1', '2020-01-01T00:00:00Z'), ('vday1', '2020-01-01 00:00:00+00:00'), ('vday2', '2020-01-01T01:00:00+01:00'), ('vday2', '2020-01-02');
INSERT INTO raw_uuid VALUES ('vuuid1', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'), ('vuuid1', 'a0eebc999c0b4ef8bb6d6bb9bd380a11'), ('vuuid2', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}');
EXPLAIN (VERBOSE, COSTS OFF) SELECT k, n, count(*) FROM loose GROUP BY k, n;
EXPLAIN (VERBOSE, COSTS OFF) SELECT segment, n, count(*) FROM loose GROUP BY segment, n;
SELECT k, count(*) FROM loose GROUP BY k ORDER BY k COLLATE "C";
SELECT n, count(*) FROM loose GROUP BY n ORDER BY n;
SELECT segment, n, count(*) FROM loose GROUP BY segment, n ORDER BY segment, n;
SELECT f, count(*) FROM loose GROUP BY f ORDER BY f;
SELECT x, count(*) FROM loose GROUP BY x ORDER BY x COLLATE "C";
SELECT count(DISTINCT k), count(DISTINCT n), count(DISTINCT f), count(DISTINCT x) FROM loose;
SELECT x, count(*) FROM loose_day GROUP BY x ORDER BY x;
SELECT DISTINCT x FROM loose_day ORDER BY x;
SELECT count(DISTINCT x) FROM loose_day;
SELECT x, count(*) FROM loose_uuid GROUP BY x;
SELECT count(DISTINCT x), segment FROM loose_uuid GROUP BY segment ORDER BY segment;
-- Partitions: each is aggregated where it lies, whole or in parts.
CREATE TABLE parted (segment text, k text, i4 int, f8 float8, i8 bigint) PARTITION BY LIST (segment);
CREATE FOREIGN TABLE parted_1 PARTITION OF parted FOR VALUES IN ('m1', 'm2') SERVER archive OPTIONS (table 'measure', segments '^m[12]$');
ALTER FOREIGN TABLE parted_1 ALTER segment OPTIONS (segment 'true');
CREATE FOREIGN TABLE parted_2 PARTITION OF parted FOR VALUES IN ('m3', 'm4') SERVER archive OPTIONS (table 'measure', segments '^m[34]$');
ALTER FOREIGN TABLE parted_2 ALTER segment OPTIONS (segment 'true');
CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
INSERT INTO parted_rest SELECT segment, k, i4, f8, i8 FROM local_measure WHERE segment IN ('m5', 'm6', 'm0');
SET enable_partitionwise_aggregate = on;
EXPLAIN (VERBOSE, COSTS OFF) SELECT k, count(*), sum(i8), avg(i4) FROM parted GROUP BY k;
EXPLAIN (VERBOSE, COSTS OFF) SELECT segment, count(*), stddev(i8) FROM parted GROUP BY segment;
SELECT k, count(*), sum(i8), avg(i4), stddev(i8) FROM parted GROUP BY k
    EXCEPT SELECT k, count(*), sum(i8), avg(i4), stddev(i8) FROM local_measure GROUP BY k;
SELECT segment, count(*), sum(i8), stddev(i8) FROM parted GROUP BY segment
    EXCEPT SELECT segment, count(*), sum(i8), stddev(i8) FROM local_measure GROUP BY segment;
SELECT count(*), sum(i8), avg(i4), max(k) FROM parted;
SELECT count(*), sum(i8), avg(i4), max(k) FROM local_measure;
RESET enable_partitionwise_aggregate;
SELECT count(*), sum(i8), avg(i4), max(k) FROM parted;
-- Conditions without columns.
SELECT count(*) FROM measure WHERE current_setting('work_mem') = 'none';
SELECT k, count(*) FROM measure WHERE current_setting('work_mem') = 'none' GROUP BY k;
DROP TABLE parted;
