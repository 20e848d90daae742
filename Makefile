# Layersift. `make help` lists what there is.
#
# GNU make and a POSIX shell; everything longer than a line is in scripts/.

CARGO   ?= cargo
PYTHON  ?= python3
PREFIX  ?= /usr/local
DESTDIR ?=
SECONDS_PER_TARGET ?= 300

# What is tested and fuzzed has its assertions and overflow checks on, and is built quickly. What it depends on is the
# same as in the program, and is built once for all.
CRATES  := layersift $(patsubst crates/%,layersift-%,$(wildcard crates/*))
CHECKED := $(foreach crate,$(CRATES),--config profile.release.package.$(crate).opt-level=1 \
           --config profile.release.package.$(crate).debug-assertions=true \
           --config profile.release.package.$(crate).overflow-checks=true)

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
LAYERSIFT  := $(TARGET_DIR)/release/layersift
STEP       := scripts/step

.DEFAULT_GOAL := help

.PHONY: help
help: ## What there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: build ## Build, and scan the image of the incident
	scripts/demo $(LAYERSIFT) testdata/incident.tar

.PHONY: build
build: build-deps
	$(STEP) "build" $(CARGO) build --release --locked --bin layersift

.PHONY: static
static: build-deps ## The program without shared libraries, in target/static/layersift; for Linux with glibc's static libraries
	$(STEP) "static build" scripts/static $(CARGO) $(TARGET_DIR)/static

.PHONY: test
test: build-deps test-tools fmt unit clippy doc testdata-verify fuzz-smoke instructions deny ## All that has to pass before a change is taken

.PHONY: fmt
fmt: ## Formatting, only looked at
	$(STEP) "formatting" scripts/with rustfmt $(CARGO) fmt --all --check

.PHONY: clippy
clippy: build-deps ## Lints
	$(STEP) "lints" scripts/with cargo-clippy $(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

.PHONY: doc
doc: build-deps ## Documentation, without warnings
	RUSTDOCFLAGS="-D warnings" $(STEP) "documentation" $(CARGO) doc --release --locked --no-deps --workspace --lib

.PHONY: unit
unit: build-deps test-tools ## The tests alone
	$(STEP) "tests" $(CARGO) test --release $(CHECKED) --locked --workspace --no-fail-fast

.PHONY: testdata-verify
testdata-verify: ## The image of the incident is what its recipe makes
	$(STEP) "test image" scripts/verify-testdata $(PYTHON)

.PHONY: fuzz-smoke
fuzz-smoke: build-deps test-tools
	$(STEP) "fuzz targets, 5 seconds each" scripts/fuzz 5

.PHONY: instructions
instructions: build ## Instructions of a small scan, held against benches/instructions.txt, where valgrind is installed
	LAYERSIFT=$(LAYERSIFT) $(STEP) "instructions" scripts/with valgrind benches/instructions

.PHONY: deny
deny: test-tools ## Check licences and sources of dependencies
	PATH="$(abspath $(TARGET_DIR))/tools/bin:$$PATH" $(STEP) "licences" scripts/with cargo-deny $(CARGO) deny check licenses bans sources

.PHONY: fuzz
fuzz: build-deps test-tools ## Fuzz every target for SECONDS_PER_TARGET=300
	scripts/fuzz $(SECONDS_PER_TARGET)

.PHONY: bench
bench: build-deps ## How fast the engine and a layer are
	$(CARGO) bench --locked --bench engine --bench layer

.PHONY: compare
compare: build ## Beside other scanners; fetches them and a large image
	benches/compare/run

.PHONY: testdata
testdata: ## Make the image of the incident again
	$(PYTHON) testdata/incident/make.py build

.PHONY: install
install: build ## Copy the program to PREFIX=/usr/local
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 "$(LAYERSIFT)" "$(DESTDIR)$(PREFIX)/bin/layersift"

.PHONY: clean
clean: ## Remove what was built
	$(CARGO) clean
	rm -rf fuzz/target fuzz/corpus fuzz/artifacts benches/compare/work testdata/work

.PHONY: build-deps
build-deps:
	@scripts/install-deps build

.PHONY: test-tools
test-tools:
	@scripts/install-deps test
