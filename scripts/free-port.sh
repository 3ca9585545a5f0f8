#!/usr/bin/env bash
# Fails, and says what to do, if something listens on a port of 127.0.0.1 already, or if it is not a port.
#
#   scripts/free-port.sh TARGET VARIABLE PORT   for `make TARGET`, which takes the port from VARIABLE
set -euo pipefail
target=$1 variable=$2 port=$3

if ! [[ $port =~ ^[1-9][0-9]{0,4}$ ]] || ((port > 65535)); then
    echo "$variable=$port is not a port. Give a number from 1 to 65535." >&2
    exit 1
fi
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "Port $port is in use. Stop what listens there, or choose another, for example: make $target $variable=$((port % 50000 + 10000))" >&2
    exit 1
fi
