-- Aggregates in parts, finished by PostgreSQL.
EXPLAIN (COSTS OFF, VERBOSE) SELECT count(*), count(n), sum(n), avg(n), min(n), max(n) FROM item;
EXPLAIN (COSTS OFF, VERBOSE) SELECT kind, count(*), avg(price), sum(price) FROM item WHERE n > 5 GROUP BY kind HAVING count(*) > 1;
EXPLAIN (COSTS OFF, VERBOSE) SELECT segment, kind, count(*), sum(n), avg(n) FROM item GROUP BY segment, kind;
EXPLAIN (COSTS OFF, VERBOSE) SELECT segment, count(*) * 2 FROM item GROUP BY segment HAVING sum(n) > 10;
EXPLAIN (COSTS OFF, VERBOSE) SELECT kind FROM item GROUP BY kind;
EXPLAIN (COSTS OFF, VERBOSE) SELECT count(*) FILTER (WHERE kind = 'apple'), sum(n) FILTER (WHERE price > 1) FROM item;
EXPLAIN (COSTS OFF, VERBOSE) SELECT max(kind COLLATE "C"), min(note COLLATE "en-x-icu") FROM item;
EXPLAIN (COSTS OFF, VERBOSE) SELECT max(kind COLLATE "C"), min(note) FROM item;
-- Not in parts: computed here.
EXPLAIN (COSTS OFF, VERBOSE) SELECT count(DISTINCT kind) FROM item;
EXPLAIN (COSTS OFF, VERBOSE) SELECT stddev(n), string_agg(kind, ',' ORDER BY kind) FROM item;
EXPLAIN (COSTS OFF, VERBOSE) SELECT count(*) FROM item WHERE abs(n) > 5;
EXPLAIN (COSTS OFF, VERBOSE) SELECT kind, n % 2, count(*) FROM item GROUP BY 1, 2;
EXPLAIN (COSTS OFF, VERBOSE) SELECT kind, count(*) FROM item GROUP BY ROLLUP (kind);
SET pg_trough.aggregate_pushdown = off;
EXPLAIN (COSTS OFF, VERBOSE) SELECT count(*) FROM item;
RESET pg_trough.aggregate_pushdown;
-- The answers.
SELECT count(*), count(n), sum(n), avg(n), min(n), max(n) FROM item;
SELECT count(*), count(n), sum(n), avg(n), min(n), max(n) FROM local_item;
SELECT kind, count(*), avg(price), sum(price), min(note) FROM item WHERE n > 5 GROUP BY kind ORDER BY kind;
SELECT kind, count(*), avg(price), sum(price), min(note) FROM local_item WHERE n > 5 GROUP BY kind ORDER BY kind;
SELECT segment, count(*), sum(n), avg(n), max(kind) FROM item WHERE kind <> 'bulk' GROUP BY segment ORDER BY segment;
SELECT segment, count(*), sum(n), avg(n), max(kind) FROM local_item WHERE kind <> 'bulk' GROUP BY segment ORDER BY segment;
SELECT count(*), sum(n), avg(n), avg(price), max(kind) FROM item WHERE n = -1;
SELECT count(*), sum(n), avg(n), avg(price), max(kind) FROM item WHERE segment = 'nosuch';
SELECT kind, count(*) FROM item WHERE n = -1 GROUP BY kind;
SELECT segment, count(*) FROM item WHERE kind = 'plum' GROUP BY segment;
SELECT count(*) FILTER (WHERE kind = 'apple'), sum(n) FILTER (WHERE price > 1) FROM item;
SELECT count(*) FILTER (WHERE kind = 'apple'), sum(n) FILTER (WHERE price > 1) FROM local_item;
SELECT kind FROM item GROUP BY kind ORDER BY kind DESC LIMIT 3;
SELECT kind, count(*) AS c FROM item GROUP BY kind HAVING count(*) > 3 ORDER BY c DESC, kind LIMIT 2;
SELECT 1 FROM item HAVING count(*) > 0;
EXPLAIN (COSTS OFF, VERBOSE) SELECT segment FROM item WHERE kind = 'apple' GROUP BY segment;
SELECT segment FROM item WHERE kind = 'apple' GROUP BY segment ORDER BY 1;
-- Beyond 64 bits: exact.
INSERT INTO item (segment, kind, n) VALUES
    ('sbig1', 'big', 9223372036854775807), ('sbig1', 'big', 9223372036854775807), ('sbig2', 'big', 9223372036854775807),
    ('sbig3', 'small', -9223372036854775808), ('sbig3', 'small', -9223372036854775808), ('sbig3', 'null', NULL);
SELECT kind, sum(n), avg(n), count(n) FROM item WHERE segment LIKE 'sbig%' GROUP BY kind ORDER BY kind;
SELECT segment, sum(n), avg(n) FROM item WHERE segment LIKE 'sbig%' GROUP BY segment ORDER BY segment;
SELECT sum(n), avg(n) FROM item WHERE segment LIKE 'sbig%';
-- Infinities and overflow of reals.
INSERT INTO item (segment, kind, price) VALUES
    ('sreal1', 'inf', 'Infinity'), ('sreal2', 'inf', 1), ('sreal1', 'both', 'Infinity'), ('sreal2', 'both', '-Infinity'),
    ('sreal1', 'over', 1.7e308), ('sreal1', 'over', 1.7e308);
SELECT kind, sum(price), avg(price) FROM item WHERE segment LIKE 'sreal%' AND kind <> 'over' GROUP BY kind ORDER BY kind;
SELECT sum(price) FROM item WHERE segment LIKE 'sreal%' AND kind = 'over';
-- A join over the parts, and a window on top.
SELECT k.kind, i.c, rank() OVER (ORDER BY i.c DESC) FROM (VALUES ('apple'), ('pear'), ('plum')) k(kind)
    JOIN (SELECT kind, count(*) AS c FROM item GROUP BY kind) i USING (kind) ORDER BY 1;
