#!/usr/bin/env bash
# Tests the JavaScript client: its types, its size, its package, its state machines, and all of it against real servers.
#
#   ROOMCAST_BIN  the server to test against (target/debug/roomcast)
#
# What else is given goes to node --test, such as --test-name-pattern=replay. Where a tool is missing, the tests are left
# out with a warning; with CI=true that is an error.
set -euo pipefail
cd "$(dirname "$0")/../../.."

scripts/need.sh --optional node npm redis-server
for tool in node npm redis-server; do
    if ! command -v "$tool" >/dev/null; then
        echo 'The tests of the JavaScript client are left out.' >&2
        exit 0
    fi
done
if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
    echo "The JavaScript client needs Node 20 or newer, and this is $(node --version). See https://nodejs.org" >&2
    if [ "${CI:-}" = true ]; then exit 1; fi
    exit 0
fi
export ROOMCAST_BIN=${ROOMCAST_BIN:-$PWD/target/debug/roomcast}
if ! [ -x "$ROOMCAST_BIN" ]; then
    echo "$ROOMCAST_BIN is not there. Run cargo build first, or give another as ROOMCAST_BIN." >&2
    exit 1
fi

cd clients/js
# What is installed already is of this very list, or it is installed anew.
if ! cmp -s package-lock.json node_modules/.installed; then
    npm ci --no-audit --no-fund --loglevel=error
    cp package-lock.json node_modules/.installed
fi
npm run --silent check
exec node --test --test-concurrency=2 --test-reporter=spec "$@" ./test/*.test.js
