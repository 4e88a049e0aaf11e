-- 10,000 segments of 1,000 rows each, in 12 groups, written by COPY.
SET client_min_messages = warning;
SELECT trough.register_schema('archive', 'small', 'CREATE TABLE small (g TEXT NOT NULL, v INTEGER NOT NULL) STRICT;');
DROP FOREIGN TABLE IF EXISTS archive.small;
IMPORT FOREIGN SCHEMA small FROM SERVER archive INTO archive OPTIONS (segments '^small-', estimated_rows '10000000');
SELECT format($$COPY archive.small (segment, g, v) FROM PROGRAM 'awk "BEGIN { for (s = %s; s < %s; s++) for (i = 0; i < 1000; i++) printf \"small-%%05d\\tgroup-%%02d\\t%%d\\n\", s, (s + i) %% 12, (s * 1000 + i) * 7919 %% 100003 }"'$$,
              first, first + 1000)
FROM generate_series(0, 9000, 1000) first \gexec
