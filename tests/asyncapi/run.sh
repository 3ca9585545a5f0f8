#!/usr/bin/env bash
# Validates docs/asyncapi.yaml with the parser of AsyncAPI.
#
# What is given goes to node --test. Where a tool is missing, the test is left out with a warning; with CI=true that is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."

. scripts/node-tests.sh
packages 'docs/asyncapi.yaml as AsyncAPI' tests/asyncapi node npm
exec node --test --test-reporter=spec "$@" ./*.test.js
