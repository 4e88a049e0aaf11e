-- Expressions: what is shipped, how, and that the answers are PostgreSQL's over rows that try to break it.
SELECT trough.register_schema('archive', 'expr', $$
CREATE TABLE hard (
    id INTEGER, i2 INTEGER, i4 INTEGER, i8 INTEGER, f8 REAL, f4 REAL, t TEXT, u TEXT, b INTEGER, x BLOB,
    d TEXT, iso TEXT, ts TEXT, es INTEGER, ms INTEGER, us INTEGER, j REAL, de INTEGER, uu TEXT, ub BLOB, n INTEGER
) STRICT;
CREATE TABLE soft (id INT, i4 INT, f8 DOUBLE, t VARCHAR(9) COLLATE NOCASE, b BOOLEAN, x BLOB, iso DATETIME, es NUMERIC, uu UUID);
$$);
CREATE FOREIGN TABLE hard (
    segment text OPTIONS (segment 'true') COLLATE "C",
    id int OPTIONS (storage 'integer'), i2 smallint OPTIONS (storage 'integer'), i4 int OPTIONS (storage 'integer'),
    i8 bigint OPTIONS (storage 'integer'), f8 double precision OPTIONS (storage 'real'), f4 real OPTIONS (storage 'real'),
    t text OPTIONS (storage 'text'), u text OPTIONS (storage 'text') COLLATE "C", b boolean OPTIONS (storage 'integer'),
    x bytea OPTIONS (storage 'blob'), d date, iso timestamptz, ts timestamp,
    es timestamptz OPTIONS (encoding 'epoch_s', storage 'integer'), ms timestamp OPTIONS (encoding 'epoch_ms', storage 'integer'),
    us timestamp OPTIONS (encoding 'epoch_us', storage 'integer'), j timestamptz OPTIONS (encoding 'julian'),
    de date OPTIONS (encoding 'epoch_s', storage 'integer'), uu uuid, ub uuid OPTIONS (encoding 'blob'),
    n numeric
) SERVER archive OPTIONS (schema 'expr', segments '^h[0-9]$');
CREATE TABLE local_hard (LIKE hard);
INSERT INTO local_hard
SELECT 'h' || g % 3, g,
    (ARRAY[0, 1, -1, 32767, -32768, NULL])[1 + g % 6], (ARRAY[0, 2147483647, -2147483648, 7, -7, NULL, 100])[1 + g % 7],
    (ARRAY[9223372036854775807, -9223372036854775808, 0, 1, -1, NULL, 9007199254740993, 4294967296])[1 + g % 8],
    (ARRAY[0, -0.0, 1.5, -2.25, 1e308, -1e308, 1e-308, 'Infinity', '-Infinity', NULL, 0.1])[1 + g % 11],
    (ARRAY[0, 0.1, -1.5, 3e38, 1e-45, NULL, 'Infinity', 16777217])[1 + g % 8],
    (ARRAY['', 'a', 'A', 'abc', 'ABC', 'é', 'é', 'É', '中文字', '😀x😀', ' x ', 'a%b_c', 'a\b', 'line' || chr(10) || 'two', NULL, 'ß', 'I', 'ı', 'K', 'aXbXc', 'x1y22', '[a]*?'])[1 + g % 22],
    (ARRAY['a', '', 'b', 'X', '中', NULL, 'abc', '😀', 'é', '%', 'B'])[1 + g % 11],
    (ARRAY[true, false, NULL])[1 + g % 3], (ARRAY['\x', '\x00', '\x0001', '\xff', NULL]::bytea[])[1 + g % 5],
    (ARRAY['1969-12-31', '2000-02-29', '0001-01-01', '9999-12-31', NULL, '2024-03-31']::date[])[1 + g % 6],
    (ARRAY['1969-12-31 23:59:59.999999+00', '2000-02-29 12:00+00', '2024-03-31 01:30+00', NULL, '0001-01-02 00:00+00', '9999-12-30 00:00+00']::timestamptz[])[1 + g % 6],
    (ARRAY['1969-12-31 23:59:59.999999', '2000-02-29 12:00', '2024-03-31 01:30', NULL, '2000-02-29 00:00']::timestamp[])[1 + g % 5],
    (ARRAY['1969-12-31 23:59:59+00', '2000-02-29 12:00+00', NULL, '1900-01-01 00:00+00']::timestamptz[])[1 + g % 4],
    (ARRAY['1969-12-31 23:59:59.001', '2000-02-29 12:00', NULL, '1582-10-10 00:00']::timestamp[])[1 + g % 4],
    (ARRAY['1969-12-31 23:59:59.000001', '2000-02-29 00:00', NULL, '2024-12-30 23:59:59.999999', '2025-01-01 00:00']::timestamp[])[1 + g % 5],
    (ARRAY['1969-12-31 12:00+00', '2000-02-29 12:00+00', NULL, '2000-02-29 06:00+00']::timestamptz[])[1 + g % 4],
    (ARRAY['1969-12-31', '2000-02-29', NULL, '1970-01-01']::date[])[1 + g % 4],
    (ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '00000000-0000-0000-0000-000000000000', NULL, 'ffffffff-ffff-ffff-ffff-ffffffffffff']::uuid[])[1 + g % 4],
    (ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', NULL, '00000000-0000-0000-0000-000000000000']::uuid[])[1 + g % 3],
    (ARRAY[0, 5, -7, NULL])[1 + g % 4]
FROM generate_series(1, 500) g;
INSERT INTO hard SELECT * FROM local_hard;
ANALYZE local_hard;
-- For a condition: `exact` (only SQLite evaluates it), `superset` (SQLite first, then PostgreSQL) or `local`; the rows that
-- qualify; and whether these are the rows of the local table. An error must be the same one.
CREATE FUNCTION ship(condition text, source text DEFAULT 'hard', OUT how text, OUT rows bigint, OUT same text) LANGUAGE plpgsql AS $$
DECLARE plan text; line text; mine text; theirs text;
BEGIN
    BEGIN
        FOR line IN EXECUTE format('EXPLAIN (VERBOSE, COSTS OFF) SELECT id FROM %I WHERE %s', source, condition) LOOP plan := concat_ws(E'\n', plan, line); END LOOP;
    EXCEPTION WHEN OTHERS THEN plan := '';
    END;
    how := CASE WHEN plan ~ 'SQLite SQL:.* WHERE ' THEN CASE WHEN plan ~ '\n *Filter:' THEN 'superset' ELSE 'exact' END ELSE 'local' END;
    BEGIN EXECUTE format('SELECT count(*), md5(string_agg(id::text, '','' ORDER BY id)) FROM (SELECT id FROM %I WHERE %s OFFSET 0) q', source, condition) INTO rows, mine;
    EXCEPTION WHEN OTHERS THEN mine := SQLSTATE || ' ' || SQLERRM; END;
    BEGIN EXECUTE format('SELECT md5(string_agg(id::text, '','' ORDER BY id)) FROM %I WHERE %s', 'local_' || source, condition) INTO theirs;
    EXCEPTION WHEN OTHERS THEN theirs := SQLSTATE || ' ' || SQLERRM; END;
    same := CASE WHEN mine IS DISTINCT FROM theirs THEN format('NO: %s, but %s', mine, theirs) WHEN rows IS NULL THEN mine ELSE 'yes' END;
END $$;
CREATE FUNCTION shipped(conditions text[], source text DEFAULT 'hard') RETURNS TABLE (condition text, how text, rows bigint, same text) LANGUAGE sql AS
    $$ SELECT c, s.* FROM unnest(conditions) WITH ORDINALITY AS u(c, o), ship(c, source) s ORDER BY o $$;

-- Integers. What can overflow is a superset; an error is PostgreSQL's own.
SELECT * FROM shipped(ARRAY['i4 % 10 = 7', 'i4 / 7 = 1', 'i8 % -1 = 0', '-i4 > 0 AND i4 > -5', 'i4 <> -2147483648 AND -i4 = 7', 'i4 + 1 = 8', 'i4 < 1000 AND i4 > -1000 AND i4 + 1 = 8',
    'i2::int * i2::int = 1', 'i2 + 1 > 0', 'i2::int8 * 1000000 > 5', 'i8 + 1 > 0', 'i8 * 2 = 2 AND i8 < 10', 'i2 <> 0 AND i4 / i2 = 7', 'abs(i4) = 7', 'abs(i2::int) = 32768', '@ i4 = 7',
    'i4 & 7 = 7', 'i4 | 1 = 1', 'i4 # 7 = 0', '~i4 = -8', 'i4::int8 + i8 > 5', 'i8::int4 = 1', 'mod(i4, 3) = 1', 'i4 % i2 = 0', 'i4::bool', 'b::int = 1', 'i4 << 1 = 14', '(i4 % 5) * 1000 + i2 = 7',
    'i8 / -1 > 0', 'i8 - 1 = 0']);
-- Floating point.
SELECT * FROM shipped(ARRAY['f8 * 2 = 3', 'f8 + f8 = 3', 'f8 BETWEEN -10 AND 10 AND f8 * 2 = 3', 'f8 - f8 = 0', 'f8 - f8 = ''NaN''', 'f8 / 0 > 1', 'f8 = -0.0', 'abs(f8) = 1.5', '-f8 = 2.25', 'f4 = 0.1::real',
    'f4 = 0.1::float8', 'f4 > 1e38', 'f4 < f8', 'f4 = ''NaN''', 'f4 <> ''NaN''::real', 'i4::float8 = 7', 'i8::float8 = 9007199254740992', 'f8 > i4::float8', 'f8::int = 2', 'f8 < ''NaN''', 'coalesce(f8, ''NaN'') = ''NaN''',
    'greatest(f8, ''NaN'') = ''NaN''', 'f8 = ANY (ARRAY[0.1, ''NaN'', NULL]::float8[])', 'f4 = ANY (ARRAY[0.1, 16777216]::real[])', 'round(f8) = 2', 'n = 5', 'n + 1 = 6', 'n IS NULL']);
-- CASE and its kin.
SELECT * FROM shipped(ARRAY['CASE WHEN i4 > 0 THEN b ELSE i2 > 0 END', 'CASE i4 WHEN 7 THEN ''seven'' WHEN -7 THEN u END = ''seven''', 'CASE WHEN i4 < 1000 AND i4 > 0 THEN i4 + 1 END = 8', 'coalesce(i4, i2) = 0',
    'coalesce(b, i4 > 0, true)', 'nullif(i4, 7) IS NULL', 'nullif(t, u) = ''abc''', 'greatest(i4, i2, 5) = 5', 'least(u, ''b'' COLLATE "C") = ''a''', 'least(t, u) = ''a''', 'greatest(d, date ''2000-01-01'') = ''2000-01-01''',
    'coalesce(d, ''infinity'') = ''infinity''', 'coalesce(d, date ''20000-01-01'') = ''infinity''', 'coalesce(iso, now()) < now()', 'coalesce(es, iso) > ''1970-01-01''', '(i4 > 0) = (i2 > 0)', '(i4 > 0) IS DISTINCT FROM b',
    '(t = ''a'') IS NOT TRUE', 'NOT (i4 + 1 = 8 OR b)', 'i4 IN (7, 100, i2)', 'i4 = ANY (ARRAY[i2::int, 7])', 'i4 <> ALL (ARRAY[i2::int, 7])', 'i4 > ANY (ARRAY[5, 99])', 'i4 > ALL (ARRAY[5, 99])', 'i4 <> ALL (ARRAY[7, NULL])',
    'i4 = ANY (''{}''::int[])', 'i4 <> ALL (''{}''::int[])', 'i4 = ANY (NULL::int[])', 'row(i4, i2) = row(7, 1)', 'b', 'NOT b', 'b <> (i4 > 0)', 'coalesce(uu, ub) = ub', 'x > ''\x00''', 'length(x) = 2', 'x = ANY (ARRAY[''\x00'', NULL]::bytea[])']);
