-- INSERT and COPY: one SQLite transaction per segment and statement; what is new is provisioned.
CREATE FOREIGN TABLE item (
    segment text OPTIONS (segment 'true') NOT NULL,
    id bigint OPTIONS (storage 'integer'),
    kind text OPTIONS (storage 'text') NOT NULL,
    n bigint OPTIONS (storage 'integer'),
    price double precision OPTIONS (storage 'real'),
    note text OPTIONS (storage 'text'),
    raw bytea OPTIONS (storage 'blob')
) SERVER archive OPTIONS (schema 'strict', segments '^s');
SELECT count(*) FROM item;
EXPLAIN (COSTS OFF, VERBOSE) INSERT INTO item (segment, kind, n) VALUES ('s1', 'a', 1);
INSERT INTO item (segment, kind, n, price, note) VALUES
    ('s1', 'apple', 1, 0.5, 'first'), ('s1', 'pear', 2, 1.25, NULL), ('s2', 'apple', NULL, -1e300, ''),
    ('s3:x y', 'plum', 9007199254740993, 'Infinity', 'é中😀');
SELECT * FROM item ORDER BY segment, id;
INSERT INTO item SELECT 's' || g % 5, NULL, 'bulk', g, g / 4.0, repeat('x', g % 7), decode(lpad(to_hex(g), 4, '0'), 'hex')
    FROM generate_series(1, 5000) g;
SELECT segment, count(*), sum(n), min(price), max(price), sum(length(note)) FROM item GROUP BY segment ORDER BY segment;
COPY item (segment, kind, n) FROM STDIN;
s1	copied	7
s9	copied	8
s9	copied	\N
\.
SELECT segment, kind, n FROM item WHERE kind = 'copied' ORDER BY 1, 3;
INSERT INTO item (segment, kind, n) VALUES ('s9', 'returned', 5) RETURNING segment, kind, n + 1;
PREPARE put(text, bigint) AS INSERT INTO item (segment, kind, n) VALUES ($1, 'prepared', $2);
EXECUTE put('s1', 1); EXECUTE put('s1', 2); EXECUTE put('s1', 3); EXECUTE put('s1', 4); EXECUTE put('s1', 5); EXECUTE put('s1', 6);
SELECT count(*), sum(n) FROM item WHERE segment = 's1' AND kind = 'prepared';
-- More rows than the write buffer holds: they wait in a temporary file, and each segment is still written once.
CREATE FOREIGN TABLE wide (segment text OPTIONS (segment 'true'), kind text, n bigint, note text)
    SERVER archive OPTIONS (table 'item', schema 'strict', segments '^w');
SET pg_trough.write_buffer = '64kB';
INSERT INTO wide SELECT 'w' || g % 7, 'spilled', g, repeat('é', g % 30) FROM generate_series(1, 20000) g;
SELECT segment, count(*), sum(n), sum(length(note)) FROM wide GROUP BY segment ORDER BY segment;
INSERT INTO wide (segment, kind, n) SELECT 'w1', 'never', 1 / (g - 19999) FROM generate_series(1, 20000) g;
SELECT count(*) FROM wide WHERE kind = 'never';
RESET pg_trough.write_buffer;
SELECT count(*) FROM pg_ls_tmpdir();
DROP FOREIGN TABLE wide;
-- Into a partition.
CREATE TABLE parent (LIKE item) PARTITION BY LIST (kind);
ALTER FOREIGN TABLE item OPTIONS (ADD read_only 'false');
ALTER TABLE parent ATTACH PARTITION item DEFAULT;
INSERT INTO parent (segment, kind, n) VALUES ('s9', 'routed', 1);
SELECT segment, kind, n FROM parent WHERE kind = 'routed';
ALTER TABLE parent DETACH PARTITION item;
DROP TABLE parent;
-- What is refused.
INSERT INTO item (segment, kind) VALUES (NULL, 'x');
INSERT INTO item (segment, kind) VALUES ('../up', 'x');
INSERT INTO item (segment, kind) VALUES (repeat('x', 300), 'x');
INSERT INTO item (segment, kind) VALUES ('', 'x');
INSERT INTO item (segment, kind) VALUES ('elsewhere', 'x');
INSERT INTO item (segment, kind, price) VALUES ('s1', 'x', 'NaN');
INSERT INTO item (segment, id, kind) VALUES ('s1', 100000, 'one'), ('s1', 100000, 'two');
SELECT count(*) FROM item WHERE id = 100000;
INSERT INTO item (segment, id, kind) VALUES ('s8', 1, 'kept'), ('s1', 1, 'refused');
ALTER FOREIGN TABLE item OPTIONS (SET read_only 'true');
INSERT INTO item (segment, kind) VALUES ('s1', 'x');
ALTER FOREIGN TABLE item OPTIONS (DROP read_only);
CREATE FOREIGN TABLE nosegment (kind text) SERVER archive OPTIONS (table 'item', segments '^s1$');
INSERT INTO nosegment VALUES ('x');
SELECT count(*) > 0 FROM nosegment;
DROP FOREIGN TABLE nosegment;
CREATE FOREIGN TABLE noschema (segment text OPTIONS (segment 'true'), id int) SERVER archive OPTIONS (schema 'nosuch');
INSERT INTO noschema VALUES ('new', 1);
DROP FOREIGN TABLE noschema;
-- A column and a table that segments lack.
CREATE FOREIGN TABLE wrong (segment text OPTIONS (segment 'true'), id int, nosuch int) SERVER archive OPTIONS (table 'item', segments '^s1$');
SELECT nosuch FROM wrong;
SELECT id IS NULL FROM wrong LIMIT 1;
INSERT INTO wrong VALUES ('s1', 1, 1);
ALTER FOREIGN TABLE wrong OPTIONS (SET table 'absent');
SELECT id FROM wrong;
DROP FOREIGN TABLE wrong;
