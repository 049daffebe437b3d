#!/usr/bin/env bash
# Installs the servers that object stores are tried against: `make test-stores`.
#
# They come from package registries, in pinned versions, into one directory that the tests know;
# what is there already is not asked for again. Needs about 200 MB and a minute.
set -euo pipefail

AZURITE=3.35.0

stores=${TMPDIR:-/tmp}/pgkeep-tests-$EUID/stores
has() { command -v "$1" >/dev/null; }

missing=()
has node || missing+=(nodejs)
has npm || missing+=(npm)
has python3 || missing+=(python3)
if ((${#missing[@]})); then
    if ((EUID != 0)) || ! has apt-get; then
        echo "error: missing, by Debian's package names: ${missing[*]}" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

mkdir -p "$stores"
chmod 755 "${stores%/*}" "$stores"

azurite=$stores/azurite-$AZURITE
if [[ ! -e $azurite ]]; then
    partial=$(mktemp -d "$stores/partial.XXXXXX")
    npm install --prefix "$partial" --no-fund --no-audit --loglevel=error "azurite@$AZURITE"
    chmod -R a+rX "$partial"
    mv -T "$partial" "$azurite"
fi
