-- The functions of the schema trough.
SELECT extension, library ~ '^0\.' AS library FROM trough.version();
SELECT sqlite = (SELECT q->>'v' FROM trough.query('archive', '{s1}'::text[], 'SELECT sqlite_version() AS v') q) AS same_sqlite FROM trough.version();
SELECT count(*) > 2 AS workers, bool_and(alive) AS alive, count(*) FILTER (WHERE tier = 'cold') AS cold FROM trough.workers('archive');
SELECT segment, tier, healthy FROM trough.segments('archive', '^s1$');
SELECT count(*) FROM trough.segments('archive', '^nosuch$');
SELECT segment, under_promotion, fence > 0 AS fenced FROM trough.locks('archive') WHERE segment IN ('s1', 's2') ORDER BY 1;
SELECT id FROM trough.schemas('archive') ORDER BY 1;
SELECT name, type, sql LIKE 'CREATE %' AS sql FROM trough.tables('archive', 's1');
SELECT * FROM trough.tables('archive', 'nosuch');
SELECT trough.provision('archive', 's1', 'strict') = trough.provision('archive', 's1') AS same;
SELECT trough.promote('archive', 's1') LIKE '%/s1.sqlite' AS promoted;
SELECT segment, remote_path IS NOT NULL AS promoted, error FROM trough.promote('archive', '{s2,s9}'::text[]) ORDER BY 1;
SELECT * FROM trough.promote('archive', '{}'::text[]);
SELECT trough.promote('archive', 'nosuch');
SELECT trough.provision('archive', 's:new', 'nosuch');
SELECT trough.register_schema('archive', 'broken', 'CREATE TABLE (');
SELECT * FROM trough.query('archive', '{s1,s2}'::text[], 'SELECT :segment AS segment, count(*) AS n FROM item WHERE kind = ''apple''') q ORDER BY q->>'segment';
SELECT * FROM trough.query('archive', '^s1$', 'SELECT kind, count(*) AS n FROM item WHERE kind <> ''bulk'' GROUP BY 1', 'SELECT kind, sum(n) AS n FROM partial GROUP BY 1 ORDER BY 1') q ORDER BY q->>'kind';
SELECT trough.query('archive', '{s1}'::text[], 'SELECT 1 AS i, 1.5 AS r, NULL AS n, x''00ff'' AS b, ''é'' AS t, 1e999 AS inf');
SELECT trough.query('archive', '{nosuch}'::text[], 'SELECT 1');
SELECT trough.query('archive', '{s1}'::text[], 'SELEC 1');
SELECT trough.query('archive', '{s1}'::text[], 'SELECT "nosuch" FROM item');
SELECT trough.query('archive', '{s1}'::text[], 'DELETE FROM item');
SELECT trough.query('archive', '{s1}'::text[], 'ATTACH ''/tmp/x'' AS x');
SELECT trough.query('archive', '{../x}'::text[], 'SELECT 1');
SELECT trough.query('archive', '(', 'SELECT 1');
SELECT trough.query('nosuch', '{s1}'::text[], 'SELECT 1');
-- A segment that was written since its promotion is locked.
INSERT INTO item (segment, id, kind) VALUES ('s1', 900001, 'held');
DELETE FROM item WHERE segment = 's1' AND id = 900001;
SELECT trough.shred('archive', 's1');
-- A promoted segment's lock is given back in its time; from then on it can be shredded.
DO $$
BEGIN
    FOR i IN 1..600 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM trough.locks('archive') WHERE segment = 's9');
        PERFORM pg_sleep(0.1);
    END LOOP;
    PERFORM trough.shred('archive', 's9');
END $$;
SELECT count(*) FROM item WHERE segment = 's9';
-- Any SQLite statements on one segment, in one transaction.
SELECT trough.write('archive', 's2', 'CREATE INDEX item_kind ON item (kind); UPDATE item SET kind = ''apple'' WHERE kind = ''nosuch'';');
SELECT count(*) AS made FROM trough.query('archive', '{s2}'::text[], 'SELECT 1 AS one FROM sqlite_schema WHERE name = ''item_kind''');
SELECT trough.write('archive', 's2', 'DROP INDEX item_kind; INSERT INTO nosuch VALUES (1)');
SELECT count(*) AS kept FROM trough.query('archive', '{s2}'::text[], 'SELECT 1 AS one FROM sqlite_schema WHERE name = ''item_kind''');
SELECT trough.write('archive', 's2', 'DROP INDEX item_kind');
SELECT trough.write('archive', 's2', 'ATTACH ''/tmp/x'' AS x');
BEGIN;
SELECT trough.write('archive', 's2', 'CREATE TABLE made (a); INSERT INTO made VALUES (1), (2)');
SELECT name FROM trough.tables('archive', 's2') WHERE name IN ('made', 'item') ORDER BY 1;
ROLLBACK;
SELECT (q->>'n')::int AS n FROM trough.query('archive', '{s2}'::text[], 'SELECT count(*) AS n FROM made') q;
SELECT trough.write('archive', 's2', 'DROP TABLE made');
BEGIN READ ONLY;
SELECT trough.write('archive', 's2', 'SELECT 1');
ROLLBACK;
BEGIN READ ONLY;
SELECT trough.drain('archive', 'nosuch');
ROLLBACK;
SELECT trough.write('archive', '../x', 'SELECT 1');
-- Workers that are emptied.
SELECT count(*) FILTER (WHERE draining) AS draining, bool_and(alive) AS alive, count(*) FILTER (WHERE tier = 'cold') AS cold, bool_and(segments >= 0) AS segments, bool_and(last_heartbeat > now() - interval '5 minutes') AS heard FROM trough.worker_status('archive');
SELECT trough.drain('archive', node) FROM (SELECT node FROM trough.worker_status('archive') WHERE tier = 'cold') c;
SELECT tier, draining, count(*) FROM trough.worker_status('archive') GROUP BY 1, 2 ORDER BY 1;
SELECT trough.drain('archive', node, false) FROM (SELECT node FROM trough.worker_status('archive') WHERE draining) c;
SELECT count(*) FILTER (WHERE draining) AS draining FROM trough.worker_status('archive');
SELECT trough.drain('archive', 'nosuch');
-- What changes the cluster is not everybody's.
CREATE ROLE someone;
GRANT USAGE ON FOREIGN SERVER archive TO someone;
CREATE USER MAPPING FOR someone SERVER archive OPTIONS (token 'any');
SET ROLE someone;
SELECT trough.provision('archive', 'x');
SELECT trough.promote('archive', 's1');
SELECT trough.shred('archive', 's1');
SELECT trough.register_schema('archive', 'x', '');
SELECT trough.write('archive', 's1', 'DELETE FROM item');
SELECT trough.drain('archive', 'x');
SELECT count(*) > 0 AS may_read FROM trough.segments('archive');
RESET ROLE;
REVOKE USAGE ON FOREIGN SERVER archive FROM someone;
SET ROLE someone;
SELECT count(*) FROM trough.segments('archive');
RESET ROLE;
DROP USER MAPPING FOR someone SERVER archive;
DROP ROLE someone;
