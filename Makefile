# episoded: `make demo` shows it, `make test` proves it.

PREFIX ?= /usr/local
DESTDIR ?=
ROUNDS ?= 50
TOOLS := $(CURDIR)/target/tools
BUF := $(TOOLS)/node/node_modules/.bin/buf
RELEASE := target/release
SKIPPED := $(TOOLS)/skipped

.DEFAULT_GOAL := help
.PHONY: help build release demo test lint tools crash powercut sanitize bench install clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

build:  ## the programs, quickly built
	cargo build --bins

release:  ## the programs, optimised
	cargo build --release --bins

demo: release  ## a real story against a real daemon, in a temporary directory
	./packaging/demo $(RELEASE)

tools:  ## what the tests need, under target/tools
	tests/tools/install

lint: tools  ## formatting, clippy, documentation, protos
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
	@if [ -x $(BUF) ]; then echo $(BUF) lint; $(BUF) lint; else echo "SKIPPED: buf lint (no buf)"; [ "$(CI)" != true ]; fi

test: tools lint  ## everything: tools, lint, all tests
	@rm -f $(SKIPPED)
	cargo test
	@if [ -s $(SKIPPED) ]; then echo "SKIPPED $$(wc -l <$(SKIPPED)) tests:"; cat $(SKIPPED); fi

crash:  ## the kill loop, ROUNDS=n
	CRASH_ROUNDS=$(ROUNDS) cargo test --test it crash::what_was_acknowledged_survives_kills_at_random_instants -- --exact --nocapture

powercut:  ## the power-cut loop, ROUNDS=n; root only
	POWERCUT_ROUNDS=$(ROUNDS) cargo test --test it powercut:: -- --include-ignored --nocapture

sanitize:  ## the unit tests of the key cache under AddressSanitizer
	tests/tools/sanitize

bench:  ## the figures, beside their floors; writes target/bench.json
	cargo bench --bench bench

install: release  ## into PREFIX: programs, man pages, completions, protos
	RUN_PREFIX=$(PREFIX) ./packaging/install $(RELEASE) $(DESTDIR)$(PREFIX)

clean:  ## removes target, and the tools with it
	cargo clean
