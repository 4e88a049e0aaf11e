-- What the other files use: a server, two registered schemas, and segments with rows.
CREATE EXTENSION pg_trough;
\getenv url TROUGH_URL
\o /dev/null
\set ECHO none
CREATE SERVER archive FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb :'url');
\set ECHO all
\o
CREATE USER MAPPING FOR CURRENT_USER SERVER archive;
SELECT trough.register_schema('archive', 'strict', $$
CREATE TABLE item ( -- things that were counted
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL, -- what it is
    n INTEGER,          -- how many
    price REAL,
    note TEXT,
    raw BLOB
) STRICT;
CREATE INDEX item_n ON item (n);
CREATE VIEW kinds AS SELECT kind, count(*) AS items FROM item GROUP BY kind;
$$);
SELECT trough.register_schema('archive', 'loose', $$
CREATE TABLE event (
    at DATETIME,
    day DATE,
    code INT,
    size BIGINT,
    ratio DOUBLE,
    name VARCHAR(40) COLLATE NOCASE,
    flag BOOLEAN,
    amount DECIMAL(10,2),
    body BLOB,
    any
);
$$);
SELECT trough.register_schema('archive', 'strict', sql) FROM trough.schemas('archive') WHERE id = 'strict';
