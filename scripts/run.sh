#!/usr/bin/env bash
# Builds roomcast and runs one server. It needs nothing else, not even Redis.
#
#   PORT      where it listens on 127.0.0.1 (8080)
#   PROFILE   dev, or release
#
# Settings of the server (ROOMCAST_LOG=debug and the like) are passed on; ROOMCAST_LISTEN takes the place of PORT.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${ROOMCAST_LISTEN:-}" ]; then
    scripts/free-port.sh run PORT "${PORT:-8080}"
    export ROOMCAST_LISTEN=127.0.0.1:${PORT:-8080}
fi
built=$(scripts/build.sh roomcast)
exec "$built/roomcast"
