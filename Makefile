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
.PHONY: run test begin format lint features docs api rust models seeds page stress examples build sdk dashboard shells quick end repeat miri fuzz outside bench attacks soak faults clean

# A release gateway on the simulated provider: no key, no network beyond this machine.
run:
	cargo run --release --locked -- serve --config examples/simulated.json

test: begin format lint features docs api rust models seeds page stress examples build sdk dashboard shells quick end

begin:
	@mkdir -p target && : > $(LEFT_OUT)

format:
	cargo fmt --check

lint:
	cargo clippy --locked --all-targets -- -D warnings

# The library by its features, alone and as people combine them; the examples in its documentation with none of them, among
# which is what is said where one is missing. All other tests are of all features.
FEATURES := none bedrock tls front plugins front,tls

features:
	@for features in $(FEATURES); do \
	  echo "features: $$features"; \
	  cargo clippy --quiet --locked --lib --no-default-features --features "$${features/none/}" -- -D warnings || exit 1; \
	done
	cargo check --quiet --locked --benches --examples --no-default-features
	cargo test --quiet --locked --doc --no-default-features

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

# What the library promises, as its documentation shows it, beside tests/api.txt; and nothing in it is another crate's that
# could be replaced one day. A change that is meant is taken by `make api TAKE=1`, and seen in the diff.
api: docs
	python3 tests/api.py --check
	python3 tests/api.py $(if $(TAKE),--take,)

rust:
	cargo test --locked 2>&1 | tee target/tests.log

# The concurrent core on a scheduler that tries its interleavings: tests/models, on the files that ship. `TIMES=20` tries
# twenty times as many, `SEED=7` others.
models:
	cargo build --quiet --locked --manifest-path tests/models/Cargo.toml --target-dir target/models
	RUST_BACKTRACE=0 target/models/debug/models --times $(if $(filter command line,$(origin TIMES)),$(TIMES),1) --seed $(or $(SEED),2026) \
	  2> target/models.err | tee target/models.log || { cat target/models.err; exit 1; }

# The properties that `make fuzz` tries at random, for the committed seeds and each of their beginnings: no libFuzzer, stable.
seeds:
	cargo test --quiet --locked --manifest-path tests/fuzz/Cargo.toml --no-default-features --target-dir target

# Each claim of the concurrency page names tests: all of them ran, and passed.
page:
	python3 tests/page.py target/tests.log models=target/models.log

# A minute of 32 callers and every fault of the simulated provider; then every sum balances and nothing is left. The Rust
# tests above have five seconds of it.
stress:
	SLUICEGATE_STRESS_SECS=60 cargo test --locked --test main -- --nocapture stress:: > target/stress.log 2>&1 \
	  || { cat target/stress.log; exit 1; }
	@grep -A2 ' before and after' target/stress.log

# Each example ends by itself, without key or network, and says what it must.
examples:
	cargo build --quiet --locked --examples
	python3 tests/examples.py

build:
	cargo build --locked

# The SDKs and LangChain against the built binary; and each cell of the README's matrix of interfaces and providers is theirs.
sdk: build
	@if $(MAKE) --no-print-directory $(VENV)/made; then \
	  SLUICEGATE_BIN=$(BIN) PYTHONDONTWRITEBYTECODE=1 $(VENV)/bin/python -m pytest -q -p no:cacheprovider \
	    --junit-xml=target/sdk.xml tests/sdk && python3 tests/matrix.py target/sdk.xml; \
	elif [ "$(CI)" = true ]; then \
	  echo "the environment for the SDK tests could not be made, and CI leaves nothing out" >&2; exit 1; \
	else \
	  echo "the SDK tests: python3 could not make $(VENV) (see above)" >> $(LEFT_OUT); \
	fi

# Completions and the manual page, each read by the program that they are for; root has what is missing installed.
SHELLS := bash zsh fish

shells: build
	@for tool in $(SHELLS) man; do \
	  command -v $$tool > /dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null \
	    || { apt-get update -qq && apt-get install -y -qq $${tool/#man/man-db}; } > /dev/null 2>&1 || true; \
	  if ! command -v $$tool > /dev/null; then \
	    [ "$(CI)" != true ] || { echo "no $$tool here, and CI leaves nothing out" >&2; exit 1; }; \
	    echo "what $$tool says of the command line's help: there is no $$tool" >> $(LEFT_OUT); \
	  elif [ $$tool = man ]; then \
	    $(BIN) man > target/sluicegate.1 && warned=$$(LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -l target/sluicegate.1 2>&1 > /dev/null) \
	      && [ -z "$$warned" ] || { echo "man: $$warned" >&2; exit 1; }; \
	  else \
	    $(BIN) completions $$tool > target/completions && $$tool -n target/completions || exit 1; \
	  fi; \
	done; echo "shells: $(SHELLS) and man read what they are given"

# The admin plane's page in a real browser, without a window: Debian's Chromium, which root has installed if it is missing.
dashboard: build
	@command -v chromium > /dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null \
	  || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } > /dev/null 2>&1 || true
	@if command -v chromium > /dev/null && $(MAKE) --no-print-directory $(VENV)/made; then \
	  SLUICEGATE_BIN=$(BIN) CHROMIUM=$$(command -v chromium) PYTHONDONTWRITEBYTECODE=1 \
	    $(VENV)/bin/python -m pytest -q -p no:cacheprovider tests/dashboard; \
	elif [ "$(CI)" = true ]; then \
	  echo "the dashboard's tests need chromium and $(VENV), and CI leaves nothing out" >&2; exit 1; \
	else \
	  echo "the dashboard's tests: there is no chromium here, or python3 could not make $(VENV)" >> $(LEFT_OUT); \
	fi

# curl's odd flags, and nginx in front with the openai SDK through it. Both are Debian's; root has what is missing installed.
quick: build
	@for tool in curl nginx; do \
	  command -v $$tool /usr/sbin/$$tool > /dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null \
	    || { apt-get update -qq && apt-get install -y -qq $${tool/nginx/nginx-light}; } > /dev/null 2>&1 || true; \
	done
	@if $(MAKE) --no-print-directory $(VENV)/made; then \
	  SLUICEGATE_BIN=$(BIN) LEFT_OUT=$(LEFT_OUT) $(VENV)/bin/python tests/outside/run.py --quick; \
	elif [ "$(CI)" = true ]; then \
	  echo "the environment for what others wrote could not be made, and CI leaves nothing out" >&2; exit 1; \
	else \
	  echo "curl, nginx and the SDK in front: python3 could not make $(VENV) (see above)" >> $(LEFT_OUT); \
	fi

# All of what others wrote: those two, h2load, wrk, ab, oha, slowhttptest. Some minutes; ends with a table.
# `apt-get install curl nginx-light nghttp2-client wrk apache2-utils slowhttptest`, `cargo install oha --locked`.
outside: build $(VENV)/made
	SLUICEGATE_BIN=$(BIN) $(VENV)/bin/python tests/outside/run.py $(CASES)

$(VENV)/made: tests/sdk/requirements.txt
	rm -rf $(VENV)
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --requirement $<
	$(VENV)/bin/pip check --quiet --disable-pip-version-check
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

# Whatever reads a stranger's bytes, under libFuzzer, each for FUZZ_SECS; outside `make test`, since it needs a nightly
# toolchain and `cargo install cargo-fuzz --locked`. What it finds lies in target/fuzz/artifacts; run the target on it to see
# it again. FUZZ names the targets.
FUZZ_SECS ?= 60
FUZZ ?= head chunked sse stream frames config url hygiene
FUZZED := target/fuzz/$(shell rustc -vV | sed -n 's/^host: //p')/release

fuzz:
	@cargo +nightly --version > /dev/null 2>&1 || { echo "make fuzz: no nightly toolchain here: rustup toolchain install nightly" >&2; exit 1; }
	@cargo fuzz --version > /dev/null 2>&1 || { echo "make fuzz: no cargo-fuzz here: cargo install cargo-fuzz --locked" >&2; exit 1; }
	cargo +nightly fuzz build --fuzz-dir tests/fuzz --target-dir target/fuzz
	@for target in $(FUZZ); do \
	  mkdir -p target/fuzz/corpus/$$target target/fuzz/artifacts; \
	  $(FUZZED)/$$target -max_total_time=$(FUZZ_SECS) -timeout=10 -rss_limit_mb=2048 -max_len=4096 -dict=tests/fuzz/seeds/$$target.dict \
	    -artifact_prefix=target/fuzz/artifacts/$$target- target/fuzz/corpus/$$target tests/fuzz/seeds/$$target \
	    > target/fuzz/$$target.log 2>&1 || { tail -40 target/fuzz/$$target.log; echo "fuzz $$target: found something" >&2; exit 1; }; \
	  echo "fuzz $$target: $$(tail -1 target/fuzz/$$target.log), nothing found"; \
	done

# The gateway beside nginx and the direct path, a submit beside a raw ping-pong, our locks beside a plain one, the object
# pools beside none, a chat in another shape beside one that passes through, one provider beside another that hangs, the
# gateway at five times what it can do: JSON on standard output, a table on standard error. Without nginx, and without the
# right to install it, the yardstick says so and measures the rest.
bench:
	@command -v nginx > /dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null \
	  || { apt-get update -qq && apt-get install -y -qq nginx-light; } > /dev/null 2>&1 || true
	cargo build --release --locked
	cargo bench --locked --bench dispatch
	cargo bench --locked --bench pools
	cargo bench --locked --bench locks
	cargo bench --locked --bench translate
	cargo bench --locked --bench isolation
	cargo bench --locked --bench overload
	cargo bench --locked --bench yardstick

# Floods, stalls and shortages against the release binary, as a table: sent, answered, held meanwhile, back after. About two
# minutes; `SIZE=--quick` a tenth of it. The Rust tests above have each of them at a small size.
attacks:
	cargo bench --locked --bench attacks -- $(SIZE)

# Ten minutes (`make soak SOAK_SECS=3600`: an hour) of every kind of request and of client against a release gateway; it fails
# if resident memory grows by more than 1 MB a minute, a sum does not balance, or a thread or descriptor is left.
SOAK_SECS ?= 600

soak:
	cargo bench --locked --bench soak -- --secs $(SOAK_SECS)

# When the provider misbehaves, as tables: every fault streamed and not, with and without fallback, under each policy; queues,
# pauses, chains, keys, breakers; a provider down for a minute under load; 200 callers in chaos for 30 s. Two minutes; the Rust
# tests above have all of it with the long ones shorter. `SLUICEGATE_FAULTS_SEED` seeds the chaos, `SLUICEGATE_FAULTS_ROW`
# names rows of the matrix.
faults:
	@SLUICEGATE_FAULTS=full cargo test --locked --test main -- --nocapture --test-threads=1 faults:: > target/faults.log 2>&1; \
	  failed=$$?; grep -E '^(#|\||- |Where|Back-off|[0-9]+ cells)|^$$' target/faults.log | cat -s; \
	  [ $$failed = 0 ] || { grep -A400 '^failures:' target/faults.log; exit 1; }

clean:
	cargo clean
	rm -rf $(VENV)
