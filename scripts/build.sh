#!/usr/bin/env bash
# Builds what make run, make cluster and make demo start, and says before the first build how long it takes.
#
#   scripts/build.sh PACKAGE...   of the workspace; roomcast is the server
#
#   PROFILE   dev, which compiles in less time and leaves jemalloc out, so that memory that clients have left comes back later;
#             or release, for figures
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${PROFILE:-dev}
case $profile in
    dev) directory=debug minutes=2 options=(--no-default-features) ;;
    release) directory=release minutes=6 options=() ;;
    *)
        echo "PROFILE=$profile is not known. Give dev or release." >&2
        exit 1
        ;;
esac
built=${CARGO_TARGET_DIR:-target}/$directory

scripts/need.sh cargo cc
if [ ! -e "$built/roomcast" ]; then
    echo "roomcast is compiled first, with some 200 crates that it is made of: about $minutes minutes on two idle cores." \
        'Later starts take a second.' >&2
fi
cargo build --profile "$profile" --locked ${options[@]+"${options[@]}"} "${@/#/--package=}" >&2
echo "$built"
