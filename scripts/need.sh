#!/usr/bin/env bash
# Makes sure that the named tools are on this machine, and installs those that are missing where it may: on Debian
# and Ubuntu, as root or with a sudo that asks no password. Elsewhere it names the command for you to run.
#
#   scripts/need.sh TOOL...              a tool that stays missing is an error
#   scripts/need.sh --optional TOOL...   it is only a warning, unless CI=true
#   scripts/need.sh --report TOOL...     installs nothing, and tells of each whether it is there; an error is only one
#                                        without which nothing can be built
#
# The tools it knows are the cases of about(), below. Rust and Docker themselves are never installed, only their parts.
set -euo pipefail
cd "$(dirname "$0")/.."

# Debian keeps nginx in /usr/sbin, which is not on an ordinary user's PATH.
PATH=$PATH:/usr/sbin:/sbin

# What a tool is for, the packages that hold it, and the service that its Debian package would start.
about() {
    debian='' fedora='' brew='' unit='' page=''
    case $1 in
        cargo) why='to build roomcast' ;;
        chromium) why='for the tests of the page, in make test' debian=chromium fedora=chromium brew=chromium ;;
        cc) why='to link what Rust compiles' debian='gcc libc6-dev' fedora=gcc brew=gcc ;;
        clippy) why='for make check' debian=rust-clippy fedora=clippy brew=rust ;;
        compose) why='for make compose-up' debian=docker-compose fedora=docker-compose brew=docker-compose ;;
        docker) why='for make compose-up and make kind-up' ;;
        go) why='to compile helm for make chart-test and make kind-up, and a peer for make bench' page=https://go.dev/doc/install ;;
        helm) why='to install the chart by hand' brew=helm page=https://helm.sh/docs/intro/install ;;
        kind) why='for make kind-up' brew=kind page=https://kind.sigs.k8s.io/docs/user/quick-start ;;
        kubectl) why='for make cluster-test, make kind-up and make chart-test' debian=kubernetes-client brew=kubectl page=https://kubernetes.io/docs/tasks/tools ;;
        make) why='for every target of the Makefile' debian=make fedora=make brew=make ;;
        nginx) why='for make cluster, make demo and the tests of them' debian=nginx fedora=nginx brew=nginx unit=nginx ;;
        node) why='for the tests of docs/asyncapi.yaml, the JavaScript client and the page, in make test, and for peers in make bench' debian=nodejs fedora=nodejs brew=node page=https://nodejs.org ;;
        npm) why='to install what those tests and peers need' debian=npm fedora=nodejs-npm brew=node page=https://nodejs.org ;;
        promtool) why='for the tests of metrics and alerts, in make test' debian=prometheus fedora=/usr/bin/promtool brew=prometheus unit=prometheus ;;
        python3) why='for make chart-test' debian='python3 python3-venv' fedora=python3 brew=python3 ;;
        redis-server) why='for make cluster, make demo and the tests with Redis' debian=redis-server fedora=/usr/bin/redis-server brew=redis unit=redis-server ;;
        rustfmt) why='for make check' debian=rustfmt fedora=rustfmt brew=rust ;;
        shellcheck) why='for make check' debian=shellcheck fedora=ShellCheck brew=shellcheck ;;
        *)
            echo "need.sh does not know the tool '$1'. Add it to about() in scripts/need.sh." >&2
            exit 2
            ;;
    esac
}

found() { command -v "$1" >/dev/null; }

have() {
    case $1 in
        cargo) [ -z "$(rust_fault)" ] ;;
        compose) docker compose version >/dev/null 2>&1 || docker-compose version >/dev/null 2>&1 ;;
        docker) [ -z "$(docker_fault)" ] ;;
        clippy) cargo clippy --version >/dev/null 2>&1 ;;
        rustfmt) cargo fmt --version >/dev/null 2>&1 ;;
        # On Debian, virtual environments need a package of their own.
        python3) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
        *) found "$1" ;;
    esac
}

# Says what is wrong with Rust here and how to mend it; prints nothing if all is well.
rust_fault() {
    local home=${CARGO_HOME:-${HOME:-}/.cargo} want is
    want=$(sed -n 's/^rust-version *= *"\([^"]*\)".*/\1/p' Cargo.toml)
    if ! found cargo || ! found rustc; then
        if [ -f "$home/env" ]; then
            echo "Rust is installed but not on the PATH. Run in this terminal: . \"$home/env\""
        else
            echo "Rust is missing. Get $want or newer from https://rustup.rs, or install your distribution's package rustup and run: rustup default stable"
        fi
    elif ! is=$(rustc --version 2>/dev/null); then
        echo "rustc does not run. If you use rustup, run: rustup default stable"
    else
        is=${is#rustc } is=${is%% *}
        # The two versions are in order if the installed one is new enough.
        if printf '%s\n' "$want" "$is" | sort -C -V; then return; fi
        if found rustup; then
            echo "Rust $is is too old, roomcast needs $want. Run: rustup update stable && rustup default stable"
        else
            echo "Rust $is is too old, roomcast needs $want. Get a newer one from https://rustup.rs"
        fi
    fi
}

# The same for Docker, of which the client alone is of no use.
docker_fault() {
    local said
    if ! found docker; then
        echo "Docker is missing. Get it from https://docs.docker.com/get-docker/ or install your distribution's package for it."
    elif ! said=$(docker info 2>&1 >/dev/null); then
        case $said in
            *'permission denied'*) echo "You may not use Docker here. Run, and then log in again: sudo usermod -aG docker $(id -un)" ;;
            *) echo "No Docker engine answers. Start Docker Desktop, or run: sudo systemctl start docker" ;;
        esac
    fi
}

# What a person does to get the tool.
mend() {
    local sudo='sudo '
    if [ "$(id -u)" = 0 ]; then sudo=''; fi
    case $1 in
        cargo) rust_fault && return ;;
        docker) docker_fault && return ;;
        clippy | rustfmt)
            if found rustup; then echo "Run: rustup component add $1" && return; fi
            if ! found cargo; then echo "It comes with Rust." && return; fi
            ;;
    esac
    if found apt-get && [ -n "$debian" ]; then
        echo "Run: ${sudo}apt-get install $debian"
    elif found dnf && [ -n "$fedora" ]; then
        echo "Run: ${sudo}dnf install $fedora"
    elif found brew && [ -n "$brew" ]; then
        echo "Run: brew install $brew"
    elif [ -n "$page" ]; then
        echo "See $page"
    else
        echo "Install it with the package manager of your system."
    fi
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# Runs a command silently, and shows the end of its output only if it fails.
quietly() {
    local said
    said=$("$@" 2>&1) || { printf '%s\n' "$said" | tail -n 8 | sed 's/^/    /' >&2; return 1; }
}

# We want only the programs, but Debian also starts a service when it installs one, on a port that may be taken. So a
# policy-rc.d forbids that during the install. We leave one that was there before, as it is somebody else's; one with our
# mark was left by a run that was killed.
policy=/usr/sbin/policy-rc.d
mark='roomcast, scripts/need.sh: no service starts while this is here.'
hold_services() {
    if [ -e $policy ] && ! grep -qs "$mark" $policy; then return; fi
    trap 'as_root rm -f $policy' EXIT
    trap 'exit 1' INT TERM HUP
    printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
}

# Installs a tool if allowed; the caller checks whether that helped.
lists_are_new=''
install() {
    case $1 in
        cargo | docker) return ;;
        clippy | rustfmt)
            if found rustup; then
                echo "Installing $1 with rustup." >&2
                quietly rustup component add "$1" || true
                return
            fi
            # The package would bring a Rust of its own, an old one perhaps.
            if ! found cargo; then return; fi
            ;;
    esac
    if [ -z "$debian" ] || ! found apt-get || ! as_root true 2>/dev/null; then return; fi

    echo "Installing $1 (${debian// /, })." >&2
    local apt=(as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -qq -o DPkg::Lock::Timeout=300)
    if [ -z "$lists_are_new" ]; then
        hold_services
        # A missing list is no reason to give up: the package may be in another.
        quietly "${apt[@]}" update || true
        lists_are_new=yes
    fi
    # shellcheck disable=SC2086 # These may be several packages.
    quietly "${apt[@]}" install -y --no-install-recommends $debian || return 0
    # Nor should the service start with the machine.
    if [ -n "$unit" ] && [ -d /run/systemd/system ]; then
        quietly as_root systemctl disable "$unit" || true
    fi
}

mode=''
case ${1:-} in
    --optional | --report) mode=${1#--} && shift ;;
esac
if [ $# = 0 ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi

# What is wrong, and on the next line what mends it.
problem() {
    case $1 in
        cargo) rust_fault ;;
        docker) docker_fault ;;
        *) printf '%s is missing; it is needed %s.\n    %s\n' "$1" "$why" "$(mend "$1")" ;;
    esac
}

status=0
unbuildable=''
for tool; do
    about "$tool"
    if [ "$mode" != report ] && ! have "$tool"; then install "$tool"; fi
    if have "$tool"; then
        if [ "$mode" = report ]; then printf '  ok       %-13s %s\n' "$tool" "$why"; fi
    elif [ "$mode" = report ]; then
        printf '  missing  %-13s %s\n           %s\n' "$tool" "$why" "$(mend "$tool")"
        # Everything needs these two; each of the others is for the targets that it names.
        case $tool in cargo | cc) status=1 && unbuildable+=" $tool" ;; esac
    elif [ "$mode" = optional ] && [ "${CI:-}" != true ]; then
        echo "WARNING, this is left out here: $(problem "$tool")" >&2
    else
        echo "ERROR: $(problem "$tool")" >&2
        status=1
    fi
done
if [ "$mode" = report ]; then
    if [ -n "$unbuildable" ]; then echo "Nothing can be built without:$unbuildable"; else echo 'make run works here. What is missing is only for the targets that are named.'; fi
fi
exit $status
