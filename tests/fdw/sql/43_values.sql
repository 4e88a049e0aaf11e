-- Lookup joins on another column than the segment's: all segments are asked for the rows that have a batch's values.
\ir joins/setup.psql
CREATE TABLE given (n int, b bigint, t text COLLATE "C");
INSERT INTO given SELECT g, g, 't' || g FROM generate_series(1, 5) g;
INSERT INTO given VALUES (NULL, NULL, NULL), (3, 3, 't3'), (-1, 5000000000, 'none');
ANALYZE given;
CREATE FOREIGN TABLE many (segment text OPTIONS (segment 'true') NOT NULL, id bigint OPTIONS (storage 'integer'), x int OPTIONS (storage 'integer'), t text OPTIONS (storage 'text') COLLATE "C")
    SERVER archive OPTIONS (table 'a', segments '^j', schema 'joins', trusted 'true', estimated_rows '1000000');
EXPLAIN (COSTS OFF, VERBOSE) SELECT f.n, m.id FROM given f JOIN many m ON m.x = f.n AND m.id > f.b;
CREATE FUNCTION alike(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint; missing bigint;
BEGIN
    EXECUTE format('CREATE TEMP TABLE batched AS %s', query);
    SET LOCAL pg_trough.batched_joins = off;
    EXECUTE format('CREATE TEMP TABLE plain AS %s', query);
    SET LOCAL pg_trough.batched_joins = on;
    SELECT count(*) INTO n FROM plain;
    SELECT count(*) INTO missing FROM ((TABLE plain EXCEPT ALL TABLE batched) UNION ALL (TABLE batched EXCEPT ALL TABLE plain)) t;
    DROP TABLE batched, plain;
    IF missing > 0 THEN RAISE EXCEPTION '% rows differ of %', missing, n; END IF;
    RETURN n;
END $$;
SELECT alike('SELECT f.n, m.id, m.segment FROM given f JOIN many m ON m.x = f.n AND m.id > f.b');
-- Integers of other types, texts, expressions as values.
SELECT alike('SELECT f.n, m.id, m.segment FROM given f JOIN many m ON m.x = f.b');
SELECT alike('SELECT f.n, m.id, m.segment FROM given f JOIN many m ON m.id = f.n');
SELECT alike('SELECT f.n, m.id, m.segment FROM given f JOIN many m ON m.t = f.t');
SELECT alike('SELECT f.n, m.id, m.segment FROM given f JOIN many m ON m.id = f.n + 1 AND m.x <> f.n');
SELECT alike('SELECT f.n, m.id, m.segment FROM given f JOIN many m ON m.x::bigint = f.b');
-- Left, semi and anti joins.
EXPLAIN (COSTS OFF) SELECT f.n, m.id FROM given f LEFT JOIN many m ON m.id = f.n;
SELECT alike('SELECT f.n, m.id, m.segment FROM given f LEFT JOIN many m ON m.id = f.n AND m.x > 2');
SELECT alike('SELECT f.n FROM given f WHERE EXISTS (SELECT FROM many m WHERE m.id = f.n)');
SELECT alike('SELECT f.n FROM given f WHERE NOT EXISTS (SELECT FROM many m WHERE m.id = f.n)');
SELECT alike('SELECT m.id, m.segment FROM many m WHERE m.id IN (SELECT n FROM given)');
-- What the table's own conditions cannot ship is checked for the rows that come, not for all.
EXPLAIN (COSTS OFF, VERBOSE) SELECT m.id FROM many m WHERE m.id IN (SELECT n FROM given) AND m.x > (SELECT count(*) FROM given f WHERE f.b = m.id);
SELECT alike('SELECT m.id, m.segment FROM many m WHERE m.id IN (SELECT n FROM given) AND m.x > (SELECT count(*) FROM given f WHERE f.b = m.id)');
-- Scans that are run again with values that they had before ask for nothing.
CREATE FUNCTION asked(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ' || query LOOP
        IF line ~ 'Loop|Runs|Rows Fetched|Foreign' THEN RETURN NEXT line; END IF;
    END LOOP;
END $$;
SET enable_material = off; SET enable_memoize = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET pg_trough.batched_joins = off;
SELECT asked('SELECT 1 FROM given f JOIN many m ON m.x + f.n = 7');
SELECT asked('SELECT (SELECT count(*) FROM many m WHERE m.id = f.n) FROM given f');
SELECT asked('SELECT (SELECT min(id) FROM many m WHERE m.x = f.n % 2 OFFSET 0) FROM given f');
-- A run that is left in the middle goes on where it stopped.
SELECT line FROM asked('SELECT f.n FROM given f WHERE EXISTS (SELECT FROM many m WHERE m.x + f.n > 6)') line WHERE line ~ 'Runs|Fetched';
CREATE TABLE again AS SELECT f.n, m.id, m.segment FROM given f JOIN many m ON m.x + f.n > 6;
SET work_mem = '64kB';
SELECT count(*) FROM ((SELECT f.n, m.id, m.segment FROM given f JOIN many m ON m.x + f.n > 6) EXCEPT ALL TABLE again) t;
RESET work_mem; RESET enable_material; RESET enable_memoize; RESET enable_hashjoin; RESET enable_mergejoin; RESET pg_trough.batched_joins;
SELECT count(*), sum(id), sum(n) FROM again;
SELECT count(*), sum(m.id), sum(f.n) FROM given f JOIN jl.a m ON m.x + f.n > 6;
DROP TABLE again, given;
DROP FOREIGN TABLE many;
DROP FUNCTION asked, alike;
\ir joins/drop.psql
