-- ORDER BY and LIMIT over joins inside the segments.
\ir joins/setup.psql
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.t, a.segment FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id ORDER BY b.x DESC, b.id LIMIT 3;
SELECT same('SELECT a.id, b.t, a.segment FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id ORDER BY b.x DESC, b.id, a.id LIMIT 7 OFFSET 2');
-- The missing side of an outer join.
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.id, b.segment FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id ORDER BY b.id NULLS FIRST, a.id LIMIT 3;
SELECT same('SELECT a.id, b.id, b.segment FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id ORDER BY b.id NULLS FIRST, a.id LIMIT 9');
SELECT same('SELECT a.id, b.id, b.segment FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id ORDER BY b.id DESC NULLS LAST, a.id LIMIT 9');
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.segment FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id ORDER BY b.segment COLLATE "C", a.id LIMIT 3;
SELECT same('SELECT a.id, b.segment FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id ORDER BY b.segment COLLATE "C" DESC, a.id LIMIT 99');
SELECT same('SELECT a.id, b.segment FROM a LEFT JOIN b ON a.segment = b.segment AND a.id = b.a_id ORDER BY b.segment COLLATE "en-x-icu" DESC, a.id LIMIT 99');
-- Semi and anti joins, expressions, no columns, one segment, any rows.
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id FROM a WHERE EXISTS (SELECT FROM b WHERE b.segment = a.segment AND b.a_id = a.id) ORDER BY a.x, a.id LIMIT 3;
SELECT same('SELECT a.id FROM a WHERE EXISTS (SELECT FROM b WHERE b.segment = a.segment AND b.a_id = a.id) ORDER BY a.x, a.id LIMIT 3');
SELECT same('SELECT a.id + 1 FROM a WHERE NOT EXISTS (SELECT FROM b WHERE b.segment = a.segment AND b.a_id = a.id) ORDER BY a.x DESC, a.id LIMIT 3');
SELECT same('SELECT 1 FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id ORDER BY b.id LIMIT 3');
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.id FROM a JOIN b ON a.segment = b.segment AND a.x = b.x WHERE a.segment = 'j1' ORDER BY a.id, b.id LIMIT 3;
SELECT same('SELECT a.id, b.id FROM a JOIN b ON a.segment = b.segment AND a.x = b.x WHERE a.segment = ''j1'' ORDER BY a.id, b.id LIMIT 3');
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.id FROM a JOIN b ON a.segment = b.segment AND a.x = b.x LIMIT 3;
SELECT same('SELECT count(*) FROM (SELECT a.id, b.id FROM a JOIN b ON a.segment = b.segment AND a.x = b.x LIMIT 3) q');
-- What is evaluated here keeps the LIMIT here.
EXPLAIN (COSTS OFF, VERBOSE) SELECT a.id, b.id FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id AND md5(a.t) > md5(b.t) ORDER BY a.id LIMIT 3;
SELECT same('SELECT a.id, b.id FROM a JOIN b ON a.segment = b.segment AND a.id = b.a_id AND md5(a.t) > md5(b.t) ORDER BY a.id LIMIT 3');
\ir joins/drop.psql
