-- The plain twin of archive.flights: the same columns, the aircraft in `segment` (NA where it is not known).
CREATE TABLE plain.flights AS
SELECT coalesce(nullif(tailnum, ''), 'NA') AS segment, time_hour, carrier, flight::bigint, origin, dest, year::bigint,
       month::bigint, day::bigint, sched_dep_time::bigint, nullif(dep_time, 'NA')::bigint AS dep_time,
       nullif(dep_delay, 'NA')::bigint AS dep_delay, sched_arr_time::bigint, nullif(arr_time, 'NA')::bigint AS arr_time,
       nullif(arr_delay, 'NA')::bigint AS arr_delay, nullif(air_time, 'NA')::bigint AS air_time, distance::bigint
FROM staging;
DROP TABLE staging;
CREATE INDEX ON plain.flights (segment);
ANALYZE plain.flights;
