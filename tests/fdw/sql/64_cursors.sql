-- Cursors in every form, rescans, generic plans, and plans that must be made anew.
SELECT trough.register_schema('archive', 'sixty_four', $$
CREATE TABLE tick (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, word TEXT NOT NULL) STRICT;
CREATE TABLE tock (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, word TEXT NOT NULL) STRICT;
$$);
CREATE FOREIGN TABLE tick (segment text OPTIONS (segment 'true'), id bigint OPTIONS (storage 'integer'), n bigint OPTIONS (storage 'integer'), word text OPTIONS (storage 'text'))
    SERVER archive OPTIONS (schema 'sixty_four', segments '^cu');
CREATE FOREIGN TABLE tock (segment text OPTIONS (segment 'true'), id bigint OPTIONS (storage 'integer'), n bigint OPTIONS (storage 'integer'), word text OPTIONS (storage 'text'))
    SERVER archive OPTIONS (schema 'sixty_four', segments '^cu');
INSERT INTO tick SELECT 'cu' || g % 3, NULL, g, 'w' || g % 5 FROM generate_series(1, 300) g;
INSERT INTO tock SELECT 'cu' || g % 3, NULL, -g, 'v' || g % 5 FROM generate_series(1, 30) g;
-- In bits, backwards, absolute.
BEGIN;
DECLARE plain CURSOR FOR SELECT n FROM tick WHERE n % 100 = 0 ORDER BY n;
FETCH 1 FROM plain;
FETCH ALL FROM plain;
FETCH 1 FROM plain;
DECLARE back SCROLL CURSOR FOR SELECT n FROM tick WHERE n < 6 ORDER BY n;
FETCH 3 FROM back;
FETCH BACKWARD 2 FROM back;
FETCH LAST FROM back;
FETCH ABSOLUTE 2 FROM back;
FETCH RELATIVE -1 FROM back;
MOVE FORWARD ALL FROM back;
FETCH PRIOR FROM back;
DECLARE unsorted SCROLL CURSOR FOR SELECT n FROM tick WHERE segment = 'cu1' AND n < 9;
FETCH 2 FROM unsorted;
FETCH FIRST FROM unsorted;
FETCH ALL FROM unsorted;
-- Two at once over the same table, and a statement between.
DECLARE one CURSOR FOR SELECT n FROM tick WHERE segment = 'cu0' ORDER BY n;
DECLARE two CURSOR FOR SELECT n FROM tick WHERE segment = 'cu1' ORDER BY n;
FETCH 2 FROM one;
FETCH 2 FROM two;
SELECT count(*) FROM tick;
FETCH 2 FROM one;
FETCH 2 FROM two;
-- A savepoint that is rolled back takes its cursor with it; others go on.
SAVEPOINT s;
DECLARE three CURSOR FOR SELECT n FROM tick ORDER BY n;
FETCH 1 FROM three;
ROLLBACK TO s;
FETCH 1 FROM one;
SELECT 1 / 0;
ROLLBACK;
-- A cursor outlives its transaction; what changes later is not in it.
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT n, word FROM tick WHERE n > 297 ORDER BY n;
FETCH 1 FROM held;
COMMIT;
INSERT INTO tick VALUES ('cu0', NULL, 1000, 'late');
FETCH ALL FROM held;
CLOSE held;
-- In PL/pgSQL, with parameters, both plan modes.
CREATE FUNCTION pg_temp.total(low bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE row record; total bigint := 0; c CURSOR (m bigint) FOR SELECT n FROM tick WHERE n >= m;
BEGIN
    FOR row IN c(low) LOOP total := total + row.n; EXIT WHEN total > 1000000; END LOOP;
    FOR row IN SELECT n FROM tick WHERE n < low AND segment = 'cu' || low % 3 LOOP total := total + row.n; END LOOP;
    RETURN total;
END $$;
SELECT g, pg_temp.total(g) FROM generate_series(290, 297) g;
SET plan_cache_mode = force_generic_plan;
SELECT g, pg_temp.total(g) FROM generate_series(290, 297) g;
RESET plan_cache_mode;
-- A prepared statement turns generic by itself; its plan is made anew when options change.
PREPARE found(bigint) AS SELECT count(*), min(word) FROM tick WHERE n < $1;
EXECUTE found(1); EXECUTE found(2); EXECUTE found(3); EXECUTE found(4); EXECUTE found(5); EXECUTE found(6); EXECUTE found(7);
SELECT generic_plans > 0 AS generic FROM pg_prepared_statements WHERE name = 'found';
ALTER FOREIGN TABLE tick OPTIONS (ADD table 'tock');
EXECUTE found(1);
ALTER FOREIGN TABLE tick OPTIONS (DROP table);
ALTER FOREIGN TABLE tick OPTIONS (SET segments '^cu0');
EXECUTE found(4);
ALTER FOREIGN TABLE tick OPTIONS (SET segments '^cu');
ALTER SERVER archive OPTIONS (ADD max_rows '1');
EXECUTE found(4);
SELECT n FROM tick WHERE segment = 'cu0';
ALTER SERVER archive OPTIONS (DROP max_rows);
EXECUTE found(4);
SET pg_trough.pushdown = off;
EXECUTE found(4);
RESET pg_trough.pushdown;
-- The inner side of a nested loop that does not change is asked once (Materialize).
SET enable_hashjoin = off;
SET enable_mergejoin = off;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)
SELECT count(*) FROM generate_series(1, 50) g, (SELECT n FROM tick WHERE segment = 'cu1' AND n < 20 OFFSET 0) t WHERE g > t.n;
SELECT count(*) FROM generate_series(1, 50) g, (SELECT n FROM tick WHERE segment = 'cu1' AND n < 20 OFFSET 0) t WHERE g > t.n;
SET enable_material = off;
SELECT count(*) FROM generate_series(1, 50) g, (SELECT n FROM tick WHERE segment = 'cu1' AND n < 20 OFFSET 0) t WHERE g > t.n;
RESET enable_material;
RESET enable_hashjoin;
RESET enable_mergejoin;
-- A parameter that changes asks anew; one that is NULL asks nothing.
SELECT g, (SELECT count(*) FROM tick WHERE segment = 'cu' || nullif(g, 2) AND n < 10 * g) FROM generate_series(0, 3) g;
DEALLOCATE ALL;
DROP FOREIGN TABLE tick, tock;
