#!/usr/bin/env bash
# Tests the JavaScript client: its types, its size, its package, its state machines, and all of it against real servers.
#
#   ROOMCAST_BIN  the server to test against (target/debug/roomcast)
#
# What else is given goes to node --test, such as --test-name-pattern=replay. Where a tool is missing, the tests are left
# out with a warning; with CI=true that is an error.
set -euo pipefail
cd "$(dirname "$0")/../../.."

. scripts/node-tests.sh
ready 'the JavaScript client' clients/js node npm redis-server
npm run --silent check
exec node --test --test-concurrency=2 --test-reporter=spec "$@" ./test/*.test.js
