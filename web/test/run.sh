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
. scripts/node-tests.sh
scripts/need.sh --optional chromium
# Some systems give it another name.
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
export CHROMIUM
command -v "${CHROMIUM:-chromium}" >/dev/null || leave_out 'the page in a browser'
ready 'the page in a browser' web/test node npm redis-server nginx
exec node --test --test-concurrency=2 "$@" ./*.test.js
