-- What the benchmarks compare with: a partitioned table of the flights, a table of a million rows, and postgres_fdw to
-- both over loopback. Variable: port.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS postgres_fdw;
DROP SERVER IF EXISTS loopback CASCADE;
CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port :'port', dbname 'demo', fetch_size '1000', async_capable 'true');
CREATE USER MAPPING FOR CURRENT_USER SERVER loopback OPTIONS (user 'postgres');
DROP SCHEMA IF EXISTS partitioned, remote CASCADE;
CREATE SCHEMA partitioned;
CREATE TABLE partitioned.flights (LIKE plain.flights) PARTITION BY HASH (segment);
SELECT format('CREATE TABLE partitioned.flights_%s PARTITION OF partitioned.flights FOR VALUES WITH (MODULUS 16, REMAINDER %s)', i, i)
FROM generate_series(0, 15) i \gexec
INSERT INTO partitioned.flights SELECT * FROM plain.flights;
CREATE INDEX ON partitioned.flights (segment);
CREATE TABLE partitioned.million (n bigint NOT NULL, t text NOT NULL, r double precision, d bigint);
INSERT INTO partitioned.million
SELECT i, 'row number ' || i || ' of a million', i / 7.0::float8, CASE WHEN i % 10 <> 0 THEN i::bigint * 1000003 % 99991 END
FROM generate_series(1, 1000000) i;
VACUUM ANALYZE partitioned.flights, partitioned.million;
CREATE SCHEMA remote;
IMPORT FOREIGN SCHEMA partitioned LIMIT TO (flights, million) FROM SERVER loopback INTO remote;

SELECT trough.register_schema('archive', 'million', 'CREATE TABLE million (n INTEGER NOT NULL, t TEXT NOT NULL, r REAL, d INTEGER) STRICT;');
-- From here on the cluster holds segments of other schemas, so the flights' table names its own: tail numbers.
ALTER FOREIGN TABLE archive.flights OPTIONS (ADD segments '^[A-Z]');
DROP FOREIGN TABLE IF EXISTS archive.million;
IMPORT FOREIGN SCHEMA "million" FROM SERVER archive INTO archive;
ALTER FOREIGN TABLE archive.million OPTIONS (ADD segments '^bench-million$');
INSERT INTO archive.million (segment, n, t, r, d) SELECT 'bench-million', n, t, r, d FROM partitioned.million;
SELECT trough.promote('archive', 'bench-million');
ANALYZE partitioned.million;
