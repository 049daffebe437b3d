#!/usr/bin/env bash
# Gives the independent reader its Python packages, in a directory of their own: the machine's Python
# stays as it is. What is there already is not touched.
set -euo pipefail

place=${PGKEEP_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pgkeep-tests}/reader
[[ -x $place/bin/python ]] &&
    "$place/bin/python" -c 'import blake3, cryptography, lz4, zstandard' 2>/dev/null && exit 0

echo "installing: Python packages of tests/reader into $place"
rm -rf "$place"
python3 -m venv "$place"
"$place/bin/pip" install --quiet --disable-pip-version-check \
    'blake3>=1' 'cryptography>=44' 'lz4>=4' 'zstandard>=0.22'
