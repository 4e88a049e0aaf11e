-- The server, the registered schema, the foreign table and its plain twin. Variables: url, data.
CREATE EXTENSION pg_trough;
CREATE SERVER archive FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb :'url');
CREATE USER MAPPING FOR CURRENT_USER SERVER archive;
\set ca `echo "${TROUGH_TLS_CA:-}"`
SELECT :'ca' <> '' AS secure \gset
\if :secure
  -- The secrets come from the environment: arguments of a command can be seen by everybody.
  \set token `echo "$TROUGH_TOKEN"`
  \set password `echo "$TROUGH_RETHINKDB_PASSWORD"`
  ALTER SERVER archive OPTIONS (ADD ca_file :'ca');
  ALTER USER MAPPING FOR CURRENT_USER SERVER archive OPTIONS (ADD token :'token', ADD rethinkdb_user 'admin', ADD rethinkdb_password :'password');
\endif

\set schema_sql `cat sql/demo/flights.sql`
SELECT trough.register_schema('archive', 'flights', :'schema_sql');

CREATE SCHEMA archive;
CREATE SCHEMA plain;
IMPORT FOREIGN SCHEMA "flights" FROM SERVER archive INTO archive;

CREATE TABLE public.airlines (carrier text PRIMARY KEY, name text NOT NULL);
CREATE TABLE public.planes (
    tailnum text PRIMARY KEY, year int, type text, manufacturer text, model text, engines int, seats int, speed int,
    engine text
);
CREATE UNLOGGED TABLE staging (
    year int, month int, day int, dep_time text, sched_dep_time int, dep_delay text, arr_time text, sched_arr_time int,
    arr_delay text, carrier text, flight int, tailnum text, origin text, dest text, air_time text, distance int,
    hour int, minute int, time_hour text
);
