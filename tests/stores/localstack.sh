#!/usr/bin/env bash
# localstack.sh DIR PORT: LocalStack's S3 on 127.0.0.1, for all tests of this machine together.
#
# It starts in 12 s, which is too slow for each test. So it outlives the test that started it, and
# ends by itself when no test has held DIR/users.lock at two moments, 20 s apart. It answers http and
# https on one port; DIR/ca.pem is the authority that signed its certificate.
set -euo pipefail

directory=$1 port=$2
cache=${PGKEEP_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pgkeep-tests}
cd "$directory"
rm -rf volume
mkdir volume

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
    -subj '/CN=pgkeep test authority' -keyout ca.key -out ca.pem 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=localhost' \
    -keyout server.key -out server.csr 2>/dev/null
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
    -extfile <(echo 'subjectAltName=IP:127.0.0.1,DNS:localhost') -out server.crt 2>/dev/null
cat server.key server.crt >server.pem
chmod 644 ca.pem

export LOCALSTACK_VOLUME_DIR=$directory/volume FILESYSTEM_ROOT=$directory/volume/fs
export SERVICES=s3 GATEWAY_LISTEN=127.0.0.1:$port CUSTOM_SSL_CERT_PATH=$directory/server.pem
export SKIP_SSL_CERT_DOWNLOAD=1 DISABLE_EVENTS=1 TMPDIR=$directory/volume
"$cache/localstack/bin/python" -m localstack.runtime.main &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server || true' EXIT

exec 9>>users.lock
idle=0
while sleep 20 && kill -0 $server 2>/dev/null; do
    if ! flock --nonblock --exclusive 9; then
        idle=0
    elif ((++idle == 2)); then
        # The lock is held until the end: whoever comes now waits, and starts another one.
        exit 0
    else
        flock --unlock 9
    fi
done
