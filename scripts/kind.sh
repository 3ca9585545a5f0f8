#!/usr/bin/env bash
# A Kubernetes on this machine, in Docker, with roomcast in it.
#
#   scripts/kind.sh up     make the cluster if it is not there, build and load the image, install or upgrade, test
#   scripts/kind.sh down   remove the cluster, and with it all that was in it
#
#   VALUES        a file of more values
#   KIND_IMAGE    an image of the node, for another version of Kubernetes
#   KIND_CONFIG   another description of the cluster (k8s/kind-cluster.yaml)
set -euo pipefail
cd "$(dirname "$0")/.."

cluster=roomcast
context=kind-$cluster
scripts/need.sh docker kind kubectl

config=${KIND_CONFIG:-k8s/kind-cluster.yaml}
port=$(sed -n 's/^ *hostPort: *//p' "$config")

exists() { kind get clusters 2>/dev/null | grep -qx "$cluster"; }

up() {
    scripts/chart-tools.sh helm-4
    if exists; then
        echo "The cluster $cluster is there already."
    else
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "Port $port is in use. Stop what listens there, or write another hostPort into a copy of $config and run: KIND_CONFIG=COPY make kind-up" >&2
            exit 1
        fi
        kind create cluster --name "$cluster" --config "$config" --wait 120s \
            ${KIND_IMAGE:+--image "$KIND_IMAGE"}
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
    # An image of Redis that is here need not be fetched.
    local redis
    redis=$(target/tools/helm-4 template helm/roomcast --show-only templates/redis/statefulset.yaml | sed -n 's/^ *image: //p')
    if docker image inspect "$redis" >/dev/null 2>&1; then kind load docker-image --name "$cluster" "$redis"; fi

    local more=()
    if [ -n "${VALUES:-}" ]; then more=(--values "$VALUES"); fi
    target/tools/helm-4 upgrade --install chat helm/roomcast --kube-context "$context" --namespace chat --create-namespace \
        --values helm/roomcast/ci/kind-values.yaml --set image.tag="$tag" ${more[@]+"${more[@]}"} --wait --timeout 5m
    target/tools/helm-4 test chat --kube-context "$context" --namespace chat --logs --timeout 3m

    cat <<END

roomcast runs in the kind cluster $cluster, and is reached from this machine on http://127.0.0.1:$port

  cargo run --release -- chat lobby ann ws://127.0.0.1:$port
  kubectl --context $context --namespace chat get pods
  kubectl --context $context --namespace chat port-forward service/chat-roomcast-probes 8081   then: curl http://127.0.0.1:8081/metrics

Shake it and see: IMAGE=roomcast:$tag make cluster-test
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
