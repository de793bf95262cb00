#!/bin/bash
# Makes the standby's directory from the primary, once, and starts it.
set -euo pipefail
passfile="$(dirname "$PGDATA")/passfile"
if [ ! -d "$PGDATA" ]; then
    # The standby takes its password from this file whenever it connects.
    printf 'db1:5432:*:counterfoil_replication:%s\n' "$(cat /run/secrets/replication_password)" > "$passfile"
    chmod 0600 "$passfile"
    # Beside its place until it is whole.
    until rm -rf "$PGDATA.new" && pg_basebackup --pgdata="$PGDATA.new" --write-recovery-conf --slot=db2 --checkpoint=fast \
        --dbname="host=db1 user=counterfoil_replication passfile=$passfile"; do
        sleep 1
    done
    mv "$PGDATA.new" "$PGDATA"
fi
exec postgres "$@"
