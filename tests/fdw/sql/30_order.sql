-- ORDER BY and LIMIT: the first rows of each segment and worker, over which PostgreSQL sorts and cuts again.
SELECT trough.register_schema('archive', 'thirty', $$
CREATE TABLE rank (
    id INTEGER PRIMARY KEY, n INTEGER, x REAL, t TEXT COLLATE NOCASE, b INTEGER, raw BLOB, u TEXT, s INTEGER, ms REAL, f REAL, day TEXT
) STRICT;
CREATE INDEX rank_n ON rank (n);
$$);
CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE FOREIGN TABLE rank (
    segment text OPTIONS (segment 'true') NOT NULL,
    id bigint OPTIONS (storage 'integer'),
    n bigint OPTIONS (storage 'integer'),
    x double precision OPTIONS (storage 'real'),
    t text OPTIONS (storage 'text'),
    b boolean OPTIONS (storage 'integer'),
    raw bytea OPTIONS (storage 'blob'),
    u uuid OPTIONS (trusted 'true'),
    s timestamptz OPTIONS (encoding 'epoch_s', storage 'integer'),
    ms timestamp OPTIONS (encoding 'epoch_ms'),
    f real,
    day date
) SERVER archive OPTIONS (schema 'thirty', segments '^r');
CREATE TABLE local_rank (segment text NOT NULL, id bigint, n bigint, x double precision, t text, b boolean, raw bytea, u uuid,
    s timestamptz, ms timestamp, f real, day date);
INSERT INTO local_rank
    SELECT 'r' || g % 7, g, CASE WHEN g % 11 > 0 THEN g * 7919 % 50 END,
        CASE g % 13 WHEN 0 THEN NULL WHEN 1 THEN 'Infinity' WHEN 2 THEN '-Infinity' WHEN 3 THEN -0.0 WHEN 4 THEN 0.0 ELSE (g * 31 % 17) / 4.0 - 2 END,
        CASE WHEN g % 5 > 0 THEN (ARRAY['a', 'B', 'b', 'A', '', 'é', 'zz', E'\u4e2d'])[g * 3 % 8 + 1] END,
        CASE WHEN g % 3 > 0 THEN g % 2 = 0 END, decode(lpad(to_hex(g * 37 % 300), 4, '0'), 'hex'), md5((g % 40)::text)::uuid,
        '2020-01-01 00:00:00+00'::timestamptz + (g * 13 % 29) * interval '1 hour',
        '1969-12-31'::timestamp + (g * 17 % 31) * interval '1.5 ms', (g * 7 % 19) / 3.0, '2000-02-27'::date + g % 9
    FROM generate_series(1, 400) g;
INSERT INTO rank SELECT * FROM local_rank;
-- The first rows per segment, per worker, and here.
EXPLAIN (COSTS OFF, VERBOSE) SELECT * FROM rank ORDER BY n, id LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT segment, t FROM rank WHERE n > 10 ORDER BY x DESC NULLS LAST, n LIMIT 5 OFFSET 3;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id, n + 1 FROM rank ORDER BY t COLLATE "C" DESC, b, raw, u, s, day, id LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY ms LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY f DESC LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY n USING > LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY t USING ~<~, id LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT rank, tableoid::regclass FROM rank ORDER BY id LIMIT 1;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY segment COLLATE "C", n, id LIMIT 5;
-- The segment is the same in all rows of a segment: sorted within each, whatever its collation, but not picked by workers.
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY segment COLLATE "en-x-icu", n, id LIMIT 5;
-- Without an order any rows do.
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank WHERE n = 3 LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id, random() < 2 FROM rank LIMIT 5 OFFSET 2;
-- One segment: sorted as it comes, and min and max read one row.
EXPLAIN (COSTS OFF, VERBOSE) SELECT id, n FROM rank WHERE segment = 'r1' ORDER BY segment, n DESC, id;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id, n FROM rank WHERE segment = 'r1' ORDER BY n DESC, id LIMIT 3;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id, n FROM rank WHERE segment = 'r1' AND abs(n) > 3 ORDER BY n LIMIT 3;
EXPLAIN (COSTS OFF, VERBOSE) SELECT min(n), max(n) FROM rank WHERE segment = 'r1';
SET pg_trough.aggregate_pushdown = off;
EXPLAIN (COSTS OFF, VERBOSE) SELECT min(n), max(n) FROM rank WHERE segment = 'r1';
SELECT min(n), max(n) FROM rank WHERE segment = 'r1';
SELECT min(n), max(n) FROM local_rank WHERE segment = 'r1';
EXPLAIN (COSTS OFF, VERBOSE) SELECT min(n), max(n) FROM rank WHERE segment = 'r1' AND abs(n) > 3;
RESET pg_trough.aggregate_pushdown;
EXPLAIN (COSTS OFF, VERBOSE) SELECT min(n), max(n) FROM rank;
-- Evaluated here: what sorts otherwise, what is not exact, and what stands between the rows and the LIMIT.
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY t COLLATE "en-x-icu" LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY t COLLATE folded LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY f, id LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY ms, id LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY n::text LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY random() LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank WHERE abs(n) > 3 ORDER BY id LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY n FETCH FIRST 5 ROWS WITH TIES;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY id OFFSET 390;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id, generate_series(1, 2) FROM rank ORDER BY id LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT DISTINCT ON (n) n, id FROM rank ORDER BY n, id LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id, row_number() OVER (ORDER BY n) FROM rank ORDER BY id LIMIT 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY id LIMIT (random() * 0)::int + 5;
SET pg_trough.pushdown = off;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY id LIMIT 5;
RESET pg_trough.pushdown;
-- The same answers as over a local table, here and there: ties, NULLs, offsets, and what stands around it.
SELECT * FROM rank ORDER BY n, id LIMIT 5;
SELECT * FROM local_rank ORDER BY n, id LIMIT 5;
SELECT segment, t, id FROM rank WHERE n > 10 ORDER BY x DESC NULLS LAST, n, id LIMIT 5 OFFSET 3;
SELECT segment, t, id FROM local_rank WHERE n > 10 ORDER BY x DESC NULLS LAST, n, id LIMIT 5 OFFSET 3;
SELECT id, n + 1 FROM rank ORDER BY t COLLATE "C" DESC, b, raw, u, s, day, id LIMIT 5;
SELECT id, n + 1 FROM local_rank ORDER BY t COLLATE "C" DESC, b, raw, u, s, day, id LIMIT 5;
SELECT id, t FROM rank ORDER BY t COLLATE "C" NULLS FIRST, id DESC LIMIT 4 OFFSET 78;
SELECT id, t FROM local_rank ORDER BY t COLLATE "C" NULLS FIRST, id DESC LIMIT 4 OFFSET 78;
SELECT ms FROM rank ORDER BY ms LIMIT 5;
SELECT ms FROM local_rank ORDER BY ms LIMIT 5;
SELECT f FROM rank ORDER BY f DESC LIMIT 5;
SELECT f FROM local_rank ORDER BY f DESC LIMIT 5;
SELECT id FROM rank ORDER BY t USING ~<~, id LIMIT 5 OFFSET 70;
SELECT id FROM local_rank ORDER BY t USING ~<~, id LIMIT 5 OFFSET 70;
SELECT x, id FROM rank ORDER BY x, id LIMIT 4 OFFSET 29;
SELECT x, id FROM local_rank ORDER BY x, id LIMIT 4 OFFSET 29;
SELECT b, id FROM rank ORDER BY b DESC, id LIMIT 4 OFFSET 132;
SELECT b, id FROM local_rank ORDER BY b DESC, id LIMIT 4 OFFSET 132;
SELECT raw FROM rank ORDER BY raw DESC LIMIT 3;
SELECT raw FROM local_rank ORDER BY raw DESC LIMIT 3;
SELECT u, id FROM rank ORDER BY u, id LIMIT 3;
SELECT u, id FROM local_rank ORDER BY u, id LIMIT 3;
SELECT segment, id FROM rank ORDER BY segment COLLATE "C" DESC, n NULLS FIRST, id LIMIT 5;
SELECT segment, id FROM local_rank ORDER BY segment COLLATE "C" DESC, n NULLS FIRST, id LIMIT 5;
SELECT segment, id FROM rank ORDER BY segment COLLATE "en-x-icu", n, id LIMIT 5;
SELECT segment, id FROM local_rank ORDER BY segment COLLATE "en-x-icu", n, id LIMIT 5;
SELECT count(*) FROM (SELECT id FROM rank WHERE n = 3 LIMIT 5) q;
SELECT count(*) FROM (SELECT id FROM local_rank WHERE n = 3 LIMIT 5) q;
SELECT id, n FROM rank WHERE segment = 'r1' ORDER BY segment, n DESC, id LIMIT 7 OFFSET 2;
SELECT id, n FROM local_rank WHERE segment = 'r1' ORDER BY segment, n DESC, id LIMIT 7 OFFSET 2;
SELECT id, n FROM rank WHERE segment = 'r1' AND abs(n) > 3 ORDER BY n, id LIMIT 3;
SELECT id, n FROM local_rank WHERE segment = 'r1' AND abs(n) > 3 ORDER BY n, id LIMIT 3;
SELECT id FROM rank WHERE segment = 'nosuch' ORDER BY id LIMIT 3;
SELECT id FROM local_rank WHERE segment = 'nosuch' ORDER BY id LIMIT 3;
SELECT id FROM rank WHERE segment IN ('r1', 'r5') ORDER BY n DESC NULLS LAST, id DESC LIMIT 3;
SELECT id FROM local_rank WHERE segment IN ('r1', 'r5') ORDER BY n DESC NULLS LAST, id DESC LIMIT 3;
SELECT n FROM rank ORDER BY n FETCH FIRST 3 ROWS WITH TIES;
SELECT n FROM local_rank ORDER BY n FETCH FIRST 3 ROWS WITH TIES;
SELECT id FROM rank ORDER BY id LIMIT 0;
SELECT id FROM local_rank ORDER BY id LIMIT 0;
SELECT count(*), sum(id) FROM (SELECT id FROM rank ORDER BY id LIMIT ALL) q;
SELECT count(*), sum(id) FROM (SELECT id FROM local_rank ORDER BY id LIMIT ALL) q;
SELECT count(*), sum(id) FROM (SELECT id FROM rank ORDER BY id LIMIT NULL OFFSET 10) q;
SELECT count(*), sum(id) FROM (SELECT id FROM local_rank ORDER BY id LIMIT NULL OFFSET 10) q;
SELECT count(*), sum(id) FROM (SELECT id FROM rank ORDER BY id LIMIT 9223372036854775807 OFFSET 9223372036854775807) q;
SELECT count(*), sum(id) FROM (SELECT id FROM local_rank ORDER BY id LIMIT 9223372036854775807 OFFSET 9223372036854775807) q;
SELECT count(*), sum(id) FROM (SELECT id FROM rank ORDER BY id LIMIT 9223372036854775807 OFFSET 3) q;
SELECT count(*), sum(id) FROM (SELECT id FROM local_rank ORDER BY id LIMIT 9223372036854775807 OFFSET 3) q;
SELECT id FROM rank ORDER BY id LIMIT -1;
SELECT id FROM local_rank ORDER BY id LIMIT -1;
SELECT id FROM rank ORDER BY id LIMIT 1 OFFSET -1;
SELECT id FROM local_rank ORDER BY id LIMIT 1 OFFSET -1;
SELECT id FROM rank ORDER BY n, id LIMIT (SELECT 2) OFFSET (SELECT 1);
SELECT id FROM local_rank ORDER BY n, id LIMIT (SELECT 2) OFFSET (SELECT 1);
SELECT k, q.id FROM (VALUES (1), (3), (NULL), (2)) v(k), LATERAL (SELECT id FROM rank ORDER BY n DESC NULLS LAST, id LIMIT k) q ORDER BY 1, 2;
SELECT k, q.id FROM (VALUES (1), (3), (NULL), (2)) v(k), LATERAL (SELECT id FROM local_rank ORDER BY n DESC NULLS LAST, id LIMIT k) q ORDER BY 1, 2;
SELECT k, (SELECT id FROM rank WHERE n = k ORDER BY id LIMIT 1 OFFSET 1) FROM generate_series(1, 4) k;
SELECT k, (SELECT id FROM local_rank WHERE n = k ORDER BY id LIMIT 1 OFFSET 1) FROM generate_series(1, 4) k;
SELECT k, (SELECT id FROM rank WHERE segment = 'r' || k ORDER BY n DESC NULLS LAST, id LIMIT 1) FROM generate_series(1, 4) k;
SELECT k, (SELECT id FROM local_rank WHERE segment = 'r' || k ORDER BY n DESC NULLS LAST, id LIMIT 1) FROM generate_series(1, 4) k;
(SELECT id FROM rank ORDER BY n, id LIMIT 2) UNION ALL (SELECT -id FROM rank ORDER BY x, id LIMIT 2) ORDER BY 1 LIMIT 3;
(SELECT id FROM local_rank ORDER BY n, id LIMIT 2) UNION ALL (SELECT -id FROM local_rank ORDER BY x, id LIMIT 2) ORDER BY 1 LIMIT 3;
SELECT id, row_number() OVER (ORDER BY n DESC NULLS LAST, id) FROM rank ORDER BY 2 LIMIT 3;
SELECT id, row_number() OVER (ORDER BY n DESC NULLS LAST, id) FROM local_rank ORDER BY 2 LIMIT 3;
SELECT id, rank() OVER (ORDER BY id DESC) FROM (SELECT id FROM rank ORDER BY n, id LIMIT 4) q ORDER BY 2;
SELECT id, rank() OVER (ORDER BY id DESC) FROM (SELECT id FROM local_rank ORDER BY n, id LIMIT 4) q ORDER BY 2;
SELECT DISTINCT n FROM rank ORDER BY n DESC LIMIT 3;
SELECT DISTINCT n FROM local_rank ORDER BY n DESC LIMIT 3;
SELECT DISTINCT ON (n) n, id FROM rank ORDER BY n, id LIMIT 3;
SELECT DISTINCT ON (n) n, id FROM local_rank ORDER BY n, id LIMIT 3;
SELECT n, count(*) FROM rank GROUP BY n ORDER BY count(*) DESC, n LIMIT 3;
SELECT n, count(*) FROM local_rank GROUP BY n ORDER BY count(*) DESC, n LIMIT 3;
SELECT id FROM rank WHERE id IN (SELECT id FROM rank ORDER BY n, id LIMIT 3) ORDER BY id;
SELECT id FROM local_rank WHERE id IN (SELECT id FROM local_rank ORDER BY n, id LIMIT 3) ORDER BY id;
SELECT EXISTS (SELECT FROM rank WHERE n = 3 LIMIT 1);
SELECT EXISTS (SELECT FROM local_rank WHERE n = 3 LIMIT 1);
SELECT id, generate_series(1, 2) FROM rank ORDER BY id DESC LIMIT 3;
SELECT id, generate_series(1, 2) FROM local_rank ORDER BY id DESC LIMIT 3;
WITH q AS MATERIALIZED (SELECT * FROM rank ORDER BY s, id LIMIT 3) SELECT a.id, b.id FROM q a JOIN q b ON a.id < b.id ORDER BY 1, 2;
WITH q AS MATERIALIZED (SELECT * FROM local_rank ORDER BY s, id LIMIT 3) SELECT a.id, b.id FROM q a JOIN q b ON a.id < b.id ORDER BY 1, 2;
-- Limits that are parameters, in custom and generic plans.
PREPARE top(bigint, bigint) AS SELECT id FROM rank ORDER BY n, id LIMIT $1 OFFSET $2;
EXECUTE top(2, 1);
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF, VERBOSE) EXECUTE top(2, 1);
EXECUTE top(2, 1);
EXECUTE top(0, 1);
SELECT count(*) FROM rank;
EXECUTE top(2, NULL);
EXECUTE top(-2, 1);
EXECUTE top(2, -1);
PREPARE every(bigint) AS SELECT count(*), sum(id) FROM (SELECT id FROM rank ORDER BY n, id LIMIT $1) q;
EXECUTE every(NULL);
EXECUTE every(3);
PREPARE one(text, int) AS SELECT id FROM rank WHERE segment = $1 ORDER BY n, id LIMIT $2;
EXPLAIN (COSTS OFF, VERBOSE) EXECUTE one('r1', 3);
EXECUTE one('r1', 3);
EXECUTE one(NULL, 3);
RESET plan_cache_mode;
EXECUTE one('r1', 3);
-- Cursors through a Limit, and rows that are locked.
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id FROM rank ORDER BY n, id LIMIT 5;
FETCH 2 FROM c; FETCH ALL FROM c; FETCH BACKWARD 2 FROM c; MOVE ABSOLUTE 1 FROM c; FETCH 1 FROM c;
COMMIT;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY id LIMIT 5 FOR UPDATE;
-- What is fetched.
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT id FROM rank WHERE segment = 'r1' ORDER BY n, id LIMIT 3;
-- More rows than a worker should hold of each segment come as they are.
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM rank ORDER BY n, id LIMIT 1000 OFFSET 1;
SET plan_cache_mode = force_generic_plan;
PREPARE page(bigint, bigint) AS SELECT count(*), sum(id) FROM (SELECT segment, id FROM rank ORDER BY n, id LIMIT $1 OFFSET $2) q;
EXECUTE page(1000, 1);
EXECUTE page(1000, 390);
RESET plan_cache_mode;
DROP FOREIGN TABLE rank;
DROP TABLE local_rank;
DROP COLLATION folded;
