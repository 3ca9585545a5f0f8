#!/usr/bin/env bash
# Puts the tools for the chart's tests into target/tools, once: helm 4 and helm 3, compiled from their Go modules, and
# Python packages. It needs Go and Python, and changes nothing else on the machine.
#
#   scripts/chart-tools.sh            all of it
#   scripts/chart-tools.sh helm-4     helm 4 alone, and a helm 4 that is installed will do
set -euo pipefail
cd "$(dirname "$0")/.."

HELM_4=v4.3.1 HELM_3=v3.22.0
tools=$PWD/target/tools
mkdir -p "$tools"

# With CI=true, the tests use the versions above, and a missing tool is an error.
is_ci() { [ "${CI:-}" = true ]; }

# For people, a helm on the PATH will do if it has the right major version.
installed() {
    if is_ci || ! [[ $(helm version --template '{{.Version}}' 2>/dev/null) == "v$1."* ]]; then return 1; fi
    ln -sf "$(command -v helm)" "$tools/helm-$1"
}

provide() { # provide MAJOR VERSION MODULE
    if [ -x "$tools/helm-$2/helm" ]; then
        ln -sf "helm-$2/helm" "$tools/helm-$1"
    elif ! installed "$1"; then
        if ! command -v go >/dev/null; then return 1; fi
        echo "Compiling helm $2. This takes some minutes, once."
        GOBIN="$tools/helm-$2" CGO_ENABLED=0 go install -ldflags '-s -w' "$3@$2"
        ln -sf "helm-$2/helm" "$tools/helm-$1"
    fi
}

if ! provide 4 "$HELM_4" helm.sh/helm/v4/cmd/helm; then
    echo "ERROR: helm 4 is missing, and so is Go, which could compile it. Install one of them: https://helm.sh/docs/intro/install" >&2
    exit 1
fi
if [ "${1:-}" = helm-4 ]; then exit; fi

if ! provide 3 "$HELM_3" helm.sh/helm/v3/cmd/helm; then
    is_ci && { echo "ERROR: Go is missing, which helm 3 is compiled with." >&2; exit 1; }
    echo "WARNING: what needs helm 3 is left out, as Go is missing, which would compile it." >&2
fi

scripts/need.sh python3
for name in chart checkov; do
    wanted=tests/chart/requirements-$name.txt
    if cmp -s "$wanted" "$tools/venv-$name/installed"; then continue; fi
    echo "Installing $(tail -n 1 "$wanted") and the like into target/tools."
    rm -rf "$tools/venv-$name"
    python3 -m venv "$tools/venv-$name"
    "$tools/venv-$name/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$tools/venv-$name/installed"
done
