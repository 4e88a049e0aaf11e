-- A statement that is cancelled ends at once, and leaves nothing behind: neither threads nor descriptors.
SELECT count(*) > 0 AS warm FROM item;
CREATE FUNCTION held() RETURNS TABLE (descriptors bigint, threads bigint) LANGUAGE sql AS $$
    SELECT (SELECT count(*) FROM pg_ls_dir('/proc/self/fd')), (SELECT count(*) FROM pg_ls_dir('/proc/self/task'))
$$;
CREATE TEMP TABLE before AS SELECT * FROM held();
SET statement_timeout = '300ms';
SELECT clock_timestamp() AS began \gset
SELECT trough.query('archive', '{s1}'::text[], 'WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT max(n) FROM c');
RESET statement_timeout;
SELECT clock_timestamp() - :'began' < '3s' AS at_once;
DO $$
BEGIN
    FOR i IN 1..50 LOOP
        BEGIN
            PERFORM set_config('statement_timeout', '0', true);
            PERFORM count(*) FROM item WHERE 1 / (n - i) IS NULL;
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
        BEGIN
            INSERT INTO item (segment, kind, n) SELECT 's1', 'x', 1 / (i - i);
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
    END LOOP;
END $$;
-- Connections to workers are kept: so many are open, and no more.
SELECT h.descriptors <= b.descriptors + 8 AS descriptors, h.threads = b.threads AS threads FROM held() h, before b;
-- A cursor that is left half-read.
BEGIN;
DECLARE c CURSOR FOR SELECT n FROM item WHERE kind = 'bulk' ORDER BY n;
FETCH 3 FROM c;
CLOSE c;
DECLARE d CURSOR FOR SELECT kind FROM item;
MOVE 2 FROM d;
ROLLBACK;
SELECT count(*) > 0 AS still FROM item;
SELECT kind FROM item WHERE kind = 'bulk' LIMIT 1;
SELECT h.threads = b.threads AS threads FROM held() h, before b;
