-- Parts of dates and times, UTC, comparisons over time zones; and what `trusted` promises (tables and functions of 10_expressions).
SELECT * FROM shipped(ARRAY['extract(year from us) = 2000', 'extract(year from us) IN (2000, 2024)', 'extract(month from ts) >= 2.5', '3 > extract(quarter from us)', 'extract(dow from d) = 2', 'extract(doy from d) <> ''NaN''', 'extract(isoyear from us) > ''-Infinity''', 'extract(WEEK from ts) < 10', 'extract(hour from ts) = 12',
    'extract(minute from ms) = 59', 'extract(century from ms) = 16', 'extract(epoch from ts) > 0', 'extract(second from ts) = 0', 'extract(year from iso AT TIME ZONE ''UTC'') = 2000', 'extract(day from es AT TIME ZONE ''utc'') = 29', 'extract(year from iso) = 2000', 'date_part(''year'', us) = 2000', 'date_part(''dow'', d) = 2',
    'date_part(''day'', iso AT TIME ZONE ''UTC'') > 28.5', 'extract(year from us)::int % 4 = 0', 'extract(year from de)::bigint = 1970', 'date_part(''month'', ts)::int + 1 = 3', 'extract(year from us)::float8 = 2000', 'extract(year from us) + 1 = 2001']);
SELECT * FROM shipped(ARRAY['iso AT TIME ZONE ''UTC'' = ''2000-02-29 12:00''', 'es AT TIME ZONE ''Etc/UTC'' < ''1970-01-01''', 'ts AT TIME ZONE ''UTC'' = ''2000-02-29 12:00+00''', 'ts AT TIME ZONE ''GMT'' >= iso', 'date_trunc(''day'', iso, ''UTC'') = ''2000-02-29 00:00+00''', 'date_trunc(''month'', iso AT TIME ZONE ''UTC'') = ''2000-02-01''',
    '(iso AT TIME ZONE ''UTC'')::date = d', 'iso AT TIME ZONE ''Europe/Berlin'' = ''2000-02-29 13:00''', 'date_trunc(''day'', iso, ''Asia/Kolkata'') = ''2000-02-29''', 'j AT TIME ZONE ''UTC'' = ''2000-02-29 12:00''']);
-- A timestamp is compared with an instant in the session's time zone, where local times may be left out or come twice.
SET timezone = 'Europe/Berlin';
SELECT * FROM shipped(ARRAY['ts = timestamptz ''2024-03-31 01:30+00''', 'ts >= timestamptz ''2024-03-31 01:00+00''', 'ts <> timestamptz ''2024-03-31 00:30+00''', 'us > to_timestamp(''2000-02-29'', ''YYYY-MM-DD'')', 'ms BETWEEN timestamptz ''1500-01-01'' AND now()', 'd >= timestamptz ''2000-02-28 23:00+00''', 'de < timestamptz ''infinity''', 'us <= timestamptz ''-infinity''', 'NOT (d < now())', 'iso > timestamp ''2000-02-29 13:00''', 'iso = date ''2000-02-29''']);
CREATE FOREIGN TABLE clock (segment text OPTIONS (segment 'true'), id bigint, at timestamp) SERVER archive OPTIONS (segments '^h0$');
SELECT trough.write('archive', 'h0', 'CREATE TABLE clock (id INTEGER, at TEXT)');
INSERT INTO clock SELECT 'h0', g, timestamp '2000-03-25 22:00' + g * interval '7 minutes' FROM generate_series(1, 100) g;
INSERT INTO clock SELECT 'h0', 1000 + g, timestamp '2000-10-28 22:00' + g * interval '7 minutes' FROM generate_series(1, 100) g;
CREATE TABLE local_clock AS TABLE clock;
PREPARE bounds (timestamptz) AS SELECT count(*) FILTER (WHERE at < $1), count(*) FILTER (WHERE at <= $1), count(*) FILTER (WHERE at = $1), count(*) FILTER (WHERE at <> $1), count(*) FILTER (WHERE at >= $1), count(*) FILTER (WHERE at > $1) FROM clock;
PREPARE local_bounds (timestamptz) AS SELECT count(*) FILTER (WHERE at < $1), count(*) FILTER (WHERE at <= $1), count(*) FILTER (WHERE at = $1), count(*) FILTER (WHERE at <> $1), count(*) FILTER (WHERE at >= $1), count(*) FILTER (WHERE at > $1) FROM local_clock;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (VERBOSE, COSTS OFF) SELECT count(*) FROM clock WHERE at >= to_timestamp('2000-03-26 02', 'YYYY-MM-DD HH24');
-- One plan, in every zone.
DO $$
DECLARE zone text; v timestamptz; ours text; theirs text; n int := 0;
BEGIN
    FOREACH zone IN ARRAY ARRAY['UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kolkata', 'Pacific/Auckland', 'Australia/Lord_Howe', 'Pacific/Apia'] LOOP
        PERFORM set_config('timezone', zone, false);
        FOR v IN SELECT g FROM generate_series(timestamptz '2000-03-25 12:00+00', '2000-03-26 14:00+00', '13 minutes') g UNION ALL SELECT g FROM generate_series(timestamptz '2000-10-28 12:00+00', '2000-10-29 14:00+00', '13 minutes') g
                 UNION ALL SELECT unnest('{infinity,-infinity,NULL}'::timestamptz[]) LOOP
            EXECUTE format('EXECUTE bounds (%L)', v) INTO STRICT ours;
            EXECUTE format('EXECUTE local_bounds (%L)', v) INTO STRICT theirs;
            IF ours <> theirs THEN RAISE WARNING '% in %: % instead of %', v, zone, ours, theirs; END IF;
            n := n + 1;
        END LOOP;
    END LOOP;
    RAISE WARNING '% instants compared', n;
END $$;
RESET plan_cache_mode;
RESET timezone;
-- Grouped and sorted by parts.
EXPLAIN (VERBOSE, COSTS OFF) SELECT extract(hour from at), count(*) FROM clock GROUP BY 1;
SELECT extract(hour from at) AS hour, count(*) FROM clock GROUP BY 1 ORDER BY 1 LIMIT 3;
SELECT date_part('month', at) AS month, extract(day from at)::int AS day, count(*) FROM clock GROUP BY 1, 2 ORDER BY 1, 2;
SELECT id, extract(doy from at) AS doy FROM clock ORDER BY extract(doy from at) DESC, id LIMIT 2;
SELECT count(DISTINCT extract(minute from at)) FROM clock;
-- `trusted` promises the form that pg_trough writes. Another one is refused, wherever SQLite would compare or sort it as a text.
SELECT trough.write('archive', 'h0', 'CREATE TABLE stamped (id INTEGER, at TEXT, day TEXT); INSERT INTO stamped VALUES (1, ''2000-02-29T12:00:00Z'', ''2000-02-29''), (2, ''2000-02-29 12:00:01'', ''2000-03-01'')');
CREATE FOREIGN TABLE stamped (segment text OPTIONS (segment 'true'), id bigint, at timestamptz OPTIONS (trusted 'true'), day date OPTIONS (trusted 'true')) SERVER archive OPTIONS (segments '^h0$');
SELECT id FROM stamped WHERE at < '2000-02-29 12:00:00+00';
-- What finds nothing tells as well.
SELECT id FROM stamped WHERE at = '2000-02-29 13:00:00+00';
SELECT count(*) FROM stamped WHERE at = '2000-02-29 13:00:00+00';
SELECT id FROM stamped WHERE at = '2000-02-29 13:00:00+00' ORDER BY id LIMIT 1;
DELETE FROM stamped WHERE at = '2000-02-29 13:00:00+00';
SELECT max(at) FROM stamped;
SELECT count(*) FROM stamped GROUP BY at;
SELECT id FROM stamped ORDER BY at LIMIT 1;
DELETE FROM stamped WHERE at < '2000-02-29 12:00:00+00';
SELECT at FROM stamped WHERE id = 2;
SELECT id FROM stamped WHERE id = 2 AND day = '2000-03-01';
ALTER FOREIGN TABLE stamped ALTER COLUMN at OPTIONS (SET trusted 'false');
SELECT count(*) FROM stamped WHERE at = '2000-02-29 12:00:00+00';
SELECT max(at) FROM stamped;
EXPLAIN (VERBOSE, COSTS OFF) SELECT id FROM stamped WHERE day = '2000-03-01';
DROP FOREIGN TABLE stamped, clock;
SELECT trough.write('archive', 'h0', 'DROP TABLE clock; DROP TABLE stamped');
DROP TABLE local_clock;
DEALLOCATE ALL;
