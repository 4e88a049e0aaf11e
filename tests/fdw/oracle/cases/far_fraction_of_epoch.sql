-- RETURNING or the rows afterwards differ: 9999-12-31 23:59:59.249969 was stored for 23:59:59.25
--! sqlite
CREATE TABLE t1 ("id" INTEGER, "c" , "f" TEXT);
--! segment @P@0

--! foreign
CREATE FOREIGN TABLE t1 (
    "segment" text OPTIONS (segment 'true'),
    "id" integer,
    "c" timestamptz OPTIONS (encoding 'epoch_s'),
    "f" uuid
) SERVER archive OPTIONS (schema '@P@s', segments '^@P@');
--! heap
CREATE TABLE t1 ("segment" text, "id" integer, "c" timestamptz, "f" uuid);
--! query writes
INSERT INTO t1 AS w (segment, id, c, f) VALUES ('@P@0', 1, timestamptz '9999-12-31 23:59:59.25+00', uuid 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), ('@P@0', 2, timestamptz '0001-01-01 00:00:00.75+00', NULL) RETURNING w.c, w.f;
SELECT segment, id, c, f FROM t1;
