-- The demo's flights as BI tools like them: a time axis of type timestamp, narrow integers, one read-only schema.
DROP SCHEMA IF EXISTS bi CASCADE;
CREATE SCHEMA bi;
CREATE FOREIGN TABLE bi.flights (
    aircraft text OPTIONS (segment 'true') NOT NULL,
    departure timestamp OPTIONS (column_name 'time_hour', encoding 'iso8601', storage 'text', trusted 'true') NOT NULL,
    carrier text OPTIONS (storage 'text', trusted 'true') NOT NULL,
    flight int OPTIONS (storage 'integer', trusted 'true') NOT NULL,
    origin text OPTIONS (storage 'text', trusted 'true') NOT NULL,
    dest text OPTIONS (storage 'text', trusted 'true') NOT NULL,
    dep_delay int OPTIONS (storage 'integer', trusted 'true'),
    arr_delay int OPTIONS (storage 'integer', trusted 'true'),
    distance int OPTIONS (storage 'integer', trusted 'true') NOT NULL
) SERVER archive OPTIONS (table 'flights', read_only 'true');
COMMENT ON FOREIGN TABLE bi.flights IS 'Flights that left New York in 2013, a segment per aircraft';
COMMENT ON COLUMN bi.flights.departure IS 'scheduled hour, UTC';
