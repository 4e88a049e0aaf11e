-- Every written segment to the canonical store, many at a time: a worker uploads 32.
SELECT count(*) AS promoted
FROM trough.promote('archive', ARRAY(SELECT segment FROM trough.locks('archive')))
WHERE error IS NULL;
