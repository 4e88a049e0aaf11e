-- Lookup joins: rows of the other side are collected, and all their segments are asked at once.
\ir joins/setup.psql
EXPLAIN (COSTS OFF, VERBOSE) SELECT k.n, a.id FROM jkeys k JOIN a ON a.segment = k.k;
SELECT same('SELECT k.n, a.id FROM jkeys k JOIN a ON a.segment = k.k');
-- One request for all.
CREATE FUNCTION asked(query text) RETURNS TABLE (line text) LANGUAGE plpgsql AS $$
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ' || query LOOP
        IF line ~ 'Segments|Rows Fetched|Scan' THEN RETURN NEXT; END IF;
    END LOOP;
END $$;
SELECT asked('SELECT k.n, a.id FROM jkeys k JOIN a ON a.segment = k.k');
-- Other columns' values go along, and are compared again here.
EXPLAIN (COSTS OFF, VERBOSE) SELECT k.n, a.id FROM jkeys k JOIN a ON k.k = a.segment AND a.x = k.n AND a.id > k.n;
SELECT same('SELECT k.n, a.id FROM jkeys k JOIN a ON k.k = a.segment AND a.x = k.n AND a.id > k.n');
SELECT same('SELECT k.n, a.id FROM jkeys k JOIN a ON k.k = a.segment AND k.n = a.x AND a.t = substr(k.k, 1, 0)');
SELECT same('SELECT c.id, a.id FROM jl.c JOIN a ON c.s = a.segment AND c.x = a.x AND c.t = a.t');
-- A list that is only a wider condition cannot be sent along.
CREATE FOREIGN TABLE u (segment text OPTIONS (segment 'true'), id bigint, t uuid) SERVER archive OPTIONS (table 'a', segments '^kuuid', schema 'joins', estimated_rows '100000');
INSERT INTO u VALUES ('kuuid1', 1, '11111111-2222-3333-4444-555555555555'), ('kuuid1', 2, '11111111-2222-3333-4444-555555555556');
EXPLAIN (COSTS OFF, VERBOSE) SELECT u.id FROM (VALUES ('kuuid1', '11111111-2222-3333-4444-555555555556'::uuid), ('kuuid2', NULL), ('kuuid1', NULL)) k(k, u) JOIN u ON u.segment = k.k AND u.t = k.u;
SELECT u.id FROM (VALUES ('kuuid1', '11111111-2222-3333-4444-555555555556'::uuid), ('kuuid2', NULL), ('kuuid1', NULL)) k(k, u) JOIN u ON u.segment = k.k AND u.t = k.u;
-- Left, semi and anti joins, with NULL keys and keys of no segment.
EXPLAIN (COSTS OFF, VERBOSE) SELECT k.n, a.id FROM jkeys k LEFT JOIN a ON a.segment = k.k AND a.x + 1 > k.n WHERE a.id IS NULL OR a.id % 2 = 0;
SELECT same('SELECT k.n, a.id FROM jkeys k LEFT JOIN a ON a.segment = k.k AND a.x + 1 > k.n WHERE a.id IS NULL OR a.id % 2 = 0');
SELECT same('SELECT k.n, a.id, a.segment FROM jkeys k LEFT JOIN a ON a.segment = k.k AND a.x = k.n');
SELECT same('SELECT k.n, a.id FROM jkeys k LEFT JOIN a ON a.segment = k.k AND a.x = k.n AND k.n < 3');
EXPLAIN (COSTS OFF, VERBOSE) SELECT k.n FROM jkeys k WHERE EXISTS (SELECT FROM a WHERE a.segment = k.k AND a.x = k.n);
SELECT same('SELECT k.n FROM jkeys k WHERE EXISTS (SELECT FROM a WHERE a.segment = k.k AND a.x = k.n)');
SELECT same('SELECT k.n FROM jkeys k WHERE EXISTS (SELECT FROM a WHERE a.segment = k.k)');
EXPLAIN (COSTS OFF, VERBOSE) SELECT k.n FROM jkeys k WHERE NOT EXISTS (SELECT FROM a WHERE a.segment = k.k AND a.x = k.n);
SELECT same('SELECT k.n FROM jkeys k WHERE NOT EXISTS (SELECT FROM a WHERE a.segment = k.k AND a.x = k.n)');
SELECT same('SELECT k.n FROM jkeys k WHERE NOT EXISTS (SELECT FROM a WHERE a.segment = k.k)');
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM a WHERE segment IN (SELECT k FROM jkeys);
SELECT same('SELECT id FROM a WHERE segment IN (SELECT k FROM jkeys)');
SELECT same('SELECT id FROM a WHERE (segment, x) IN (SELECT k, n FROM jkeys)');
-- Local conditions, expressions as keys, and what is computed above.
SELECT same('SELECT k.n + a.id, md5(a.t || k.k) FROM jkeys k JOIN a ON a.segment = lower(k.k) AND md5(a.t) > ''5'' WHERE a.segment <> ''j2''');
SELECT same('SELECT count(*), sum(a.id) FROM generate_series(0, 20) g JOIN a ON a.segment = ''j'' || g');
SELECT same('SELECT g, (SELECT count(*) FROM jkeys k JOIN a ON a.segment = k.k AND a.x >= g) FROM generate_series(1, 4) g');
SELECT same('SELECT k.n, l.n FROM jkeys k, LATERAL (SELECT count(*) n FROM jkeys o JOIN a ON a.segment = o.k WHERE o.n > k.n) l');
SELECT same('SELECT k.n, a.id FROM jkeys k JOIN a ON a.segment = k.k ORDER BY a.id, k.n LIMIT 5');
SELECT same('SELECT count(*) FROM (SELECT k.n, a.id FROM jkeys k JOIN a ON a.segment = k.k LIMIT 5) q');
SELECT same('SELECT k.n, a.id, b.id FROM jkeys k JOIN a ON a.segment = k.k LEFT JOIN b ON b.segment = k.k AND b.a_id = a.id');
SELECT same('SELECT o.k, i.id FROM (SELECT k.k, max(k.n) n FROM jkeys k GROUP BY 1) o LEFT JOIN (SELECT id, segment, coalesce(x, 0) z FROM a) i ON i.segment = o.k AND i.z = o.n');
-- An empty outer side asks nobody.
SELECT asked('SELECT k.n, a.id FROM jkeys k JOIN a ON a.segment = k.k WHERE k.n > 100');
-- Many batches.
SET work_mem = '64kB';
CREATE TABLE public.many AS SELECT CASE WHEN g % 11 = 0 THEN NULL ELSE 'j' || g % 9 END AS k, g % 10 AS n, repeat('x', g % 100) AS pad FROM generate_series(1, 20000) g;
ANALYZE many;
SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_nestloop = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM many k LEFT JOIN a ON a.segment = k.k AND a.x = k.n;
SELECT same('SELECT count(*), sum(length(pad)), sum(a.id) FROM many k LEFT JOIN a ON a.segment = k.k AND a.x = k.n');
SELECT same('SELECT count(*), sum(length(pad)) FROM many k WHERE NOT EXISTS (SELECT FROM a WHERE a.segment = k.k AND a.x = k.n)');
SELECT same('SELECT count(*), sum(length(pad)) FROM many k WHERE EXISTS (SELECT FROM a WHERE a.segment = k.k AND a.x = k.n)');
RESET enable_hashjoin; RESET enable_mergejoin; RESET enable_nestloop; RESET work_mem;
DROP TABLE many;
-- Both plan modes; functions; cursors.
PREPARE l(int, text) AS SELECT k.n, count(a.id), sum(a.x) FROM jkeys k LEFT JOIN a ON a.segment = k.k AND a.x > $1 AND k.k <> $2 GROUP BY 1 ORDER BY 1;
EXECUTE l(3, 'j1');
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF, VERBOSE) EXECUTE l(3, 'j1');
EXECUTE l(3, 'j1'); EXECUTE l(7, 'j2'); EXECUTE l(NULL, '');
RESET plan_cache_mode;
CREATE FUNCTION counted(lowest int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
    SELECT count(*) INTO n FROM jkeys k JOIN a ON a.segment = k.k AND a.x >= lowest;
    RETURN n;
END $$;
SELECT g, counted(g) FROM generate_series(1, 8) g;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT k.n, a.id FROM jkeys k JOIN a ON a.segment = k.k AND a.x = 5 ORDER BY 1, 2;
FETCH 3 FROM c; FETCH BACKWARD 2 FROM c; FETCH ALL FROM c;
DECLARE d CURSOR FOR SELECT k.n, a.id FROM jkeys k JOIN a ON a.segment = k.k;
MOVE 7 IN d;
COMMIT;
-- An error in the middle leaves nothing behind.
SELECT k.n, 1 / (a.id - 9) FROM jkeys k JOIN a ON a.segment = k.k;
SELECT same('SELECT k.n, a.id FROM jkeys k JOIN a ON a.segment = k.k');
-- A write that reads the join; locked rows and switches keep it away.
CREATE TABLE made AS SELECT k.n, a.id FROM jkeys k JOIN a ON a.segment = k.k;
SELECT count(*), sum(id) FROM made;
EXPLAIN (COSTS OFF) UPDATE made SET n = 0 FROM a WHERE a.segment = 'j' || made.n;
UPDATE made SET n = 0 FROM a WHERE a.segment = 'j' || made.n AND a.id = made.id;
SELECT count(*) FROM made WHERE n = 0;
DROP TABLE made;
SET pg_trough.batched_joins = off;
EXPLAIN (COSTS OFF) SELECT k.n, a.id FROM jkeys k JOIN a ON a.segment = k.k;
RESET pg_trough.batched_joins;
DROP FUNCTION asked, counted;
\ir joins/drop.psql
