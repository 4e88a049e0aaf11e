-- Foreign tables below an Append are asked at once: partitions, UNION ALL, beside local tables.
SELECT trough.register_schema('archive', 'sixty_one', $$
CREATE TABLE hit (id INTEGER PRIMARY KEY, year INTEGER NOT NULL, what TEXT NOT NULL) STRICT;
$$);
CREATE TABLE hits (segment text, id bigint, year bigint NOT NULL, what text) PARTITION BY LIST (year);
CREATE FOREIGN TABLE hits_1 PARTITION OF hits FOR VALUES IN (2001) SERVER archive OPTIONS (table 'hit', schema 'sixty_one', segments '^y2001');
CREATE FOREIGN TABLE hits_2 PARTITION OF hits FOR VALUES IN (2002) SERVER archive OPTIONS (table 'hit', schema 'sixty_one', segments '^y2002');
CREATE FOREIGN TABLE hits_3 PARTITION OF hits FOR VALUES IN (2003) SERVER archive OPTIONS (table 'hit', schema 'sixty_one', segments '^y2003');
CREATE TABLE hits_4 PARTITION OF hits FOR VALUES IN (2004);
ALTER FOREIGN TABLE hits_1 ALTER segment OPTIONS (ADD segment 'true');
ALTER FOREIGN TABLE hits_2 ALTER segment OPTIONS (ADD segment 'true');
ALTER FOREIGN TABLE hits_3 ALTER segment OPTIONS (ADD segment 'true');
INSERT INTO hits SELECT 'y' || 2001 + g % 4 || '-' || g % 7, g, 2001 + g % 4, 'w' || g % 3 FROM generate_series(1, 4000) g;
EXPLAIN (COSTS OFF) SELECT * FROM hits WHERE what = 'w1';
SELECT count(*), sum(id), min(segment), max(segment) FROM (SELECT * FROM hits WHERE what = 'w1' OFFSET 0) t;
SELECT year, count(*), sum(id) FROM hits WHERE md5(what) <> '' GROUP BY year ORDER BY year;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT id FROM hits WHERE md5(what) > 'e';
-- Only some partitions; none.
SELECT year, count(*) FROM hits WHERE year IN (2001, 2003) GROUP BY year ORDER BY 1;
SELECT count(*) FROM hits WHERE year IN (2001, 2002) AND segment = 'y2009-1';
-- An Append that stops early, and one that is run again.
SELECT count(*) FROM (SELECT id FROM hits LIMIT 10) t;
SELECT g, (SELECT count(*) FROM hits WHERE md5((id % 100)::text) = md5(g::text)) FROM generate_series(1, 4) g;
SET plan_cache_mode = force_generic_plan;
PREPARE one(bigint) AS SELECT count(*), sum(id) FROM hits WHERE id < $1;
EXECUTE one(100); EXECUTE one(1000); EXECUTE one(NULL);
PREPARE years(bigint[]) AS SELECT year, count(*) FROM hits WHERE year = ANY ($1) AND md5(what) <> '' GROUP BY year ORDER BY 1;
EXPLAIN (COSTS OFF) EXECUTE years('{2001,2002}');
EXECUTE years('{2001,2002}'); EXECUTE years('{2004}'); EXECUTE years('{1}');
RESET plan_cache_mode;
-- UNION ALL, and a table with itself.
EXPLAIN (COSTS OFF) SELECT id FROM hits_1 WHERE id < 100 UNION ALL SELECT id FROM hits_2 WHERE id < 100;
SELECT count(*), sum(id) FROM (SELECT id FROM hits_1 WHERE id < 100 UNION ALL SELECT id FROM hits_2 WHERE id < 100 UNION ALL SELECT id FROM hits_1) t;
-- Below an Append in a sub-select that is run again and again.
SELECT sum(n) FROM generate_series(1, 20) g, LATERAL (
    SELECT count(*) AS n FROM (SELECT id FROM hits_1 WHERE id < g * 10 UNION ALL SELECT id FROM hits_3 WHERE id < g * 10) u OFFSET 0) l;
-- A cursor over it, in bits.
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM hits WHERE what = 'w2';
MOVE 500 FROM c;
MOVE 500 FROM c;
MOVE 5000 FROM c;
CLOSE c;
COMMIT;
-- A fault in one of them ends all.
ALTER FOREIGN TABLE hits_2 OPTIONS (SET table 'nosuch');
SELECT count(*) FROM (SELECT id FROM hits WHERE segment = 'y2002-0' OFFSET 0) t;
ALTER FOREIGN TABLE hits_2 OPTIONS (SET table 'hit');
SELECT count(*) FROM hits;
-- Not where it is not wanted.
ALTER FOREIGN TABLE hits_1 OPTIONS (ADD async_capable 'false');
EXPLAIN (COSTS OFF) SELECT * FROM hits WHERE what = 'w1';
SELECT count(*), sum(id) FROM hits WHERE what = 'w1';
ALTER SERVER archive OPTIONS (ADD async_capable 'off');
EXPLAIN (COSTS OFF) SELECT * FROM hits WHERE what = 'w1';
SELECT count(*), sum(id) FROM hits WHERE what = 'w1';
ALTER SERVER archive OPTIONS (DROP async_capable);
SET enable_async_append = off;
SELECT count(*), sum(id) FROM hits WHERE what = 'w1';
RESET enable_async_append;
DROP TABLE hits;
