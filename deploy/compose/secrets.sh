#!/bin/bash
# Makes the passwords of compose.yaml, once; run as root, because each file belongs to the user that reads it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
umask 077
[ ! -e secrets ] || { echo "secrets/ is there already" >&2; exit 1; }
mkdir secrets
for name in postgres replication migrator node; do
    openssl rand -hex 24 > "secrets/${name}_password"
done
# Inside the machine's own network nothing is encrypted: sslmode=disable. Across machines leave it out.
for name in migrator node; do
    echo "postgres://counterfoil_$name:$(cat "secrets/${name}_password")@db1,db2/counterfoil?sslmode=disable" > "secrets/${name}_url"
done
chown 999:999 secrets/*_password
chown 10001:10001 secrets/*_url
chmod 0711 secrets
