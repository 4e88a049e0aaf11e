-- Every flight through the system's own write path.
INSERT INTO archive.flights
    (segment, time_hour, carrier, flight, origin, dest, year, month, day, sched_dep_time, dep_time, dep_delay,
     sched_arr_time, arr_time, arr_delay, air_time, distance)
SELECT segment, time_hour, carrier, flight, origin, dest, year, month, day, sched_dep_time, dep_time, dep_delay,
       sched_arr_time, arr_time, arr_delay, air_time, distance
FROM plain.flights;
