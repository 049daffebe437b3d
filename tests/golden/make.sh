#!/bin/sh
# Makes the golden bytes of one major anew: make.sh [BINDIR], by default of the newest one installed.
# Postgres refuses root, who therefore goes on as user postgres and takes the files over at the end.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
bin=${1:-$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)}
if [ "$(id -u)" != 0 ]; then
    "$here/base_backup.sh" "$bin"
    "$here/wal.sh" "$bin"
    exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here"/*.sh "$work"
chmod +x "$work"/*.sh
chown -R postgres: "$work"
cd "$work"
runuser -u postgres -- "$work/make.sh" "$bin"
for major in [0-9]*; do
    rm -rf "${here:?}/$major"
    cp -R "$major" "$here"
done
