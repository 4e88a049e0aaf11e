-- Every written segment to the canonical store.
SELECT count(trough.promote('archive', segment)) AS promoted FROM trough.locks('archive');
