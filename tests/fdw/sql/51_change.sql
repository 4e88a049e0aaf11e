-- UPDATE and DELETE: one SQLite statement per segment where everything can be shipped, else row by row.
CREATE FOREIGN TABLE acc (
    segment text OPTIONS (segment 'true') NOT NULL,
    id bigint OPTIONS (storage 'integer'),
    account text OPTIONS (storage 'text'),
    amount bigint,
    doubled bigint OPTIONS (generated 'true'),
    loose text OPTIONS (encoding 'any'),
    made text
) SERVER archive OPTIONS (table 'entry', schema 'ledger', segments '^yu');
INSERT INTO acc (segment, id, account, amount) SELECT 'yu' || g % 4, g, 'a' || g, g FROM generate_series(1, 20) g;
INSERT INTO acc (segment, id, account, amount) VALUES ('yu0', -5, 'negative', 0), ('yu0', 9007199254740993, 'large', 1), ('yu0', -9223372036854775808, 'least', 2), ('yu1', 9223372036854775807, 'most', 3);
\set QUIET off
-- In SQLite.
EXPLAIN (COSTS OFF, VERBOSE) UPDATE acc SET loose = 'seen', made = NULL WHERE segment = 'yu1' AND amount > 5;
EXPLAIN (COSTS OFF, VERBOSE) UPDATE acc SET loose = upper('shipped'), made = 'x' WHERE segment = 'yu1' AND amount > 5 RETURNING id, doubled;
UPDATE acc SET loose = upper('shipped'), made = 'x' WHERE segment = 'yu1' AND amount > 5 RETURNING segment, id, doubled, loose, made;
UPDATE acc SET amount = 1000 WHERE id = 2 RETURNING *;
UPDATE acc SET made = 'all';
UPDATE acc SET made = NULL WHERE segment = 'yu3';
SELECT segment, count(*) FROM acc WHERE made = 'all' GROUP BY 1 ORDER BY 1;
EXPLAIN (COSTS OFF, VERBOSE) DELETE FROM acc WHERE amount = 1000;
DELETE FROM acc WHERE amount = 1000 RETURNING segment, id, account, doubled, made;
DELETE FROM acc WHERE segment LIKE 'yu%' AND id = 4;
DELETE FROM acc WHERE segment = 'nosuch';
-- A segment that has no such row is left alone: nothing is provisioned.
UPDATE acc SET made = 'x' WHERE segment = 'yu-none';
SELECT count(*) FROM trough.segments('archive', '^yu-none$');
-- Prepared, with generic plans too.
SET plan_cache_mode = force_generic_plan;
PREPARE mark(text, text, bigint[]) AS UPDATE acc SET loose = $2 WHERE segment = $1 AND id = ANY($3) RETURNING id, loose;
EXECUTE mark('yu1', 'one', '{1,5}'); EXECUTE mark('yu2', 'two', '{1}'); EXECUTE mark('yu2', NULL, '{6,10}');
DEALLOCATE mark;
RESET plan_cache_mode;
-- Row by row: what depends on the row, what cannot be shipped, joins, extreme rowids.
EXPLAIN (COSTS OFF, VERBOSE) UPDATE acc SET amount = amount + 100 WHERE segment = 'yu0';
UPDATE acc SET amount = amount + 100 WHERE segment = 'yu0' RETURNING id, account, amount;
EXPLAIN (COSTS OFF, VERBOSE) DELETE FROM acc WHERE md5(account) = md5('least');
DELETE FROM acc WHERE md5(account) = md5('least') RETURNING *;
UPDATE acc SET loose = 'md5' WHERE md5(account) IN (md5('most'), md5('large'), md5('negative'));
SELECT segment, id, amount, loose FROM acc WHERE loose = 'md5' ORDER BY 1, 2;
CREATE TABLE change (account text, add bigint);
INSERT INTO change VALUES ('a1', 10), ('a1', 20), ('a3', 30), ('a7', 40);
EXPLAIN (COSTS OFF, VERBOSE) UPDATE acc SET amount = amount + add FROM change WHERE acc.account = change.account;
-- A row is changed once.
WITH done AS (UPDATE acc SET amount = amount + add FROM change WHERE acc.account = change.account RETURNING acc.segment, acc.id, add > 0)
    SELECT * FROM done ORDER BY 1, 2;
SELECT account, amount > 1 AS changed FROM acc WHERE account IN ('a1', 'a3', 'a7', 'a9') ORDER BY 1;
DELETE FROM acc USING change WHERE acc.account = change.account AND add = 30 RETURNING acc.account, change.add, acc.doubled;
DELETE FROM acc WHERE account IN (SELECT account FROM change WHERE add = 40);
UPDATE acc SET loose = (SELECT max(account) FROM change) WHERE segment = 'yu2' AND id = 6 RETURNING loose;
UPDATE acc SET loose = (SELECT 'sub' || count(*) FROM change WHERE change.add > acc.amount) WHERE segment = 'yu2' RETURNING id, loose;
-- The other side of a join names the segments.
CREATE TABLE aim (seg text, note text);
INSERT INTO aim VALUES ('yu0', 'zero'), ('yu3', 'three');
ANALYZE aim;
EXPLAIN (COSTS OFF, VERBOSE) UPDATE acc SET loose = note FROM aim WHERE acc.segment = aim.seg;
UPDATE acc SET loose = note FROM aim WHERE acc.segment = aim.seg;
SELECT segment, loose, count(*) FROM acc WHERE loose IN ('zero', 'three') GROUP BY 1, 2 ORDER BY 1;
-- Two foreign tables of the same segments.
UPDATE acc SET loose = 'joined' FROM acc other WHERE acc.segment = other.segment AND acc.id = other.id AND other.account = 'a8' RETURNING acc.id, other.account, acc.loose;
EXPLAIN (COSTS OFF) DELETE FROM acc USING acc other WHERE acc.segment = other.segment AND acc.id = other.id AND other.account = 'a8';
DELETE FROM acc USING acc other WHERE acc.segment = other.segment AND acc.id = other.id AND other.account = 'a8' RETURNING acc.id;
-- Keys that move: what was read is not seen again (no Halloween).
UPDATE acc SET id = id + 1000 WHERE segment = 'yu2';
SELECT min(id), max(id), count(*) FROM acc WHERE segment = 'yu2';
SET pg_trough.pushdown = off;
EXPLAIN (COSTS OFF, VERBOSE) UPDATE acc SET made = 'off' WHERE segment = 'yu1';
UPDATE acc SET made = 'off' WHERE segment = 'yu1';
DELETE FROM acc WHERE segment = 'yu1' AND made <> 'off';
RESET pg_trough.pushdown;
SELECT count(*) FROM acc WHERE made = 'off';
-- The segment cannot be changed.
UPDATE acc SET segment = segment, made = 'same' WHERE segment = 'yu1' AND id = 1;
UPDATE acc SET segment = segment WHERE segment = 'yu1' AND id = 1;
UPDATE acc SET segment = 'yu' || '1' WHERE segment = 'yu1' AND id = 1;
UPDATE acc SET segment = 'yu2' WHERE segment = 'yu1' AND id = 1;
UPDATE acc SET segment = NULL WHERE id = 1;
UPDATE acc SET doubled = 3 WHERE id = 1;
-- A failure names what is kept.
UPDATE acc SET account = 'twin', amount = 1 WHERE id IN (12, 16, 9);
SELECT segment, id FROM acc WHERE account = 'twin';
UPDATE acc SET account = NULL WHERE account = 'twin';
-- A row that somebody changed meanwhile: the statement fails, and is to be repeated.
CREATE FUNCTION interfere(text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM set_config('client_min_messages', 'error', true);
    UPDATE acc SET made = 'interfered' WHERE segment = 'yu1' AND id = 13;
    RETURN true;
END $$;
UPDATE acc SET amount = amount + 1 WHERE segment = 'yu1' AND id = 13 AND interfere(account);
UPDATE acc SET amount = amount + 1 WHERE segment = 'yu1' AND id = 13;
DROP FUNCTION interfere;
-- Row triggers see old and new rows; what they set is kept.
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON acc FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON acc FOR EACH ROW EXECUTE FUNCTION tell();
EXPLAIN (COSTS OFF, VERBOSE) UPDATE acc SET account = 'set 9' WHERE id = 13;
UPDATE acc SET account = 'set 9' WHERE id = 13;
UPDATE acc SET account = 'skip' WHERE id = 13;
SELECT account, loose FROM acc WHERE id = 13;
DELETE FROM acc WHERE id = 13;
DROP TRIGGER stamp ON acc;
DROP TRIGGER tell ON acc;
-- WITH CHECK OPTION.
CREATE VIEW cheap AS SELECT * FROM acc WHERE amount < 500 WITH CHECK OPTION;
UPDATE cheap SET amount = 501 WHERE segment = 'yu2' AND account = 'a6';
UPDATE cheap SET amount = 499 WHERE segment = 'yu2' AND account = 'a6';
DROP VIEW cheap;
-- WITHOUT ROWID tables and views: the key's columns tell rows apart.
CREATE FOREIGN TABLE pair (segment text OPTIONS (segment 'true'), a bigint, b text, v double precision) SERVER archive OPTIONS (schema 'ledger', segments '^yu');
INSERT INTO pair VALUES ('yu1', 1, 'x', 1.5), ('yu1', 2, 'x', 2.5), ('yu2', 1, 'y', 3.5);
UPDATE pair SET v = 0 WHERE a = 1 AND b = 'y' RETURNING *;
UPDATE pair SET v = v * 2 WHERE segment = 'yu1';
ALTER FOREIGN TABLE pair ALTER a OPTIONS (key 'true'), ALTER b OPTIONS (key 'true');
EXPLAIN (COSTS OFF, VERBOSE) UPDATE pair SET v = v * 2, b = b || '!';
WITH done AS (UPDATE pair SET v = v * 2, b = b || '!' RETURNING *) SELECT * FROM done ORDER BY segment, a;
DELETE FROM pair WHERE md5(b) = md5('x!') AND a = 2;
SELECT * FROM pair ORDER BY segment, a;
-- Options that refuse.
ALTER FOREIGN TABLE pair OPTIONS (ADD read_only 'true');
UPDATE pair SET v = 1;
DELETE FROM pair;
TRUNCATE pair;
ALTER FOREIGN TABLE pair OPTIONS (DROP read_only);
SELECT table_name, is_insertable_into FROM information_schema.tables WHERE table_name = 'pair';
MERGE INTO pair USING change ON pair.b = change.account WHEN MATCHED THEN DELETE;
\set QUIET on
DROP FOREIGN TABLE pair;
