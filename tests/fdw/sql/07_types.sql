-- Encodings, and values that do not fit.
CREATE FOREIGN TABLE event (
    segment text OPTIONS (segment 'true'),
    at timestamptz OPTIONS (encoding 'iso8601'), day date, code int, size bigint, ratio double precision, name varchar(40),
    flag boolean, amount numeric(10,2), body bytea, free text OPTIONS (column_name 'any', encoding 'any')
) SERVER archive OPTIONS (schema 'loose', segments '^l');
INSERT INTO event VALUES
    ('l1', '2020-02-29 12:34:56.789012+00', '2020-02-29', 1, 10, 0.5, 'Ann', true, 12.345, '\x00ff', 'one'),
    ('l1', '1969-12-31 23:59:59.5+00', '0001-01-01', -2147483648, -9223372036854775808, -0.0, 'ann', false, -0.01, '', NULL),
    ('l2', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT * FROM event ORDER BY segment, code;
EXPLAIN (COSTS OFF, VERBOSE) SELECT code FROM event WHERE at >= '2020-01-01' AND day = '2020-02-29' AND flag AND name = 'ann';
SELECT code FROM event WHERE at >= '2020-01-01' AND day = '2020-02-29' AND flag;
SELECT code, at FROM event WHERE at < '1970-01-01';
SELECT code, at FROM event WHERE at = '2020-02-29 13:34:56.789012+01';
SELECT code, name FROM event WHERE name = 'ann';
SELECT name, count(*) FROM event GROUP BY name ORDER BY name;
SELECT name FROM event WHERE name IN ('ANN', 'Ann');
SELECT segment, code FROM event WHERE flag IS NOT TRUE ORDER BY code;
INSERT INTO event (segment, at) VALUES ('l1', 'infinity');
INSERT INTO event (segment, day) VALUES ('l1', '0001-01-01 BC');
-- Rows written by others, straight through a worker's write port.
SELECT trough.provision('archive', 'l3', 'loose') AS url \gset
\setenv WRITE_URL :url
\! curl -sS "$WRITE_URL" --data-binary "insert into event (at, day, code) values ('2020-03-01T00:00:00Z', '2020-03-01', 3), ('2020-03-01 01:00:00+01:00', '2020-03-02', 4), ('2020-03-01 00:00', '2020-03-03', 5)"
SELECT code, at FROM event WHERE segment = 'l3' AND at = '2020-03-01' ORDER BY code;
SELECT at, count(*) FROM event WHERE segment = 'l3' GROUP BY at;
CREATE FOREIGN TABLE epochs (segment text OPTIONS (segment 'true'), s timestamptz OPTIONS (column_name 'size', encoding 'epoch_s'), ms timestamp OPTIONS (column_name 'code', encoding 'epoch_ms')) SERVER archive OPTIONS (table 'event', schema 'loose', segments '^e');
INSERT INTO epochs VALUES ('e1', '2001-09-09 01:46:40+00', '1970-01-01 00:00:01'), ('e1', '2001-09-09 01:46:40.25+00', '1970-01-01 00:00:01.5');
SELECT * FROM epochs ORDER BY 1, 2;
SELECT count(*) FROM epochs WHERE s > '2001-09-09 01:46:40.1+00';
SELECT count(*) FROM epochs WHERE s = '2001-09-09 01:46:40.25+00';
SELECT min(s), max(s) FROM epochs;
-- Values that do not fit: the error names segment, table and column, with and without pushdown.
SELECT trough.provision('archive', 'lbad', 'loose') AS url \gset
\setenv WRITE_URL :url
\! curl -sS "$WRITE_URL" --data-binary "insert into event (code, size, ratio, name, flag, at, day, body) values ('abc', 1.5, 'x', 5, 2, 'noon', '2020-02-30', 'text')"
SELECT code FROM event WHERE segment = 'lbad';
SELECT size FROM event WHERE segment = 'lbad';
SELECT ratio FROM event WHERE segment = 'lbad';
SELECT flag FROM event WHERE segment = 'lbad';
SELECT at FROM event WHERE segment = 'lbad';
SELECT day FROM event WHERE segment = 'lbad';
SELECT body FROM event WHERE segment = 'lbad';
SELECT count(*) FROM event WHERE segment = 'lbad' AND code < 5;
SELECT sum(size) FROM event WHERE segment = 'lbad';
SELECT sum(code), max(day) FROM event WHERE segment LIKE 'l%';
SELECT segment, count(*) FROM event WHERE flag GROUP BY segment;
SELECT trough.provision('archive', 'lbig', 'loose') AS url \gset
\setenv WRITE_URL :url
\! curl -sS "$WRITE_URL" --data-binary "insert into event (code) values (3000000000)"
SELECT code FROM event WHERE segment = 'lbig';
SELECT count(*) FROM event WHERE segment = 'lbig' AND code > 5;
-- Text that PostgreSQL cannot hold.
SELECT trough.provision('archive', 'ltext', 'loose') AS url \gset
\setenv WRITE_URL :url
\! curl -sS "$WRITE_URL" --data-binary "insert into event (code, name) values (1, cast(x'61ff62' as text)), (2, cast(x'610062' as text)), (3, 'fine')"
SELECT code, name FROM event WHERE segment = 'ltext' AND code = 1;
SELECT code, name FROM event WHERE segment = 'ltext' AND code = 2;
SELECT code, name FROM event WHERE segment = 'ltext' AND code = 3;
ALTER FOREIGN TABLE event OPTIONS (ADD invalid_text 'null');
SELECT code, name FROM event WHERE segment = 'ltext' ORDER BY code;
SELECT code FROM event WHERE segment = 'ltext' AND name IS NULL ORDER BY code;
ALTER FOREIGN TABLE event OPTIONS (SET invalid_text 'replace');
SELECT code, name, length(name) FROM event WHERE segment = 'ltext' ORDER BY code;
\! curl -sS "$WRITE_URL" --data-binary "insert into event (code, name, [any]) values (4, 'a text that stands before it', cast(x'61ff62' as text))"
SELECT name, free FROM event WHERE segment = 'ltext' AND code = 4;
ALTER FOREIGN TABLE event OPTIONS (DROP invalid_text);
-- uuid and json.
CREATE FOREIGN TABLE ids (segment text OPTIONS (segment 'true'), t uuid OPTIONS (column_name 'name'), b uuid OPTIONS (column_name 'body', encoding 'blob'), j jsonb OPTIONS (column_name 'any')) SERVER archive OPTIONS (table 'event', schema 'loose', segments '^u');
INSERT INTO ids VALUES ('u1', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', '{"a": [1, null]}');
SELECT trough.provision('archive', 'u2', 'loose') AS url \gset
\setenv WRITE_URL :url
\! curl -sS "$WRITE_URL" --data-binary "insert into event (name) values ('{A0EEBC999C0B4EF8BB6D6BB9BD380A11}')"
SELECT segment, t, b, j FROM ids ORDER BY 1;
SELECT segment FROM ids WHERE t = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' ORDER BY 1;
SELECT segment FROM ids WHERE b = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12';
SELECT t, count(*) FROM ids GROUP BY t;
