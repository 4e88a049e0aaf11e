-- Options are checked where they are written; a mistyped name is answered with the nearest valid one.
CREATE SERVER bad FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdbs 'rethinkdb://h/d');
CREATE SERVER bad FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb 'http://h/d');
CREATE SERVER bad FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb 'rethinkdb://h/d', readonly 'true');
CREATE SERVER bad FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb 'rethinkdb://h/d', read_only 'maybe');
CREATE SERVER bad FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb 'rethinkdb://h/d', max_rows '-1');
CREATE USER MAPPING FOR public SERVER archive OPTIONS (tokn 'x');
CREATE USER MAPPING FOR public SERVER archive OPTIONS (password 'x');
CREATE FOREIGN TABLE bad (segment text OPTIONS (segmnt 'true')) SERVER archive;
CREATE FOREIGN TABLE bad (segment text OPTIONS (segment 'true')) SERVER archive OPTIONS (tabel 'x');
CREATE FOREIGN TABLE bad (segment text OPTIONS (segment 'true')) SERVER archive OPTIONS (segments '(');
CREATE FOREIGN TABLE bad (segment text OPTIONS (segment 'true')) SERVER archive OPTIONS (schema '../x');
CREATE FOREIGN TABLE bad (at timestamptz OPTIONS (encoding 'iso8061')) SERVER archive;
CREATE FOREIGN DATA WRAPPER other HANDLER trough.trough_fdw_handler VALIDATOR trough.trough_fdw_validator OPTIONS (x 'y');
-- What depends on the column's type is checked when the table is used.
CREATE FOREIGN TABLE bad (segment text OPTIONS (segment 'true'), id int OPTIONS (encoding 'iso8601')) SERVER archive;
SELECT * FROM bad;
DROP FOREIGN TABLE bad;
CREATE FOREIGN TABLE bad (a text OPTIONS (segment 'true'), b text OPTIONS (segment 'true')) SERVER archive;
SELECT * FROM bad;
DROP FOREIGN TABLE bad;
CREATE FOREIGN TABLE bad (segment int OPTIONS (segment 'true')) SERVER archive;
SELECT * FROM bad;
DROP FOREIGN TABLE bad;
-- A server that cannot be reached, and one without metadata.
CREATE SERVER gone FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb 'rethinkdb://127.0.0.1:1/trough_configuration');
CREATE FOREIGN TABLE far (segment text OPTIONS (segment 'true'), id int) SERVER gone;
SELECT * FROM far;
DROP SERVER gone CASCADE;
CREATE SERVER empty FOREIGN DATA WRAPPER trough_fdw;
CREATE FOREIGN TABLE far (segment text OPTIONS (segment 'true'), id int) SERVER empty;
SELECT * FROM far;
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM far;
DROP SERVER empty CASCADE;
SET pg_trough.nonsense = 1;
