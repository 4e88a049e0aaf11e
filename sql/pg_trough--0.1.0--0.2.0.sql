-- pg_trough 0.1.0 to 0.2.0. A fresh CREATE EXTENSION runs 0.1.0, which stays as it was released, and then this, so that
-- both ways end the same. Functions that change something are taken from PUBLIC here as well.
\echo Use "ALTER EXTENSION pg_trough UPDATE TO '0.2.0'" to load this file. \quit

CREATE FUNCTION activity(
    OUT pid integer, OUT datname text, OUT usename text, OUT server text, OUT relation text, OUT state text,
    OUT started timestamptz, OUT segments bigint, OUT done bigint, OUT failed bigint, OUT missing bigint,
    OUT workers bigint, OUT requests bigint, OUT retries bigint, OUT rows bigint, OUT bytes bigint, OUT sql text
) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_activity_wrapper';
COMMENT ON FUNCTION activity() IS 'The fan-outs that are under way in all backends; what others run, for members of pg_read_all_stats.';

CREATE FUNCTION connections(
    OUT server text, OUT usename text, OUT node text, OUT url text, OUT tier text, OUT alive boolean,
    OUT avoided boolean, OUT load double precision, OUT in_flight bigint, OUT requests bigint, OUT failures bigint
) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_connections_wrapper';
COMMENT ON FUNCTION connections() IS 'The workers that this session knows, and what it asked of each.';

CREATE FUNCTION caches(
    OUT server text, OUT usename text, OUT since timestamptz, OUT connected boolean, OUT workers bigint,
    OUT followed bigint, OUT followed_age double precision, OUT looked_up bigint, OUT listings bigint, OUT scans bigint
) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_caches_wrapper';
COMMENT ON FUNCTION caches() IS 'What this session keeps of each server: who serves what, as it knows it.';

CREATE FUNCTION reset(server text DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'trough_reset_wrapper';
COMMENT ON FUNCTION reset(text) IS 'Has this session forget a server, or all, and close its connections; how many were forgotten.';

CREATE FUNCTION tables(server text, segment text, OUT name text, OUT type text, OUT sql text) RETURNS SETOF record
    LANGUAGE sql VOLATILE STRICT
BEGIN ATOMIC
    SELECT q->>'name', q->>'type', q->>'sql'
    FROM trough.query(server, ARRAY[segment],
        'SELECT name, type, sql FROM sqlite_schema WHERE type IN (''table'', ''view'') AND name NOT LIKE ''sqlite^_%'' ESCAPE ''^''') q
    ORDER BY 1;
END;
COMMENT ON FUNCTION tables(text, text) IS 'The tables and views of a segment, and the SQLite statements that make them.';

CREATE FUNCTION last_trace() RETURNS text
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'trough_last_trace_wrapper';
COMMENT ON FUNCTION last_trace() IS 'The trace id that this session''s requests carried last, as the workers'' logs have it.';

CREATE FUNCTION worker_status(
    server text,
    OUT node text, OUT tier text, OUT alive boolean, OUT draining boolean, OUT segments bigint, OUT bytes bigint,
    OUT capacity bigint, OUT load double precision, OUT zone text, OUT last_heartbeat timestamptz
) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_worker_status_wrapper';
COMMENT ON FUNCTION worker_status(text) IS 'How each worker is: whether it lives, whether it is being emptied, how much it holds.';

CREATE FUNCTION write(server text, segment text, sql text, schema text DEFAULT 'default') RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_write_wrapper';
COMMENT ON FUNCTION write(text, text, text, text) IS 'Runs any SQLite statements on a segment, in one transaction; it is made from the schema if there is none.';

CREATE FUNCTION drain(server text, node text, drain boolean DEFAULT true) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'trough_drain_wrapper';
COMMENT ON FUNCTION drain(text, text, boolean) IS 'Has a worker emptied: it gets nothing new, and its segments move away; or takes that back.';

REVOKE ALL ON FUNCTION write(text, text, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION drain(text, text, boolean) FROM PUBLIC;
