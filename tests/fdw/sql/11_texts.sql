-- Functions and operators of texts (tables and functions of 10_expressions).
SELECT * FROM shipped(ARRAY['t || u = ''aa''', 't || ''x'' = ''ax''', 'length(t) = 3', 'char_length(t) > 2', 'octet_length(t) = 9', 'substr(t, 2) = ''bc''', 'substring(t from 2 for 1) = ''b''', 'substr(t, -1, 3) = ''a''', 'substr(t, 1, i2) = ''a''',
    'substr(t, 1, abs(i2::int)) = ''a''', 'left(t, 1) = ''😀''', 'left(t, -1) = ''ab''', 'right(t, 2) = ''文字''', 'right(t, -2) = ''字''', 'btrim(t) = ''x''', 'btrim(t, ''ax'') = ''Xb''', 'ltrim(t, ''a'') = ''bc''', 'rtrim(t, ''c'') = ''ab''',
    'trim(both ''😀'' from t) = ''x''', 'replace(t, ''X'', ''-'') = ''a-b-c''', 'replace(t, '''', ''-'') = ''abc''', 'replace(t, u, '''') = ''bc''', 'strpos(t, u) = 1', 'position(''b'' in t) = 2', 'position(u in t) = 2', 'starts_with(t, ''a'')', 't ^@ u', 'reverse(t) = ''cba''',
    'translate(t, ''abc'', ''xy'') = ''xy''', 'split_part(t, ''X'', 2) = ''b''', 'split_part(t, ''X'', -1) = ''c''', 'split_part(t, u, i2) = ''bc''', 'repeat(t, 2) = ''aa''', 'md5(t) = md5(''a'')', 'lpad(t, 4, ''0'') = ''0abc''', 'initcap(t) = ''Abc''', 'ascii(t) = 97', 't::varchar = ''a''', 't::varchar(1) = ''a''']);
-- Case: ASCII's is the workers', any other PostgreSQL's.
SELECT * FROM shipped(ARRAY['lower(t) = ''abc''', 'upper(t) = ''ABC''', 'lower(t) = ''é''', 'upper(u) = ''X''', 'lower(t COLLATE "C") = ''abc''', 'upper(t COLLATE "C") = ''é''', 'lower(t COLLATE "tr-x-icu") = ''i''', 'lower(t COLLATE "en-x-icu") = ''k''',
    't ILIKE ''A%''', 't NOT ILIKE ''a%''', 't ILIKE ''É''', 't COLLATE "C" ILIKE ''ABC''', 'u ILIKE ''é''', 't ILIKE u', 't COLLATE "tr-x-icu" ILIKE ''i''']);
-- Patterns.
SELECT * FROM shipped(ARRAY['t LIKE ''a%''', 't LIKE ''a\%b\_c''', 't LIKE ''a!%b%'' ESCAPE ''!''', 't LIKE ''a%'' ESCAPE ''''', 't LIKE ''_x_''', 't LIKE ''[a]*?''', 't LIKE u', 't LIKE u || ''%''', 't NOT LIKE u', 't LIKE ''a\''', 't LIKE ''%''', 't LIKE ''%\n%''', 't LIKE ANY (ARRAY[''a%'', ''%x''])',
    't NOT LIKE ALL (ARRAY[''a%'', ''%x''])', 't || '''' LIKE ''ab_''', 't SIMILAR TO ''a(b|c)*''', 't ~ ''^a''', 't ~ ''^(a|A).*[bc]$''', 't ~ ''.{3}''', 't !~ ''[a-z]''', 't ~ ''[^a-zé]''', 't ~ ''\d+''', 't ~ ''\w''', 't ~ ''^\S+$''', 't ~ ''[[:alpha:]]''', 't COLLATE "C" ~ ''[[:alpha:]]''', 't COLLATE "C" ~ ''\W''',
    't ~* ''ABC''', 't !~* ''k''', 't COLLATE "C" ~* ''É''', 't ~ ''two$''', 't ~ ''line$''', 't ~ ''(.)\1''', 't ~ ''(?i)abc''', 't ~ ''***=a''', 't ~ ''a{2,1}''', 't ~ u', 't ~ ''''', 't ~ ''a|''', 't ~ ''\[a\]''', 't ~ ''^.$''', 't ~ ''(a|ab)(c|bcd)?$''']);
-- Order and equality by collation.
CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
SELECT * FROM shipped(ARRAY['u < ''b''', 'u BETWEEN ''A'' AND ''a''', 't COLLATE "C" < ''b''', 't COLLATE "en-x-icu" < ''b''', 't = ''É''', 't COLLATE blind = ''É''', 't COLLATE blind IN (''a'', ''b'')', 'replace(t COLLATE blind, ''a'', ''b'') = ''b''', 't COLLATE "C" > ALL (ARRAY[''a'', ''😀''])',
    'segment || t = ''h0a''', 'segment = ''h1'' OR i4 = 7', 'segment < t', 'length(segment) + i4 % 2 = 3', 'upper(segment) = ''H1'' AND b']);
EXPLAIN (COSTS OFF, VERBOSE) SELECT id FROM hard WHERE lower(t) = 'abc' AND t LIKE u AND substr(u, 1, 2) || 'x' = 'abx' AND t ~ '^a' AND i4 + 1 = 8 AND iso >= '2020-01-01' AND uu = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11';
