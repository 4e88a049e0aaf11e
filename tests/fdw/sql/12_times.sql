-- Dates and times in all encodings, and between types (tables and functions of 10_expressions).
SELECT * FROM shipped(ARRAY['d = ''2000-02-29''', 'd < ''1970-01-01''', 'd < ''infinity''', 'd > ''-infinity''', 'd > date ''0044-03-15 BC''', 'd IN (''2000-02-29'', ''9999-12-31'', NULL)', 'iso = ''2000-02-29 13:00+01''', 'iso < ''1970-01-01''', 'iso BETWEEN ''2000-02-29'' AND ''2000-03-01''',
    'iso <> ''2000-02-29 12:00+00''', 'NOT (iso > ''2000-01-01'')', 'iso < ''infinity''', 'iso IN (''2000-02-29 12:00+00'', NULL)', 'ts = ''2000-02-29''', 'ts >= ''2000-02-29'' AND ts < ''2000-03-01''', 'es = ''2000-02-29 12:00+00''', 'es < ''1969-12-31 23:59:59.5+00''', 'es > ''infinity''',
    'es IN (''2000-02-29 12:00+00'', ''2000-02-29 12:00:00.1+00'', ''infinity'')', 'ms < ''1969-12-31 23:59:59.0015''', 'ms <= ''1582-10-10''', 'us = ''1969-12-31 23:59:59.000001''', 'us > ''2024-12-30''', 'j = ''2000-02-29 12:00+00''', 'j < ''2000-02-29 12:00+00''', 'de = ''2000-02-29''', 'de <= ''1970-01-01''', 'de IN (''1969-12-31'')',
    'iso = es', 'iso < j', 'ts = us', 'ms < us', 'd = de', 'iso IS DISTINCT FROM es', 'uu = ''A0EEBC999C0B4EF8BB6D6BB9BD380A11''', 'uu > ''b0000000-0000-0000-0000-000000000000''', 'uu IN (''a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'', NULL)', 'ub = ''a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11''', 'ub < ''a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12''', 'uu = ub']);
SET timezone = 'Europe/Berlin';
SELECT * FROM shipped(ARRAY['d = timestamp ''2000-02-29''', 'd < timestamp ''2000-02-29 00:00:01''', 'd <= timestamp ''2000-02-29''', 'd <= timestamp ''2000-02-28 23:59:59.999999''', 'd > timestamp ''2000-02-28 12:00''', 'd > timestamp ''2000-02-29''', 'd >= timestamp ''2000-02-28 00:00:00.000001''', 'timestamp ''2000-02-29 12:00'' > d', 'd < timestamp ''infinity''', 'd <= timestamp ''-infinity''', 'd > timestamp ''9999-12-31 12:00''', 'd >= timestamp ''0044-03-15 BC''', 'd >= timestamp ''infinity''', 'ts >= date ''2000-02-29''', 'us = date ''2000-02-29''', 'ts < date ''infinity''', 'ts < date ''5000000-01-01''', 'us = d', 'd <= ts', 'iso >= date ''2000-02-29''',
    'iso < timestamp ''2000-02-29 13:00:00.000001''', 'iso >= date ''5000000-01-01''', 'es > date ''-infinity''', 'ts = timestamptz ''2024-03-31 01:30+00''', 'ts > timestamptz ''2024-03-31 01:30+00''', 'us < now()', 'd < now()', 'd = timestamptz ''2000-02-28 23:00+00''', 'NOT (d < now())', 'iso > ts', 'date_trunc(''month'', us) = ''2024-12-01''',
    'date_trunc(''WEEK'', us) = ''2024-12-30''', 'date_trunc(''quarter'', ts) = ''2000-01-01''', 'date_trunc(''decade'', ts) = ''2000-01-01''', 'date_trunc(''day'', iso) = ''2000-02-29''', 'us::date = ''1969-12-31''', 'd::timestamp = ''2000-02-29''', 'iso::date = ''2000-02-29''', 'extract(year from us) = 2000', 'us + interval ''1 day'' > ''2000-01-01''', 'iso > now() - interval ''100 years''', 'd < current_date', 'd + 1 = ''2000-03-01''']);
RESET timezone;
-- Prepared statements: values go over in both kinds of plans.
PREPARE p (timestamptz, text, int[], float8, text) AS SELECT id FROM hard WHERE iso >= $1 AND t LIKE $2 AND i4 = ANY ($3) AND (f8 < $4 OR f8 IS NULL) AND lower(t) <> $5 ORDER BY id LIMIT 5;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF, VERBOSE) EXECUTE p ('1970-01-01', 'a%', '{7,-7,100,0}', 'NaN', 'x');
EXECUTE p ('1970-01-01', 'a%', '{7,-7,100,0}', 'NaN', 'x');
EXECUTE p ('1970-01-01', 'a\', '{7,-7,100,0}', 'NaN', 'x');
EXECUTE p ('1970-01-01', 'a%', NULL, 'NaN', 'x');
SET plan_cache_mode = force_custom_plan;
EXECUTE p ('1970-01-01', 'a%', '{7,-7,100,0}', 'NaN', 'x');
EXECUTE p ('1970-01-01', 'a\', '{7,-7,100,0}', 'NaN', 'x');
RESET plan_cache_mode;
-- Lists: an InitPlan's array, long ones of each type.
SELECT * FROM shipped(ARRAY['i4 = ANY (ARRAY(SELECT generate_series(1, 100)))', 't = ANY (ARRAY(SELECT ''a''::text UNION ALL SELECT NULL))', 'i4 <> ALL (ARRAY(SELECT g::int FROM generate_series(8, 200) g))', 'f8 = ANY (ARRAY(SELECT (g / 10.0)::float8 FROM generate_series(1, 200) g))',
    'iso = ANY (ARRAY(SELECT timestamptz ''2000-02-29 12:00+00'' + g * interval ''1 day'' FROM generate_series(-100, 100) g))', 'x = ANY (ARRAY(SELECT decode(lpad(to_hex(g), 2, ''0''), ''hex'') FROM generate_series(0, 255) g))', 'uu = ANY (ARRAY(SELECT md5(g::text)::uuid FROM generate_series(1, 100) g) || ''a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11''::uuid)',
    'ub = ANY (ARRAY(SELECT md5(g::text)::uuid FROM generate_series(1, 100) g) || ''a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11''::uuid)', 'b = ANY (ARRAY(SELECT true))', 'd <> ALL (ARRAY(SELECT ''2000-02-29''::date UNION ALL SELECT ''infinity''))', 'i8 = ANY (ARRAY(SELECT g FROM generate_series(9223372036854775000, 9223372036854775807) g))']);
SELECT count(*) FROM hard WHERE id = ANY (ARRAY(SELECT generate_series(1, 100000)));
-- More than SQLite would take stays here.
SET jit = off;
SELECT how, rows, same FROM ship((SELECT string_agg(format('i4 = %s', g), ' OR ') FROM generate_series(1, 2000) g));
SELECT how, rows, same FROM ship((SELECT string_agg(format('(i4 > %s AND t <> ''x%s'')', g, g), ' OR ') FROM generate_series(1, 2000) g));
SELECT how, rows, same FROM ship((SELECT string_agg(format('i4 <> %s', g), ' AND ') FROM generate_series(1, 2500) g));
SELECT how, rows, same FROM ship('length(' || repeat('reverse(', 300) || 't' || repeat(')', 300) || ') = 3');
SELECT how, rows, same FROM ship((SELECT 'i8 = ' || string_agg('(i8 % 7)', ' + ') FROM generate_series(1, 300)));
SELECT how, rows, same FROM ship((SELECT 't = ' || string_agg('u', ' || ') FROM generate_series(1, 1200)));
