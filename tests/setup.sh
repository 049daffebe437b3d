#!/usr/bin/env bash
# Installs what building and testing need and this machine lacks.
#
#   setup.sh            what `make test` needs
#   setup.sh all        besides, the stores that take minutes: `make test-stores`
#
# What is there stays as it is: no running service, cluster or configuration is touched, and the
# Postgres that gets installed neither creates a cluster of its own nor starts a service.
set -euo pipefail

has() { command -v "$1" >/dev/null; }

# Debian keeps the server's programs off PATH, and one machine may hold several majors.
has_postgres() {
    has initdb && has pg_receivewal && has pgbench && return
    local bin
    for bin in /usr/lib/postgresql/*/bin; do
        [[ -x $bin/initdb && -x $bin/pg_receivewal && -x $bin/pgbench ]] && return
    done
    return 1
}

has_certificates() {
    [[ -e /etc/ssl/certs/ca-certificates.crt || -e /etc/ssl/cert.pem ||
        -e /etc/pki/tls/certs/ca-bundle.crt ]]
}

# Debian's python3 comes without what makes virtual environments.
has_python() { has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }

if ! has cargo; then
    echo "error: no Rust toolchain: cargo is not on PATH" >&2
    echo "hint: install it from https://rustup.rs" >&2
    exit 1
fi

missing=()
has make || missing+=(make)
has cc || missing+=(gcc libc6-dev)
has_certificates || missing+=(ca-certificates)
has_postgres || missing+=(postgresql)
has_python || missing+=(python3 python3-venv)
has openssl || missing+=(openssl)
if [[ ${1:-} == all ]]; then
    has node || missing+=(nodejs)
    has npm || missing+=(npm)
fi
if ((${#missing[@]} == 0)); then
    exec "$(dirname "$0")/stores/install.sh" "$@"
fi

if ! has apt-get; then
    echo "error: missing, by Debian's package names: ${missing[*]}" >&2
    echo "hint: there is no apt-get here; install their counterparts and try again" >&2
    exit 1
fi
as_root=()
if ((EUID != 0)); then
    if ! has sudo; then
        echo "error: missing packages, and neither root nor sudo to install them" >&2
        echo "hint: as root: apt-get install -y --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

# Both guards last only as long as this installation, and never replace a file of the machine.
guards=()
guard() { # path mode content
    [[ -e $1 ]] && return
    "${as_root[@]}" mkdir -p "$(dirname "$1")"
    printf '%s\n' "$3" | "${as_root[@]}" tee "$1" >/dev/null
    "${as_root[@]}" chmod "$2" "$1"
    guards+=("$1")
}
release() { ((${#guards[@]} == 0)) || "${as_root[@]}" rm -f "${guards[@]}"; }
trap release EXIT
guard /usr/sbin/policy-rc.d 755 $'#!/bin/sh\nexit 101'
guard /etc/postgresql-common/createcluster.d/pgkeep.conf 644 'create_main_cluster = false'

echo "installing: ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
"$(dirname "$0")/stores/install.sh" "$@"
