-- Random writes, each on a foreign table and on a local one: the same counts, the same rows returned, the same rows left.
CREATE FOREIGN TABLE far (
    segment text OPTIONS (segment 'true') NOT NULL,
    id bigint OPTIONS (storage 'integer'),
    kind text OPTIONS (storage 'text'),
    n bigint OPTIONS (storage 'integer'),
    price double precision OPTIONS (storage 'real'),
    note text OPTIONS (storage 'text')
) SERVER archive OPTIONS (table 'item', schema 'strict', segments '^yr');
CREATE TABLE near (segment text, id bigint, kind text, n bigint, price double precision, note text);
CREATE TABLE side (segment text, k bigint, word text);
INSERT INTO side SELECT 'yr' || g % 7, g % 12, 'w' || g FROM generate_series(1, 15) g;
CREATE FUNCTION pick(VARIADIC list text[]) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT list[1 + floor(random() * array_length(list, 1))::int]';
CREATE FUNCTION condition(t text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE r int := floor(random() * 50);
BEGIN
    RETURN pick(
        format('segment = ''yr%s''', r % 6), format('segment IN (''yr%s'', ''yr%s'')', r % 6, r % 4), 'segment LIKE ''yr%''',
        format('n > %s', r), format('n = %s AND segment <> ''yr1''', r % 20), 'kind = ''apple''', 'kind LIKE ''p%''', 'n IS NULL',
        format('price < %s OR n = %s', r / 10.0, r % 9), format('md5(note) < ''%s''', r % 10), format('n %% 7 = %s', r % 7),
        format('length(note) = %s', r % 4), format('id %% 10 = %s', r % 10), format('n = ANY (ARRAY[%s, %s, NULL])', r % 20, r % 13),
        format('(segment, n) IN (SELECT segment, k FROM side WHERE k < %s)', r % 12), format('n > (SELECT avg(k) FROM side) AND n < %s', r),
        format('EXISTS (SELECT FROM side s WHERE s.segment = %I.segment AND s.k = %I.n)', t, t), 'note IS NOT DISTINCT FROM kind', 'false');
END $$;
CREATE FUNCTION change(t text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE r int := floor(random() * 50);
BEGIN
    RETURN pick(
        format('n = %s', r), 'n = NULL', 'n = n + 1', format('price = %s, note = ''c%s''', r / 4.0, r), 'note = kind', 'note = upper(note) || n',
        'price = n / 2.0, n = coalesce(n, 3)', 'note = ''é😀''', 'note = ''''', 'price = ''-Infinity''', 'note = segment',
        'n = (SELECT max(k) FROM side)', 'n = length(note), note = repeat(''x'', length(kind))', 'kind = ''plum'', segment = segment');
END $$;
CREATE FUNCTION compare(statement text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE answer text[] := '{}'; one text; missing bigint; surplus bigint;
BEGIN
    FOREACH one IN ARRAY ARRAY['far', 'near'] LOOP
        EXECUTE format('WITH done AS (%s) SELECT count(*) || '' '' || coalesce(md5(string_agg(done::text, '','' ORDER BY done::text)), '''') FROM done',
            replace(statement, '@', one)) INTO one;
        answer := answer || one;
    END LOOP;
    SELECT count(*) INTO missing FROM (SELECT * FROM near EXCEPT ALL SELECT * FROM far) x;
    SELECT count(*) INTO surplus FROM (SELECT * FROM far EXCEPT ALL SELECT * FROM near) x;
    IF answer[1] <> answer[2] OR missing > 0 OR surplus > 0 THEN
        RAISE EXCEPTION 'differs: %', statement USING DETAIL = format('%s, %s missing, %s surplus', answer, missing, surplus);
    END IF;
END $$;
CREATE PROCEDURE writes(count int, id bigint) LANGUAGE plpgsql AS $$
DECLARE i int; values text; r int;
BEGIN
    FOR i IN 1..count LOOP
        r := floor(random() * 10);
        IF r < 3 OR i = 1 THEN
            SELECT string_agg(format('(''yr%s'', %s, %L, %s, %s, %L)', (random() * 5)::int, id + g, pick('apple', 'pear', 'plum', 'é'),
                pick('NULL', (random() * 30)::int::text), pick('NULL', '0.5', '-1e300', (random() * 9)::int::text), pick('', 'a', 'note', 'x''y', NULL)), ', ')
                INTO values FROM generate_series(1, 12) g;
            id := id + 12;
            PERFORM compare('INSERT INTO @ VALUES ' || values || ' RETURNING *');
        ELSIF r = 3 THEN
            PERFORM compare(format('INSERT INTO @ SELECT segment, id + %s, kind, n, price, note FROM @ WHERE %s AND id < 10000 RETURNING id, kind',
                1000000 * i, replace(condition('@'), '"@"', '@')));
        ELSIF r < 8 THEN
            PERFORM compare(format('UPDATE @ SET %s WHERE %s RETURNING *', change('@'), replace(condition('@'), '"@"', '@')));
        ELSIF r = 8 THEN
            PERFORM compare(format('UPDATE @ SET note = ''joined'' FROM side WHERE @.segment = side.segment AND @.n = side.k AND k < %s RETURNING @.*', i % 13));
        ELSE
            PERFORM compare(format('DELETE FROM @ WHERE %s AND id %% 3 = %s RETURNING *', replace(condition('@'), '"@"', '@'), i % 3));
        END IF;
    END LOOP;
END $$;
SELECT setseed(0.5);
CALL writes(150, 0);
SELECT setseed(0.25);
SET pg_trough.pushdown = off;
CALL writes(30, 5000);
RESET pg_trough.pushdown;
SELECT count(*) > 50 AS rows_left FROM far;
DROP FOREIGN TABLE far;
DROP TABLE near, side;
DROP PROCEDURE writes;
DROP FUNCTION compare, change, condition, pick;
