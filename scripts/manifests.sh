#!/usr/bin/env bash
# Renders the plain manifests in k8s from the chart: the base, and of each component what the chart makes for its values.
#
#   scripts/manifests.sh [FOLDER]   write them somewhere else, to compare
set -euo pipefail
cd "$(dirname "$0")/.."

to=$(realpath "${1:-k8s}")
scripts/chart-tools.sh helm-4
rendered=$(mktemp -d "${TMPDIR:-/tmp}/roomcast-manifests.XXXXXX")
trap 'rm -rf "$rendered"' EXIT

# plain FILE: without what only Helm would read. Helm does not manage these.
plain() {
    echo '# Rendered from the chart by "make manifests"; change it there.'
    sed '1{/^---$/d}; /^# Source: /d; /^ *helm\.sh\/chart: /d; s/\(managed-by:\) Helm/\1 kustomize/; s/ *$//' "$1" |
        sed -e :end -e '/^\n*$/{$d;N;b end' -e '}'
}

# render NAME VALUES...: all that the chart makes for these values, in a folder of this name.
render() {
    local name=$1
    shift
    target/tools/helm-4 template roomcast helm/roomcast --namespace roomcast --no-hooks --output-dir "$rendered/$name" \
        --values k8s/values.yaml "${@/#/--values=}" >/dev/null
}

render base
mkdir -p "$to/base"
find "$to/base" -name '*.yaml' ! -name kustomization.yaml ! -name name-references.yaml -delete
(cd "$rendered/base/roomcast/templates" && find . -name '*.yaml') | while read -r file; do
    mkdir -p "$to/base/$(dirname "$file")"
    plain "$rendered/base/roomcast/templates/$file" >"$to/base/$file"
done

for values in k8s/components/*/values.yaml; do
    name=$(basename "$(dirname "$values")")
    render "$name" "$values"
    mkdir -p "$to/components/$name"
    (cd "$rendered/$name/roomcast/templates" && find . -name '*.yaml') | while read -r file; do
        # What the base has already is no part of a component.
        [ -e "$rendered/base/roomcast/templates/$file" ] || plain "$rendered/$name/roomcast/templates/$file" >"$to/components/$name/$file"
    done
done
