-- The demo's flights as BI tools like them: a time axis of type timestamp, narrow integers, one read-only schema.
-- Not `trusted`: these times are stored without fractions of a second, not as pg_trough writes them.
DROP SCHEMA IF EXISTS bi CASCADE;
CREATE SCHEMA bi;
CREATE FOREIGN TABLE bi.flights (
    aircraft text OPTIONS (segment 'true') NOT NULL,
    departure timestamp OPTIONS (column_name 'time_hour', encoding 'iso8601', storage 'text') NOT NULL,
    carrier text OPTIONS (storage 'text') NOT NULL,
    flight int OPTIONS (storage 'integer') NOT NULL,
    origin text OPTIONS (storage 'text') NOT NULL,
    dest text OPTIONS (storage 'text') NOT NULL,
    dep_delay int OPTIONS (storage 'integer'),
    arr_delay int OPTIONS (storage 'integer'),
    distance int OPTIONS (storage 'integer') NOT NULL
) SERVER archive OPTIONS (table 'flights', read_only 'true');
COMMENT ON FOREIGN TABLE bi.flights IS 'Flights that left New York in 2013, a segment per aircraft';
COMMENT ON COLUMN bi.flights.departure IS 'scheduled hour, UTC';
