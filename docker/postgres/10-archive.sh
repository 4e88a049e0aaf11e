#!/bin/sh
# PostgreSQL's first start: the extension, the cluster as a foreign server, a schema and its foreign table.
set -eu
psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v token="$(cat /run/secrets/postgres_token)" <<'SQL'
CREATE EXTENSION pg_trough;
CREATE SERVER archive FOREIGN DATA WRAPPER trough_fdw
    OPTIONS (rethinkdb 'rethinkdb://rethinkdb-1,rethinkdb-2,rethinkdb-3/trough_configuration');
CREATE USER MAPPING FOR CURRENT_USER SERVER archive OPTIONS (token :'token');
SELECT trough.register_schema('archive', 'visits', $$
    CREATE TABLE visits (day TEXT NOT NULL, url TEXT NOT NULL, status INTEGER NOT NULL, bytes INTEGER) STRICT;
    CREATE INDEX visits_by_day ON visits (day);
$$);
IMPORT FOREIGN SCHEMA "visits" FROM SERVER archive INTO public;
SQL
