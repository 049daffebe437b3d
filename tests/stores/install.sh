#!/usr/bin/env bash
# Installs the object stores that tests run against, into a cache that outlives a checkout.
#
#   install.sh          LocalStack's S3 and moto's KMS, from PyPI: about 60 s, once
#   install.sh all      besides, Azurite from npm, and s3s-fs from crates.io, which checks
#                       signatures: minutes, once
#
# Nothing outside the cache is touched. Python, and for all a Rust toolchain and Node with npm, must
# be there: tests/setup.sh sees to that.
set -euo pipefail

cache=${PGKEEP_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pgkeep-tests}
mkdir -p "$cache"
# One at a time: several checkouts may share the cache.
exec 9>"$cache/install.lock"
flock 9

# Without these pins the runtime does not import.
localstack_pins=(
    'localstack-core[base-runtime]==4.3.0' 'cbor2==5.6.5' 'pyopenssl==25.0.0'
    'cryptography==44.0.3' 'service_identity==24.2.0'
)
s3s_version=0.14.1
# As in tests/harness/azurite.rs.
azurite_version=3.35.0

# The stamp comes last: what was interrupted is made anew.
install_localstack() {
    local place=$cache/localstack
    [[ -e $place/installed-4.3.0 ]] && return
    echo "installing: LocalStack 4.3.0 into $place"
    rm -rf "$place"
    python3 -m venv "$place"
    "$place/bin/pip" install --quiet --disable-pip-version-check "${localstack_pins[@]}"
    touch "$place/installed-4.3.0"
}

install_moto() {
    local place=$cache/moto
    [[ -e $place/installed-5.2.1 ]] && return
    echo "installing: moto 5.2.1 into $place"
    rm -rf "$place"
    python3 -m venv "$place"
    "$place/bin/pip" install --quiet --disable-pip-version-check \
        moto==5.2.1 flask==3.1.3 flask-cors==6.0.2
    touch "$place/installed-5.2.1"
}

install_crate() { # name version cargo-options…
    local name=$1 version=$2
    local place=$cache/$name-$version
    shift 2
    [[ -x $place/bin/$name ]] && return
    echo "installing: $name $version into $place"
    CARGO_TARGET_DIR=$cache/build cargo install --quiet --locked --root "$place" \
        --version "$version" "$@" "$name"
    rm -rf "$cache/build"
}

install_azurite() {
    local place=$cache/azurite-$azurite_version
    [[ -e $place/installed ]] && return
    echo "installing: Azurite $azurite_version into $place"
    rm -rf "$place"
    mkdir "$place"
    npm install --prefix "$place" --no-fund --no-audit --loglevel=error "azurite@$azurite_version"
    touch "$place/installed"
}

install_localstack
install_moto
if [[ ${1:-} == all ]]; then
    install_azurite
    install_crate s3s-fs "$s3s_version" --features binary
fi
