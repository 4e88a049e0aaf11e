-- Aggregations over joins inside segments.
SELECT trough.register_schema('archive', 'shop', $$
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, day TEXT) STRICT;
CREATE TABLE lines (order_id INTEGER, item TEXT, n INTEGER, price REAL) STRICT;
$$);
CREATE FOREIGN TABLE shop_orders (segment text OPTIONS (segment 'true'), id bigint OPTIONS (storage 'integer'),
    customer bigint OPTIONS (storage 'integer'), day date OPTIONS (storage 'text'))
    SERVER archive OPTIONS (table 'orders', schema 'shop', segments '^xshop');
CREATE FOREIGN TABLE shop_lines (segment text OPTIONS (segment 'true'), order_id bigint OPTIONS (storage 'integer'),
    item text OPTIONS (storage 'text'), n bigint OPTIONS (storage 'integer'), price float8 OPTIONS (storage 'real'))
    SERVER archive OPTIONS (table 'lines', schema 'shop', segments '^xshop');
INSERT INTO shop_orders SELECT 'xshop' || i % 4, i, i % 7, date '2020-01-01' + i FROM generate_series(1, 60) i;
INSERT INTO shop_lines SELECT 'xshop' || i % 4, i, 'item' || j % 3, i + j, j / 4.0 FROM generate_series(1, 50) i, generate_series(1, 3) j
    WHERE i % 5 > 0;
CREATE TABLE local_shop_orders AS SELECT * FROM shop_orders;
CREATE TABLE local_shop_lines AS SELECT * FROM shop_lines;
CREATE FUNCTION same_shop(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE a jsonb; b jsonb;
BEGIN
    EXECUTE 'SELECT coalesce(jsonb_agg(q ORDER BY q::text), ''[]'') FROM (' || query || ') q' INTO a;
    EXECUTE 'SELECT coalesce(jsonb_agg(q ORDER BY q::text), ''[]'') FROM (' || replace(query, 'shop_', 'local_shop_') || ') q' INTO b;
    RETURN CASE WHEN a = b THEN 'same, ' || jsonb_array_length(a) || ' rows' ELSE a::text || ' instead of ' || b::text END;
END $$;
EXPLAIN (VERBOSE, COSTS OFF) SELECT o.customer, count(*), sum(l.n), avg(l.price) FROM shop_orders o JOIN shop_lines l ON l.segment = o.segment AND l.order_id = o.id
    WHERE o.day > date '2020-01-10' GROUP BY o.customer HAVING count(*) > 3;
EXPLAIN (VERBOSE, COSTS OFF) SELECT o.segment, l.item, count(DISTINCT o.id), max(l.n) FROM shop_orders o LEFT JOIN shop_lines l ON l.segment = o.segment AND l.order_id = o.id
    GROUP BY o.segment, l.item HAVING count(*) > 3;
EXPLAIN (VERBOSE, COSTS OFF) SELECT l.segment, count(*) FROM shop_orders o LEFT JOIN shop_lines l ON l.segment = o.segment AND l.order_id = o.id GROUP BY l.segment;
EXPLAIN (VERBOSE, COSTS OFF) SELECT count(*) FROM shop_orders o WHERE EXISTS (SELECT FROM shop_lines l WHERE l.segment = o.segment AND l.order_id = o.id AND l.n > 40);
EXPLAIN (VERBOSE, COSTS OFF) SELECT DISTINCT o.customer, l.item FROM shop_orders o JOIN shop_lines l ON l.segment = o.segment AND l.order_id = o.id;
SELECT same_shop('SELECT o.customer, count(*), sum(l.n), avg(l.price) FROM shop_orders o JOIN shop_lines l ON l.segment = o.segment AND l.order_id = o.id
    WHERE o.day > date ''2020-01-10'' GROUP BY o.customer HAVING count(*) > 3');
SELECT same_shop('SELECT o.segment, l.item, count(DISTINCT o.id), max(l.n) FROM shop_orders o LEFT JOIN shop_lines l ON l.segment = o.segment AND l.order_id = o.id
    GROUP BY o.segment, l.item HAVING count(*) > 3');
SELECT same_shop('SELECT l.segment, count(*), count(l.item) FROM shop_orders o LEFT JOIN shop_lines l ON l.segment = o.segment AND l.order_id = o.id GROUP BY l.segment');
SELECT same_shop('SELECT o.segment, l.segment, count(*) FROM shop_orders o LEFT JOIN shop_lines l ON l.segment = o.segment AND l.order_id = o.id GROUP BY 1, 2');
SELECT same_shop('SELECT count(*) FROM shop_orders o WHERE EXISTS (SELECT FROM shop_lines l WHERE l.segment = o.segment AND l.order_id = o.id AND l.n > 40)');
SELECT same_shop('SELECT customer, count(*) FROM shop_orders o WHERE NOT EXISTS (SELECT FROM shop_lines l WHERE l.segment = o.segment AND l.order_id = o.id) GROUP BY 1');
SELECT same_shop('SELECT DISTINCT o.customer, l.item FROM shop_orders o JOIN shop_lines l ON l.segment = o.segment AND l.order_id = o.id');
SELECT same_shop('SELECT l.item, count(DISTINCT o.customer), sum(DISTINCT l.n) FROM shop_orders o JOIN shop_lines l ON l.segment = o.segment AND l.order_id = o.id GROUP BY l.item');
SELECT same_shop('SELECT stddev(l.n), corr(l.price, l.n), bool_or(l.n > o.customer) FROM shop_orders o JOIN shop_lines l ON l.segment = o.segment AND l.order_id = o.id WHERE o.segment = ''xshop1''');
