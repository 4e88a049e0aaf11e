-- Who may do what.
-- Everybody's functions: those that only read, and only on servers that one has USAGE on, or change the own session only.
SELECT p.oid::regprocedure AS everybodys FROM pg_proc p
WHERE p.pronamespace = 'trough'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE') ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT p.oid::regprocedure AS owners FROM pg_proc p
WHERE p.pronamespace = 'trough'::regnamespace AND NOT has_function_privilege('public', p.oid, 'EXECUTE') ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT has_foreign_data_wrapper_privilege('public', 'trough_fdw', 'USAGE') AS anybody_makes_servers;
SELECT p.oid::regprocedure AS definers FROM pg_proc p WHERE p.pronamespace = 'trough'::regnamespace AND p.prosecdef;
-- Non-superusers need a token in their user mapping, as with postgres_fdw a password.
CREATE ROLE analyst;
GRANT USAGE ON FOREIGN SERVER archive TO analyst;
CREATE SCHEMA priv;
GRANT USAGE, CREATE ON SCHEMA priv TO analyst;
CREATE FOREIGN TABLE priv.item (segment text OPTIONS (segment 'true'), id bigint, kind text) SERVER archive OPTIONS (schema 'strict');
INSERT INTO priv.item VALUES ('priv', 1, 'apple');
GRANT SELECT, INSERT ON priv.item TO analyst;
CREATE VIEW priv.of_superuser AS SELECT * FROM priv.item;
GRANT SELECT ON priv.of_superuser TO analyst;
SET ROLE analyst;
SELECT * FROM priv.item WHERE segment = 'priv';
INSERT INTO priv.item VALUES ('priv', 2, 'pear');
SELECT count(*) FROM trough.segments('archive');
IMPORT FOREIGN SCHEMA "strict" FROM SERVER archive INTO priv;
-- Plans are made for whoever may not ask, too; a view asks as its owner.
EXPLAIN (COSTS OFF) SELECT * FROM priv.item WHERE segment = 'priv';
SELECT * FROM priv.of_superuser WHERE segment = 'priv';
CREATE USER MAPPING FOR analyst SERVER archive;
SELECT * FROM priv.item WHERE segment = 'priv';
-- Only a superuser says that none is needed.
ALTER USER MAPPING FOR analyst SERVER archive OPTIONS (ADD token_required 'false');
ALTER USER MAPPING FOR analyst SERVER archive OPTIONS (ADD token_required 'maybe');
RESET ROLE;
ALTER USER MAPPING FOR analyst SERVER archive OPTIONS (ADD token_required 'false');
SET ROLE analyst;
SELECT * FROM priv.item WHERE segment = 'priv';
ALTER USER MAPPING FOR analyst SERVER archive OPTIONS (ADD token 'x');
RESET ROLE;
ALTER USER MAPPING FOR analyst SERVER archive OPTIONS (SET token_required 'true');
SET ROLE analyst;
SELECT * FROM priv.item WHERE segment = 'priv';
ALTER USER MAPPING FOR analyst SERVER archive OPTIONS (ADD token 'a-secret');
SELECT * FROM priv.item WHERE segment = 'priv';
INSERT INTO priv.item VALUES ('priv', 2, 'pear');
IMPORT FOREIGN SCHEMA "strict" LIMIT TO (kinds) FROM SERVER archive INTO priv;
SELECT count(*) FROM priv.kinds WHERE segment = 'priv';
-- A secret stands in no plan and no error, and others do not see it.
EXPLAIN (VERBOSE, COSTS OFF) SELECT * FROM priv.item WHERE segment = 'priv';
ALTER USER MAPPING FOR analyst SERVER archive OPTIONS (SET token E'a-secret\nline');
SELECT * FROM priv.item WHERE segment = 'priv';
ALTER USER MAPPING FOR analyst SERVER archive OPTIONS (SET token '');
RESET ROLE;
CREATE ROLE other;
SET ROLE other;
SELECT srvname, usename, umoptions FROM pg_user_mappings WHERE usename = 'analyst';
RESET ROLE;
-- Who is no superuser any more needs a token from then on, in a session that has connected already too.
CREATE ROLE chief SUPERUSER;
SET ROLE chief;
SELECT count(*) FROM priv.item WHERE segment = 'priv';
RESET ROLE;
ALTER ROLE chief NOSUPERUSER;
GRANT USAGE ON FOREIGN SERVER archive TO chief;
GRANT USAGE ON SCHEMA priv TO chief;
GRANT SELECT ON priv.item TO chief;
SET ROLE chief;
SELECT count(*) FROM priv.item WHERE segment = 'priv';
RESET ROLE;
-- Everybody sees the options of servers: no secrets there, and no files of the database's host.
CREATE SERVER secret FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb 'rethinkdb://h/d', token 'x');
CREATE SERVER secret FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb 'rethinkdb://user:pass@h/d');
DROP SERVER secret;
GRANT USAGE ON FOREIGN DATA WRAPPER trough_fdw TO analyst;
SET ROLE analyst;
CREATE SERVER secret FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb 'rethinkdb://user:pass@h/d');
CREATE SERVER files FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb 'rethinkdb://h/d', ca_file '/etc/passwd');
CREATE SERVER files FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb 'rethinkdb://h/d?tls=/etc/passwd');
CREATE SERVER plain FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb 'rethinkdb://user@h/d');
RESET ROLE;
GRANT pg_read_server_files TO analyst;
SET ROLE analyst;
ALTER SERVER plain OPTIONS (ADD ca_file '/etc/ssl/ca.pem');
RESET ROLE;
DROP OWNED BY analyst, chief, other CASCADE;
DROP SCHEMA priv CASCADE;
DROP ROLE analyst, chief, other;
