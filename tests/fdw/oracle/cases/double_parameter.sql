-- A double in a parameter arrived one unit in the last place beside what was sent, so that an equal row was lost.
--! sqlite
CREATE TABLE t1 ("id" INTEGER, "a" REAL);
--! segment @P@1
INSERT INTO t1 VALUES
(1, 1e-30),
(2, 1e300),
(3, 0.1);
--! foreign
CREATE FOREIGN TABLE t1 (segment text OPTIONS (segment 'true'), id bigint, a double precision) SERVER archive OPTIONS (schema '@P@s', segments '^@P@');
--! heap
CREATE TABLE t1 (segment text, id bigint, a double precision);
INSERT INTO t1 VALUES
('@P@1', 1, '1e-30'),
('@P@1', 2, '1e300'),
('@P@1', 3, '0.1');
--! query
SELECT q1.id, q1.a > '1e-30'::float8 FROM t1 q1 WHERE (q1.a = '1e-30'::float8) OR (q1.a = '0.1'::float8);
