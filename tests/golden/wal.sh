#!/bin/sh
# Makes the golden WAL: wal.sh BINDIR, as a user Postgres may run as.
# Writes into <major>/wal beside this script: consecutive segments of 1 MB without the zeros at their
# ends, and what pg_waldump says about their records, one a line: LSN, resource manager, length,
# transaction, previous LSN.
set -eu

bin=$1
here=$(cd "$(dirname "$0")" && pwd)
major=$("$bin/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
out=$here/$major/wal
work=$(mktemp -d)
trap '"$bin/pg_ctl" -D "$work/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
export LC_ALL=C PGHOST="$work" PGUSER=golden PGDATABASE=postgres
sql() { "$bin/psql" -qXAt -v ON_ERROR_STOP=1 "$@"; }

"$bin/initdb" -D "$work/data" -U golden -A trust --no-locale -E UTF8 -N -k --wal-segsize=1 >/dev/null
"$bin/pg_ctl" -D "$work/data" -l "$work/log" -w start -o "-c listen_addresses='' \
    -c unix_socket_directories='$work' -c fsync=off -c wal_level=logical -c wal_keep_size=64MB \
    -c max_prepared_transactions=4 -c autovacuum=off" >/dev/null

sql -c "CREATE TABLE item (id int PRIMARY KEY, name text)" -c "SELECT pg_switch_wal()" >/dev/null
# The name of a position on a boundary is that of the segment before it.
first=$(sql -c "SELECT pg_walfile_name(pg_current_wal_lsn() + 1)")
sql >/dev/null <<'SQL'
INSERT INTO item SELECT n, 'name ' || n FROM generate_series(1, 500) n;
SELECT pg_create_restore_point('before the flood');
BEGIN; UPDATE item SET name = 'lost' WHERE id < 50; ROLLBACK;
BEGIN;
INSERT INTO item VALUES (1001, 'kept'); SAVEPOINT one;
INSERT INTO item VALUES (1002, 'lost'); ROLLBACK TO one; SAVEPOINT two;
INSERT INTO item VALUES (1003, 'kept');
COMMIT;
CREATE TABLE gone (n int);
BEGIN; DROP TABLE gone; INSERT INTO item VALUES (1004, 'kept'); PREPARE TRANSACTION 'kept';
BEGIN; INSERT INTO item VALUES (1005, 'lost'); PREPARE TRANSACTION 'lost';
COMMIT PREPARED 'kept';
ROLLBACK PREPARED 'lost';
SELECT pg_switch_wal();
INSERT INTO item VALUES (2001, 'first of its segment');
SELECT pg_logical_emit_message(false, 'golden', repeat('flood ', 200000));
INSERT INTO item VALUES (2002, 'behind the flood');
SELECT pg_create_restore_point('behind the flood');
SELECT pg_switch_wal();
SQL
last=$(sql -c "SELECT pg_walfile_name(pg_current_wal_lsn())")
"$bin/pg_ctl" -D "$work/data" -m fast stop >/dev/null

rm -rf "$out"
mkdir -p "$out"
cd "$work/data/pg_wal"
for segment in $(ls | awk -v first="$first" -v last="$last" '$0 "" >= first && $0 "" <= last'); do
    perl -0777 -pe 's/\0+\z//' "$segment" >"$out/$segment"
done
# Only the fields before the description, which is free text.
"$bin/pg_waldump" -p . "$first" "$last" | sed -E \
    's|^rmgr: ([^ ]+) +len \(rec/tot\): +[0-9]+/ *([0-9]+), tx: +([0-9]+), lsn: ([0-9A-F/]+), prev ([0-9A-F/]+), .*|\4 \1 \2 \3 \5|' \
    >"$out/records.txt"
