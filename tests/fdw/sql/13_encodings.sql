-- Segments whose texts are in UTF-16: SQLite sorts by those bytes, PostgreSQL by UTF-8's. Beside one in UTF-8.
SELECT trough.register_schema('archive', 'empty', '');
SELECT trough.register_schema('archive', 'words', 'CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT)');
SELECT trough.provision('archive', 'utf16', 'empty') <> '' AS provisioned;
\! python3 tests/fdw/utf16.py utf16
CREATE FOREIGN TABLE words (segment text OPTIONS (segment 'true'), id integer, word text COLLATE "C") SERVER archive OPTIONS (schema 'words', segments '^utf');
INSERT INTO words VALUES ('utf8', 1, 'a'), ('utf8', 2, 'Ā'), ('utf8', 3, '～'), ('utf8', 4, U&'\+010000');
-- What relies on the order of texts, or on their bytes, is refused.
SELECT id FROM words WHERE segment = 'utf16' AND word > 'Ā';
SELECT id FROM words WHERE word BETWEEN 'b' AND 'z';
SELECT id FROM words ORDER BY word LIMIT 1;
SELECT id FROM words ORDER BY word USING ~<~ LIMIT 1;
SELECT min(word) FROM words;
SELECT max(word) FROM words GROUP BY segment;
SELECT id FROM words WHERE octet_length(word) = 1;
UPDATE words SET word = 'x' WHERE word > 'Ā';
DELETE FROM words WHERE word > 'Ā' RETURNING id;
SELECT id, word > 'Ā' AS above FROM words a WHERE EXISTS (SELECT FROM words b WHERE b.segment = a.segment AND b.id = a.id AND b.word > 'Ā');
-- One segment's failure is its own.
ALTER FOREIGN TABLE words OPTIONS (ADD on_segment_error 'skip');
SELECT segment, id FROM words WHERE word > 'Ā' ORDER BY id;
ALTER FOREIGN TABLE words OPTIONS (DROP on_segment_error);
-- Everything else is answered.
SELECT segment, id, word, length(word), upper(word) FROM words ORDER BY segment, id;
SELECT segment, id FROM words WHERE word = 'Ā' ORDER BY segment;
SELECT segment, id FROM words WHERE word LIKE 'Ā%' ORDER BY segment;
SELECT word, count(*) FROM words GROUP BY word ORDER BY count(*), word;
SELECT a.id FROM words a JOIN words b USING (segment, word) ORDER BY a.segment, a.id LIMIT 2;
SET pg_trough.pushdown = off;
SELECT id FROM words WHERE segment = 'utf16' AND word > 'Ā' ORDER BY id;
SELECT min(word), max(word) = U&'\+010000' AS max FROM words;
RESET pg_trough.pushdown;
UPDATE words SET word = 'b' WHERE word = 'a';
SELECT segment, word FROM words WHERE id = 1 ORDER BY segment;
DROP FOREIGN TABLE words;
