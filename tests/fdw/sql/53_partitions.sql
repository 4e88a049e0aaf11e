-- Partitions: rows routed into foreign tables, UPDATE and DELETE over local and foreign partitions.
CREATE TABLE part (kind text, segment text, id bigint, account text, amount bigint) PARTITION BY LIST (kind);
CREATE TABLE part_local PARTITION OF part FOR VALUES IN ('local');
CREATE FOREIGN TABLE part_a (
    segment text OPTIONS (segment 'true') NOT NULL,
    account text OPTIONS (storage 'text'),
    kind text OPTIONS (column_name 'loose'),
    amount bigint,
    id bigint
) SERVER archive OPTIONS (table 'entry', schema 'ledger', segments '^ypa');
CREATE FOREIGN TABLE part_b (
    kind text OPTIONS (column_name 'loose'),
    segment text OPTIONS (segment 'true') NOT NULL,
    id bigint,
    account text,
    amount bigint
) SERVER archive OPTIONS (table 'entry', schema 'ledger', segments '^ypb');
ALTER TABLE part ATTACH PARTITION part_a FOR VALUES IN ('a');
ALTER TABLE part ATTACH PARTITION part_b FOR VALUES IN ('b');
\set QUIET off
-- Columns that are not named keep SQLite's defaults here too.
INSERT INTO part (kind, segment, account) VALUES ('a', 'ypa1', 'routed'), ('b', 'ypb1', 'routed'), ('local', NULL, 'routed');
INSERT INTO part (kind, segment, account, amount) VALUES ('a', 'ypa1', 'more', 5), ('b', 'ypb1', 'more', 6) RETURNING kind, segment, account, amount;
INSERT INTO part (kind, segment, account, amount) VALUES ('a', 'ypa1', 'more', 8) RETURNING id;
INSERT INTO part (kind, segment, account, amount) VALUES ('a', 'ypa1', 'more', 5) ON CONFLICT DO NOTHING;
COPY part (kind, segment, account, amount) FROM STDIN;
a	ypa2	copied	1
b	ypb2	copied	2
local	\N	copied	3
\.
SELECT * FROM part ORDER BY kind, segment, id, account;
EXPLAIN (COSTS OFF, VERBOSE) UPDATE part SET amount = 70 WHERE account = 'routed';
UPDATE part SET amount = 70 WHERE account = 'routed' RETURNING kind, segment, id, account, amount, tableoid::regclass;
EXPLAIN (COSTS OFF, VERBOSE) UPDATE part SET amount = amount + 1 WHERE account = 'more';
WITH done AS (UPDATE part SET amount = amount + 1 WHERE account IN ('more', 'copied') RETURNING kind, segment, amount)
    SELECT * FROM done ORDER BY 1, 2, 3;
DELETE FROM part WHERE account = 'copied' RETURNING tableoid::regclass, *;
-- A row that moves into a foreign partition is inserted there; out of one it cannot move, nor may it lie in the wrong one.
UPDATE part SET kind = 'a', segment = 'ypa3' WHERE kind = 'local';
UPDATE part SET kind = 'b' WHERE kind = 'a' AND segment = 'ypa3';
UPDATE part SET kind = 'a' WHERE kind = 'a' AND segment = 'ypa3';
INSERT INTO part_a (kind, segment, account) VALUES ('b', 'ypa4', 'wrong');
INSERT INTO part_a (kind, segment, account) VALUES ('b', 'ypa4', 'wrong') RETURNING id;
INSERT INTO part_a (kind, segment, account) VALUES ('a', 'ypa4', 'right') RETURNING id, kind;
SELECT * FROM part ORDER BY kind, segment, id, account;
TRUNCATE part;
SELECT count(*) FROM part;
\set QUIET on
DROP TABLE part;
