-- The demo's queries: each runs over segments through foreign tables, and over a plain table of the same rows.
-- A query begins at a numbered line. `flights` has one row a flight; `segment` is the aircraft's tail number.

-- 1. One aircraft: one segment is asked
SELECT time_hour, carrier, flight, origin, dest, dep_delay
FROM flights WHERE segment = 'N14228' ORDER BY time_hour, flight LIMIT 5;

-- 2. Everything: count and sums over all segments, added up on the workers
SELECT count(*), sum(distance) AS miles, avg(dep_delay) AS mean_delay, min(air_time), max(air_time) FROM flights;

-- 3. Group by over all segments, joined with a local table of airlines
SELECT a.name, f.flights, f.miles, round(f.delay, 4) AS mean_delay
FROM (SELECT carrier, count(*) AS flights, sum(distance) AS miles, avg(dep_delay) AS delay FROM flights GROUP BY carrier) f
JOIN airlines a USING (carrier) ORDER BY f.flights DESC, a.name;

-- 4. Top ten: the busiest aircraft
SELECT segment, count(*) AS flights, sum(distance) AS miles
FROM flights GROUP BY segment ORDER BY flights DESC, segment LIMIT 10;

-- 5. A filter that SQLite evaluates: a snow storm
SELECT origin, count(*) AS flights, count(dep_time) AS departed, avg(dep_delay) AS mean_delay
FROM flights WHERE month = 2 AND day BETWEEN 8 AND 9 GROUP BY origin ORDER BY origin;

-- 6. Segments by prefix: aircraft whose tail number begins with N1
SELECT count(DISTINCT segment) AS aircraft, count(*) AS flights FROM flights WHERE segment LIKE 'N1%';

-- 7. Nulls are nulls: flights that never left, by month
SELECT month, count(*) AS cancelled FROM flights WHERE dep_time IS NULL GROUP BY month ORDER BY month;

-- 8. A join with a local table that names the segments
SELECT p.manufacturer, count(*) AS flights, avg(f.air_time) AS air_time
FROM planes p JOIN flights f ON f.segment = p.tailnum
WHERE p.seats > 300 GROUP BY p.manufacturer ORDER BY flights DESC, 1;

-- 9. Some aircraft by name
SELECT segment, min(time_hour) AS first, max(time_hour) AS last, count(*)
FROM flights WHERE segment IN ('N14228', 'N24211', 'N619AA', 'NA', 'NOSUCH') GROUP BY segment ORDER BY segment;

-- 10. Every row comes through: a checksum that only PostgreSQL can compute
SELECT count(*), sum(hashtext(f::text)::bigint) AS checksum FROM flights f;

-- 11. What is pushed down
EXPLAIN (VERBOSE, ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)
SELECT carrier, count(*), avg(dep_delay) FROM flights WHERE month = 7 AND dep_delay > 60 GROUP BY carrier;
