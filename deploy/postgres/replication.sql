-- The role that standbys follow the primary with, and that pg_rewind brings an old primary back with. It reads everything.
--
--   { echo "\\set replication_password $REPLICATION"; cat replication.sql; } | psql postgres
--
-- Run again, it changes the password and nothing else.
\set ON_ERROR_STOP on

SELECT 'CREATE ROLE counterfoil_replication LOGIN REPLICATION'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'counterfoil_replication') \gexec
ALTER ROLE counterfoil_replication NOSUPERUSER NOCREATEDB NOCREATEROLE REPLICATION NOBYPASSRLS PASSWORD :'replication_password';

-- What pg_rewind calls: https://www.postgresql.org/docs/15/app-pgrewind.html
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text, boolean, boolean) TO counterfoil_replication;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_file(text, boolean) TO counterfoil_replication;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text) TO counterfoil_replication;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) TO counterfoil_replication;
