#!/usr/bin/env bash
# Runs docker-compose.yml, with Docker Compose v2 or docker-compose 1.29.
#
#   scripts/compose.sh up      gets and builds the images, starts all, waits until it is ready, and says how to use it
#   scripts/compose.sh smoke   has a message cross the two servers, by checks that run inside
#   scripts/compose.sh down    stops all and removes containers, volumes, networks and the image
#
#   PORT nginx (8080)   PORT_1, PORT_2 the two servers (8081, 8082)   COMPOSE_PROFILES=observability Prometheus and Grafana
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/need.sh docker
scripts/need.sh compose
if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi

# Runs our program next to server-1, where all the others are known by their names.
inside() { "${compose[@]}" exec -T server-1 roomcast "$@"; }

# Shows the state and gives up.
trouble() {
    "${compose[@]}" ps >&2 || true
    "${compose[@]}" logs --tail 20 >&2 || true
    printf '\n%s See above; "make compose-down" removes what is there.\n' "$1" >&2
    exit 1
}

# Reports a port in use before the image is built, unless this project may be using it already.
ports_are_free() {
    local variable port
    if [ -n "$("${compose[@]}" ps -q)" ]; then return; fi
    for variable in PORT=8080 PORT_1=8081 PORT_2=8082; do
        port=${variable#*=} variable=${variable%=*}
        scripts/free-port.sh compose-up "$variable" "${!variable:-$port}"
    done
}

image=roomcast:local

# The images from elsewhere that the project runs.
others() {
    awk -v profiles=",${COMPOSE_PROFILES:-}," '
        /^  [a-z0-9-]+:/ { wanted = 1 }
        /^    profiles: / { gsub(/[][]/, "", $2); wanted = index(profiles, "," $2 ",") }
        /^    image: / && wanted { print $2 }' docker-compose.yml
}

is_here() { docker image inspect "$1" >/dev/null 2>&1; }

# Gets all images before it touches anything that runs: an image that is missing must not cost what is there.
get() {
    local other
    for other in $(others); do
        is_here "$other" || docker pull "$other" || {
            echo "Cannot get the image $other; see above. Nothing has changed." >&2
            exit 1
        }
    done
    if ! is_here "$image"; then
        echo "The image $image is built first, which compiles roomcast: about 10 minutes on two cores, this once." >&2
    fi
    "${compose[@]}" build || {
        echo "The image $image cannot be built; see above. Nothing has been changed." >&2
        exit 1
    }
}

up() {
    ports_are_free
    REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)
    export REVISION
    get
    # nginx reads its file only as it starts, so each time there is a new one.
    "${compose[@]}" rm --stop --force nginx >/dev/null 2>&1 || true
    "${compose[@]}" up --detach || trouble 'It did not come up.'
    local deadline=$((SECONDS + 60))
    until inside health http://nginx:8080/readyz 2>/dev/null; do
        ((SECONDS < deadline)) || trouble 'nginx does not lead to a ready server after a minute.'
        sleep 0.5
    done
    cat <<END

http://127.0.0.1:${PORT:-8080}/

roomcast is ready

  nginx     http://127.0.0.1:${PORT:-8080}
  server-1  http://127.0.0.1:${PORT_1:-8081}
  server-2  http://127.0.0.1:${PORT_2:-8082}
END
    if [[ ,${COMPOSE_PROFILES:-}, == *,observability,* ]]; then
        cat <<END
  Prometheus http://127.0.0.1:${PROMETHEUS_PORT:-9090}
  Grafana    http://127.0.0.1:${GRAFANA_PORT:-3000}
END
    fi
    cat <<END

What a server counts:

  curl http://127.0.0.1:${PORT_1:-8081}/metrics

Talk across the servers, in two terminals:

  ${compose[*]} exec server-1 roomcast chat lobby ann
  ${compose[*]} exec server-2 roomcast chat lobby bob

"make compose-smoke" has a message cross the servers, "make compose-down" removes what was made here.
END
}

smoke() {
    inside health 2>/dev/null || { echo 'roomcast does not run here. Start it with: make compose-up' >&2; exit 1; }
    echo '== Each server'
    inside check http http://server-1:8080
    inside check http http://server-2:8080
    echo '== Through nginx'
    inside check upgrade ws://nginx:8080/ws
    echo '== From server to server'
    inside check across ws://server-1:8080/ws ws://server-2:8080/ws
}

down() {
    "${compose[@]}" --profile observability down --volumes --remove-orphans
    if is_here "$image"; then docker image rm "$image" >/dev/null; fi
    cat <<END
Containers, volumes, networks and the image $image are gone. Two things stay, as others may use them: the images of
$(COMPOSE_PROFILES=observability others | paste -sd ' ' -), which "docker image rm" removes, and what Docker
keeps of builds, which "docker builder prune" removes.
END
}

case ${1:-} in
    up | smoke | down) "$1" ;;
    *)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
