-- Joins with the segment column: a nested loop asks only the segments that the other side's rows name.
\ir joins/setup.psql
SET pg_trough.batched_joins = off;
SET pg_trough.join_pushdown = off;
EXPLAIN (COSTS OFF, VERBOSE) SELECT k.n, a.id FROM jkeys k JOIN a ON a.segment = k.k;
SELECT same('SELECT k.n, a.id FROM jkeys k JOIN a ON a.segment = k.k');
SELECT same('SELECT k.n, a.id FROM jkeys k LEFT JOIN a ON a.segment = k.k AND a.x = k.n');
SELECT same('SELECT k.n, a.id FROM jkeys k, a WHERE a.segment = k.k AND a.id > k.n * 20');
SELECT same('SELECT k.n FROM jkeys k WHERE EXISTS (SELECT FROM a WHERE a.segment = k.k AND a.x = k.n)');
SELECT same('SELECT k.n FROM jkeys k WHERE NOT EXISTS (SELECT FROM a WHERE a.segment = k.k AND a.x = k.n)');
-- Both conditions of the join run inside the segment.
EXPLAIN (COSTS OFF, VERBOSE) SELECT k.n, a.id FROM jkeys k JOIN a ON a.segment = k.k AND a.x = k.n;
-- From an expression, and from an IN list on the other side.
EXPLAIN (COSTS OFF, VERBOSE) SELECT count(a.id) FROM generate_series(1, 3) g LEFT JOIN a ON a.segment = 'j' || g;
SELECT same('SELECT count(a.id) FROM generate_series(1, 3) g LEFT JOIN a ON a.segment = ''j'' || g');
-- In one segment, other columns are worth a nested loop too.
EXPLAIN (COSTS OFF, VERBOSE) SELECT k.n, a.t FROM jkeys k JOIN a ON a.id = k.n WHERE a.segment = 'j1' AND k.n < 4;
SELECT same('SELECT k.n, a.t FROM jkeys k JOIN a ON a.id = k.n WHERE a.segment = ''j1'' AND k.n < 4');
-- LATERAL, and values that come from further out.
EXPLAIN (COSTS OFF, VERBOSE) SELECT k.n, l.id FROM jkeys k, LATERAL (SELECT a.id FROM a WHERE a.segment = k.k AND a.x > k.n ORDER BY a.id LIMIT 2) l;
SELECT same('SELECT k.n, l.id FROM jkeys k, LATERAL (SELECT a.id FROM a WHERE a.segment = k.k AND a.x > k.n ORDER BY a.id LIMIT 2) l');
SELECT same('SELECT k.n, (SELECT count(*) FROM a JOIN b ON b.segment = a.segment AND b.a_id = a.id WHERE a.segment = k.k) FROM jkeys k');
-- A sub-select's array is one fan-out over the segments that it names: the sub-select runs first.
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM a WHERE segment = ANY (ARRAY(SELECT k FROM jkeys WHERE n < 4));
SELECT same('SELECT id FROM a WHERE segment = ANY (ARRAY(SELECT k FROM jkeys WHERE n < 4))');
SELECT same('SELECT id FROM a WHERE segment = ANY (ARRAY(SELECT k FROM jkeys WHERE n > 99))');
SELECT same('SELECT g, (SELECT count(*) FROM a WHERE segment = ANY (ARRAY(SELECT k FROM jkeys WHERE n < g))) FROM generate_series(1, 8) g');
-- Parameters in both plan modes.
PREPARE p(int) AS SELECT count(*), sum(a.id) FROM a WHERE segment = ANY (ARRAY(SELECT k FROM jkeys WHERE n < $1));
PREPARE q(text[], int) AS SELECT k.n, count(a.id) FROM jkeys k LEFT JOIN a ON a.segment = k.k AND a.segment = ANY ($1) AND a.x > $2 GROUP BY 1 ORDER BY 1;
EXECUTE p(2); EXECUTE p(3); EXECUTE p(100);
EXECUTE q('{j1,j2}', 4);
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF, VERBOSE) EXECUTE p(2);
EXECUTE p(2); EXECUTE p(3); EXECUTE p(100);
EXPLAIN (COSTS OFF, VERBOSE) EXECUTE q('{j1,j2}', 4);
EXECUTE q('{j1,j2}', 4); EXECUTE q('{j6}', 0); EXECUTE q(NULL, 0);
RESET plan_cache_mode;
-- IN (SELECT …): a nested loop over the distinct keys.
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM a WHERE segment IN (SELECT k FROM jkeys);
SELECT same('SELECT id FROM a WHERE segment IN (SELECT k FROM jkeys)');
SELECT same('SELECT id FROM a WHERE segment NOT IN (SELECT k FROM jkeys WHERE k IS NOT NULL)');
SELECT same('SELECT id FROM a WHERE segment NOT IN (SELECT k FROM jkeys)');
-- Many rows: one scan and a hash join.
EXPLAIN (COSTS OFF) SELECT count(*) FROM generate_series(1, 20000) g JOIN a ON a.segment = 'j' || g;
SELECT same('SELECT count(*) FROM generate_series(1, 20000) g JOIN a ON a.segment = ''j'' || g');
-- Each parameter value is asked for once where a cache stands in between.
SET enable_hashjoin = off; SET enable_mergejoin = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM generate_series(1, 100) g JOIN a ON a.segment = 'j' || g % 3;
SELECT same('SELECT count(*) FROM generate_series(1, 100) g JOIN a ON a.segment = ''j'' || g % 3');
RESET enable_hashjoin; RESET enable_mergejoin;
-- Partitions.
CREATE TABLE parts (segment text, id bigint, x bigint, t text, d double precision) PARTITION BY RANGE (segment);
ALTER TABLE parts ATTACH PARTITION a FOR VALUES FROM ('j') TO ('k');
CREATE TABLE parts_local PARTITION OF parts FOR VALUES FROM ('k') TO ('z');
INSERT INTO parts_local VALUES ('key', 1, 1, 'here', 1);
EXPLAIN (COSTS OFF, VERBOSE) SELECT k.n, p.id FROM jkeys k JOIN parts p ON p.segment = k.k AND p.x = k.n;
SELECT k.n, p.id FROM jkeys k JOIN parts p ON p.segment = k.k AND p.x = k.n EXCEPT SELECT k.n, a.id FROM jkeys k JOIN jl.a ON a.segment = k.k AND a.x = k.n;
ALTER TABLE parts DETACH PARTITION a;
DROP TABLE parts;
\ir joins/drop.psql
