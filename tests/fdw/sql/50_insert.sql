-- INSERT: what is returned is what SQLite stored, rows that conflict do not count, defaults are SQLite's.
SELECT trough.register_schema('archive', 'ledger', $$
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    amount INTEGER NOT NULL DEFAULT 7,
    doubled INTEGER GENERATED ALWAYS AS (amount * 2) STORED,
    loose,
    made TEXT NOT NULL DEFAULT 'by sqlite',
    UNIQUE (account, amount)
);
CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT);
CREATE TABLE pair (a INTEGER, b TEXT, v REAL, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE VIEW rich AS SELECT * FROM entry WHERE amount > 100;
CREATE TRIGGER shout AFTER INSERT ON entry WHEN NEW.account = 'loud' BEGIN
    INSERT INTO log (line) VALUES ('loud ' || NEW.amount);
END;
$$);
CREATE FOREIGN TABLE entry (
    segment text OPTIONS (segment 'true') NOT NULL,
    id bigint OPTIONS (storage 'integer'),
    account text OPTIONS (storage 'text'),
    amount bigint,
    doubled bigint OPTIONS (generated 'true'),
    loose text OPTIONS (encoding 'any'),
    made text
) SERVER archive OPTIONS (schema 'ledger', segments '^yl');
EXPLAIN (COSTS OFF, VERBOSE) INSERT INTO entry (segment, account) VALUES ('yl1', 'a') RETURNING *;
INSERT INTO entry (segment, account) VALUES ('yl1', 'a') RETURNING *;
INSERT INTO entry (segment, account, amount, loose) VALUES ('yl1', 'b', 1, '1'), ('yl2', 'a', 2, 'x'), ('yl1', 'b', 3, NULL)
    RETURNING segment, id, doubled, amount + 1 AS more, loose, made, tableoid::regclass;
INSERT INTO entry (segment, account, amount) SELECT 'yl' || g % 3, 'many', g FROM generate_series(1, 9) g RETURNING segment, id, amount, entry;
WITH new AS (INSERT INTO entry (segment, account, amount) VALUES ('yl3', 'cte', 10), ('yl3', 'cte', 11) RETURNING id, amount)
    SELECT sum(id), sum(amount) FROM new;
\set QUIET off
INSERT INTO entry (segment, account, amount) VALUES ('yl3', 'quiet', 1) RETURNING 1;
-- ON CONFLICT DO NOTHING: only what was inserted counts and returns.
EXPLAIN (COSTS OFF, VERBOSE) INSERT INTO entry (segment, account, amount) VALUES ('yl1', 'b', 1) ON CONFLICT DO NOTHING;
INSERT INTO entry (segment, account, amount) VALUES ('yl1', 'b', 1), ('yl1', 'b', 2), ('yl4', 'b', 1), ('yl4', 'b', 1) ON CONFLICT DO NOTHING;
INSERT INTO entry (segment, account, amount) VALUES ('yl1', 'b', 1), ('yl1', 'b', 4), ('yl4', 'b', 1) ON CONFLICT DO NOTHING RETURNING segment, amount;
INSERT INTO entry (segment, account, amount) VALUES ('yl1', NULL, 1) ON CONFLICT DO NOTHING;
INSERT INTO entry (segment, account, amount) VALUES ('yl1', 'b', 1) ON CONFLICT (id) DO NOTHING;
INSERT INTO entry (segment, account, amount) VALUES ('yl1', 'b', 1) ON CONFLICT (id) DO UPDATE SET amount = 0;
\set QUIET on
-- Prepared, with generic plans too.
SET plan_cache_mode = force_generic_plan;
PREPARE add(text, text, bigint) AS INSERT INTO entry (segment, account, amount) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING segment, amount, doubled;
EXECUTE add('yl5', 'p', 1); EXECUTE add('yl5', 'p', 1); EXECUTE add('yl5', 'p', 2);
RESET plan_cache_mode;
DEALLOCATE add;
-- What SQLite computes is never sent.
INSERT INTO entry (segment, account, doubled) VALUES ('yl1', 'x', 5);
INSERT INTO entry (segment, account, doubled) VALUES ('yl1', 'x', DEFAULT) RETURNING doubled;
-- SQLite's triggers ran in the same transaction.
CREATE FOREIGN TABLE log (segment text OPTIONS (segment 'true'), id bigint, line text) SERVER archive OPTIONS (schema 'ledger', segments '^yl');
INSERT INTO entry (segment, account, amount) VALUES ('yl1', 'loud', 5) RETURNING account;
SELECT * FROM log;
-- A failure names what the other segments keep; nothing is kept of the one that failed.
INSERT INTO entry (segment, account, amount) SELECT 'yl1' || g, 'half', 1 FROM generate_series(1, 12) g UNION ALL SELECT 'yl2', NULL, 1 RETURNING 1;
SELECT count(*) FROM entry WHERE segment = 'yl2' AND account IS NULL;
-- Defaults, identities and generated columns of PostgreSQL are sent.
CREATE FOREIGN TABLE declared (
    segment text OPTIONS (segment 'true') NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY (START 1000),
    account text DEFAULT 'postgres',
    amount bigint DEFAULT 3,
    loose text OPTIONS (encoding 'any') GENERATED ALWAYS AS ('of ' || account) STORED,
    made text
) SERVER archive OPTIONS (table 'entry', schema 'ledger', segments '^yd');
EXPLAIN (COSTS OFF, VERBOSE) INSERT INTO declared (segment) VALUES ('yd1');
INSERT INTO declared (segment) VALUES ('yd1'), ('yd2');
INSERT INTO declared (segment, account) VALUES ('yd1', 'given') RETURNING *;
SELECT * FROM declared ORDER BY segment, id;
INSERT INTO declared (segment) VALUES ('yd1') ON CONFLICT DO NOTHING;
-- Row triggers: what they set is sent, and only that.
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.account = 'skip' THEN RETURN NULL; END IF;
    IF NEW.account LIKE 'set%' THEN NEW.loose := 'trigger ' || NEW.account; END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING '% %', TG_OP, coalesce(NEW, OLD); RETURN NULL; END $$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON entry FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON entry FOR EACH ROW EXECUTE FUNCTION tell();
INSERT INTO entry (segment, account, amount) VALUES ('yl6', 'set 1', 1), ('yl6', 'skip', 2), ('yl6', 'plain', 3), ('yl6', 'set 2', 4);
INSERT INTO entry (segment, account) VALUES ('yl6', 'none') RETURNING account, loose;
INSERT INTO entry (segment, account, amount) VALUES ('yl6', 'set 3', 5) RETURNING account, amount;
SELECT * FROM entry WHERE segment = 'yl6' ORDER BY id;
DROP TRIGGER stamp ON entry;
DROP TRIGGER tell ON entry;
-- Views with CHECK OPTION.
CREATE VIEW big AS SELECT * FROM entry WHERE amount > 100 WITH CHECK OPTION;
INSERT INTO big (segment, account, amount) VALUES ('yl7', 'v', 101);
INSERT INTO big (segment, account, amount) VALUES ('yl7', 'v', 100);
SELECT segment, account, amount, made FROM big;
DROP VIEW big;
DROP FOREIGN TABLE declared;
