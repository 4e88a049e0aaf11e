-- A variance of doubles added up in another order ended 5.921874999999999 instead of 5.921875, which six digits round apart: the comparison was wrong.
--! sqlite
CREATE TABLE t1 ("id" INTEGER PRIMARY KEY, "a0" , "b" DOUBLE, "c" DECIMAL(10,2), "d" TEXT COLLATE NOCASE, "e" BIGINT, "f0" , "g" , "h" , "i0" VARCHAR(40));
CREATE TABLE t2 ("id" INTEGER NOT NULL, "a0" , "b" DOUBLE, "c" DECIMAL(10,2), "d" TEXT COLLATE NOCASE, "e" BIGINT, "f0" , "g" , "h" , "i0" VARCHAR(40));
CREATE INDEX t2_b ON t2 ("b");
CREATE INDEX t2_f0 ON t2 ("f0");
CREATE TABLE t3 ("id" INTEGER, "a2" REAL, "b2" , "c" BOOLEAN);
CREATE INDEX t3_id ON t3 ("id");
CREATE INDEX t3_a2 ON t3 ("a2");
CREATE TABLE t4 ("id" INTEGER NOT NULL, "a" INTEGER, "b" INTEGER, "c3" TEXT);
CREATE INDEX t4_id ON t4 ("id");
CREATE INDEX t4_c3 ON t4 ("c3");
--! segment @P@10
INSERT INTO t1 VALUES
(14, 0.0, -0.25, -3, '😀', 946684327000000, -62125315200000000, x'00', NULL, NULL),
(19, 4.0, -0.25, 1.5, '10', 1, -1, x'61', NULL, NULL),
(45, NULL, -0.25, -3, '?', 946767600000000, NULL, x'41', -12.25, NULL),
(46, 5.5, -0.25, 7, 'B', 946767600000000, -1, x'00', NULL, NULL),
(49, 0.0, -0.25, 12.34, '􏿿', 947289600000000, NULL, x'00', NULL, NULL);
--! segment @P@20
INSERT INTO t1 VALUES
(13, 4.0, 1.75, 12.34, '', 946767600000000, -62135578800000000, x'61', NULL, NULL),
(43, 1.0, -2.75, 7, '?', 946162800000000, 253402214400000000, NULL, NULL, NULL),
(48, NULL, 7.0, 0.25, 'NULL', 1, -62125315200000000, x'41', NULL, NULL);
--! foreign
CREATE FOREIGN TABLE t1 (
    "segment" text OPTIONS (segment 'true'),
    "id" integer,
    "a0" real,
    "b" double precision OPTIONS (storage 'real'),
    "c" numeric,
    "d" text OPTIONS (storage 'text') COLLATE "C",
    "e" timestamp OPTIONS (encoding 'epoch_us'),
    "f0" timestamptz OPTIONS (encoding 'epoch_us'),
    "g" bytea OPTIONS (storage 'blob'),
    "h" numeric(12,2),
    "i0" varchar(400) OPTIONS (invalid_text 'replace', storage 'text') COLLATE "C"
) SERVER archive OPTIONS (schema '@P@s', segments '^@P@');
CREATE FOREIGN TABLE t2 (
    "segment" text OPTIONS (segment 'true'),
    "id" bigint,
    "a0" real,
    "b" double precision OPTIONS (storage 'real'),
    "c" numeric,
    "d" text OPTIONS (storage 'text') COLLATE "C",
    "e" timestamp OPTIONS (encoding 'epoch_us'),
    "f0" timestamptz OPTIONS (encoding 'epoch_us'),
    "g" bytea OPTIONS (storage 'blob'),
    "h" numeric(12,2),
    "i0" varchar(400) OPTIONS (invalid_text 'replace', storage 'text') COLLATE "C"
) SERVER archive OPTIONS (schema '@P@s', segments '^@P@');
CREATE FOREIGN TABLE t3 (
    "segment" text OPTIONS (segment 'true'),
    "id" integer,
    "a2" double precision OPTIONS (storage 'real'),
    "b2" double precision,
    "c" boolean
) SERVER archive OPTIONS (schema '@P@s', segments '^@P@', estimated_rows '100000');
CREATE FOREIGN TABLE t4 (
    "segment" text OPTIONS (segment 'true'),
    "id" integer,
    "a" boolean,
    "b" public.small,
    "c3" uuid
) SERVER archive OPTIONS (schema '@P@s', segments '^@P@');
CREATE TABLE loc (k integer, s text, v text COLLATE "C", f double precision);
INSERT INTO loc VALUES (NULL, NULL, NULL, NULL), (0, '@P@0', 'a', 0.5), (1, '@P@1', 'A', 1), (2, '@P@2', '', -0.25), (3, '@P@3', 'apple', 'Infinity'), (4, '@P@4', 'é', 2.5), (5, '@P@0', 'b', 0), (6, '@P@1', NULL, 3), (7, '@P@2', 'zz', NULL), (8, '@P@3', '10', 10);
--! heap
CREATE TABLE t1 ("segment" text, "id" integer, "a0" real, "b" double precision, "c" numeric, "d" text COLLATE "C", "e" timestamp, "f0" timestamptz, "g" bytea, "h" numeric(12,2), "i0" varchar(400) COLLATE "C");
INSERT INTO t1 VALUES
('@P@20', 13, '4.0'::float8::real, '1.75'::float8, 12.34, '', timestamp '2000-01-01 23:00:00.000000', timestamptz '0001-01-01 05:00:00.000000+00', '\x61'::bytea, NULL, NULL),
('@P@10', 14, '0.0'::float8::real, '-0.25'::float8, -3, '😀', timestamp '1999-12-31 23:52:07.000000', timestamptz '0001-04-30 00:00:00.000000+00', '\x00'::bytea, NULL, NULL),
('@P@10', 19, '4.0'::float8::real, '-0.25'::float8, 1.5, '10', timestamp '1970-01-01 00:00:00.000001', timestamptz '1969-12-31 23:59:59.999999+00', '\x61'::bytea, NULL, NULL),
('@P@20', 43, '1.0'::float8::real, '-2.75'::float8, 7, '?', timestamp '1999-12-25 23:00:00.000000', timestamptz '9999-12-31 00:00:00.000000+00', NULL, NULL, NULL),
('@P@10', 45, NULL, '-0.25'::float8, -3, '?', timestamp '2000-01-01 23:00:00.000000', NULL, '\x41'::bytea, -12.25, NULL),
('@P@10', 46, '5.5'::float8::real, '-0.25'::float8, 7, 'B', timestamp '2000-01-01 23:00:00.000000', timestamptz '1969-12-31 23:59:59.999999+00', '\x00'::bytea, NULL, NULL),
('@P@20', 48, NULL, '7.0'::float8, 0.25, 'NULL', timestamp '1970-01-01 00:00:00.000001', timestamptz '0001-04-30 00:00:00.000000+00', '\x41'::bytea, NULL, NULL),
('@P@10', 49, '0.0'::float8::real, '-0.25'::float8, 12.34, '􏿿', timestamp '2000-01-08 00:00:00.000000', NULL, '\x00'::bytea, NULL, NULL);
CREATE TABLE t2 ("segment" text, "id" bigint, "a0" real, "b" double precision, "c" numeric, "d" text COLLATE "C", "e" timestamp, "f0" timestamptz, "g" bytea, "h" numeric(12,2), "i0" varchar(400) COLLATE "C");
CREATE TABLE t3 ("segment" text, "id" integer, "a2" double precision, "b2" double precision, "c" boolean);
CREATE TABLE t4 ("segment" text, "id" integer, "a" boolean, "b" public.small, "c3" uuid);
CREATE TABLE loc (k integer, s text, v text COLLATE "C", f double precision);
INSERT INTO loc VALUES (NULL, NULL, NULL, NULL), (0, '@P@0', 'a', 0.5), (1, '@P@1', 'A', 1), (2, '@P@2', '', -0.25), (3, '@P@3', 'apple', 'Infinity'), (4, '@P@4', 'é', 2.5), (5, '@P@0', 'b', 0), (6, '@P@1', NULL, 3), (7, '@P@2', 'zz', NULL), (8, '@P@3', '10', 10);
--! query ordered approx cursor
BEGIN;
DECLARE c CURSOR FOR SELECT q1.segment AS g0, q1.b AS g1, var_pop(q1.a0) AS a2 FROM t1 q1 GROUP BY 1, 2 ORDER BY g0 ASC, g1;
FETCH 5 FROM c;
FETCH ALL FROM c;
COMMIT;
