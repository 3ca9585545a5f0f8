# `make` alone lists the targets: one line for each that has a `##` comment.

.DEFAULT_GOAL := help

# Debian keeps nginx in /usr/sbin, which is not on an ordinary user's PATH.
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  Of what listens, PORT=9000 behind it sets the port, where it is else 8080: make run PORT=9000'

.PHONY: run
run: ## Run one server, with a page to chat on; it needs nothing else, not even Redis
	@scripts/run.sh

.PHONY: cluster
cluster: ## Run Redis, two servers and nginx; Ctrl-C stops them all
	@scripts/cluster.sh

# Options for it, such as DEMO="--once"; DEMO=--help lists them.
DEMO ?=

.PHONY: demo
demo: ## Have people talk in a room, break servers and Redis at the press of a key, and see that nothing is lost
	@scripts/need.sh redis-server nginx
	@built=$$(scripts/build.sh roomcast roomcast-faults) && exec "$$built/roomcast-faults" demo $(DEMO)

.PHONY: compose-up
compose-up: ## Build the image, run it twice with Redis and nginx in Docker, and say how to use it
	@scripts/compose.sh up

.PHONY: compose-smoke
compose-smoke: ## Have a message cross the two servers of compose-up
	@scripts/compose.sh smoke

.PHONY: compose-down
compose-down: ## Remove what compose-up made, with its data and its image
	@scripts/compose.sh down

.PHONY: test
test: ## Run every test; gets redis-server, nginx, promtool and chromium for it where it may
	@echo '== Test'
	@scripts/need.sh cargo cc
	@scripts/need.sh --optional redis-server nginx promtool
	@cargo test --locked --workspace
	@echo '== The fault harness against a server that breaks its promises'
	@cargo test --locked --workspace --test sabotage -- --ignored
	@echo '== The protocol as AsyncAPI'
	@tests/asyncapi/run.sh
	@echo '== The JavaScript client'
	@clients/js/test/run.sh
	@echo '== The page, in a browser'
	@web/test/run.sh

# Options for it, such as FAULTS="--seed 7 --only failover"; FAULTS=--help lists them.
FAULTS ?=

.PHONY: faults
faults: ## Break servers, Redis and networks under load, and judge what clients saw; about 5 minutes
	@scripts/need.sh cargo cc redis-server
	@cargo build --release --locked --workspace
	@target/release/roomcast-faults $(FAULTS)

# Options for it, such as BENCH="--quick" or BENCH="--only fanout,memory --peers bun"; BENCH=--help lists them.
BENCH ?=

.PHONY: bench
bench: ## Measure roomcast beside other servers, and write docs/benchmarks.md; about an hour
	@scripts/need.sh cargo cc redis-server
	@scripts/need.sh --optional node npm go
	@cargo build --release --locked --workspace
	@target/release/roomcast-bench $(BENCH)

.PHONY: chart-test
chart-test: ## Test the chart and the manifests in k8s; compiles helm for it, once
	@echo '== Chart'
	@scripts/need.sh --optional redis-server kubectl
	@scripts/chart-tools.sh
	@target/tools/venv-chart/bin/pytest -q -p no:cacheprovider tests/chart

.PHONY: chart-readme
chart-readme: ## Write the table of values in the chart's README
	@scripts/chart-readme.py

.PHONY: manifests
manifests: ## Render the plain manifests in k8s from the chart
	@scripts/manifests.sh

.PHONY: kind-up
kind-up: ## Make a Kubernetes in Docker with roomcast in it
	@scripts/kind.sh up

.PHONY: kind-down
kind-down: ## Remove that Kubernetes
	@scripts/kind.sh down

.PHONY: cluster-test
cluster-test: ## Install into the current Kubernetes, break things while clients talk, clean up
	@scripts/cluster-test.sh

.PHONY: check
check: ## Check format, lints, docs, shell scripts, spelling and licences; any warning is an error
	@scripts/need.sh cargo cc rustfmt clippy
	@scripts/need.sh --optional shellcheck
	@echo '== Format'
	@cargo fmt --all --check || { echo 'Run "cargo fmt --all" to mend the format.' >&2; exit 1; }
	@echo '== Clippy'
	@cargo clippy --locked --workspace --all-targets -- -D warnings
	@echo '== Docs'
	@RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items
	@echo '== Shell scripts'
	@if command -v shellcheck >/dev/null; then shellcheck $$(git ls-files '*.sh' .ci/run); fi
	@if command -v typos >/dev/null; then echo '== Spelling'; typos; fi
	@if command -v cargo-deny >/dev/null; then echo '== Licences and duplicate crates'; cargo deny --locked check bans licenses sources; fi

.PHONY: doctor
doctor: ## Say which tools are missing here, what each is for, and the command that gets it
	@scripts/need.sh --report cargo cc rustfmt clippy redis-server nginx promtool node npm chromium docker compose go python3 kubectl helm kind
