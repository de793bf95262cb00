-- Two roles for one database: one that owns the tables and makes new ones, for `counterfoil migrate` alone, and one for the nodes,
-- which may read and write rows and nothing else. Whoever breaks into a node can then neither drop a table nor change what it says.
--
--   { echo "\\set migrator_password $MIGRATOR"; echo "\\set node_password $NODE"; cat roles.sql; } | psql postgres
--
-- Then, in this order: `counterfoil migrate` as counterfoil_migrator, and the nodes as counterfoil_node with
-- store.migrate = "by-command". Run again, it changes the passwords and nothing else.
\set ON_ERROR_STOP on

SELECT 'CREATE ROLE counterfoil_migrator LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'counterfoil_migrator') \gexec
SELECT 'CREATE ROLE counterfoil_node LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'counterfoil_node') \gexec
ALTER ROLE counterfoil_migrator NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'migrator_password';
ALTER ROLE counterfoil_node NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'node_password';

SELECT 'CREATE DATABASE counterfoil OWNER counterfoil_migrator ENCODING ''UTF8'' TEMPLATE template0'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'counterfoil') \gexec

-- By default everybody may connect to a database and make temporary tables in it.
REVOKE ALL ON DATABASE counterfoil FROM PUBLIC;
GRANT CONNECT ON DATABASE counterfoil TO counterfoil_node;

\connect counterfoil
-- The schema of its own, so that nothing of another program stands beside our tables.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO counterfoil_migrator;
GRANT USAGE ON SCHEMA public TO counterfoil_node;

-- What is there already, and whatever a later migration makes.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO counterfoil_node;
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO counterfoil_node;
ALTER DEFAULT PRIVILEGES FOR ROLE counterfoil_migrator IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO counterfoil_node;
ALTER DEFAULT PRIVILEGES FOR ROLE counterfoil_migrator IN SCHEMA public GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO counterfoil_node;
