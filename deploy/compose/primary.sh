#!/bin/bash
# Run by the image of PostgreSQL when the primary's directory is made: the roles, and a slot for the standby.
set -euo pipefail
# The standby that commits wait for is yet to be made.
export PGOPTIONS='-c synchronous_commit=local'
run() { psql -v ON_ERROR_STOP=1 -X -q -U postgres "$@" postgres; }
{
    for name in replication migrator node; do echo "\\set ${name}_password $(cat "/run/secrets/${name}_password")"; done
    cat /counterfoil/replication.sql /counterfoil/roles.sql
} | run
run -c "SELECT pg_create_physical_replication_slot('db2')"
cat /counterfoil/pg_hba.conf > "$PGDATA/pg_hba.conf"
