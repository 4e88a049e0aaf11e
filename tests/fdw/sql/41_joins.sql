-- Foreign tables joined on equal segments: SQLite joins them in each segment.
\ir joins/setup.psql
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.t FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id;
SELECT same('SELECT a.id, b.t, a.segment, b.segment FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id');
-- What is compared and may be of any storage class is checked once per row, in a form that SQLite can index.
EXPLAIN (COSTS OFF, VERBOSE) SELECT b.id, c.id FROM b JOIN c ON b.segment = c.s AND b.id = c.b_id WHERE c.x > 2;
SELECT same('SELECT b.id, c.id FROM b JOIN c ON b.segment = c.s AND b.id = c.b_id WHERE c.x > 2');
SELECT same('SELECT b.id, c.id FROM b JOIN c ON b.segment = c.s AND b.t = c.t');
SELECT same('SELECT b.id, c.id, c.at FROM b JOIN c ON b.segment = c.s AND b.x < c.x');
SELECT same('SELECT * FROM a JOIN b USING (segment)');
-- Without an equality of segments there is nothing to join inside.
EXPLAIN (COSTS OFF) SELECT a.id FROM a JOIN b ON a.id = b.id;
SELECT same('SELECT a.id FROM a JOIN b ON a.id = b.id');
EXPLAIN (COSTS OFF) SELECT a.id FROM a JOIN b ON a.segment = b.segment COLLATE "C" AND a.id = b.id;
-- What SQLite cannot evaluate is evaluated here.
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.id FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id AND md5(a.t) > md5(b.t);
SELECT same('SELECT a.id, b.id FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id AND md5(a.t) > md5(b.t)');
SELECT same('SELECT a.id, b.id FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id WHERE md5(a.t) > ''5'' AND length(b.segment) = 2');
-- One segment, named on one side or on both; and some.
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.id FROM a JOIN b ON a.segment = b.segment AND a.x = b.x WHERE a.segment = 'j1';
SELECT same('SELECT a.id, b.id FROM a JOIN b ON a.segment = b.segment AND a.x = b.x WHERE a.segment = ''j1''');
SELECT same('SELECT a.id, b.id FROM a JOIN b ON a.segment = b.segment AND a.x = b.x WHERE a.segment IN (''j1'', ''j3'') AND b.segment > ''j2''');
SELECT same('SELECT a.id, b.id FROM a, b WHERE a.segment = ''j1'' AND b.segment = ''j1'' AND a.x = b.x');
SELECT same('SELECT a.id, b.id FROM a, b WHERE a.segment = ''j1'' AND b.segment = ''j2'' AND a.x = b.x');
-- Left joins: conditions of the join and of WHERE; the segment of a row that is missing is NULL.
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.id FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id AND b.x > 2;
SELECT same('SELECT a.id, b.id FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id AND b.x > 2');
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.segment FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id WHERE b.x IS NULL OR b.x > 3;
SELECT same('SELECT a.id, b.segment FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id WHERE b.x IS NULL OR b.x > 3');
SELECT same('SELECT a.id, b.segment, b.id FROM b RIGHT JOIN a ON a.segment = b.segment AND a.id = b.a_id AND a.x > 4');
SELECT same('SELECT a.id, c.s, c.id, c.t FROM a LEFT JOIN c ON a.segment = c.s AND a.x = c.x AND a.t = c.t');
SELECT same('SELECT a.id, b.segment FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id WHERE a.segment = ''j2''');
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.id FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id WHERE a.segment = 'j2';
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.id FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id AND b.segment = 'j2';
SELECT same('SELECT a.id, b.id FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id AND b.segment = ''j2''');
SELECT same('SELECT a.id, b.id FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id AND b.segment LIKE ''j%2''');
SELECT same('SELECT a.id, b.id, coalesce(b.segment, ''none'') FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id WHERE b.segment IS NULL OR b.segment <> ''j2''');
-- A condition that SQLite cannot evaluate on the nullable side, or in the join, is in its way; above the join it is not.
EXPLAIN (COSTS OFF) SELECT a.id, b.id FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id AND md5(b.t) > '5';
SELECT same('SELECT a.id, b.id FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id AND md5(b.t) > ''5''');
SELECT same('SELECT a.id, b.id FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id WHERE md5(coalesce(b.t, a.t)) > ''5''');
-- Tables that belong to fewer segments.
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, few.id FROM a JOIN few ON a.segment = few.segment AND a.id = few.a_id;
SELECT same('SELECT a.id, few.id FROM a JOIN few ON a.segment = few.segment AND a.id = few.a_id');
EXPLAIN (COSTS OFF) SELECT a.id, few.id FROM a LEFT JOIN few ON a.segment = few.segment AND a.id = few.a_id;
SELECT same('SELECT a.id, few.id FROM a LEFT JOIN few ON a.segment = few.segment AND a.id = few.a_id');
SELECT same('SELECT a.id, few.id FROM few LEFT JOIN a ON a.segment = few.segment AND a.id = few.a_id');
SELECT same('SELECT a.id FROM a WHERE NOT EXISTS (SELECT FROM few WHERE a.segment = few.segment AND a.id = few.a_id)');
-- Semi joins and anti joins.
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id FROM a WHERE EXISTS (SELECT FROM b WHERE a.segment = b.segment AND a.id = b.a_id AND b.x > 3);
SELECT same('SELECT a.id FROM a WHERE EXISTS (SELECT FROM b WHERE a.segment = b.segment AND a.id = b.a_id AND b.x > 3)');
SELECT same('SELECT a.id, a.segment FROM a WHERE EXISTS (SELECT FROM b WHERE a.segment = b.segment AND a.x = b.x AND a.t = b.t)');
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id FROM a WHERE (segment, x) IN (SELECT s, x FROM c WHERE t = 'a');
SELECT same('SELECT a.id FROM a WHERE (segment, x) IN (SELECT s, x FROM c WHERE t = ''a'')');
SELECT same('SELECT a.id FROM a WHERE segment IN (SELECT segment FROM b WHERE x > 6)');
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id FROM a WHERE NOT EXISTS (SELECT FROM b WHERE a.segment = b.segment AND a.id = b.a_id AND b.x > 3);
SELECT same('SELECT a.id FROM a WHERE NOT EXISTS (SELECT FROM b WHERE a.segment = b.segment AND a.id = b.a_id AND b.x > 3)');
SELECT same('SELECT a.id FROM a WHERE NOT EXISTS (SELECT FROM c WHERE a.segment = c.s AND a.x = c.x AND a.t = c.t)');
SELECT same('SELECT a.id FROM a WHERE NOT EXISTS (SELECT FROM b WHERE a.segment = b.segment)');
SELECT same('SELECT a.id FROM a WHERE NOT EXISTS (SELECT FROM b WHERE a.segment = b.segment AND b.segment = ''j2'' AND a.x = b.x)');
SELECT same('SELECT a.id FROM a WHERE NOT EXISTS (SELECT FROM b WHERE a.segment = b.segment AND a.x > 3)');
SELECT same('SELECT a.id, b.x FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id WHERE b.a_id IS NULL');
SELECT same('SELECT a.id FROM a WHERE (segment, x) NOT IN (SELECT s, x FROM c)');
SELECT same('SELECT a.id FROM a WHERE EXISTS (SELECT FROM b WHERE a.segment = b.segment AND a.x < b.x AND a.t = b.t)');
-- Three tables and more; views.
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.id, c.id FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id JOIN c ON c.s = b.segment AND c.b_id = b.id;
SELECT same('SELECT a.id, b.id, c.id FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id JOIN c ON c.s = b.segment AND c.b_id = b.id');
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.id, c.id FROM a LEFT JOIN (b JOIN c ON c.s = b.segment AND c.x = b.x) ON a.segment = b.segment AND a.id = b.a_id;
SELECT same('SELECT a.id, b.id, c.id FROM a LEFT JOIN (b JOIN c ON c.s = b.segment AND c.x = b.x) ON a.segment = b.segment AND a.id = b.a_id');
SELECT same('SELECT a.id, b.id, c.s, c.x FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id LEFT JOIN c ON c.s = a.segment AND c.b_id = b.id');
SELECT same('SELECT a.id, b.segment, c.s, c.x FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id LEFT JOIN c ON c.s = b.segment AND c.b_id = b.id');
SELECT same('SELECT a.id, v.id, b.id FROM v JOIN a USING (segment, x) LEFT JOIN b ON b.segment = v.segment AND b.x = v.id');
SELECT same('SELECT a.id, b.id FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id WHERE EXISTS (SELECT FROM c WHERE c.s = a.segment AND c.x = a.x)');
SELECT same('SELECT a.id, b.id FROM a LEFT JOIN (SELECT b.* FROM b WHERE EXISTS (SELECT FROM c WHERE c.s = b.segment AND c.x = b.x)) b ON a.segment = b.segment AND a.id = b.a_id');
SELECT same('SELECT a.id FROM a WHERE EXISTS (SELECT FROM b JOIN c ON c.s = b.segment AND c.x = b.x WHERE b.segment = a.segment AND b.a_id = a.id AND NOT EXISTS (SELECT FROM v WHERE v.segment = b.segment AND v.id = b.a_id))');
-- Self joins, and an outer join whose missing side is joined on: not inside.
SELECT same('SELECT x.id, y.id FROM a x JOIN a y ON x.segment = y.segment AND x.x = y.x AND x.id < y.id');
SELECT same('SELECT b.id, c.id FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id JOIN c ON c.s = coalesce(b.segment, a.segment) AND c.x = a.x');
SELECT same('SELECT a.id, b.id FROM a FULL JOIN b ON a.segment = b.segment AND a.id = b.a_id');
-- With local tables; parameters in both plan modes.
SELECT same('SELECT k.n, a.id, b.id FROM jkeys k JOIN a ON a.segment = k.k JOIN b ON b.segment = a.segment AND b.a_id = a.id');
SELECT same('SELECT k.n, a.id, b.id FROM jkeys k LEFT JOIN (a JOIN b ON b.segment = a.segment AND b.a_id = a.id) ON a.x = k.n');
SELECT same('SELECT k.n, l.n FROM jkeys k, LATERAL (SELECT count(*) n FROM a JOIN b ON b.segment = a.segment AND b.a_id = a.id WHERE a.segment = k.k AND b.x > k.n) l');
PREPARE j(text, int) AS SELECT count(*), sum(b.id) FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id WHERE a.segment <> $1 AND b.x > $2;
EXECUTE j('j1', 2); EXECUTE j('j2', 3);
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF, VERBOSE) EXECUTE j('j1', 2);
EXECUTE j('j1', 2); EXECUTE j('j2', 3); EXECUTE j(NULL, 3);
RESET plan_cache_mode;
-- What stands on top of a join.
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.segment, count(*), sum(b.x) FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id GROUP BY a.segment;
SELECT same('SELECT a.segment, count(*), sum(b.x) FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id GROUP BY a.segment');
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.x, count(*), count(b.id), sum(b.id) FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id GROUP BY a.x;
SELECT same('SELECT a.x, count(*), count(b.id), sum(b.id) FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id GROUP BY a.x');
SELECT same('SELECT b.segment, count(*), sum(b.id) FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id GROUP BY b.segment');
SELECT same('SELECT count(*), count(DISTINCT a.t) FROM a WHERE EXISTS (SELECT FROM b WHERE a.segment = b.segment AND a.id = b.a_id)');
SELECT same('SELECT DISTINCT a.x, b.x FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id');
SELECT same('SELECT a.id, b.id FROM a JOIN b ON a.segment = b.segment AND a.x = b.x ORDER BY a.id DESC, b.id LIMIT 7');
-- Whole rows and system columns are made here.
SELECT same('SELECT a, b FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id');
SELECT count(DISTINCT b.tableoid) FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id;
-- Locked rows are not joined inside; a write that reads a join is.
EXPLAIN (COSTS OFF) SELECT a.id FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id FOR UPDATE;
CREATE TABLE made AS SELECT a.id, b.x FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id;
SELECT count(*), sum(id), sum(x) FROM made;
UPDATE made SET x = 1000 + b.x FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id WHERE made.id = a.id;
SELECT count(*), sum(id), sum(x) FROM made;
DROP TABLE made;
-- Partitions by segment, joined one by one.
SET enable_partitionwise_join = on;
CREATE TABLE pa (segment text, id bigint, x bigint, t text) PARTITION BY RANGE (segment);
CREATE TABLE pb (segment text, id bigint, a_id bigint, x bigint, t text) PARTITION BY RANGE (segment);
CREATE FOREIGN TABLE pa1 (segment text OPTIONS (segment 'true'), id bigint, x bigint, t text) SERVER archive OPTIONS (table 'a', segments '^j[0-3]', estimated_rows '100000');
ALTER TABLE pa ATTACH PARTITION pa1 FOR VALUES FROM ('j0') TO ('j4');
CREATE FOREIGN TABLE pa2 (segment text OPTIONS (segment 'true'), id bigint, x bigint, t text) SERVER archive OPTIONS (table 'a', segments '^j[4-9]', estimated_rows '100000');
ALTER TABLE pa ATTACH PARTITION pa2 FOR VALUES FROM ('j4') TO ('k');
CREATE FOREIGN TABLE pb1 (segment text OPTIONS (segment 'true'), id bigint, a_id bigint, x bigint, t text) SERVER archive OPTIONS (table 'b', segments '^j[0-3]', estimated_rows '100000');
ALTER TABLE pb ATTACH PARTITION pb1 FOR VALUES FROM ('j0') TO ('j4');
CREATE FOREIGN TABLE pb2 (segment text OPTIONS (segment 'true'), id bigint, a_id bigint, x bigint, t text) SERVER archive OPTIONS (table 'b', segments '^j[4-9]', estimated_rows '100000');
ALTER TABLE pb ATTACH PARTITION pb2 FOR VALUES FROM ('j4') TO ('k');
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.id FROM pa a JOIN pb b ON a.segment = b.segment AND a.id = b.a_id;
SELECT count(*), sum(a.id), sum(b.id) FROM pa a JOIN pb b ON a.segment = b.segment AND a.id = b.a_id;
SELECT count(*), sum(a.id), sum(b.id) FROM jl.a a JOIN jl.b b ON a.segment = b.segment AND a.id = b.a_id;
DROP TABLE pa, pb;
RESET enable_partitionwise_join;
-- A value that a plain scan refuses is refused in a join too.
CREATE FOREIGN TABLE raw (segment text OPTIONS (segment 'true'), id bigint, b_id text, x text) SERVER archive OPTIONS (table 'c', segments '^kbad$', schema 'joins');
INSERT INTO raw VALUES ('kbad', 1, '1', '1'), ('kbad', 2, 'two', '2');
ALTER FOREIGN TABLE b OPTIONS (SET segments '^kbad$');
ALTER FOREIGN TABLE c OPTIONS (SET segments '^kbad$');
INSERT INTO b (segment, id, a_id) VALUES ('kbad', 1, 1);
SELECT b.id, c.id FROM b JOIN c ON b.segment = c.s AND b.id = c.b_id;
SELECT b.id FROM b WHERE NOT EXISTS (SELECT FROM c WHERE b.segment = c.s AND b.id = c.b_id);
SELECT b.id, c.id FROM b LEFT JOIN c ON b.segment = c.s AND c.x = b.id;
-- Switched off.
SET pg_trough.join_pushdown = off;
EXPLAIN (COSTS OFF) SELECT a.id, b.t FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id;
RESET pg_trough.join_pushdown;
\ir joins/drop.psql
