# What a developer and CI run. `make test` is everything that has to be green; CI=true allows nothing to be left out.

VENV := .venv
BIN := target/debug/sluicegate
LEFT_OUT := target/left-out
TIMES ?= 50

SHELL := bash
.SHELLFLAGS := -o pipefail -c

export CLIPPY_CONF_DIR := $(CURDIR)/tests/policy

# Many tests panic on purpose, on many threads; a backtrace of each takes its turn behind one lock, for seconds on a busy
# machine, and what the tests wait for waits with it. A failed assertion says where it stands without one.
export RUST_BACKTRACE := 0

.NOTPARALLEL:
.PHONY: run test begin format lint docs rust models page stress examples build sdk end repeat miri bench soak clean

# A release gateway on the simulated provider: no key, no network beyond this machine.
run:
	cargo run --release --locked -- serve --config examples/simulated.json

test: begin format lint docs rust models page stress examples build sdk end

begin:
	@mkdir -p target && : > $(LEFT_OUT)

format:
	cargo fmt --check

lint:
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --lib --no-default-features -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

rust:
	cargo test --locked 2>&1 | tee target/tests.log

# The concurrent core on a scheduler that tries its interleavings: tests/models, on the files that ship. `TIMES=20` tries
# twenty times as many, `SEED=7` others.
models:
	cargo build --quiet --locked --manifest-path tests/models/Cargo.toml --target-dir target/models
	RUST_BACKTRACE=0 target/models/debug/models --times $(if $(filter command line,$(origin TIMES)),$(TIMES),1) --seed $(or $(SEED),2026) \
	  2> target/models.err | tee target/models.log || { cat target/models.err; exit 1; }

# Each claim of the concurrency page names tests: all of them ran, and passed.
page:
	python3 tests/page.py target/tests.log models=target/models.log

# A minute of 32 callers and every fault of the simulated provider; then every sum balances and nothing is left. The Rust
# tests above have five seconds of it.
stress:
	SLUICEGATE_STRESS_SECS=60 cargo test --locked --test main -- --nocapture stress:: > target/stress.log 2>&1 \
	  || { cat target/stress.log; exit 1; }
	@grep -A2 ' before and after' target/stress.log

# Each example ends by itself, without key or network.
examples:
	@for file in examples/*.rs; do \
	  [ -e "$$file" ] || continue; \
	  name=$$(basename "$$file" .rs); \
	  echo "example $$name"; \
	  cargo build --quiet --locked --example "$$name" && timeout 60 "target/debug/examples/$$name" || exit 1; \
	done

build:
	cargo build --locked

# The openai SDK against the built binary.
sdk: build
	@if $(MAKE) --no-print-directory $(VENV)/made; then \
	  SLUICEGATE_BIN=$(BIN) PYTHONDONTWRITEBYTECODE=1 $(VENV)/bin/python -m pytest -q -p no:cacheprovider tests/sdk; \
	elif [ "$(CI)" = true ]; then \
	  echo "the environment for the SDK tests could not be made, and CI leaves nothing out" >&2; exit 1; \
	else \
	  echo "the openai SDK tests: python3 could not make $(VENV) (see above)" >> $(LEFT_OUT); \
	fi

$(VENV)/made: tests/sdk/requirements.txt
	rm -rf $(VENV)
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

end:
	@if [ -s $(LEFT_OUT) ]; then \
	  echo; echo "All that ran is green, but this was LEFT OUT:"; sed 's/^/  /' $(LEFT_OUT); \
	else \
	  echo; echo "All green, nothing left out."; \
	fi

# The Rust tests again and again: what is concurrent must not depend on luck. `make repeat TIMES=50`
repeat:
	cargo test --locked --no-run
	@for n in $$(seq $(TIMES)); do \
	  cargo test --locked --quiet --lib --test main > target/repeat.log 2>&1 || { cat target/repeat.log; echo "run $$n failed"; exit 1; }; \
	done; echo "$(TIMES) runs, all green"

# The pure parts and the queue under miri, which sees undefined behaviour and plays weak memory; outside `make test`, since it
# needs a nightly toolchain: `rustup toolchain install nightly --component miri`. MIRI names the tests.
MIRI ?= wire:: metrics:: ids:: time:: route:: recycle:: queue:: sync::slot:: sync::cancel:: sync::quit::

miri:
	@cargo +nightly miri --version > /dev/null 2>&1 || { \
	  echo "make miri: no nightly toolchain with miri here: rustup toolchain install nightly --component miri,rust-src" >&2; exit 1; }
	MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-permissive-provenance" PROPTEST_CASES=4 PROPTEST_FAILURE_PERSISTENCE=off \
	  cargo +nightly miri test --locked --no-default-features --lib --target-dir target/miri -- $(MIRI)

# The gateway beside nginx and the direct path, a submit beside a raw ping-pong, our locks beside a plain one, the object
# pools beside none, one provider beside another that hangs, the gateway at five times what it can do: JSON on standard output, a table on
# standard error. Without nginx, and without the right to install it, the yardstick says so and measures the rest.
bench:
	@command -v nginx > /dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null \
	  || { apt-get update -qq && apt-get install -y -qq nginx-light; } > /dev/null 2>&1 || true
	cargo build --release --locked
	cargo bench --locked --bench dispatch
	cargo bench --locked --bench pools
	cargo bench --locked --bench locks
	cargo bench --locked --bench isolation
	cargo bench --locked --bench overload
	cargo bench --locked --bench yardstick

# Ten minutes (`make soak SOAK_SECS=3600`: an hour) of every kind of request and of client against a release gateway; it fails
# if resident memory grows by more than 1 MB a minute, a sum does not balance, or a thread or descriptor is left.
SOAK_SECS ?= 600

soak:
	cargo bench --locked --bench soak -- --secs $(SOAK_SECS)

clean:
	cargo clean
	rm -rf $(VENV)
