#!/usr/bin/env bash
# A Kubernetes on this machine, in Docker, with roomcast in it.
#
#   scripts/kind.sh up     make the cluster if it is not there, build and load the image, install or upgrade, test
#   scripts/kind.sh down   remove the cluster, and with it all that was in it
#
#   PORT          where it is reached on 127.0.0.1 (8080); for a cluster that is not there yet
#   VALUES        a file of more values
#   KIND_IMAGE    an image of the node, for another version of Kubernetes
#   KIND_CONFIG   another description of the cluster (k8s/kind-cluster.yaml)
set -euo pipefail
cd "$(dirname "$0")/.."

cluster=roomcast
context=kind-$cluster
scripts/need.sh docker kind kubectl

config=${KIND_CONFIG:-k8s/kind-cluster.yaml}

exists() { kind get clusters 2>/dev/null | grep -qx "$cluster"; }

up() {
    scripts/chart-tools.sh helm-4
    local port
    if exists; then
        port=$(docker port "$cluster-control-plane" 30080/tcp | sed -n '1s/.*://p' || true)
        echo "The cluster $cluster is there already, on port $port."
    else
        port=${PORT:-$(sed -n 's/^ *hostPort: *//p' "$config")}
        scripts/free-port.sh kind-up PORT "$port"
        sed "s/^\( *hostPort:\).*/\1 $port/" "$config" |
            kind create cluster --name "$cluster" --config - --wait 120s ${KIND_IMAGE:+--image "$KIND_IMAGE"}
    fi

    echo "Building the image."
    docker build --file docker/Dockerfile --tag roomcast:dev .
    # The tag says what is in it, so that an upgrade replaces the servers exactly when the image has changed.
    local id tag
    id=$(docker image inspect --format '{{.Id}}' roomcast:dev)
    tag=${id#sha256:}
    tag=dev-${tag:0:12}
    docker tag roomcast:dev "roomcast:$tag"
    kind load docker-image --name "$cluster" "roomcast:$tag"
    # A Redis image on this machine need not be fetched.
    local redis
    redis=$(target/tools/helm-4 template helm/roomcast --show-only templates/redis/statefulset.yaml | sed -n 's/^ *image: //p')
    if docker image inspect "$redis" >/dev/null 2>&1; then kind load docker-image --name "$cluster" "$redis"; fi

    local more=()
    if [ -n "${VALUES:-}" ]; then more=(--values "$VALUES"); fi
    target/tools/helm-4 upgrade --install chat helm/roomcast --kube-context "$context" --namespace chat --create-namespace \
        --values helm/roomcast/ci/kind-values.yaml --set image.tag="$tag" ${more[@]+"${more[@]}"} --wait --timeout 5m
    target/tools/helm-4 test chat --kube-context "$context" --namespace chat --logs --timeout 3m

    cat <<END

http://127.0.0.1:$port/

roomcast runs in the kind cluster $cluster, and is reached from this machine alone. Open it twice and talk. Then:

  kubectl --context $context --namespace chat get pods
  kubectl --context $context --namespace chat port-forward service/chat-roomcast-probes 8081   then: curl http://127.0.0.1:8081/metrics

Have its servers replaced while people talk, and see that nothing is lost: IMAGE=roomcast:$tag make cluster-test
Remove it: make kind-down
END
}

down() {
    if exists; then
        kind delete cluster --name "$cluster"
    else
        echo "There is no cluster $cluster."
    fi
}

case ${1:-} in
    up | down) "$1" ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
