#!/bin/sh
# Makes the golden bytes of a base backup: base_backup.sh BINDIR, as a user Postgres may run as.
# Writes into <major>/base_backup beside this script. pg_basebackup -Ft -X none writes the tar files
# exactly as the server sent them.
set -eu

bin=$1
here=$(cd "$(dirname "$0")" && pwd)
major=$("$bin/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
out=$here/$major/base_backup
work=$(mktemp -d)
trap '"$bin/pg_ctl" -D "$work/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
export LC_ALL=C PGHOST="$work" PGUSER=golden PGDATABASE=postgres

"$bin/initdb" -D "$work/data" -U golden -A trust --no-locale -E UTF8 -N >/dev/null
"$bin/pg_ctl" -D "$work/data" -l "$work/log" -w \
    -o "-c listen_addresses='' -c unix_socket_directories='$work' -c fsync=off" start >/dev/null
mkdir "$work/space"
"$bin/psql" -qX -c "CREATE TABLESPACE space LOCATION '$work/space'" \
    -c "CREATE TABLE moment TABLESPACE space AS SELECT 1 AS n"
"$bin/pg_basebackup" -D "$work/backup" -Ft -X none -c fast -l "before 'deploy 42'" 2>/dev/null

mkdir -p "$out"
cd "$work/backup"
head -c 65536 base.tar >"$out/base_head.tar"
# The only other archive is that of the tablespace; it is small enough to be kept whole.
cp [0-9]*.tar "$out/tablespace.tar"
# pg_basebackup asks for a tablespace_map; without it, a link stands in base.tar. psql writes the
# bytes of a copy without their framing, which leaves a header of 512 bytes in one piece. It does
# not expect the result sets after the copy and reports a failure.
"$bin/psql" -qX "replication=true" -c "BASE_BACKUP (CHECKPOINT 'fast', WAIT false)" >"$work/copy" 2>/dev/null || true
link=$(LC_ALL=C grep -abo 'pg_tblspc/[0-9]' "$work/copy" | head -n 1 | cut -d: -f1)
dd if="$work/copy" bs=1 skip="$link" count=512 2>/dev/null >"$out/tablespace_link.tar"
tar -xOf base.tar backup_label >"$out/backup_label"
cp backup_manifest "$out/backup_manifest"
