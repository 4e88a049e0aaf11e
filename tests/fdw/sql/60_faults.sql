-- Segments that cannot be read, and named ones that do not exist: an error, a warning, or no rows.
SELECT trough.register_schema('archive', 'sixty', $$
CREATE TABLE reading (at INTEGER NOT NULL, value, note TEXT);
$$);
SELECT trough.register_schema('archive', 'sixty_other', $$ CREATE TABLE other (n INTEGER); $$);
CREATE FOREIGN TABLE reading (
    segment text OPTIONS (segment 'true') NOT NULL, at bigint NOT NULL, value bigint, note text
) SERVER archive OPTIONS (schema 'sixty', segments '^q');
CREATE FOREIGN TABLE reading_any (
    segment text OPTIONS (segment 'true') NOT NULL, at bigint NOT NULL, value text OPTIONS (encoding 'any')
) SERVER archive OPTIONS (table 'reading', schema 'sixty', segments '^q');
INSERT INTO reading SELECT 'q' || g % 4, g, g * 10, 'n' || g FROM generate_series(1, 40) g;
-- A segment without the table, and one that holds a text where an integer is declared.
SELECT trough.provision('archive', 'q_other', 'sixty_other') IS NOT NULL AS made;
SELECT segment, count(*) FROM reading GROUP BY segment ORDER BY 1;
SELECT count(*) FROM reading;
SELECT count(*) FROM reading WHERE segment IN ('q1', 'q_other');
ALTER FOREIGN TABLE reading OPTIONS (ADD on_segment_error 'ignore');
ALTER FOREIGN TABLE reading OPTIONS (ADD on_segment_error 'warn');
SELECT count(*) FROM reading;
SELECT segment, count(*) FROM reading GROUP BY segment ORDER BY 1;
SELECT segment, at FROM reading WHERE at < 4 ORDER BY at;
INSERT INTO reading_any VALUES ('q_text', 1, 'twelve');
SELECT count(*), sum(value) FROM reading WHERE value > 10;
SELECT count(*) FROM reading;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT count(*), sum(value) FROM reading WHERE value > 10;
-- One warning, however often the scan is run.
SELECT g, (SELECT count(*) FROM reading WHERE value > g) FROM generate_series(1, 3) g;
-- A row that the backend itself cannot read is an error whatever the option says.
SELECT segment, value FROM reading WHERE segment = 'q_text';
ALTER FOREIGN TABLE reading OPTIONS (SET on_segment_error 'skip');
SELECT count(*), sum(value) FROM reading WHERE value > 10;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT count(*), sum(value) FROM reading WHERE value > 10;
-- Tables whose failures are left out are joined here: in a segment, one's failure would take the other's rows.
EXPLAIN (COSTS OFF) SELECT count(*) FROM reading_any a LEFT JOIN reading r ON a.segment = r.segment AND a.at = r.at;
-- What concerns the whole query is never skipped.
ALTER FOREIGN TABLE reading OPTIONS (ADD max_rows '5');
SELECT segment, at FROM reading WHERE segment = 'q1';
ALTER FOREIGN TABLE reading OPTIONS (DROP max_rows);
SET statement_timeout = '1ms';
SELECT count(*) FROM reading a, reading b, reading c WHERE a.note || b.note || c.note = 'x';
RESET statement_timeout;
ALTER FOREIGN TABLE reading OPTIONS (DROP on_segment_error);
-- Named segments that do not exist.
SELECT count(*) FROM reading WHERE segment IN ('q1', 'q_none', 'q/../x');
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT at FROM reading WHERE segment IN ('q1', 'q_none', 'q/../x');
ALTER FOREIGN TABLE reading OPTIONS (ADD on_missing_segment 'warn');
SELECT count(*) FROM reading WHERE segment IN ('q1', 'q_none', 'q_none2', 'q_none3', 'q_none4', 'q/../x');
SELECT count(*) FROM reading WHERE segment = 'q/../x';
SELECT g, (SELECT count(*) FROM reading WHERE segment = 'q' || g) FROM generate_series(2, 6) g;
SELECT count(*) FROM reading WHERE segment LIKE 'q_none%';
ALTER FOREIGN TABLE reading OPTIONS (SET on_missing_segment 'error');
SELECT count(*) FROM reading WHERE segment IN ('q1', 'q_none', 'q_none2');
SELECT count(*) FROM reading WHERE segment IN ('q1', 'q/../x');
SELECT count(*) FROM reading WHERE segment IN ('q1', 'q2');
-- Names outside the table's segments are none of its, and a listing names nothing.
SELECT count(*) FROM reading WHERE segment IN ('q1', 's_none');
SELECT count(*) FROM reading WHERE segment LIKE 'q_none%';
ALTER FOREIGN TABLE reading OPTIONS (DROP on_missing_segment);
-- The server's options hold where the table has none.
ALTER SERVER archive OPTIONS (ADD on_missing_segment 'error');
SELECT count(*) FROM reading WHERE segment IN ('q1', 'q_none');
ALTER FOREIGN TABLE reading OPTIONS (ADD on_missing_segment 'skip');
SELECT count(*) FROM reading WHERE segment IN ('q1', 'q_none');
ALTER SERVER archive OPTIONS (DROP on_missing_segment);
DROP FOREIGN TABLE reading, reading_any;
