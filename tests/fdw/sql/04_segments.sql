-- Which segments are asked. EXPLAIN ANALYZE counts them.
CREATE FUNCTION asked(query text) RETURNS TABLE (line text) LANGUAGE plpgsql AS $$
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP
        IF line ~ 'Segment|Rows Fetched|Foreign Scan' THEN RETURN NEXT; END IF;
    END LOOP;
END $$;
SELECT asked('SELECT kind FROM item');
SELECT asked('SELECT kind FROM item WHERE segment = ''s1''');
SELECT asked('SELECT kind FROM item WHERE segment IN (''s1'', ''s2'', ''nosuch'')');
SELECT asked('SELECT kind FROM item WHERE segment = ANY (ARRAY[''s1'', NULL])');
SELECT asked('SELECT kind FROM item WHERE segment LIKE ''s3%''');
SELECT asked('SELECT kind FROM item WHERE segment ~ ''^s[12]$''');
SELECT asked('SELECT kind FROM item WHERE segment >= ''s2'' AND segment < ''s4''');
SELECT asked('SELECT kind FROM item WHERE segment BETWEEN ''s1'' AND ''s2''');
SELECT asked('SELECT kind FROM item WHERE length(segment) > 2');
SELECT asked('SELECT kind FROM item WHERE segment <> ''s1'' AND upper(segment) = ''S2''');
SELECT asked('SELECT kind FROM item WHERE segment = ''s1'' OR segment = ''s2''');
SELECT asked('SELECT kind FROM item WHERE segment = ''s1'' AND n = 1 OR segment = ''s2'' AND n = 2');
SELECT asked('SELECT kind FROM item WHERE segment = ''s1'' AND segment = ''s2''');
SELECT asked('SELECT kind FROM item WHERE segment = ''nosuch''');
SELECT asked('SELECT kind FROM item WHERE segment = ''../x''');
SELECT asked('SELECT kind FROM item WHERE segment IS NULL');
SELECT asked('SELECT kind FROM item WHERE segment = (SELECT ''s2'')');
SELECT asked('SELECT kind FROM item WHERE segment = ANY (ARRAY(SELECT ''s'' || g FROM generate_series(1, 2) g))');
-- Parameters, custom and generic plans.
PREPARE one(text) AS SELECT count(*) FROM item WHERE segment = $1;
EXECUTE one('s1'); EXECUTE one('s2'); EXECUTE one('nosuch'); EXECUTE one(NULL);
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF, VERBOSE) EXECUTE one('s1');
EXECUTE one('s1'); EXECUTE one('s2'); EXECUTE one('nosuch'); EXECUTE one(NULL);
PREPARE many(text[]) AS SELECT segment, count(*) FROM item WHERE segment = ANY ($1) GROUP BY segment ORDER BY 1;
EXPLAIN (COSTS OFF, VERBOSE) EXECUTE many('{s1,s2}');
EXECUTE many('{s1,s2,nosuch}');
EXECUTE many('{}');
EXECUTE many(NULL);
RESET plan_cache_mode;
-- Nothing is pruned and nothing is shipped without pushdown.
SET pg_trough.pushdown = off;
EXPLAIN (COSTS OFF, VERBOSE) SELECT count(*) FROM item WHERE segment = 's1' AND n = 1;
SELECT count(*) FROM item WHERE segment = 's1' AND n = 1;
RESET pg_trough.pushdown;
-- A rescan asks again with the new value.
SELECT g, (SELECT count(*) FROM item WHERE segment = 's' || g) FROM generate_series(0, 4) g;
SELECT i.g, l.count FROM generate_series(1, 2) i(g), LATERAL (SELECT count(*) FROM item WHERE segment = 's' || i.g AND n > i.g) l;
DROP FUNCTION asked;
