# What the scripts that run tests with Node share. It is sourced from the root of the project.
#
#   packages NAME FOLDER TOOL...   goes into FOLDER, with its packages installed
#   ready NAME FOLDER TOOL...      the same with ROOMCAST_BIN set, for tests of a server
#
# Where a tool is missing, or Node is too old, they say that the tests of NAME are left out and end the script; with CI=true that is
# an error.
# shellcheck shell=bash

# Ends the script, as its tests cannot run here.
leave_out() {
    echo "The tests of $1 are left out." >&2
    if [ "${CI:-}" = true ]; then exit 1; fi
    exit 0
}

packages() {
    local name=$1 folder=$2
    shift 2
    tools "$name" "$@"
    cd "$folder" || return
    # What is installed already is of this very list, or it is installed anew.
    if ! cmp -s package-lock.json node_modules/.installed; then
        npm ci --no-audit --no-fund --loglevel=error
        cp package-lock.json node_modules/.installed
    fi
}

ready() {
    tools "$1" "${@:3}"
    export ROOMCAST_BIN=${ROOMCAST_BIN:-$PWD/target/debug/roomcast}
    if ! [ -x "$ROOMCAST_BIN" ]; then
        echo "$ROOMCAST_BIN is not there. Run cargo build first, or give another as ROOMCAST_BIN." >&2
        exit 1
    fi
    packages "$@"
}

tools() {
    local name=$1 tool
    shift
    scripts/need.sh --optional "$@"
    for tool; do
        command -v "$tool" >/dev/null || leave_out "$name"
    done
    if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
        echo "They need Node 20 or newer, and this is $(node --version). See https://nodejs.org" >&2
        leave_out "$name"
    fi
}
