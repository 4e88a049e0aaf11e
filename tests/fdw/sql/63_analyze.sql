-- ANALYZE samples segments and rows in them; the planner knows the table from then on.
SELECT trough.register_schema('archive', 'sixty_three', $$
CREATE TABLE seen (id INTEGER PRIMARY KEY, at TEXT, grade INTEGER, word TEXT, share REAL, body BLOB) STRICT;
$$);
CREATE FOREIGN TABLE seen (
    segment text OPTIONS (segment 'true'), id bigint OPTIONS (storage 'integer'), at timestamptz OPTIONS (storage 'text'),
    gone text, grade bigint OPTIONS (storage 'integer'), word text OPTIONS (storage 'text'), share double precision OPTIONS (storage 'real'),
    body bytea OPTIONS (storage 'blob')
) SERVER archive OPTIONS (schema 'sixty_three', segments '^an');
ALTER FOREIGN TABLE seen DROP COLUMN gone;
CREATE FUNCTION pg_temp.expected(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
    RETURN format('%s rows of %s bytes', plan -> 0 -> 'Plan' ->> 'Plan Rows', plan -> 0 -> 'Plan' ->> 'Plan Width');
END $$;
-- Of a table without segments.
ANALYZE VERBOSE seen;
SELECT reltuples, relpages FROM pg_class WHERE oid = 'seen'::regclass;
INSERT INTO seen SELECT 'an' || g % 20, NULL, timestamptz '2020-01-01 00:00:00Z' + g * interval '1min', g % 4, repeat('w', g % 10),
    CASE WHEN g % 2 = 0 THEN g / 8.0 END, NULL FROM generate_series(1, 8000) g;
SELECT pg_temp.expected('SELECT * FROM seen WHERE grade = 2');
ANALYZE VERBOSE seen;
SELECT reltuples, relpages > 50 AS pages FROM pg_class WHERE oid = 'seen'::regclass;
SELECT attname, null_frac, n_distinct, most_common_vals IS NOT NULL AS common, avg_width FROM pg_stats WHERE tablename = 'seen' ORDER BY attname;
SELECT pg_temp.expected('SELECT * FROM seen WHERE grade = 2');
-- Asked while planning: exact where few segments are asked, and what no statistics can know.
SELECT pg_temp.expected('SELECT * FROM seen WHERE word = ''www'' AND grade = 3 AND segment = ''an3''');
ALTER FOREIGN TABLE seen OPTIONS (ADD use_remote_estimate 'true');
SELECT pg_temp.expected('SELECT * FROM seen WHERE word = ''www'' AND grade = 3 AND segment = ''an3''');
SELECT count(*) FROM seen WHERE word = 'www' AND grade = 3 AND segment = 'an3';
SELECT pg_temp.expected('SELECT * FROM seen WHERE id BETWEEN 5 AND 10 AND length(segment) = 3');
SELECT pg_temp.expected('SELECT * FROM seen WHERE segment = ''nosuch''');
SELECT pg_temp.expected('SELECT * FROM seen');
SELECT pg_temp.expected('SELECT * FROM seen WHERE at < now() - interval ''1 day''');
PREPARE graded(bigint) AS SELECT count(*) FROM seen WHERE grade = $1;
SET plan_cache_mode = force_generic_plan;
EXECUTE graded(1);
RESET plan_cache_mode;
ALTER FOREIGN TABLE seen OPTIONS (SET use_remote_estimate 'false');
-- Fewer segments and fewer rows than there are.
SET pg_trough.analyze_segments = 5;
SET default_statistics_target = 1;
ANALYZE VERBOSE seen;
SELECT reltuples FROM pg_class WHERE oid = 'seen'::regclass;
RESET default_statistics_target;
RESET pg_trough.analyze_segments;
-- Some columns only; partitions; by who owns the table.
ANALYZE seen (grade, word);
CREATE TABLE parts (segment text, id bigint, at timestamptz, grade bigint NOT NULL, word text, share double precision, body bytea) PARTITION BY LIST (grade);
CREATE TABLE parts_local PARTITION OF parts FOR VALUES IN (9);
CREATE FOREIGN TABLE parts_far PARTITION OF parts FOR VALUES IN (0, 1, 2, 3) SERVER archive OPTIONS (table 'seen', segments '^an');
ALTER FOREIGN TABLE parts_far ALTER segment OPTIONS (ADD segment 'true');
INSERT INTO parts_local SELECT 'x', g, now(), 9, 'y', 1, NULL FROM generate_series(1, 100) g;
ANALYZE parts;
SELECT relname, reltuples FROM pg_class WHERE relname ~ '^parts' ORDER BY 1;
SELECT tablename, inherited, n_distinct FROM pg_stats WHERE tablename ~ '^parts' AND attname = 'grade' ORDER BY 1, 2;
DROP TABLE parts;
-- What cannot be read.
SELECT trough.register_schema('archive', 'sixty_three_other', 'CREATE TABLE other (n)') IS NOT NULL AS made;
SELECT trough.provision('archive', 'an_other', 'sixty_three_other') IS NOT NULL AS made;
ANALYZE seen;
ALTER FOREIGN TABLE seen OPTIONS (ADD on_segment_error 'skip');
ANALYZE seen;
SELECT reltuples BETWEEN 7000 AND 9000 AS about FROM pg_class WHERE oid = 'seen'::regclass;
DROP FOREIGN TABLE seen;
