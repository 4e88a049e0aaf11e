-- A tour of pg_trough in psql, over what `make demo` has loaded. It may be run again and again; what it makes, it removes.
--   psql -h 127.0.0.1 -p 25432 -U postgres demo -f sql/tour.sql
-- Above a command stands what one types in trough's own shell for the same.
\set ON_ERROR_STOP on
\set QUIET on
\pset pager off
\pset null '(null)'
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS tour CASCADE;
CREATE SCHEMA tour;
-- Waits until the segments of the tour are promoted and given back.
CREATE FUNCTION tour.released() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..600 LOOP
        IF NOT EXISTS (SELECT FROM trough.locks('archive') WHERE segment LIKE 'tour-%') THEN
            RETURN;
        END IF;
        PERFORM pg_sleep(0.1);
    END LOOP;
    RAISE 'the segments of the tour are locked still';
END $$;
-- What a tour that was broken off has left: segments that archive.flights does not expect.
SELECT count(error) FROM trough.promote('archive', ARRAY(SELECT segment FROM trough.locks('archive') WHERE segment LIKE 'tour-%')) \g /dev/null
SELECT tour.released() \g /dev/null
SELECT trough.shred('archive', segment)
FROM (SELECT DISTINCT segment FROM trough.segments('archive', '^tour-') UNION SELECT segment FROM trough.assignments('archive') WHERE segment LIKE 'tour-%') s \g /dev/null

\echo
\echo '== 1. What is there'
\echo 'The extension, its library, and the SQLite that workers run:'
SELECT * FROM trough.version();
\echo 'SHOW WORKERS: each has one lease.'
SELECT node, tier, pg_size_pretty(bytes) AS holds, pg_size_pretty(capacity) AS of, now() - last_heartbeat AS heartbeat, alive
FROM trough.workers('archive') ORDER BY node;
\echo 'Which of them are drained (trough.drain empties one):'
SELECT node, segments, draining FROM trough.worker_status('archive') ORDER BY node;
\echo 'SHOW SEGMENTS MATCHING ^N1422: where each copy is served. Here a segment is an aircraft, by its tail number.'
SELECT segment, node, tier, url, healthy, pg_size_pretty(bytes) AS size FROM trough.segments('archive', '^N1422') ORDER BY 1, 2;
\echo 'All of them, by worker; and the copies that should be, by ring:'
SELECT node, count(*) AS copies, count(DISTINCT segment) AS segments FROM trough.segments('archive') GROUP BY node ORDER BY node;
SELECT hash_ring, count(*) AS copies FROM trough.assignments('archive') GROUP BY hash_ring ORDER BY hash_ring;
\echo 'SHOW SCHEMAS: the SQL scripts that new segments start from.'
SELECT id, length(sql) AS characters FROM trough.schemas('archive') ORDER BY id;
\echo 'SHOW SCHEMA flights:'
SELECT sql FROM trough.schemas('archive') WHERE id = 'flights' \g (format=unaligned tuples_only=on)
\echo
\echo 'SHOW TABLES and SHOW CREATE TABLE ask a segment itself:'
SELECT name, type, left(sql, 40) AS begins FROM trough.tables('archive', 'N14228');
\echo 'The status page of the sync master:'
SELECT trough.status_url('archive');

\echo
\echo '== 2. Reading'
\echo 'A foreign table is one SQLite table in all segments; the segment is a column. CONNECT N14228 is a condition on it:'
SELECT time_hour, carrier, flight, origin, dest, dep_delay
FROM archive.flights WHERE segment = 'N14228' ORDER BY time_hour LIMIT 3;
\echo 'CONNECT N14228 N24211, and CONNECT MATCHING ^N1[0-9]+$:'
SELECT segment, count(*) FROM archive.flights WHERE segment IN ('N14228', 'N24211') GROUP BY segment ORDER BY segment;
SELECT count(DISTINCT segment) AS segments, count(*) FROM archive.flights WHERE segment ~ '^N1[0-9]+$';
\echo 'All segments at once; each counts and adds up in SQLite, each worker over its segments, PostgreSQL over the workers:'
\timing on
SELECT origin, count(*), sum(distance) AS miles, round(avg(dep_delay), 2) AS delay
FROM archive.flights GROUP BY origin ORDER BY origin;
\timing off
\echo 'EXPLAIN VERBOSE shows the SQLite SQL of a segment and of a worker, ANALYZE what was asked:'
EXPLAIN (VERBOSE, ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)
SELECT origin, count(*), avg(dep_delay) FROM archive.flights WHERE month = 7 GROUP BY origin;
\echo 'Without pushdown the rows come here; the answer is the same, later:'
SET pg_trough.pushdown = off;
\timing on
SELECT origin, count(*) FROM archive.flights WHERE month = 7 GROUP BY origin ORDER BY origin;
\timing off
RESET pg_trough.pushdown;
\echo 'The longest delays of all: every segment gives its first three, every worker its first three of them.'
SELECT segment, carrier, dep_delay FROM archive.flights WHERE dep_delay IS NOT NULL ORDER BY dep_delay DESC, segment LIMIT 3;
\echo 'Joined with a local table on the segment, only the aircraft that it names are asked:'
SELECT p.model, count(*) AS flights, sum(f.distance) AS miles
FROM public.planes p JOIN archive.flights f ON f.segment = p.tailnum
WHERE p.manufacturer = 'CESSNA' GROUP BY p.model ORDER BY flights DESC, p.model LIMIT 3;

\echo
\echo '== 3. SQLite SQL as it is'
\echo 'SELECT … in the shell runs on each segment by itself. So does trough.query; :segment is its name, rows come as JSON:'
SELECT q->>'segment' AS segment, (q->>'n')::int AS flights, q->>'sqlite' AS sqlite
FROM trough.query('archive', '{N14228,N24211}'::text[],
                  'SELECT :segment AS segment, count(*) AS n, sqlite_version() AS sqlite FROM flights') q ORDER BY 1;
\echo 'With a second statement over the rows of a worker''s segments, the table partial; its rows are added up here:'
SELECT q->>'carrier' AS carrier, sum((q->>'n')::int) AS flights
FROM trough.query('archive', '^N1', 'SELECT carrier, count(*) AS n FROM flights GROUP BY carrier',
                  'SELECT carrier, sum(n) AS n FROM partial GROUP BY carrier') q
GROUP BY 1 ORDER BY 2 DESC LIMIT 3;
\echo 'EXPLAIN QUERY PLAN and PRAGMA of one segment:'
SELECT q->>'detail' AS plan FROM trough.query('archive', '{N14228}'::text[], 'EXPLAIN QUERY PLAN SELECT * FROM flights WHERE month = 2 AND day = 8') q;
SELECT q->>'name' AS column, q->>'type' AS type FROM trough.query('archive', '{N14228}'::text[], 'PRAGMA table_info(flights)') q LIMIT 3;

\echo
\echo '== 4. Tables of your own'
\echo 'Types, encodings and the segments that belong to a table are its options. Here texts become timestamps:'
CREATE FOREIGN TABLE tour.departures (
    aircraft text OPTIONS (segment 'true'),
    hour timestamptz OPTIONS (column_name 'time_hour', encoding 'iso8601', storage 'text'),
    carrier text OPTIONS (storage 'text'),
    delay int OPTIONS (column_name 'dep_delay', storage 'integer')
) SERVER archive OPTIONS (table 'flights', segments '^N[1-3]', read_only 'true');
SELECT hour::date AS day, count(*), max(delay)
FROM tour.departures WHERE hour >= '2013-02-08 00:00Z' AND hour < '2013-02-10 00:00Z' GROUP BY 1 ORDER BY 1;
\echo 'The constants became texts such as the segments hold, and SQLite compares:'
EXPLAIN (VERBOSE, COSTS OFF) SELECT count(*) FROM tour.departures WHERE hour >= '2013-02-08 00:00Z' AND delay > 60;
\echo 'Views, prepared statements and cursors are PostgreSQL''s, and are pushed down alike:'
CREATE VIEW tour.late AS SELECT aircraft, carrier, delay FROM tour.departures WHERE delay > 120;
PREPARE late_of(text) AS SELECT carrier, count(*) FROM tour.late WHERE carrier = $1 GROUP BY carrier;
EXECUTE late_of('UA');
EXECUTE late_of('DL');
DEALLOCATE late_of;
BEGIN;
DECLARE rows CURSOR FOR SELECT * FROM tour.late WHERE aircraft = 'N14228' ORDER BY delay DESC;
FETCH 2 FROM rows;
CLOSE rows;
COMMIT;
\echo 'What a dashboard asks every minute may be kept in a materialized view:'
CREATE MATERIALIZED VIEW tour.by_carrier AS SELECT carrier, count(*) AS late FROM tour.late GROUP BY carrier;
REFRESH MATERIALIZED VIEW tour.by_carrier;
SELECT * FROM tour.by_carrier ORDER BY late DESC LIMIT 3;
\echo 'What a live segment holds can be imported, too:'
IMPORT FOREIGN SCHEMA "segment:N14228" FROM SERVER archive INTO tour OPTIONS (prefix 'one_', segments '^N14228$');
SELECT count(*) AS flights_of_one FROM tour.one_flights;

\echo
\echo '== 5. Writing'
\echo 'REGISTER SCHEMA tour FILE: a script that segments start from; with psql, \\set script `cat FILE` reads a file.'
SELECT trough.register_schema('archive', 'tour', $$
CREATE TABLE visits ( -- who came by
    id INTEGER PRIMARY KEY,
    at TIMESTAMPTZ NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
    who TEXT NOT NULL UNIQUE,
    stars INTEGER
);
$$);
IMPORT FOREIGN SCHEMA "tour" FROM SERVER archive INTO tour OPTIONS (segments '^tour-');
\d tour.visits
\echo 'PROVISION tour-1: makes a segment writable, and makes it if there is none. INSERT and COPY do so by themselves.'
SELECT trough.provision('archive', 'tour-1', 'tour');
INSERT INTO tour.visits (segment, who, stars) VALUES ('tour-1', 'ada', 5), ('tour-2', 'grace', 4)
RETURNING segment, id, who, at <= now() + interval '1 minute' AS dated_by_sqlite;
\copy tour.visits (segment, id, who, stars) FROM PROGRAM 'printf "tour-1,11,edgar,3\ntour-2,12,barbara,5\n"' WITH (FORMAT csv)
INSERT INTO tour.visits (segment, who, stars) VALUES ('tour-1', 'ada', 1) ON CONFLICT DO NOTHING;
UPDATE tour.visits SET stars = 5 WHERE who = 'edgar';
DELETE FROM tour.visits WHERE stars < 5 RETURNING segment, who;
SELECT segment, count(*), string_agg(who, ', ' ORDER BY id) AS who FROM tour.visits GROUP BY segment ORDER BY segment;
\echo 'WRITE and INFILE: any SQLite statements on one segment, in one transaction.'
SELECT trough.write('archive', 'tour-1', 'CREATE INDEX visits_stars ON visits (stars); ANALYZE visits;');
SELECT name, type FROM trough.tables('archive', 'tour-1');
\echo 'SHOW LOCKS: a written segment is locked to its worker until its promoted copy is served.'
SELECT segment, under_promotion FROM trough.locks('archive') WHERE segment LIKE 'tour-%' ORDER BY segment;
\echo 'PROMOTE tour-1; and PROMOTE MATCHING ^tour-, all that are locked: to the canonical store, many at a time.'
SELECT trough.promote('archive', 'tour-1') IS NOT NULL AS promoted;
SELECT segment, error FROM trough.promote('archive', ARRAY(SELECT segment FROM trough.locks('archive') WHERE segment ~ '^tour-')) ORDER BY 1;
\echo 'The master assigns them, workers copy them, and the locks are released:'
SELECT tour.released() \g /dev/null
SELECT segment, count(*) AS copies FROM trough.segments('archive', '^tour-') WHERE healthy GROUP BY segment ORDER BY segment;

\echo
\echo '== 6. Looking at a session'
\echo 'SHOW CONNECTIONS: the workers that this session knows, and what it asked of them.'
SELECT node, tier, alive, requests, failures FROM trough.connections() ORDER BY node;
\echo 'What it keeps of who serves what; and what is under way in all sessions:'
SELECT server, connected, workers, followed, listings, scans FROM trough.caches();
SELECT count(*) AS under_way FROM trough.activity();
\echo 'The session forgets it; the next query looks it up anew:'
SELECT trough.reset('archive') AS forgotten;

\echo
\echo '== 7. Away with it'
\echo 'SHRED SEGMENT tour-1 tour-2: copies, records and the canonical file, for good.'
SELECT segment, trough.shred('archive', segment) AS step FROM unnest('{tour-1,tour-2}'::text[]) segment;
DROP SCHEMA tour CASCADE;
SELECT count(*) AS left FROM trough.segments('archive', '^tour-');
\echo 'The registered schema "tour" stays, as nothing removes one; registering it again replaces it.'
