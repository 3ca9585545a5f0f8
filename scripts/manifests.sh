#!/usr/bin/env bash
# Renders the plain manifests in k8s/base from the chart.
#
#   scripts/manifests.sh [FOLDER]   write them somewhere else, to compare
set -euo pipefail
cd "$(dirname "$0")/.."

to=$(realpath "${1:-k8s/base}")
scripts/chart-tools.sh helm-4
rendered=$(mktemp -d "${TMPDIR:-/tmp}/roomcast-manifests.XXXXXX")
trap 'rm -rf "$rendered"' EXIT

target/tools/helm-4 template roomcast helm/roomcast --namespace roomcast --values k8s/values.yaml --no-hooks \
    --output-dir "$rendered" >/dev/null

find "$to" -name '*.yaml' ! -name kustomization.yaml -delete
cd "$rendered/roomcast/templates"
find . -name '*.yaml' | while read -r file; do
    mkdir -p "$to/$(dirname "$file")"
    # Helm does not manage these.
    {
        echo '# Rendered from the chart by "make manifests"; change it there.'
        sed '1{/^---$/d}; /^# Source: /d; /^ *helm\.sh\/chart: /d; s/\(managed-by:\) Helm/\1 kustomize/; s/ *$//' "$file" |
            sed -e :end -e '/^\n*$/{$d;N;b end' -e '}'
    } >"$to/$file"
done
