# The two commands that matter: `make demo` and `make test`. Each installs what it lacks.

CARGO ?= cargo
BIN = $(shell $(CARGO) metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/trunkline

.PHONY: oracle demo test lint build deps bench instructions fuzz minimum-kernel clean

# Real curl to real nginx through the AF_XDP forwarder: three of the article's ways, each allowed,
# and stopped at every ENI whose security group decides.
demo: build
	@.ci/as-root $(BIN) run S5 S8 S10 --all-variants --on afxdp

# Everything that must hold: formatting, lints, documentation, tests, the scenarios on both
# datapaths, and the number of instructions of a packet.
test: deps lint
	-@.ci/deps $(ORACLE_TOOLS) valgrind strace
	@.ci/test

lint: deps
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

build: deps
	$(CARGO) build --release --locked -p harness

bench: deps
	$(CARGO) bench --locked -p benches

# Instructions of a packet under callgrind: fails where one needs 2 % more than the committed table
# says. With TRUNKLINE_BLESS=1 it writes the table, benches/instructions.txt.
instructions: deps
	-@.ci/deps valgrind
	$(CARGO) run --release --locked -p benches --bin instructions

# Every case on nodes of a Linux kernel in a guest, held against memory.
ORACLE_TOOLS = ipvsadm ipset iptables kmod
oracle: build
	@.ci/deps $(ORACLE_TOOLS)
	@$(BIN) oracle -j 4

# libFuzzer on whatever comes from outside: see fuzz/README.md.
fuzz: deps
	@fuzz/run

# Doctor and scenarios on the oldest kernel that is supported, in an emulated guest.
minimum-kernel:
	@.ci/minimum-kernel

deps:
	@.ci/deps

clean:
	$(CARGO) clean
