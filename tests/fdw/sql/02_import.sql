-- A foreign table for each table and view of a registered schema.
CREATE SCHEMA imported;
IMPORT FOREIGN SCHEMA "strict" FROM SERVER archive INTO imported;
\d+ imported.*
IMPORT FOREIGN SCHEMA loose FROM SERVER archive INTO imported OPTIONS (segments '^loose', read_only 'true');
\d+ imported.event
DROP SCHEMA imported CASCADE;
CREATE SCHEMA imported;
IMPORT FOREIGN SCHEMA "strict" LIMIT TO (kinds) FROM SERVER archive INTO imported;
\det imported.*
DROP SCHEMA imported CASCADE;
CREATE SCHEMA imported;
IMPORT FOREIGN SCHEMA "strict" EXCEPT (kinds) FROM SERVER archive INTO imported OPTIONS (segments '^s');
\det+ imported.*
IMPORT FOREIGN SCHEMA nosuch FROM SERVER archive INTO imported;
IMPORT FOREIGN SCHEMA "strict" FROM SERVER archive INTO imported OPTIONS (segment 'x');
IMPORT FOREIGN SCHEMA "strict" FROM SERVER archive INTO imported;
