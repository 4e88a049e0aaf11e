-- From the first version to this one: the first version's objects work with this library, stay when the extension is
-- updated, and the catalog is then that of a fresh install.
SELECT name, default_version FROM pg_available_extensions WHERE name = 'pg_trough';
SELECT source, target, path FROM pg_extension_update_paths('pg_trough') WHERE path IS NOT NULL ORDER BY 1, 2;
CREATE VIEW public.extension_catalog AS
SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS object,
       obj_description(d.objid, d.classid::regclass::name) AS comment,
       CASE d.classid
           WHEN 'pg_proc'::regclass THEN (
               SELECT pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '') FROM pg_proc p WHERE p.oid = d.objid)
           WHEN 'pg_foreign_data_wrapper'::regclass THEN (
               SELECT concat_ws(' ', w.fdwhandler::regproc, w.fdwvalidator::regproc, w.fdwacl, w.fdwoptions)
               FROM pg_foreign_data_wrapper w WHERE w.oid = d.objid)
           WHEN 'pg_namespace'::regclass THEN (SELECT n.nspacl::text FROM pg_namespace n WHERE n.oid = d.objid)
           WHEN 'pg_class'::regclass THEN (
               SELECT concat_ws(' ', pg_get_viewdef(c.oid), c.relacl) FROM pg_class c WHERE c.oid = d.objid AND c.relkind = 'v')
       END AS definition
FROM pg_depend d
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_trough')
ORDER BY 1;
SELECT count(*) > 15 AS objects, md5(string_agg(e::text, '|' ORDER BY object)) AS fresh FROM extension_catalog e \gset fresh_
SELECT pg_get_viewdef('extension_catalog') AS view_definition \gset
DROP VIEW public.extension_catalog;
SELECT :'fresh_objects' AS objects;
\getenv url TROUGH_URL
CREATE DATABASE upgraded;
\c upgraded
CREATE EXTENSION pg_trough VERSION '0.1.0';
SELECT extension, library ~ '^0\.' AS library FROM trough.version();
\o /dev/null
\set ECHO none
CREATE SERVER archive FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb :'url');
\set ECHO all
\o
CREATE USER MAPPING FOR CURRENT_USER SERVER archive;
IMPORT FOREIGN SCHEMA "strict" LIMIT TO (item) FROM SERVER archive INTO public;
CREATE VIEW workers AS SELECT count(*) > 2 AS enough FROM trough.workers('archive');
CREATE ROLE promoter;
GRANT EXECUTE ON FUNCTION trough.promote(text, text) TO promoter;
INSERT INTO item (segment, id, kind) VALUES ('upgrade', 1, 'before');
SELECT segment, id, kind FROM item WHERE segment = 'upgrade';
PREPARE kinds AS SELECT kind, count(*) FROM item WHERE segment = 'upgrade' GROUP BY kind ORDER BY kind;
EXECUTE kinds;
ALTER EXTENSION pg_trough UPDATE;
SELECT extension FROM trough.version();
INSERT INTO item (segment, id, kind) VALUES ('upgrade', 2, 'after');
EXECUTE kinds;
SELECT * FROM workers;
-- A grant of the old version's time stays.
SELECT has_function_privilege('promoter', 'trough.promote(text, text)', 'EXECUTE') AS granted;
REVOKE EXECUTE ON FUNCTION trough.promote(text, text) FROM promoter;
CREATE VIEW public.extension_catalog AS :view_definition
SELECT md5(string_agg(e::text, '|' ORDER BY object)) = :'fresh_fresh' AS as_fresh FROM extension_catalog e;
ALTER EXTENSION pg_trough UPDATE TO '0.1.0';
-- A dump holds servers, mappings and tables with their options, and no rows of foreign tables.
ALTER FOREIGN TABLE item ALTER COLUMN note OPTIONS (ADD invalid_text 'replace');
CREATE USER MAPPING FOR promoter SERVER archive OPTIONS (token 'dumped', token_required 'false');
CREATE DATABASE restored;
\! pg_dump -Fp upgraded | psql -X -q -v ON_ERROR_STOP=1 -d restored
\set described 'SELECT md5(string_agg(w || o, ''|'' ORDER BY w, o)) FROM (SELECT srvname, unnest(srvoptions) FROM pg_foreign_server UNION ALL SELECT usename, unnest(umoptions) FROM pg_user_mappings UNION ALL SELECT ftrelid::regclass::text, unnest(ftoptions) FROM pg_foreign_table UNION ALL SELECT attrelid::regclass || attname::text, unnest(attfdwoptions) FROM pg_attribute) o(w, o)'
SELECT (:described) AS md5 \gset before_
SELECT count(*) FROM item WHERE segment = 'upgrade';
\c restored
SELECT (:described) = :'before_md5' AS as_dumped;
SELECT extension FROM trough.version();
SELECT count(*) FROM item WHERE segment = 'upgrade';
\c upgraded
DROP VIEW workers;
\c regress
DROP DATABASE upgraded;
DROP DATABASE restored;
DROP ROLE promoter;
