# Two commands do everything: `make demo` and `make test`. Each installs what it needs. Both use one profile, in which
# dependencies are optimized, so that a test run after the demo compiles none of them again.
# `make soak` runs the long forms of the tests, and `make fuzz TIME=3600 TARGET=lexer` looks for what no test thinks of.

CARGO ?= cargo
WASM  := wasm32-unknown-unknown
TIME  ?= 60

.PHONY: demo test soak bench fuzz build target fmt clean

## Builds, then shows the main job in a temporary home.
demo: target
	$(CARGO) build --locked -p guillemet -p guillemet-mcp-example --bins
	target/debug/guillemet demo --mcp target/debug/mcp-example

## What decides whether a change is right.
test: target
	CARGO="$(CARGO)" ./tests/run

## The long forms of the tests, some of them with further seeds for TIME seconds each.
soak: target
	CARGO="$(CARGO)" ./tests/soak $(TIME)

## How fast it is, beside a bare reference: a table, and target/bench.json. QUICK=1 takes seconds.
bench: target
	./tests/authors/tools
	$(CARGO) bench --locked --bench speed

## Fuzzes each target, or TARGET, for TIME seconds.
fuzz: target
	CARGO="$(CARGO)" ./fuzz/run $(TIME) $(TARGET)

## The program to install: target/dist/guillemet.
build: target
	$(CARGO) build --profile dist --locked

## The target the plugins are built for.
target:
	@rustup target list --installed 2>/dev/null | grep -qx $(WASM) || rustup target add $(WASM)

fmt:
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path plugins/Cargo.toml --all
	$(CARGO) fmt --manifest-path tests/plugins/Cargo.toml --all
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml

clean:
	$(CARGO) clean
	rm -rf plugins/target fuzz/target
