#!/usr/bin/env bash
# Tests the page in Chromium, against two servers, Redis and nginx.
#
#   ROOMCAST_BIN  the server to test (target/debug/roomcast)
#   CHROMIUM      the browser; else chromium or chromium-browser of the PATH
#   SCREENSHOTS   if set, the pictures in docs/images are taken anew, in the letters that the system has for its programs
#
# What else is given goes to node --test, such as --test-name-pattern=phone. Where a tool is missing, the tests are left out
# with a warning; with CI=true that is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."

PATH=$PATH:/usr/sbin:/sbin
scripts/need.sh --optional chromium node npm redis-server nginx
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
for tool in node npm redis-server nginx ${CHROMIUM:-chromium}; do
    if ! command -v "$tool" >/dev/null; then
        echo 'The tests of the page in a browser are left out.' >&2
        exit 0
    fi
done
export CHROMIUM ROOMCAST_BIN=${ROOMCAST_BIN:-$PWD/target/debug/roomcast}
if ! [ -x "$ROOMCAST_BIN" ]; then
    echo "$ROOMCAST_BIN is not there. Run cargo build first, or give another as ROOMCAST_BIN." >&2
    exit 1
fi

cd web/test
# What is installed already is of this very list, or it is installed anew.
if ! cmp -s package-lock.json node_modules/.installed; then
    npm ci --no-audit --no-fund --loglevel=error
    cp package-lock.json node_modules/.installed
fi
exec node --test --test-concurrency=2 "$@" ./*.test.js
