#!/usr/bin/env bash
# Installs the chart into the cluster of the current kubeconfig, in a namespace of its own that enforces the Pod
# Security Standard `restricted`. Members of a room then talk while the servers are replaced, scaled and upgraded, and
# while Redis and a server are killed. It prints what they lost, got twice or were told, and cleans up.
#
#   IMAGE      an image of roomcast that the cluster can get (roomcast:dev)
#   VALUES     a file of more values, as for another image of Redis
#   PREVIOUS   a chart to upgrade from; else that of the last tag, or, where there is none, this one
#   URL        where servers can be reached from here; else the Service, if this machine reaches it, or kubectl's
#              port-forward to single pods
#   KEEP       if it is set, the namespace stays
set -euo pipefail
cd "$(dirname "$0")/.."

IMAGE=${IMAGE:-roomcast:dev}
scripts/need.sh kubectl python3
scripts/chart-tools.sh helm-4
helm=$PWD/target/tools/helm-4
if ! kubectl version --output json 2>/dev/null | grep -q serverVersion; then
    echo "No cluster answers. Set KUBECONFIG to that of a cluster, or make one with: make kind-up" >&2
    exit 1
fi

namespace=roomcast-test-$(date +%s)
work=$(mktemp -d "${TMPDIR:-/tmp}/roomcast-cluster-test.XXXXXX")
talker=
k() { kubectl --namespace "$namespace" "$@"; }

step() { printf '\n== %s\n' "$*"; }

# What a person would look at first.
trouble() {
    step "It failed. What there is:"
    k get pods,services,persistentvolumeclaims --output wide || true
    k get events --sort-by .lastTimestamp | tail -n 30 || true
    k describe pods | grep -A 12 -E '^(Name|  State|  Last State|Events):' | tail -n 80 || true
    local pod
    for pod in $(k get pods --output name); do
        echo "-- $pod"
        k logs --all-containers --tail 20 "$pod" || true
        k logs --all-containers --tail 20 --previous "$pod" 2>/dev/null || true
    done
} >&2

end() {
    local status=$?
    trap '' INT TERM
    set +e
    if [ -n "$talker" ]; then kill "$talker" 2>/dev/null; fi
    if [ $status != 0 ]; then trouble; fi
    if [ -z "${KEEP:-}" ]; then
        "$helm" uninstall chat --namespace "$namespace" --ignore-not-found >/dev/null 2>&1
        kubectl delete namespace "$namespace" --ignore-not-found --timeout 120s >/dev/null
    fi
    rm -rf "$work"
    exit $status
}
trap end EXIT
trap 'exit 130' INT TERM

values=(--namespace "$namespace" --set-string "image.repository=${IMAGE%:*},image.tag=${IMAGE##*:}")
if [ -n "${VALUES:-}" ]; then values+=(--values "$VALUES"); fi

# --- Install ------------------------------------------------------------------------------------------------------

previous=${PREVIOUS:-}
if [ -z "$previous" ] && tag=$(git describe --tags --abbrev=0 2>/dev/null); then
    git archive "$tag" helm/roomcast 2>/dev/null | tar -x -C "$work" 2>/dev/null && previous=$work/helm/roomcast
fi

step "Install${previous:+ $previous}"
kubectl create namespace "$namespace" >/dev/null
kubectl label namespace "$namespace" pod-security.kubernetes.io/enforce=restricted >/dev/null
SECONDS=0
"$helm" install chat "${previous:-helm/roomcast}" "${values[@]}" --wait --timeout 5m >"$work/notes"
sed -n '/^NOTES:/,$p' "$work/notes"
echo "Installed and ready after $SECONDS seconds."

step "helm test"
"$helm" test chat --namespace "$namespace" --logs --timeout 3m

# --- Talk ---------------------------------------------------------------------------------------------------------

name=chat-roomcast
servers=app.kubernetes.io/instance=chat,app.kubernetes.io/component=server
service=$(k get service "$name" --output jsonpath='{.spec.clusterIP}:{.spec.ports[0].port}')
if [ -n "${URL:-}" ]; then
    door=(--url "$URL")
elif timeout 2 bash -c "exec 3<>/dev/tcp/${service/://}" 2>/dev/null; then
    door=(--url "ws://$service/ws")
else
    door=(--pods "$namespace" "$servers")
fi

# Members talk while a command runs, and for some seconds before and after.
during() {
    step "$1"
    shift
    scripts/talk.py "${door[@]}" >"$work/talk" 2>&1 &
    talker=$!
    until grep -q . "$work/talk"; do
        kill -0 "$talker" 2>/dev/null || break
        sleep 0.2
    done
    sleep 3
    SECONDS=0
    "$@" >"$work/did" 2>&1 || { cat "$work/did" >&2; exit 1; }
    echo "It took $SECONDS seconds."
    sleep 3
    kill "$talker" 2>/dev/null || true
    local status=0
    wait "$talker" || status=$?
    talker=
    grep -v '^talking$' "$work/talk" || true
    [ $status = 0 ] || failed=1
}
failed=0

count() { k get pods --selector "$servers" --output name | wc -l; }
rolled() { k rollout status --timeout 5m "deployment/$name"; }
settled() { # until those that end have ended too
    rolled
    local tries=150
    until [ "$(count)" = "$1" ]; do
        if ((tries-- == 0)); then return 1; fi
        sleep 1
    done
}

restart() { k rollout restart "deployment/$name" && settled 2; }
scale() { k scale --replicas "$1" "deployment/$name" && settled "$1"; }
lose_redis() { k delete pod "$name-redis-0" && k rollout status --timeout 5m "statefulset/$name-redis" && settled 2; }
lose_server() {
    k delete --force --grace-period 0 "$(k get pods --selector "$servers" --output name | head -n 1)" && settled 2
}
upgrade() {
    "$helm" upgrade chat helm/roomcast "${values[@]}" --set config.ROOMCAST_HISTORY_AGE=2h --wait --timeout 5m && settled 2
}

password() { k get secret "$name-redis" --output jsonpath='{.data.password}'; }
before=$(password)
during "Upgrade, with a setting changed" upgrade
[ "$(password)" = "$before" ] || { echo "The upgrade has changed the password of Redis." >&2; exit 1; }
during "Replace all servers (rollout restart)" restart
during "Scale from 2 to 4 servers" scale 4
# Now there are members on all four.
during "Scale from 4 to 2 servers" scale 2
during "Delete the pod of Redis" lose_redis
during "Take a server away without warning" lose_server

step "helm rollback and helm test"
"$helm" rollback chat 1 --namespace "$namespace" --wait --timeout 5m
"$helm" test chat --namespace "$namespace" --timeout 3m | grep -E '^(TEST SUITE|Phase)'

step "Uninstall"
"$helm" uninstall chat --namespace "$namespace" --wait --timeout 3m
k wait --for delete pod --all --timeout 2m >/dev/null
left=$(k get all,configmaps,secrets,persistentvolumeclaims,ingresses,networkpolicies,poddisruptionbudgets,serviceaccounts \
    --output name | grep -vE '^(configmap/kube-root-ca.crt|serviceaccount/default)$' || true)
echo "What is left: ${left:-nothing}"
[ "$left" = "persistentvolumeclaim/data-$name-redis-0" ] || failed=1

step "Result"
if [ $failed = 1 ]; then
    echo "Something above is not as it should be."
    exit 1
fi
echo "Nothing was lost in silence, nothing was doubled, and only the volume of Redis was left, by choice."
