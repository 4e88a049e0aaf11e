-- pg_trough 0.1.0 to 0.2.0. A fresh CREATE EXTENSION runs 0.1.0, which stays as it was released, and then this, so that
-- both ways end the same. Functions that change something are taken from PUBLIC here as well.
\echo Use "ALTER EXTENSION pg_trough UPDATE TO '0.2.0'" to load this file. \quit
