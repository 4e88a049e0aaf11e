-- The trough schema that each aircraft's segment starts from (SQLite).
CREATE TABLE flights (
    time_hour TEXT NOT NULL,
    carrier TEXT NOT NULL,
    flight INTEGER NOT NULL,
    origin TEXT NOT NULL,
    dest TEXT NOT NULL,
    year INTEGER NOT NULL,
    month INTEGER NOT NULL,
    day INTEGER NOT NULL,
    sched_dep_time INTEGER NOT NULL,
    dep_time INTEGER,
    dep_delay INTEGER,
    sched_arr_time INTEGER NOT NULL,
    arr_time INTEGER,
    arr_delay INTEGER,
    air_time INTEGER,
    distance INTEGER NOT NULL
) STRICT;
CREATE INDEX flights_by_day ON flights (month, day);
