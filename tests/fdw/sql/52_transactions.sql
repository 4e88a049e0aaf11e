-- TRUNCATE, and what PostgreSQL's transactions mean over segments.
CREATE FOREIGN TABLE line (segment text OPTIONS (segment 'true'), id bigint, line text) SERVER archive OPTIONS (table 'log', schema 'ledger', segments '^yt');
INSERT INTO line (segment, line) SELECT 'yt' || g % 3, g FROM generate_series(1, 9) g;
TRUNCATE line;
SELECT count(*) FROM line;
-- AUTOINCREMENT goes on, or begins anew.
INSERT INTO line (segment, line) VALUES ('yt1', 'x'), ('yt2', 'y') RETURNING segment, id;
TRUNCATE line RESTART IDENTITY;
INSERT INTO line (segment, line) VALUES ('yt1', 'x'), ('yt2', 'y') RETURNING segment, id;
TRUNCATE line CASCADE;
ALTER FOREIGN TABLE line OPTIONS (truncatable 'false');
TRUNCATE line;
ALTER FOREIGN TABLE line OPTIONS (SET truncatable 'true');
SELECT count(*) FROM line;
-- A rollback says what it leaves.
BEGIN;
INSERT INTO line (segment, line) VALUES ('yt1', 'rolled back?');
UPDATE line SET line = 'kept' WHERE segment = 'yt2';
ROLLBACK;
SELECT * FROM line ORDER BY segment, id;
BEGIN;
INSERT INTO line (segment, line) VALUES ('yt3', 'before');
SAVEPOINT s;
DELETE FROM line WHERE segment = 'yt1';
ROLLBACK TO s;
SAVEPOINT s2;
DELETE FROM line WHERE segment = 'yt2';
RELEASE s2;
COMMIT;
DO $$
BEGIN
    INSERT INTO line (segment, line) VALUES ('yt4', 'in a block');
    RAISE EXCEPTION 'no';
EXCEPTION WHEN OTHERS THEN NULL;
END $$;
-- What failed tells by itself; what a statement before it wrote is told by the rollback.
DO $$
DECLARE detail text;
BEGIN
    INSERT INTO line (segment, line) VALUES ('yt5', 'earlier');
    INSERT INTO line (segment, id, line) VALUES ('yt6', 1, 'other'), ('yt5', 1, 'twice');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RAISE WARNING '% - %', SQLERRM, detail;
END $$;
-- A statement that fails after its rows were written.
CREATE TABLE late (x int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
INSERT INTO late VALUES (1);
DO $$
BEGIN
    WITH w AS (INSERT INTO line (segment, line) VALUES ('yt7', 'written') RETURNING id) INSERT INTO late SELECT 1 FROM w;
    SET CONSTRAINTS ALL IMMEDIATE;
EXCEPTION WHEN OTHERS THEN RAISE WARNING '%', SQLERRM;
END $$;
-- There is nothing to prepare.
BEGIN;
INSERT INTO line (segment, line) VALUES ('yt8', 'x');
SET LOCAL client_min_messages = error;
PREPARE TRANSACTION 'p';
BEGIN;
SELECT count(*) FROM line WHERE segment = 'yt8';
UPDATE line SET line = 'x' WHERE segment = 'nosuch';
PREPARE TRANSACTION 'p';
-- Two foreign tables in one statement.
CREATE FOREIGN TABLE line2 (segment text OPTIONS (segment 'true'), id bigint, line text) SERVER archive OPTIONS (table 'log', schema 'ledger', segments '^yt2');
WITH gone AS (DELETE FROM line WHERE segment = 'yt3' RETURNING line) INSERT INTO line2 (segment, line) SELECT 'yt2', line FROM gone RETURNING line;
SELECT * FROM line ORDER BY segment, id;
DROP FOREIGN TABLE line2;
DROP FOREIGN TABLE line;
