#!/usr/bin/env bash
# Builds what make run, make cluster and make demo start, and says before the first time how long that takes.
#
#   scripts/build.sh PACKAGE...   of the workspace; roomcast is the server
#
#   PROFILE   dev, which compiles in less than half of the time (or release, for figures; see docs/load.md)
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${PROFILE:-dev}
case $profile in
    dev) directory=debug ;;
    release) directory=release ;;
    *)
        echo "PROFILE=$profile is not known. Give dev or release." >&2
        exit 1
        ;;
esac
built=${CARGO_TARGET_DIR:-target}/$directory

scripts/need.sh cargo cc
if [ ! -e "$built/roomcast" ]; then
    crates=$(grep -c '^name = ' Cargo.lock)
    case $profile in
        dev) minutes='3 minutes' ;;
        release) minutes='6 minutes' ;;
    esac
    echo "roomcast is compiled first, with up to $crates crates that it is made of: about $minutes on two idle cores. Later" \
        'starts take a second.' >&2
fi
cargo build --profile "$profile" --locked "${@/#/--package=}" >&2
echo "$built"
