-- What the BI tests read: 2,400 orders in 12 segments (a customer each) as foreign tables, and the same rows in plain ones.
-- Variable: url.
CREATE EXTENSION pg_trough;
CREATE SERVER archive FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb :'url');
CREATE USER MAPPING FOR CURRENT_USER SERVER archive;

SELECT trough.register_schema('archive', 'shop', $$
CREATE TABLE orders ( -- what customers ordered
    id INTEGER PRIMARY KEY,
    placed TIMESTAMP WITHOUT TIME ZONE NOT NULL, -- when, in UTC
    due DATE,
    product TEXT NOT NULL,
    units INTEGER NOT NULL, -- how many
    price REAL,
    paid BOOLEAN NOT NULL,
    note TEXT,
    photo BLOB
);
$$) \g /dev/null

CREATE SCHEMA shop;
CREATE SCHEMA plain;
IMPORT FOREIGN SCHEMA "shop" FROM SERVER archive INTO shop
    OPTIONS (segment_column 'customer', import_storage 'true', trusted 'true', schema 'shop');
COMMENT ON COLUMN shop.orders.customer IS 'who ordered';

CREATE TABLE plain.orders AS
SELECT 'c' || lpad((i % 12)::text, 2, '0') AS customer, i::bigint AS id,
       timestamp '2026-01-01' + i * interval '3 hours 7 minutes' AS placed,
       CASE WHEN i % 5 > 0 THEN date '2026-01-15' + i / 8 END AS due,
       (ARRAY['apples', 'pears', 'plums', 'Äpfel', 'cherries'])[i % 5 + 1] AS product,
       (i * 37 % 41)::bigint AS units, CASE WHEN i % 7 > 0 THEN i % 64 / 4.0::double precision END AS price,
       i % 3 = 0 AS paid, CASE WHEN i % 4 = 0 THEN E'line 1\nline "2", ' || i END AS note,
       CASE WHEN i % 6 = 0 THEN decode(lpad(to_hex(i), 8, '0'), 'hex') END AS photo
FROM generate_series(1, 2400) i;
INSERT INTO shop.orders SELECT * FROM plain.orders;

CREATE TABLE public.products (product text PRIMARY KEY, kind text NOT NULL);
INSERT INTO public.products VALUES
    ('apples', 'pome'), ('Äpfel', 'pome'), ('pears', 'pome'), ('plums', 'stone'), ('cherries', 'stone');
CREATE VIEW shop.unpaid AS SELECT customer, id, units, price FROM shop.orders WHERE NOT paid;

-- Whom the tools connect as: no superuser, and nobody who writes.
CREATE ROLE analyst LOGIN;
CREATE USER MAPPING FOR analyst SERVER archive OPTIONS (token_required 'false');
GRANT USAGE ON SCHEMA shop, plain TO analyst;
GRANT SELECT ON ALL TABLES IN SCHEMA shop, plain, public TO analyst;
GRANT USAGE ON FOREIGN SERVER archive TO analyst;
