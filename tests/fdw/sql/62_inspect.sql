-- What runs and what is kept.
SELECT trough.register_schema('archive', 'sixty_two', $$
CREATE TABLE size (n INTEGER NOT NULL, width INTEGER NOT NULL) STRICT;
CREATE VIEW made AS
    WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < (SELECT n FROM size))
    SELECT i, printf('%.*c', (SELECT width FROM size), 'x') AS filler FROM c;
$$);
CREATE FOREIGN TABLE size (segment text OPTIONS (segment 'true'), n bigint, width bigint)
    SERVER archive OPTIONS (schema 'sixty_two', segments '^z');
CREATE FOREIGN TABLE made (segment text OPTIONS (segment 'true'), i bigint, filler text)
    SERVER archive OPTIONS (schema 'sixty_two', segments '^z', read_only 'true');
INSERT INTO size VALUES ('z1', 1000000000, 1000), ('z2', 1000, 10);
SELECT * FROM trough.activity();
-- An answer without an end, in a cursor: it waits while nobody reads on.
BEGIN;
DECLARE c NO SCROLL CURSOR FOR SELECT i, length(filler) FROM made WHERE segment = 'z1';
FETCH 3 FROM c;
DECLARE d NO SCROLL CURSOR FOR SELECT trough.query('archive', '{z1}'::text[], 'SELECT i, filler FROM made') ->> 'i';
FETCH 2 FROM d;
MOVE 20000 FROM c;
SELECT pid = pg_backend_pid() AS mine, datname, usename, server, relation, started BETWEEN now() - '1min'::interval AND clock_timestamp() AS started,
    segments, done, failed, missing, workers, requests, retries, rows >= 3 AS rows, bytes > 1000 AS bytes, sql
    FROM trough.activity() ORDER BY relation;
CREATE FUNCTION pg_temp.until(condition text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE met boolean;
BEGIN
    FOR i IN 1..500 LOOP
        EXECUTE 'SELECT ' || condition INTO met;
        IF met THEN RETURN true; END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RETURN false;
END $$;
SELECT pg_temp.until($$ (SELECT count(*) = 2 FROM trough.activity() WHERE state = 'waiting for the backend') $$) AS both_wait;
-- Who may not read all statistics sees that something runs, not what.
CREATE ROLE onlooker;
SET LOCAL ROLE onlooker;
SELECT pid = pg_backend_pid() AS mine, datname, usename, server, relation, state, started, segments, rows, sql FROM trough.activity();
RESET ROLE;
GRANT pg_read_all_stats TO onlooker;
SET LOCAL ROLE onlooker;
SELECT relation FROM trough.activity() ORDER BY 1;
RESET ROLE;
CLOSE c;
CLOSE d;
SELECT pg_temp.until($$ (SELECT count(*) = 0 FROM trough.activity()) $$) AS gone;
COMMIT;
DROP ROLE onlooker;
-- Another backend's, and nothing of one that is gone. The file of a backend that was killed is removed by who reads.
\! psql -X -q -c "SELECT i FROM made WHERE segment = 'z1'" >/dev/null 2>&1 &
SELECT pg_temp.until($$ (SELECT count(*) = 1 FROM trough.activity() WHERE pid <> pg_backend_pid() AND rows > 0) $$) AS seen;
SELECT count(pg_terminate_backend(pid)) FROM trough.activity();
SELECT pg_temp.until($$ (SELECT count(*) = 0 FROM trough.activity()) $$) AS gone;
SELECT current_setting('data_directory') || '/pg_stat_tmp/pg_trough.999999' AS stale \gset
COPY (SELECT 1) TO :'stale';
SELECT count(*) AS running FROM trough.activity();
SELECT count(*) > 0 AS own, bool_or(f LIKE '%.999999') AS stale FROM pg_ls_dir('pg_stat_tmp') f WHERE f LIKE 'pg\_trough.%';
-- What this session keeps.
SELECT server, usename, tier, bool_and(alive) AS alive, bool_or(avoided) AS avoided, sum(in_flight) AS in_flight, sum(requests) > 2 AS asked, sum(failures) AS failures
    FROM trough.connections() WHERE tier = 'hot' GROUP BY 1, 2, 3;
SELECT server, usename, since < now() AS since, connected, workers >= 2 AS workers, followed > 1 AS followed, followed_age > 0 AS age, looked_up, scans > 3 AS scans
    FROM trough.caches();
SELECT trough.reset('nosuch');
SELECT trough.reset('archive'), trough.reset('archive'), trough.reset();
SELECT count(*) FROM trough.caches();
SELECT count(*) FROM size;
SELECT looked_up, followed > 0 AS followed, scans FROM trough.caches();
SELECT trough.reset();
SELECT n FROM size WHERE segment = 'z2';
SELECT looked_up, followed, scans FROM trough.caches();
DROP FOREIGN TABLE size, made;
