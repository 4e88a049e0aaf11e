-- pg_trough 0.1.0. Written by hand; a test holds it against the functions that the library exports.
\echo Use "CREATE EXTENSION pg_trough" to load this file. \quit

CREATE FUNCTION trough_fdw_handler() RETURNS fdw_handler
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'trough_fdw_handler';

CREATE FUNCTION trough_fdw_validator(options text[], catalog oid) RETURNS void
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'trough_fdw_validator';

CREATE FOREIGN DATA WRAPPER trough_fdw HANDLER trough_fdw_handler VALIDATOR trough_fdw_validator;

CREATE FUNCTION version(OUT extension text, OUT library text, OUT sqlite text) RETURNS SETOF record
    LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'trough_version_wrapper';
COMMENT ON FUNCTION version() IS 'Versions of the extension, its library, and the SQLite that workers of the same version run.';

CREATE FUNCTION segments(
    server text, matching text DEFAULT NULL,
    OUT segment text, OUT node text, OUT tier text, OUT url text, OUT healthy boolean, OUT bytes bigint,
    OUT last_heartbeat timestamptz
) RETURNS SETOF record
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'trough_segments_wrapper';
COMMENT ON FUNCTION segments(text, text) IS 'Who serves which segment (those whose name the regular expression matches).';

CREATE FUNCTION workers(
    server text,
    OUT node text, OUT tier text, OUT ring text, OUT zone text, OUT bytes bigint, OUT capacity bigint,
    OUT load double precision, OUT last_heartbeat timestamptz, OUT alive boolean
) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_workers_wrapper';
COMMENT ON FUNCTION workers(text) IS 'The workers and their leases.';

CREATE FUNCTION assignments(
    server text,
    OUT segment text, OUT node text, OUT hash_ring text, OUT remote_path text, OUT bytes bigint,
    OUT assigned_on timestamptz, OUT mtime timestamptz, OUT sha256 text, OUT generation bigint, OUT epoch bigint
) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_assignments_wrapper';
COMMENT ON FUNCTION assignments(text) IS 'Which worker shall hold which segment.';

CREATE FUNCTION locks(
    server text,
    OUT segment text, OUT node text, OUT acquired_on timestamptz, OUT under_promotion boolean, OUT holder text,
    OUT fence bigint, OUT epoch bigint
) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_locks_wrapper';
COMMENT ON FUNCTION locks(text) IS 'Which worker alone may write which segment.';

CREATE FUNCTION schemas(server text, OUT id text, OUT sql text) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_schemas_wrapper';
COMMENT ON FUNCTION schemas(text) IS 'The registered SQL scripts that new segments start from.';

CREATE FUNCTION status_url(server text) RETURNS text
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_status_url_wrapper';
COMMENT ON FUNCTION status_url(text) IS 'The status page of the sync master.';

CREATE FUNCTION provision(server text, segment text, schema text DEFAULT 'default') RETURNS text
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_provision_wrapper';
COMMENT ON FUNCTION provision(text, text, text) IS 'Makes a segment writable, and makes it if there is none; the write URL.';

CREATE FUNCTION promote(server text, segment text) RETURNS text
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_promote_wrapper';
COMMENT ON FUNCTION promote(text, text) IS 'Copies a segment to the canonical store; its path there.';

CREATE FUNCTION promote(
    server text, segments text[],
    OUT segment text, OUT remote_path text, OUT error text
) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_promote_all_wrapper';
COMMENT ON FUNCTION promote(text, text[]) IS 'Copies segments to the canonical store, several at a time.';

CREATE FUNCTION shred(server text, segment text) RETURNS SETOF text
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_shred_wrapper';
COMMENT ON FUNCTION shred(text, text) IS 'Removes a segment everywhere, for good; the steps done.';

CREATE FUNCTION register_schema(server text, id text, sql text) RETURNS text
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_register_schema_wrapper';
COMMENT ON FUNCTION register_schema(text, text, text) IS 'Registers or replaces a SQL script that new segments start from.';

CREATE FUNCTION query(server text, segments text[], sql text, reduce text DEFAULT NULL) RETURNS SETOF jsonb
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'trough_query_segments_wrapper';
COMMENT ON FUNCTION query(text, text[], text, text) IS 'Runs a SQLite SELECT in each of the segments, and one over all their rows (the table partial).';

CREATE FUNCTION query(server text, matching text, sql text, reduce text DEFAULT NULL) RETURNS SETOF jsonb
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'trough_query_matching_wrapper';
COMMENT ON FUNCTION query(text, text, text, text) IS 'Runs a SQLite SELECT in each segment whose name the regular expression matches.';

-- What changes the cluster is granted by the database's owner.
REVOKE ALL ON FUNCTION provision(text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION promote(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION promote(text, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION shred(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION register_schema(text, text, text) FROM PUBLIC;

GRANT USAGE ON SCHEMA trough TO PUBLIC;
