-- Every written segment to the canonical store, many in one request: a worker uploads 32 at a time.
SELECT count(*) AS promoted
FROM (SELECT array_agg(segment) AS batch
      FROM (SELECT segment, row_number() OVER () / 250 AS n FROM trough.locks('archive')) l GROUP BY n) b,
     trough.promote('archive', batch)
WHERE error IS NULL;
