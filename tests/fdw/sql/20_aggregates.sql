-- Every aggregate that is computed in parts, over segments with NULLs, extremes and nothing at all.
SELECT trough.register_schema('archive', 'measure', $$
CREATE TABLE measure (
    id INTEGER PRIMARY KEY, k TEXT, i2 INTEGER, i4 INTEGER, i8 INTEGER, f8 REAL, f4 REAL, b INTEGER, d TEXT,
    ts TEXT, us INTEGER, u TEXT, raw BLOB
) STRICT;
CREATE TABLE loose (k VARCHAR(20) COLLATE NOCASE, n DECIMAL(10,2), f DOUBLE, x);
$$);
CREATE FOREIGN TABLE measure (segment text OPTIONS (segment 'true'), id bigint OPTIONS (storage 'integer'),
    k text OPTIONS (storage 'text'), i2 smallint OPTIONS (storage 'integer'), i4 int OPTIONS (storage 'integer'),
    i8 bigint OPTIONS (storage 'integer'), f8 float8 OPTIONS (storage 'real'), f4 real OPTIONS (storage 'real'),
    b boolean OPTIONS (storage 'integer'), d date OPTIONS (storage 'text'), ts timestamptz OPTIONS (storage 'text'),
    us timestamp OPTIONS (storage 'integer', encoding 'epoch_us'), u uuid OPTIONS (storage 'text'),
    raw bytea OPTIONS (storage 'blob'))
    SERVER archive OPTIONS (schema 'measure', segments '^m[0-9b]');
INSERT INTO measure SELECT 'm' || (i % 7), i, CASE WHEN i % 11 = 0 THEN NULL ELSE 'k' || i % 5 END,
    CASE i % 13 WHEN 0 THEN NULL WHEN 1 THEN -32768 WHEN 2 THEN 32767 ELSE i % 100 END,
    CASE i % 17 WHEN 0 THEN NULL WHEN 1 THEN -2147483648 WHEN 2 THEN 2147483647 ELSE i * 1000 END,
    CASE i % 19 WHEN 0 THEN NULL WHEN 1 THEN -9223372036854775808 WHEN 2 THEN 9223372036854775807 ELSE i::bigint * 1000000007 END,
    CASE WHEN i % 6 = 0 THEN NULL ELSE i / 8.0 END, CASE WHEN i % 8 = 0 THEN NULL ELSE i / 4.0 END,
    CASE i % 3 WHEN 0 THEN true WHEN 1 THEN false END, date '1960-01-01' + i * 100,
    timestamptz '1999-12-31 23:59:59Z' + i * interval '1 hour', timestamp '1960-01-01' + i * interval '13 days 1 ms',
    ('00000000-0000-0000-0000-0000000000' || 10 + i % 3)::uuid, decode(lpad(to_hex(i), 4, '0'), 'hex')
    FROM generate_series(1, 200) i;
CREATE TABLE local_measure AS SELECT * FROM measure;
SELECT count(*) FROM local_measure;
-- Runs a query over both and says whether the answers are the same.
CREATE FUNCTION same_measure(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE a jsonb; b jsonb;
BEGIN
    EXECUTE 'SELECT coalesce(jsonb_agg(q ORDER BY q::text), ''[]'') FROM (' || query || ') q' INTO a;
    EXECUTE 'SELECT coalesce(jsonb_agg(q ORDER BY q::text), ''[]'') FROM (' || replace(query, 'measure', 'local_measure') || ') q' INTO b;
    RETURN CASE WHEN a = b THEN 'same, ' || jsonb_array_length(a) || ' rows' ELSE a::text || ' instead of ' || b::text END;
END $$;
-- What runs where.
EXPLAIN (VERBOSE, COSTS OFF) SELECT sum(i2), avg(i2), sum(i4), avg(i4), sum(i8), avg(i8), sum(f8), avg(f8) FROM measure;
EXPLAIN (VERBOSE, COSTS OFF) SELECT stddev(i2), var_pop(i4), variance(i8), stddev_pop(f8), stddev_samp(f8) FROM measure;
EXPLAIN (VERBOSE, COSTS OFF) SELECT bool_and(b), bool_or(b), every(b), bit_and(i2), bit_or(i4), bit_xor(i8) FROM measure;
EXPLAIN (VERBOSE, COSTS OFF) SELECT corr(f8, f8), regr_count(f8, f8), regr_slope(f8, f8), covar_pop(f8, f8) FROM measure;
EXPLAIN (VERBOSE, COSTS OFF) SELECT min(d), max(us), min(k COLLATE "C"), max(f8), min(i8) FROM measure;
EXPLAIN (VERBOSE, COSTS OFF) SELECT sum(f4), avg(f4), max(f4) FROM measure;
EXPLAIN (VERBOSE, COSTS OFF) SELECT count(1), sum(CASE WHEN b THEN i4 ELSE 0 END), bool_or(i4 > 5), sum(coalesce(i8, 0)) FROM measure;
EXPLAIN (VERBOSE, COSTS OFF) SELECT count(i2 + 1), sum(i2 * 2) FROM measure;
EXPLAIN (VERBOSE, COSTS OFF) SELECT count(*) FILTER (WHERE b), sum(i4) FILTER (WHERE i2 > 50 AND k = 'k1') FROM measure;
EXPLAIN (VERBOSE, COSTS OFF) SELECT b, i2 > 50, coalesce(k, '?'), count(*) FROM measure GROUP BY 1, 2, 3;
EXPLAIN (VERBOSE, COSTS OFF) SELECT i4 % 3, count(*) FROM measure GROUP BY 1;
EXPLAIN (VERBOSE, COSTS OFF) SELECT (i4 % 3) + 1, upper(k), count(*) FROM measure GROUP BY i4 % 3, k;
EXPLAIN (VERBOSE, COSTS OFF) SELECT 'x' AS what, k, count(*) FROM measure GROUP BY 1, 2;
-- Not in parts.
EXPLAIN (VERBOSE, COSTS OFF) SELECT string_agg(k, ',' ORDER BY k) FROM measure;
EXPLAIN (VERBOSE, COSTS OFF) SELECT k, b, count(*) FROM measure GROUP BY GROUPING SETS ((k), (b), ());
-- The answers.
SELECT same_measure('SELECT sum(i2), avg(i2), sum(i4), avg(i4), sum(i8), avg(i8), sum(f8), avg(f8) FROM measure');
SELECT same_measure('SELECT stddev(i2), stddev_pop(i2), stddev_samp(i2), variance(i2), var_pop(i2), var_samp(i2) FROM measure');
SELECT same_measure('SELECT stddev(i4), stddev_pop(i4), stddev_samp(i4), variance(i4), var_pop(i4), var_samp(i4) FROM measure');
SELECT same_measure('SELECT stddev(i8), stddev_pop(i8), stddev_samp(i8), variance(i8), var_pop(i8), var_samp(i8) FROM measure');
SELECT same_measure('SELECT k, stddev(i8), var_pop(i4), var_samp(i2) FROM measure GROUP BY k');
SELECT same_measure('SELECT segment, stddev(i8), var_pop(i4), var_samp(i2), avg(i8), avg(i4), sum(i8), stddev(f8), var_pop(f8) FROM measure GROUP BY segment');
SELECT same_measure('SELECT segment, k, stddev(i8), var_pop(i4), var_samp(i2), avg(i8), avg(i4), sum(i8), sum(f4), avg(f4), corr(f8, i4), regr_slope(f8, i4) FROM measure GROUP BY segment, k');
SELECT same_measure('SELECT round(stddev(f8)::numeric, 9), round(var_pop(f8)::numeric, 9), round(variance(f4)::numeric, 9), sum(f4), avg(f4) FROM measure');
SELECT same_measure('SELECT round(corr(f8, i4)::numeric, 9), regr_count(f8, i4), round(regr_slope(f8, id)::numeric, 9), round(covar_pop(f8, id)::numeric, 9) FROM measure');
SELECT same_measure('SELECT bool_and(b), bool_or(b), every(b), bit_and(i2), bit_or(i4), bit_xor(i8), bit_xor(i2) FROM measure');
SELECT same_measure('SELECT k, bool_and(b), bool_or(b), every(b is null), bit_and(i2), bit_or(i4), bit_xor(i8) FROM measure GROUP BY k');
SELECT same_measure('SELECT min(d), max(d), min(us), max(us), min(ts), max(ts), min(k COLLATE "C"), max(k), max(f8), min(i8), max(f4), max(i2) FROM measure');
SELECT same_measure('SELECT count(1), count(i2 + 1), sum(CASE WHEN b THEN i4 ELSE 0 END), bool_or(i4 > 5), sum(coalesce(i8, 0)), count(ts), count(u), count(raw), count(d) FROM measure');
SELECT same_measure('SELECT k, count(*) FILTER (WHERE b), sum(i4) FILTER (WHERE i2 > 50 AND k = ''k1''), avg(i8) FILTER (WHERE f8 < 10) FROM measure GROUP BY k');
SELECT same_measure('SELECT i4 % 3, b, i2 > 50, count(*) FROM measure GROUP BY 1, 2, 3');
SELECT same_measure('SELECT b, i2 > 50, coalesce(k, ''?''), count(*) FROM measure GROUP BY 1, 2, 3');
SELECT same_measure('SELECT (i4 % 3) + 1, upper(k), count(*) FROM measure GROUP BY i4 % 3, k');
SELECT same_measure('SELECT ''x'' AS what, k, count(*) FROM measure GROUP BY 1, 2');
SELECT same_measure('SELECT d, count(*) FROM measure GROUP BY d');
SELECT same_measure('SELECT ts, us, count(*) FROM measure GROUP BY ts, us');
SELECT same_measure('SELECT u, raw, f8, count(*) FROM measure GROUP BY u, raw, f8');
SELECT same_measure('SELECT f4, count(*) FROM measure GROUP BY f4');
SELECT same_measure('SELECT k, b, grouping(k, b), count(*), sum(i8) FROM measure GROUP BY ROLLUP (k, b)');
SELECT same_measure('SELECT k, b, count(*), avg(f8) FROM measure GROUP BY GROUPING SETS ((k), (b), ())');
SELECT same_measure('SELECT k, b, max(i4) FROM measure GROUP BY CUBE (k, b)');
-- HAVING: on the groups of a segment in SQLite where it can be, else here.
EXPLAIN (VERBOSE, COSTS OFF) SELECT segment, k, count(*) FROM measure GROUP BY segment, k HAVING count(*) > 5 AND max(i4) > 10;
EXPLAIN (VERBOSE, COSTS OFF) SELECT segment, k FROM measure GROUP BY segment, k HAVING avg(i8) > 0 AND k <> 'k1' AND min(d) < date '2000-01-01';
EXPLAIN (VERBOSE, COSTS OFF) SELECT k FROM measure GROUP BY k HAVING count(*) > 5 AND avg(i8) > 0;
SELECT same_measure('SELECT segment, k, count(*) FROM measure GROUP BY segment, k HAVING count(*) > 5 AND max(i4) > 10');
SELECT same_measure('SELECT segment, k FROM measure GROUP BY segment, k HAVING avg(i8) > 0 AND k <> ''k1'' AND min(d) < date ''2000-01-01''');
SELECT same_measure('SELECT segment FROM measure GROUP BY segment HAVING bool_or(i4 > 5) AND sum(i2) < 100000 AND max(k) > ''k'' AND segment <> ''m3''');
SELECT same_measure('SELECT k, sum(i4) FROM measure GROUP BY k HAVING count(*) > 5 AND avg(i8) > 0');
SELECT same_measure('SELECT count(*) FROM measure HAVING sum(i4) > 0');
SELECT same_measure('SELECT count(*) FROM measure HAVING sum(i4) < 0');
-- DISTINCT.
EXPLAIN (VERBOSE, COSTS OFF) SELECT DISTINCT k, b FROM measure;
EXPLAIN (VERBOSE, COSTS OFF) SELECT DISTINCT segment, k FROM measure;
EXPLAIN (VERBOSE, COSTS OFF) SELECT DISTINCT segment FROM measure WHERE i4 > 5;
EXPLAIN (VERBOSE, COSTS OFF) SELECT DISTINCT i4 % 3 AS r FROM measure ORDER BY r DESC;
EXPLAIN (VERBOSE, COSTS OFF) SELECT DISTINCT ON (k) k, b FROM measure;
EXPLAIN (VERBOSE, COSTS OFF) SELECT count(DISTINCT k) FROM measure;
EXPLAIN (VERBOSE, COSTS OFF) SELECT b, count(DISTINCT k), sum(DISTINCT i4 % 7), max(i8) FROM measure GROUP BY b;
EXPLAIN (VERBOSE, COSTS OFF) SELECT segment, count(DISTINCT k), sum(DISTINCT i8), avg(DISTINCT i4), count(*) FROM measure GROUP BY segment;
EXPLAIN (VERBOSE, COSTS OFF) SELECT k, count(*), count(DISTINCT b) FROM measure GROUP BY k;
SELECT same_measure('SELECT DISTINCT k, b FROM measure');
SELECT same_measure('SELECT DISTINCT segment, k FROM measure');
SELECT same_measure('SELECT DISTINCT segment FROM measure WHERE i4 > 5');
SELECT same_measure('SELECT DISTINCT i4 % 3 AS r FROM measure ORDER BY r DESC LIMIT 2');
SELECT same_measure('SELECT DISTINCT u, ts FROM measure');
SELECT same_measure('SELECT DISTINCT f4, d, us FROM measure');
SELECT same_measure('SELECT DISTINCT k || ''x'', 1 FROM measure');
SELECT DISTINCT k FROM measure ORDER BY k DESC NULLS LAST;
SELECT same_measure('SELECT count(DISTINCT k) FROM measure');
SELECT same_measure('SELECT count(DISTINCT k), count(DISTINCT b), array_agg(DISTINCT k ORDER BY k), string_agg(DISTINCT k, '','') FROM measure');
SELECT same_measure('SELECT b, count(DISTINCT k), sum(DISTINCT i4 % 7), max(i8) FROM measure GROUP BY b');
SELECT same_measure('SELECT b, count(DISTINCT k) FILTER (WHERE i2 > 50), count(DISTINCT i2) FROM measure GROUP BY b HAVING count(DISTINCT k) > 1');
SELECT same_measure('SELECT segment, count(DISTINCT k), sum(DISTINCT i8), avg(DISTINCT i4), count(*), sum(DISTINCT f8), count(DISTINCT d) FROM measure GROUP BY segment');
SELECT same_measure('SELECT k, count(*), count(DISTINCT b) FROM measure GROUP BY k');
SELECT same_measure('SELECT count(DISTINCT (k, b)) FROM measure');
