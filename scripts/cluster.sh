#!/usr/bin/env bash
# Runs a small cluster as plain processes on this machine: Redis, two roomcast servers, and nginx in front. It needs no
# root. It restarts a server that is killed. Ctrl-C stops everything and leaves nothing behind.
#
#   PORT       nginx (8080)           PORT_1, PORT_2   the two servers (8081, 8082)
#   REDIS_PORT Redis (6380)           BIN              a roomcast that is built already; else it is built first
#   PROFILE    dev, or release, to measure with roomcast load
#   AFFINITY   how nginx knows a client again: address (or cookie)
#
# Settings of the server (ROOMCAST_LOG=debug and the like) are passed on to both servers.
set -euo pipefail

# A shell has its background processes ignore SIGINT, and bash cannot undo that; env can.
if [[ $(trap -p INT) == *"''"* ]] && env --default-signal=INT true 2>/dev/null; then
    exec env --default-signal=INT "$0"
fi

PORT=${PORT:-8080} PORT_1=${PORT_1:-8081} PORT_2=${PORT_2:-8082} REDIS_PORT=${REDIS_PORT:-6380} AFFINITY=${AFFINITY:-address}

# Debian keeps nginx in /usr/sbin, which is not on an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin

if [ -n "${BIN:-}" ]; then
    [ -x "$BIN" ] || { echo "BIN=$BIN is not a program. Leave BIN out to have roomcast built here." >&2; exit 1; }
    BIN=$(cd "$(dirname "$BIN")" && pwd)/$(basename "$BIN")
fi
cd "$(dirname "$0")/.."

# --- The parts, and how they end ---------------------------------------------------------------------------------

dir=      # All that the cluster writes.
parts=    # NAME:PID of each part, the newest first.

# Starts a part. With `set -m` it gets its own process group: Ctrl-C in the terminal then reaches only this script,
# which stops the parts in order, each together with its children.
start() {
    local name=$1
    shift
    set -m
    "${leash[@]}" "$@" </dev/null >>"$dir/$name.log" 2>&1 3>&- &
    set +m
    parts="$name:$! $parts"
}

# On Linux, the parts end even if this script is killed.
leash=(env)
if setpriv --pdeathsig TERM true 2>/dev/null; then leash=(setpriv --pdeathsig TERM env); fi

# Ends a process group: asks, waits a little longer than a server gives its clients to go (10 s), then kills.
end() {
    local tries=120
    kill -TERM -- "-$1" 2>/dev/null || return
    while kill -0 -- "-$1" 2>/dev/null; do
        if ((tries-- == 0)); then
            kill -KILL -- "-$1" 2>/dev/null
            return
        fi
        sleep 0.1
    done
}

# Runs however the script ends. Nothing may stop it halfway: not a second Ctrl-C, not a terminal that is gone.
stop() {
    trap '' INT TERM HUP PIPE
    set +eu
    local part
    # $! may be a child that was started a moment ago and is not in the list yet.
    if [ -n "$!" ]; then end "$!"; fi
    for part in $parts; do end "${part#*:}"; done
    wait
    if [ -n "$dir" ]; then rm -rf "$dir"; fi
} 2>/dev/null

trap stop EXIT
trap 'trap "" INT TERM HUP PIPE; printf "\nStopping the cluster.\n" || true; exit 0' INT TERM HUP

# Shows the end of a part's log and gives up.
trouble() {
    if [ -s "$dir/$1.log" ]; then
        printf '%s\nThe end of its log:\n' "$2" >&2
        tail -n 20 "$dir/$1.log" | sed 's/^/    /' >&2
    else
        printf '%s\nIts log is empty.\n' "$2" >&2
    fi
    exit 1
}

# Gives up if a part has ended. Once all are up, a server may end, as in any cluster: it is started again, unless that
# was just tried.
is_up=
again=()
all_alive() {
    local part name pid status
    for part in $parts; do
        name=${part%:*} pid=${part#*:}
        if kill -0 "$pid" 2>/dev/null; then continue; fi
        status=0
        wait "$pid" 2>/dev/null || status=$?
        if [ -z "$is_up" ] || [[ $name != server-* ]] || ((SECONDS - ${again[${name#server-}]:--9} < 2)); then
            trouble "$name" "$name has ended (exit status $status), so the cluster is stopped."
        fi
        parts=${parts/"$part "/}
        again[${name#server-}]=$SECONDS
        start_server "${name#server-}"
        echo "$name has ended (exit status $status) and is started again as process $(pid_of "$name")."
    done
}

pid_of() {
    local pid=${parts#*"$1:"}
    echo "${pid%% *}"
}

# Whether the first line of an answer from a port contains a text.
answers() {
    (
        exec 4<>"/dev/tcp/127.0.0.1/$1" && printf '%b\r\n\r\n' "$2" >&4 && read -r -t 5 line <&4 && [[ $line == *"$3"* ]]
    ) 2>/dev/null
}

# Waits until a part answers.
await() {
    local name=$1 port=$2 deadline=$((SECONDS + 30))
    shift
    until answers "$@"; do
        all_alive
        ((SECONDS < deadline)) || trouble "$name" "$name is not ready on port $port after 30 seconds, so the cluster is stopped."
        sleep 0.1
    done
}

readyz='GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close'

# --- Before anything starts ---------------------------------------------------------------------------------------

case $AFFINITY in
    address | cookie) ;;
    *)
        echo "AFFINITY=$AFFINITY is not known. Give address or cookie." >&2
        exit 1
        ;;
esac

seen=' '
for variable in PORT PORT_1 PORT_2 REDIS_PORT; do
    port=${!variable}
    if [[ $seen == *" $port "* ]]; then
        echo "$variable=$port: another part has this port already. Give each of PORT, PORT_1, PORT_2 and REDIS_PORT its own." >&2
        exit 1
    fi
    scripts/free-port.sh cluster "$variable" "$port"
    seen+="$port "
done

scripts/need.sh redis-server nginx
if [ -z "${BIN:-}" ]; then
    set -m
    scripts/build.sh roomcast </dev/null >/dev/null &
    set +m
    wait $! || { echo "roomcast could not be built; see above." >&2; exit 1; }
    BIN=$(scripts/build.sh roomcast 2>/dev/null)/roomcast
fi

# --- Up -----------------------------------------------------------------------------------------------------------

dir=$(mktemp -d "${TMPDIR:-/tmp}/roomcast-cluster.XXXXXX")
# As root, nginx hands its work to the user nobody, who must get through to its temporary files.
chmod 711 "$dir"

mkdir "$dir/redis"
start redis redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --dir "$dir/redis" --save '' --appendonly yes
await redis "$REDIS_PORT" PING +PONG

start_server() {
    local port=PORT_$1
    start "server-$1" ROOMCAST_LISTEN="127.0.0.1:${!port}" ROOMCAST_ORIGIN_SERVER="server-$1" \
        ROOMCAST_REDIS_URL="redis://127.0.0.1:$REDIS_PORT/0" "$BIN"
}
start_server 1
start_server 2
await server-1 "$PORT_1" "$readyz" ' 200 '
await server-2 "$PORT_2" "$readyz" ' 200 '

# The same nginx as in docker-compose.yml, on other ports, and with the servers themselves in place of their doors.
sed "/# Doors/,/# End of the doors/d; s|/tmp/|$dir/|; s/listen 8080/listen 127.0.0.1:$PORT/
    s/set \$affinity address/set \$affinity $AFFINITY/
    s/127.0.0.1:8001/127.0.0.1:$PORT_1/; s/127.0.0.1:8002/127.0.0.1:$PORT_2/" docker/nginx.conf >"$dir/nginx.conf"
start nginx nginx -p "$dir/" -c "$dir/nginx.conf" -g 'daemon off;'
await nginx "$PORT" "$readyz" ' 200 '

cat <<END
http://127.0.0.1:$PORT/

roomcast cluster is ready

  nginx     http://127.0.0.1:$PORT
  server-1  http://127.0.0.1:$PORT_1   metrics: http://127.0.0.1:$PORT_1/metrics
  server-2  http://127.0.0.1:$PORT_2   metrics: http://127.0.0.1:$PORT_2/metrics
  Redis     redis://127.0.0.1:$REDIS_PORT
  logs      tail -f $dir/*.log

Talk across the servers, in two more terminals:

  $BIN chat lobby ann ws://127.0.0.1:$PORT_1/ws
  $BIN chat lobby bob ws://127.0.0.1:$PORT_2/ws

nginx knows a client again by its $AFFINITY. By address, all from this machine that come through it meet the same server;
AFFINITY=cookie spreads them.
A server that is killed is started again. See what its clients notice of it: kill -9 $(pid_of server-1)
Ctrl-C stops the cluster.
END
is_up=yes

# Nothing is ever written to this pipe: a read from it is a pause that a signal ends at once, and that leaves no
# process.
mkfifo "$dir/silence"
exec 3<>"$dir/silence"
# While it reads, bash would say in its own words which process was killed.
while all_alive 2>&5; do
    read -r -t 1 <&3 || true
done 5>&2 2>/dev/null
